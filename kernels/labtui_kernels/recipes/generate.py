"""The recipe ``generate``: plain and steered answers to one prompt, side by side, streamed as they come."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar

from ..lang.edits import parse_edits
from ..specs import Generate, as_messages, check_pictures
from ..specs.plan import count
from .context import JobContext, Steps
from .decode import decode, new_resolver, resolve
from .detokenize import Vocabulary
from .measure import measure, prepare
from .pictures import Area
from .prompts import Prompted, rendered
from .resolve import PLAIN, Resolved, Resolver, check_places, read_positions
from .rows import LiveRow, summary


class GenerateRecipe:
    """Every arm and resample of one prompt as rows of one batch."""

    kind: ClassVar[str] = "generate"

    def __init__(self, spec: Generate) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        terms = parse_edits(self.spec.edits, ctx.loaded.info.shape)
        check_pictures(self.spec, ctx.loaded.info.shape)
        new_resolver(ctx, self.spec.force).check(terms)
        prompt = self._prompt(ctx)
        check_places(terms, prompt)
        return {**count(self.spec, ctx.loaded.info.shape), "prompt_tokens": len(prompt.ids)}

    def _prompt(self, ctx: JobContext) -> Prompted:
        spec = self.spec
        messages = as_messages(spec.prompt, spec.system)
        return rendered(ctx, messages, spec.thinking, spec.prefill, area=Area.of(spec))

    def run(self, ctx: JobContext) -> Steps:
        spec = self.spec
        terms = parse_edits(spec.edits, ctx.loaded.info.shape)
        resolver = new_resolver(ctx, spec.force)
        resolved = yield from resolve(ctx, resolver, terms)
        rows = self._rows(ctx, resolver, resolved)
        plain = {row.seed: row for row in rows if not row.resolved.edits}
        zeros = {row.row: plain[row.seed] for row in rows if row.seed in plain}
        measures = prepare(ctx, spec.metrics, resolver)
        known: dict[str, float | None] = {}
        told: dict[str, dict[str, Any]] = {}

        def settle() -> Generator[None, None, None]:
            """Measure the rows that have ended, when the row that they are judged by has ended too."""
            ended = [row for row in rows if row.finish and not row.told]
            ready = [
                row for row in ended if not measures.judged or row.row not in zeros or zeros[row.row].finish
            ]
            found = yield from measure(ctx, ready, measures, zeros, known)
            for row, values in zip(ready, found, strict=True):
                row.finished(values)
                told[row.row] = summary(row, values)

        yield from decode(ctx, rows, settle)
        return {"rows": [told[row.row] for row in rows], "notes": list(resolved.notes)}

    def _rows(self, ctx: JobContext, resolver: Resolver, resolved: Resolved) -> list[LiveRow]:
        spec = self.spec
        messages = as_messages(spec.prompt, spec.system)
        prompt = self._prompt(ctx)
        arms = [("steered", resolved)] if resolved.edits else []
        if spec.plain or not arms:
            arms.insert(0, ("plain", PLAIN))
        vocabulary = Vocabulary(ctx.loaded.tokenizer)
        read = read_positions(resolver, resolved.names, len(prompt.ids), prompt.content)
        return [
            LiveRow(
                ctx,
                vocabulary,
                row=arm if spec.n == 1 else f"{arm}.{number + 1}",
                arm=arm,
                prompt=prompt,
                messages=messages,
                decoding=spec,
                seed=spec.seed + number,
                resolved=edits,
                surprise=spec.surprise,
                read=read if edits.edits else [],
            )
            for number in range(spec.n)
            for arm, edits in arms
        ]


def make(spec: Generate) -> GenerateRecipe:
    """The recipe of a checked spec."""
    return GenerateRecipe(spec)
