"""Stroop rows through a sweep's batch: each answer is held against the one without edits, and committed."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..lang.sites import Site
from ..metrics.base import NOTHING
from ..specs import Controls, Stroop, Sweep
from ..specs.plan import PlannedRow
from . import norms
from .detokenize import Vocabulary
from .measure import Measures
from .resolve import Resolver
from .rows import LiveRow
from .stroop_embed import Made, prompted
from .stroop_rows import Rows, StroopRow, answer_of, outcomes
from .sweep import SweepRun, total_dose

NO_TARGET = "nothing is steered on this picture"


@dataclass
class ChunkResolver(Resolver):
    """Reads the vectors that the job itself made, before they are in the store."""

    permuted: Mapping[str, Mapping[Site, torch.Tensor]] = field(default_factory=dict)

    def _stored(self, name: str, site: Site, shuffled: int | None = None, /) -> torch.Tensor:
        if shuffled is not None and site in self.permuted.get(name, {}):
            return self.permuted[name][site][shuffled]
        return super()._stored(name, site, shuffled)


@dataclass(frozen=True)
class _Judged(Measures):
    """No metrics, but rows wait for the unsteered row that they are judged by."""

    @property
    def judged(self) -> bool:
        return True


def carrier(spec: Stroop) -> Sweep:
    """The sweep whose settings the rows are decoded with; its prompts and directions stand for nothing."""
    return Sweep(
        prompts=["-"],
        directions=[spec.name],
        system=spec.system,
        thinking=spec.thinking,
        prefill=spec.prefill,
        max_new_tokens=spec.max_new_tokens,
        metrics=[],
        controls=Controls(zero=True, prompt=False),
        batch=spec.batch,
        force=spec.force,
        confirm=True,
    )


@dataclass
class StroopRun(SweepRun):
    """The generations of a Stroop recipe; ``known`` columns of committed rows come with ``lines``."""

    stroop: Stroop = field(default_factory=Stroop)
    rows: Rows | None = None
    made: Made | None = None
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)

    def open(self) -> None:
        ctx, info = self.ctx, self.ctx.loaded.info
        assert self.made is not None
        self.vocabulary = Vocabulary(ctx.loaded.tokenizer)
        self.resolver = ChunkResolver(
            ctx.store,
            info,
            info.shape,
            self.spec.force,
            references=norms.medians(ctx),
            given={name: dict(vectors) for name, vectors in self.made.vectors.items()},
            permuted=self.made.permuted,
        )
        self.measures = _Judged((), NOTHING)

    def load(self, rows: Sequence[PlannedRow]) -> Generator[None, None, None]:
        for row in rows:
            if isinstance(row, StroopRow) and row.asked is not None and row.messages not in self.prompts:
                self.prompts[row.messages] = prompted(
                    self.ctx, self.stroop, row.asked.shown, row.asked.question
                )
                yield
        yield from super().load(rows)

    def _line(self, row: LiveRow, planned: PlannedRow) -> dict[str, Any]:
        line = super()._line(row, planned)
        assert isinstance(planned, StroopRow) and planned.asked is not None and self.rows is not None
        shown, labels = planned.asked.shown, self.rows.sets.labels
        answer = answer_of(row.text, labels)
        plain = answer_of(self.zeros[planned.prompt, planned.seed].text, labels)
        # Deltas of different labels differ in norm, so α would tell rows of one strength apart: the norm stands for it.
        norm = total_dose(planned, row.resolved)["abs"]
        found = outcomes(answer, plain, planned.asked.right, shown.target)
        line.update(direction=planned.label, strength=norm, strength_abs=norm)
        # What a table is first looked at for stands first.
        line = {**found, "right": answer == planned.asked.right, **line}
        line.update(
            {
                "delta": planned.delta,
                "question": planned.asked.question,
                "word": shown.word,
                "ink": shown.ink,
                "target": shown.target,
                "subset": shown.subset,
                "split": shown.split,
                "answer": answer,
                "plain": plain,
                "picture": shown.picture.digest,
            }
        )
        absent = [name for name, value in found.items() if value is None]
        if absent:
            why = f"the answer without the edit was {plain or 'no colour'}" if shown.target else NO_TARGET
            line["reasons"] = dict.fromkeys(absent, why)
        self.lines[planned.cell] = line
        return line
