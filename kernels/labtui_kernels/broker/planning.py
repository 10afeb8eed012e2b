"""What a sweep would run, as the worker will run it: its rows by kind, and those that are new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui_artifacts.store import Store
    from labtui_kernels.lang.shape import ModelShape
    from labtui_kernels.specs import Spec, Sweep


def named(spec: Spec, shape: ModelShape) -> list[str]:
    """The stored directions that a spec names, each once: those its edits are made of, and those that a look scores."""
    from labtui_kernels import specs
    from labtui_kernels.lang.algebra import parse_algebra
    from labtui_kernels.lang.edits import parse_edits
    from labtui_kernels.specs.diagnose import EVERY

    algebra: list[str] = []
    edits = ""
    if isinstance(spec, specs.Sweep):
        algebra = spec.directions
    elif isinstance(spec, specs.Calibrate):
        algebra = [spec.direction]
    elif isinstance(spec, specs.Match):
        algebra, edits = [spec.direction], spec.like
    elif isinstance(spec, specs.Generate | specs.Patch | specs.Look):
        edits = spec.edits
        if isinstance(spec, specs.Look):
            algebra = [text for text in spec.directions if text != EVERY]
    exprs = [parse_algebra(text) for text in algebra]
    exprs += [term.expr for term in parse_edits(edits, shape)] if edits.strip() else []
    return list(dict.fromkeys(name for expr in exprs for name in expr.names))


def shuffles(spec: Sweep, store: Store) -> tuple[dict[str, int], list[str]]:
    """How many shuffled-label controls each stored direction brings along, and the names that are not there."""
    from labtui_artifacts.kinds.direction import DirectionFile  # here: a kernel answers before it has numpy
    from labtui_kernels.lang.algebra import parse_algebra

    known: dict[str, int] = {}
    missing: list[str] = []
    for name in dict.fromkeys(name for text in spec.directions for name in parse_algebra(text).names):
        try:
            known[name] = DirectionFile.open(store.path(name), name).shuffles
        except (UsageError, FileNotFoundError):
            missing.append(name)
    return known, missing


def planned(
    spec: Spec, shape: ModelShape, store: Store, cells: Collection[str] | None = None
) -> dict[str, Any]:
    """The counts of a spec, and its ``missing`` directions. For a sweep also ``new`` rows, those whose cells are not
    among the ``cells`` of the table that it extends (None: it extends none), and ``new_controls``, these by kind."""
    from labtui_kernels.specs import Sweep
    from labtui_kernels.specs.plan import count, count_sweep, plan_sweep

    if not isinstance(spec, Sweep):
        missing = [name for name in named(spec, shape) if name not in store]
        return {**count(spec, shape), "missing": missing}
    known, missing = shuffles(spec, store)
    if not cells:
        counts = count_sweep(spec, shape, shuffles=known)
        return {**counts, "new": counts["rows"], "new_controls": counts["controls"], "missing": missing}
    plan = plan_sweep(spec, shape, shuffles=known)
    new = Counter(row.control for row in plan.rows if row.cell not in cells)
    by_kind = {name: rows for name, rows in sorted(new.items()) if name}
    return {**plan.counts, "new": new.total(), "new_controls": by_kind, "missing": missing}
