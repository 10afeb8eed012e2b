"""One cell of a sweep again, on prompts that the sweep did not use: the spec of a confirmation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from labtui.calibrating import FORMED, sweep_spec
from labtui.cells import Reading, written_strength
from labtui.sweeps import SUFFIX
from labtui_artifacts import library
from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from labtui_kernels.specs.images import has_pictures

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.stats import Cell

FRESH_SETS = ("bleed", "neutral")
"""Bundled sets that a confirmation takes its prompts from, in this order."""
MOST_FRESH, LEAST_FRESH = 40, 20


def one_cell(reading: Reading, cell: Cell) -> dict[str, Any]:
    """The fields of a sweep's spec that make it that one cell."""
    point = cell.point
    return {
        "directions": [point.direction],
        "sites": point.site,
        "strengths": [written_strength(reading, cell)],
        "where": point.where,
    }


def confirmation(job: JobView, table: str, reading: Reading, cell: Cell) -> dict[str, Any]:
    """The spec of a sweep of one cell on prompts that ``job`` did not use; raises UsageError where too few are left."""
    if not job.spec_kept or not job.spec:
        raise UsageError(
            "the spec of this sweep is too long to be kept here, so its cells cannot be confirmed by key"
        )
    if job.kind not in FORMED:
        raise UsageError(f"{table} is of a {job.kind} job, which judges its own choice: see {table}-judged")
    if has_pictures(job.spec):
        raise UsageError(
            "the fresh prompts of the bundled sets have no pictures: confirm by a sweep of this cell over other pictures"
        )
    used = [*reading.sheet.prompts, *_prompts_in(sweep_spec(job.spec))]
    fresh = fresh_prompts(used)
    if len(fresh) < LEAST_FRESH:
        raise UsageError(
            f"only {len(fresh)} prompts of the sets {' and '.join(FRESH_SETS)} are fresh; {LEAST_FRESH} are needed"
        )
    made = {
        **sweep_spec(job.spec),
        **one_cell(reading, cell),
        "prompts": fresh,
        "controls": "auto",
        "table": f"{table}{SUFFIX}",
    }
    return specs.to_dict(specs.load(made))


def fresh_prompts(used: Iterable[str]) -> list[str]:
    """Bundled prompts that are not among those used, spaces and case aside; ``MOST_FRESH`` at most."""
    known = {_plain(text) for text in used}
    found: dict[str, str] = {}
    for name in FRESH_SETS:
        for text in library.prompt_set(name).prompts:
            if _plain(text) not in known:
                found.setdefault(_plain(text), text)
    return list(found.values())[:MOST_FRESH]


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _prompts_in(spec: Mapping[str, Any]) -> list[str]:
    """The prompts that a spec names, those included that are not run yet."""
    prompts = spec.get("prompts")
    if isinstance(prompts, Mapping):
        name = prompts.get("set")
        return list(library.prompt_set(name).prompts) if isinstance(name, str) else []
    loaded = specs.load(dict(spec))
    listed = loaded.prompts if isinstance(loaded, specs.Sweep) and isinstance(loaded.prompts, list) else []
    return [specs.shown_prompt(prompt) for prompt in listed]
