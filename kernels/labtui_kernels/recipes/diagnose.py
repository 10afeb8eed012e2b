"""The recipe ``diagnose``: layer anatomy, residual landscape and cosine map, into three tables.

``<table>-anatomy`` has a row a site, ``<table>-landscape`` a row a prompt and site, ``<table>-cosines`` a row a
pair of stored directions and site.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
import torch

from labtui_artifacts import library
from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds.direction import DirectionFile

from ..directions.landscape import Landscape, landscape
from ..directions.stability import cosine
from ..lang.sites import Site
from ..specs import Diagnose, Direction, check_pictures, load, shown_prompt
from ..specs.diagnose import EVERY, count_diagnose, landscape_sites, neutral_prompts, pairs_of, sites_of
from . import norms, poles
from .anatomy import Readings, layers
from .context import JobContext, Steps
from .decode import new_resolver
from .keep import check_free, finite
from .neutral import neutral_prompted
from .prompts import Prompted, rendered_text
from .resolve import Resolver

KIND = "activations"
GROUPS = ("positive", "negative", "neutral")
MOST_POINTS = 256
"""Prompts of each group in the landscape's table, spread evenly; all of them decide its axes."""
MOST_TEXT = 200
MOST_COMPARED = 12
"""Directions that ``*`` stands for at most, by name."""


class DiagnoseRecipe:
    """What the poles of a direction look like at every site, and how stored directions lie to each other."""

    kind: ClassVar[str] = "diagnose"

    def __init__(self, spec: Diagnose) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        if self.spec.name:
            check_free(ctx, self.spec.name, self.spec.replace)
        check_pictures(self.spec, ctx.loaded.info.shape)
        resolver = new_resolver(ctx, self.spec.force)
        pairs = pairs_of(self._source(resolver))
        counts = count_diagnose(self.spec, ctx.loaded.info.shape, pairs, len(self._compared(resolver)))
        return {**counts, "table": self._base(ctx)}

    def run(self, ctx: JobContext) -> Steps:
        spec, shape = self.spec, ctx.loaded.info.shape
        resolver = new_resolver(ctx, spec.force)
        source = self._source(resolver)
        sites, shown = sites_of(spec, shape), landscape_sites(spec, shape)
        compared = self._compared(resolver)
        references = yield from norms.measure(ctx, sites)
        prompts = self._prompts(ctx, source)
        readings = yield from self._read(ctx, prompts, sites, source.read)
        ctx.budget("estimate", poles.BUDGET)
        yield
        planes: dict[Site, Landscape] = {}
        for site in shown:
            planes[site] = landscape({group: found[site] for group, found in readings.items()})
            yield
        lines = layers(source, readings, references, planes, self._stored(resolver, sites))
        self._commit(ctx, "anatomy", "anatomy", [{"poles": spec.label, **line} for line in lines])
        texts = {group: [text for text, _ in items] for group, items in prompts.items()}
        for site, plane in planes.items():
            points = list(_points(spec.label, site, plane, texts))
            self._commit(ctx, "landscape", f"landscape:{site}", points)
            yield
        if len(compared) > 1:
            for site in sites:
                self._commit(ctx, "cosines", f"cosines:{site}", _cosines(site, compared))
        if spec.name and planes:
            _keep(ctx, spec, planes, readings)
        return {
            "table": self._base(ctx),
            "poles": spec.label,
            "method": source.method,
            "read": source.read,
            "pairs": len(prompts["positive"]),
            "neutral": len(prompts.get("neutral", ())),
            "sites": len(sites),
            "notes": sorted(resolver.notes.values()),
            **({"artifact": spec.name} if spec.name and planes else {}),
        }

    def _compared(self, resolver: Resolver) -> dict[str, DirectionFile]:
        """The stored directions of the cosine map; of ``*`` those of this model, `MOST_COMPARED` in all."""
        named = [name for name in self.spec.compared if name != EVERY]
        if EVERY in self.spec.directions:
            more = [name for name in resolver.fitting() if name not in named]
            named += more[: max(0, MOST_COMPARED - len(named))]
        return {name: resolver.file(name) for name in named}

    def _base(self, ctx: JobContext) -> str:
        return self.spec.table or ctx.job

    def _commit(self, ctx: JobContext, table: str, cell: str, rows: list[dict[str, Any]]) -> None:
        if cell not in ctx.committed:
            name = f"{self._base(ctx)}-{table}"
            ctx.emit("cell.committed", {"cell": cell, "table": name, "rows": rows})

    def _source(self, resolver: Resolver) -> Direction | Diagnose:
        """The spec that has the poles: this one, or the one that the stored direction was made by."""
        spec = self.spec
        if not spec.direction:
            return spec
        kept = resolver.file(spec.direction).meta.get("spec")
        kind = kept.get("kind") if isinstance(kept, Mapping) else None
        if kind != "direction" or not isinstance(kept, Mapping):
            how = {"compose": "was made by algebra", "patch": "is an activation"}.get(
                str(kind), "was imported"
            )
            raise spec.refuse(
                "direction",
                f"{spec.direction} {how}, so it has no poles of its own; give a style, or positive and negative",
            )
        try:
            made = load(kept)
        except UsageError as problem:
            raise spec.refuse(
                "direction", f"the spec kept with {spec.direction} is damaged: {problem}"
            ) from None
        if not isinstance(made, Direction) or made.method == "random":
            raise spec.refuse("direction", f"{spec.direction} is random, so it has no poles")
        return made

    def _prompts(
        self, ctx: JobContext, source: Direction | Diagnose
    ) -> dict[str, list[tuple[str, Prompted]]]:
        """By group, each prompt's text as the table shows it, and its tokens."""
        chats = poles.chats(source)
        positive, negative = poles.pairs(ctx, source)
        found = {
            "positive": [(_text(pair[0]), one) for pair, one in zip(chats, positive, strict=True)],
            "negative": [(_text(pair[1]), one) for pair, one in zip(chats, negative, strict=True)],
        }
        shape = ctx.loaded.info.shape
        if neutral_prompts(self.spec, shape) and any(s.tower == "vision" for s in sites_of(self.spec, shape)):
            found["neutral"] = neutral_prompted(ctx, source.thinking)
        elif neutral_prompts(self.spec, shape):
            chosen = library.prompt_set(norms.NEUTRAL)
            found["neutral"] = [
                (text, rendered_text(ctx, text, chosen.system, source.thinking)) for text in chosen.prompts
            ]
        return found

    def _read(
        self,
        ctx: JobContext,
        prompts: Mapping[str, Sequence[tuple[str, Prompted]]],
        sites: Sequence[Site],
        read: str,
    ) -> Generator[None, None, Readings]:
        """Activations of all groups in one pass."""
        everyone = [one for items in prompts.values() for _, one in items]
        table = yield from poles.capture(ctx, everyone, sites, read)
        found: Readings = {}
        first = 0
        for group, items in prompts.items():
            found[group] = {site: rows[first : first + len(items)] for site, rows in table.items()}
            first += len(items)
        return found

    def _stored(self, resolver: Resolver, sites: Sequence[Site]) -> dict[Site, torch.Tensor] | None:
        """The stored direction's own vectors at these sites; None where the poles are no direction's."""
        if not self.spec.direction:
            return None
        kept = resolver.file(self.spec.direction)
        return {site: torch.from_numpy(kept.vector(str(site))) for site in sites if str(site) in kept.sites}


def _text(chat: Sequence[Any]) -> str:
    """A prompt as the table shows it: what the system prompt asks, then the last user turn."""
    system = chat[0].content if chat and chat[0].role == "system" else ""
    return " · ".join(part for part in (system, shown_prompt(list(chat))) if part)[:MOST_TEXT]


def _points(
    label: str, site: Site, plane: Landscape, texts: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, Any]]:
    """The landscape's rows of one site: prompts, then the means of the groups."""
    for group in (group for group in GROUPS if group in plane.points):
        points = plane.points[group]
        chosen = np.linspace(0, len(points) - 1, min(len(points), MOST_POINTS)).round()
        for number in map(int, chosen):
            yield _point(label, site, group, "prompt", points[number], number, texts[group][number])
    for group in (group for group in GROUPS if group in plane.means):
        x, y = plane.explained
        mean = _point(label, site, group, "mean", plane.means[group], None, "")
        yield {**mean, "explained_x": x, "explained_y": y}


def _point(
    label: str, site: Site, group: str, point: str, at: torch.Tensor, number: int | None, text: str
) -> dict[str, Any]:
    return {
        "poles": label,
        "site": site.short,
        "group": group,
        "point": point,
        "number": number,
        "x": float(at[0]),
        "y": float(at[1]),
        "prompt": text,
    }


def _cosines(site: Site, compared: Mapping[str, DirectionFile]) -> list[dict[str, Any]]:
    """The cosine of every pair of directions at one site; absent where one has no vector there."""
    place = str(site)
    vectors = {
        name: torch.from_numpy(file.vector(place)) for name, file in compared.items() if place in file.sites
    }
    rows: list[dict[str, Any]] = []
    for one, other in itertools.combinations(compared, 2):
        lacking = [name for name in (one, other) if name not in vectors]
        value = None if lacking else finite(cosine(vectors[one], vectors[other]))
        row: dict[str, Any] = {"site": site.short, "a": one, "b": other, "cosine": value}
        if value is None:
            why = f"{' and '.join(lacking)} has no vector here" if lacking else "a vector here is zero"
            row["reasons"] = {"cosine": why}
        rows.append(row)
    return rows


def _keep(ctx: JobContext, spec: Diagnose, planes: Mapping[Site, Landscape], readings: Readings) -> None:
    """Keep the planes: components [2, d], their centre [d] and the groups' mean activations [d], by site."""
    tensors: dict[str, np.ndarray] = {}
    for site, plane in planes.items():
        tensors[f"components/{site}"] = plane.components.float().numpy()
        tensors[f"centre/{site}"] = plane.centre.float().numpy()
        for group, found in readings.items():
            tensors[f"mean/{group}/{site}"] = found[site].double().mean(0).float().numpy()
    ctx.save_artifact(
        spec.name,
        KIND,
        tensors,
        {
            "name": spec.name,
            "what": "principal components of the poles and the neutral prompts, their centre, and the groups' means",
            "sites": [str(site) for site in planes],
            "explained": {str(site): list(plane.explained) for site, plane in planes.items()},
            "model": ctx.loaded.info.to_dict(),
            "spec": msgspec.to_builtins(spec),
            "job": ctx.job,
        },
    )


def make(spec: Diagnose) -> DiagnoseRecipe:
    """The recipe of a checked spec."""
    return DiagnoseRecipe(spec)
