"""The recipe ``rerun``: recorded tokens teacher-forced again, and their log-probabilities compared."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any, ClassVar

from labtui_artifacts.errors import JobFailed, UsageError
from labtui_artifacts.images import short

from ..engine import Emitted, ImageInput, Row
from ..lang.edits import parse_edits
from ..specs import RecordedImage, RecordedRow, Rerun
from .context import JobContext, Steps
from .decode import new_resolver, resolve
from .detokenize import Vocabulary
from .pictures import Area, stored_pixels
from .resolve import Resolved, Resolver

TABLE = "rerun"
TOGETHER = 32


class RerunFailed(JobFailed):
    """Rows differ by more than the tolerance; ``result`` holds what was compared."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


class RerunRecipe:
    """Score every recorded row with its edits and knobs, in float32 comparisons of nats."""

    kind: ClassVar[str] = "rerun"

    def __init__(self, spec: Rerun) -> None:
        self.spec = spec

    def plan(self, ctx: JobContext) -> dict[str, Any]:
        self._check_model(ctx)
        for row in self.spec.rows:
            parse_edits(row.edits, ctx.loaded.info.shape)
            for image in row.images:
                if image.digest not in ctx.images:
                    called = f"{image.name} ({short(image.digest)})" if image.name else short(image.digest)
                    raise UsageError(
                        f"rerun: row {row.key}: picture {called} is not in this kernel's store: give its file, as in "
                        f"--image {image.name or 'photo.png'}"
                    )
        return {"rows": len(self.spec.rows), "cells": len(self.spec.rows), "table": TABLE}

    def _check_model(self, ctx: JobContext) -> None:
        if self.spec.any_model:
            return
        recorded, here = self.spec.model, ctx.loaded.info.to_dict()
        for key, what in (("weight_hash", "weights"), ("tokenizer_hash", "tokenizer")):
            if recorded.get(key) != here[key]:
                raise JobFailed(
                    f"rerun: recorded on {recorded.get('name') or 'an unknown model'} with other {what} than "
                    f"{here['name']} here; start a kernel with that model, or run it with any_model = true"
                )

    def run(self, ctx: JobContext) -> Steps:
        resolver = new_resolver(ctx, force=self.spec.any_model)
        resolver.rename = self.spec.directions
        compared: list[dict[str, Any]] = []
        ctx.budget("score", 600)
        rows = self.spec.rows
        for start in range(0, len(rows), TOGETHER):
            chosen = rows[start : start + TOGETHER]
            scored = yield from self._score(ctx, resolver, chosen)
            for row, emitted in zip(chosen, scored, strict=True):
                compared.append(self._compare(ctx, row, emitted))
                if row.key not in ctx.committed:
                    cell = {"cell": row.key, "table": TABLE, "rows": [compared[-1]]}
                    ctx.emit("cell.committed", cell)
            ctx.progress(len(compared), len(rows), "rows")
        return self._result(ctx, compared)

    def _score(
        self, ctx: JobContext, resolver: Resolver, rows: Sequence[RecordedRow]
    ) -> Generator[None, None, list[list[Emitted]]]:
        prepared: list[Row] = []
        for number, row in enumerate(rows):
            terms = parse_edits(row.edits, ctx.loaded.info.shape)
            resolved = yield from resolve(ctx, resolver, terms)
            prepared.append(_engine_row(ctx, row, str(number), resolved))
        found: dict[int, list[Emitted]] = {}
        for part in ctx.engine.score_parts(prepared):
            found.update(part)
            yield
        return [found[number] for number in range(len(rows))]

    def _compare(self, ctx: JobContext, row: RecordedRow, now: Sequence[Emitted]) -> dict[str, Any]:
        """One line of the table. ``first_diff`` is where greedy decoding would now choose another token."""
        gaps = [abs(token.logprob - was) for token, was in zip(now, row.logprobs, strict=True)]
        sane = [gap if math.isfinite(gap) else math.inf for gap in gaps]
        at = max(range(len(sane)), key=sane.__getitem__)
        greedy = row.sampling.get("temperature", 0.0) == 0
        first = next((t.index for t in now if greedy and t.best != t.token), None)
        vocabulary = Vocabulary(ctx.loaded.tokenizer)
        line: dict[str, Any] = {
            "row": row.key,
            "arm": row.arm,
            "tokens": len(now),
            "max_abs_diff": sane[at] if math.isfinite(sane[at]) else None,
            "at": at,
            "ok": sane[at] <= self.spec.tolerance,
            "first_diff": first,
            "first_diff_gap": None if first is None else now[first].gap,
            "token_recorded": None if first is None else _shown(vocabulary, now[first].token),
            "token_now": None if first is None else _shown(vocabulary, now[first].best),
        }
        if line["max_abs_diff"] is None:
            line["reasons"] = {"max_abs_diff": "a log-probability is not finite"}
        return line

    def _result(self, ctx: JobContext, compared: Sequence[dict[str, Any]]) -> dict[str, Any]:
        failed = [line for line in compared if not line["ok"]]
        worst = [line["max_abs_diff"] for line in compared]
        differ = next((line for line in compared if line["first_diff"] is not None), None)
        first = None
        if differ is not None:
            first = {"row": differ["row"], "index": differ["first_diff"], "gap": differ["first_diff_gap"]}
        result = {
            "rows": len(compared),
            "passed": len(compared) - len(failed),
            "failed": len(failed),
            "max_abs_diff": None if None in worst else max(worst),
            "tolerance": self.spec.tolerance,
            "first_diff": first,
            "table": TABLE,
        }
        if failed:
            raise RerunFailed(_verdict(result, self.spec, ctx.loaded.info.dtype), result)
        return result


def _engine_row(ctx: JobContext, row: RecordedRow, key: str, resolved: Resolved) -> Row:
    knobs: list[tuple[int, int, float]] = []
    for step, edit, alpha in row.knobs:
        _, changes = resolved.turn(edit, alpha)
        knobs.extend((step, index, value) for index, value in changes)
    return Row(
        key=key,
        ids=tuple(row.ids),
        content=tuple(row.content),
        edits=resolved.edits,
        max_new_tokens=len(row.forced),
        forced=tuple(row.forced),
        stop_ids=frozenset(row.stop_ids),
        knobs=tuple(knobs),
        images=tuple(_image(ctx, row, image) for image in row.images),
    )


def _image(ctx: JobContext, row: RecordedRow, image: RecordedImage) -> ImageInput:
    """A recorded picture from the store; JobFailed where this model makes other patches of it."""
    pixels = stored_pixels(ctx.loaded, ctx.images, image.digest, Area.of(image), image.name)
    if list(pixels.grid) != list(image.grid) or pixels.video != (image.seconds is not None):
        then = "of a video" if image.seconds is not None else "of a picture"
        raise JobFailed(
            f"rerun: row {row.key}: the picture {image.name or short(image.digest)} became {image.grid} patches {then} then "
            f"and {list(pixels.grid)} {'of a video' if pixels.video else 'of a picture'} now; expected the image processor "
            "that it was recorded with"
        )
    return ImageInput(
        pixels.values,
        pixels.grid,
        image.start,
        image.digest,
        seconds=image.seconds,
        starts=tuple(image.starts),
    )


def _shown(vocabulary: Vocabulary, token: int) -> str:
    return vocabulary.token(token).decode("utf-8", "replace") or f"#{token}"


def _verdict(result: dict[str, Any], spec: Rerun, dtype: str) -> str:
    worst, first = result["max_abs_diff"], result["first_diff"]
    by = "numbers that are not finite" if worst is None else f"up to {worst:.3g} nats"
    line = (
        f"rerun: {result['failed']} of {result['rows']} rows differ by {by} "
        f"(tolerance {spec.tolerance:g} for {spec.dtype or dtype})"
    )
    if first is None:
        return line
    return f"{line}: row {first['row']} first at token {first['index']} (top two {first['gap']:.3g} apart)"


def make(spec: Rerun) -> RerunRecipe:
    """The recipe of a checked spec."""
    return RerunRecipe(spec)
