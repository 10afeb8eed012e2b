"""The recipe ``patch``: an activation of one arm put in place of the other arm's, and what follows."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar

import torch

from labtui_artifacts.errors import UsageError

from ..lang.edits import EditTerm, parse_edits
from ..lang.positions import Where
from ..lang.sites import parse_site
from ..lang.strength import Strength
from ..specs import Patch, as_messages, check_pictures
from .context import JobContext, Steps
from .decode import decode, new_resolver, resolve
from .detokenize import Vocabulary
from .keep import check_free, keep
from .measure import measure, prepare
from .pictures import Area
from .prompts import Prompted, rendered
from .resolve import Resolver
from .rows import LiveRow, summary

ROW = "patched"


class PatchRecipe:
    """Capture at (site, position) of the giving arm, then generate in the other with it replaced there."""

    kind: ClassVar[str] = "patch"

    def __init__(self, spec: Patch) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        shape = ctx.loaded.info.shape
        terms = parse_edits(self.spec.edits, shape)
        if parse_site(self.spec.site, shape).tower == "vision":
            raise self.spec.refuse(
                "site",
                "a patch is taken at one token, and the vision tower has none; expected a site such as llm.12",
            )
        check_pictures(self.spec, shape)
        new_resolver(ctx, self.spec.force).check(terms)
        check_free(ctx, self._name(ctx), replace=not self.spec.name)
        self._position(self._prompt(ctx))
        return {"rows": 1, "cells": 0, "tokens": self.spec.max_new_tokens}

    def _name(self, ctx: JobContext) -> str:
        return self.spec.name or ctx.job.lower()

    def _prompt(self, ctx: JobContext) -> Prompted:
        spec = self.spec
        messages = as_messages(spec.prompt, spec.system)
        return rendered(ctx, messages, spec.thinking, spec.prefill, area=Area.of(spec))

    def _position(self, prompt: Prompted) -> int:
        """The position counted from the prompt's start; it must exist in the giving arm."""
        count, position = len(prompt.ids), self.spec.position
        absolute = position + count if position < 0 else position
        if not 0 <= absolute < count + len(self.spec.answer):
            raise self.spec.refuse(
                "position",
                f"{position} is not among the {count} tokens of prompt and {len(self.spec.answer)} of answer",
            )
        return absolute

    def run(self, ctx: JobContext) -> Steps:
        spec = self.spec
        steered = parse_edits(spec.edits, ctx.loaded.info.shape)
        giving, receiving = (steered, ()) if spec.source == "steered" else ((), steered)
        prompt = self._prompt(ctx)
        position = self._position(prompt)
        resolver = new_resolver(ctx, spec.force)
        measures = prepare(ctx, spec.metrics, resolver)
        vector = yield from self._capture(ctx, resolver, prompt, position, giving)
        site = parse_site(spec.site, ctx.loaded.info.shape)
        name = self._name(ctx)
        resolver.given[name] = {site: vector}
        where = Where("indices", indices=(position,))
        term = EditTerm("replace", Strength(1.0), name, (site,), where)
        resolved = yield from resolve(ctx, resolver, (*receiving, term))
        row = LiveRow(
            ctx,
            Vocabulary(ctx.loaded.tokenizer),
            row=ROW,
            arm=ROW,
            prompt=prompt,
            messages=as_messages(spec.prompt, spec.system),
            decoding=spec,
            seed=spec.seed,
            resolved=resolved,
            read=[position] if position < len(prompt.ids) else [],
        )
        told: list[dict[str, Any]] = []

        def settle() -> Generator[None, None, None]:
            (values,) = yield from measure(ctx, [row], measures, {})
            row.finished(values)
            told.append(summary(row, values))

        yield from decode(ctx, [row], settle)
        return {"artifact": name, "norm": float(vector.norm()), "position": position, "rows": told}

    def _capture(
        self,
        ctx: JobContext,
        resolver: Resolver,
        prompt: Prompted,
        position: int,
        edits: tuple[EditTerm, ...],
    ) -> Generator[None, None, torch.Tensor]:
        """The activation of the giving arm, float32 [d], kept as an artifact and told of."""
        spec = self.spec
        site = parse_site(spec.site, ctx.loaded.info.shape)
        resolved = yield from resolve(ctx, resolver, edits)
        given = prompt.to_read(spec.answer)
        vector: torch.Tensor | None = None
        ctx.budget("capture", 600)
        parts = ctx.engine.capture_parts(
            [given], [site], pooling="last", where=Where("indices", indices=(position,)), edits=resolved.edits
        )
        for _, readings in parts:
            if site in readings:
                vector = readings[site][0]
            yield
        if vector is None:
            raise UsageError(f"patch: nothing was read at {site.short}, position {position}")
        name = self._name(ctx)
        meta = {
            "method": "activation",
            "read": str(position),
            "pairs": 0,
            "row": spec.row,
            "edits": resolved.text,
            "position": position,
        }
        keep(ctx, name, {site: vector}, spec, meta)
        ctx.emit(
            "patch.captured",
            {
                "row": spec.row or spec.source,
                "site": str(site),
                "position": position,
                "norm": float(vector.norm()),
                "artifact": name,
            },
        )
        return vector


def make(spec: Patch) -> PatchRecipe:
    """The recipe of a checked spec."""
    return PatchRecipe(spec)
