"""One teacher-forced pass of a row for all that is asked of it: log-probabilities, states, readings, edit sizes.

What a row is edited with is in ``Look.row``: the same row without its edits is looked at by a second Look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from labtui_artifacts.errors import UsageError

from ..lang.sites import Site
from .edits import RowEdits
from .forward import Forward
from .hooks import Tap
from .patches import in_tower, moved, tower_of
from .pictures import Pictures
from .rows import Row
from .spans import Span, check_ids, look_at, spans

_LOGITS = 1 << 24  # floats of logits held at a time


@dataclass(frozen=True, eq=False)
class Look:
    """What to read of a row's prompt and its ``forced`` tokens (none are needed for ``logits`` alone).

    ``logprobs``: of every forced token. ``state``: the normed hidden state from which this forced token is
    drawn. ``logits``: at the last prompt token. ``means``: the mean hidden state at these sites, after the
    edits, over the first ``answer`` forced tokens. ``moved``: how far the edits move the hidden state.
    """

    row: Row
    answer: int = 0
    logprobs: bool = False
    state: int | None = None
    logits: bool = False
    means: tuple[Site, ...] = ()
    moved: bool = False

    def __post_init__(self) -> None:
        count = len(self.row.forced or ())
        if not 0 <= self.answer <= count or (self.state is not None and not 0 <= self.state < count):
            raise UsageError(f"look at row {self.row.key}: it has {count} forced tokens")
        if self.logprobs and not count:
            raise UsageError(f"look at row {self.row.key}: no forced tokens to score")
        if in_tower(self.means):
            raise UsageError(
                f"look at row {self.row.key}: no token of an answer passes {in_tower(self.means)[0]}; "
                "expected sites of the language model (llm...)"
            )

    @property
    def sequence(self) -> tuple[int, ...]:
        """The tokens to process: as few of the forced ones as will do."""
        forced = self.row.forced or ()
        needed = 0
        if self.means or self.moved:
            needed = self.answer
        if self.logprobs:
            needed = max(needed, len(forced) - 1)
        if self.state is not None:
            needed = max(needed, self.state)
        return (*self.row.ids, *forced[:needed])


@dataclass(eq=False)
class Sight:
    """What was seen: in the same terms as :class:`Look`.

    ``state`` is [d] on the model's device, ``logits`` float32 [vocab] and ``means`` float32 [d] on the host
    (none for an answer without tokens). ``moved`` is, by edited site, the median over the positions where an
    edit is in force of the norm of the change over the norm before it, in percent; None without any.
    """

    logprobs: list[float] = field(default_factory=list)
    state: torch.Tensor | None = None
    logits: np.ndarray | None = None
    means: dict[Site, np.ndarray] = field(default_factory=dict)
    moved: dict[Site, float | None] = field(default_factory=dict)


def observe_parts(forward: Forward, looks: Sequence[Look]) -> Iterator[dict[int, Sight]]:
    """Look pass by pass: number of the look -> its Sight. An empty part means that a long row goes on."""
    for look in looks:
        check_ids(f"row {look.row.key}", look.sequence, forward)
    edits = [RowEdits(k.row, forward.shape, forward.device) if k.row.edits else None for k in looks]
    pictures = look_at([f"row {k.row.key}" for k in looks], [k.row for k in looks], edits, forward)
    watch = _Watch(looks, edits)

    def begin(members: Sequence[int]) -> None:
        for index in members:
            watch.see(forward, index, pictures[index])

    kept: dict[int, list[torch.Tensor]] = defaultdict(list)
    sequences = [look.sequence for look in looks]
    for span in spans(forward, sequences, edits, watch.after, watch.before, pictures, begin):
        for lane, index in enumerate(span.members):
            piece = _predicting(span, lane, looks[index])
            if piece is not None:
                kept[index].append(piece)
        watch.gather(span)
        if not span.last:
            yield {}
            continue
        yield {
            index: _sight(forward, looks[index], kept.pop(index, []), watch, index) for index in span.members
        }


def _predicting(span: Span, lane: int, look: Look) -> torch.Tensor | None:
    """The states of this chunk that the row's forced tokens are drawn from, of those that are wanted."""
    if not look.logprobs and look.state is None and not look.logits:
        return None
    first = max(span.start, len(look.row.ids) - 1)
    end = min(span.stop, len(look.sequence))
    if first >= end:
        return None
    return span.hidden[lane, first - span.start : end - span.start].clone()


def _sight(forward: Forward, look: Look, pieces: Sequence[torch.Tensor], watch: _Watch, index: int) -> Sight:
    sight = Sight(means=watch.means(index), moved=watch.moved(index))
    if pieces:
        hidden = torch.cat(list(pieces))
        if look.logprobs:
            sight.logprobs = _logprobs(forward, hidden, look.row.forced or ())
        if look.state is not None:
            sight.state = hidden[look.state].clone()
        if look.logits:
            sight.logits = forward.logits(hidden[:1])[0].cpu().numpy()
    return sight


def _logprobs(forward: Forward, hidden: torch.Tensor, forced: Sequence[int]) -> list[float]:
    values: list[float] = []
    block = max(1, _LOGITS // forward.vocab)
    for start in range(0, len(forced), block):
        tokens = torch.tensor(forced[start : start + block], device=hidden.device)
        logits = forward.logits(hidden[start : start + len(tokens)])
        tokens = tokens.to(logits.device)
        values.extend((logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(-1)).tolist())
    return values


class _Watch:
    """Taps before and after the edits of each pass, and what they have found so far."""

    def __init__(self, looks: Sequence[Look], edits: Sequence[RowEdits | None]) -> None:
        self._looks, self._edits = looks, edits
        self._sums: dict[tuple[int, Site], torch.Tensor] = {}
        self._shares: dict[tuple[int, Site], list[float]] = defaultdict(list)
        self._before: dict[Site, torch.Tensor] = {}
        self._pending: list[tuple[Site, torch.Tensor]] = []

    def see(self, forward: Forward, index: int, pictures: Pictures | None) -> None:
        """Show the tower the images of a row whose edits there are to be measured."""
        look, held = self._looks[index], self._edits[index]
        if not look.moved or pictures is None or held is None or not held.patches:
            return
        sites = sorted({held.row.edits[edit].site for edit in held.patches})
        for site, shares in moved(tower_of(forward, sites), pictures, sites).items():
            self._shares[index, site].extend(shares)

    def before(self, members: Sequence[int], start: int, stop: int) -> Mapping[Site, Tap]:
        """Keep the hidden states that edits are about to change."""
        return {site: self._keep(site) for site in self._moving(members)}

    def _keep(self, site: Site) -> Tap:
        return lambda hidden: self._before.__setitem__(site, hidden.float().clone())

    def after(self, members: Sequence[int], start: int, stop: int) -> Mapping[Site, Tap]:
        """Sum up answers, and take the size of what edits changed."""
        moving = self._moving(members)
        pooling = {site for index in members for site in self._looks[index].means}
        return {site: self._tap(site, members, start, site in moving) for site in moving | pooling}

    def _moving(self, members: Sequence[int]) -> set[Site]:
        looks = [self._looks[index] for index in members]
        found = {edit.site for look in looks if look.moved for edit in look.row.edits}
        return {site for site in found if site.tower == "llm"}

    def _tap(self, site: Site, members: Sequence[int], start: int, moving: bool) -> Tap:
        def tap(hidden: torch.Tensor) -> None:
            if moving:
                before = self._before.pop(site)
                change = torch.linalg.vector_norm(hidden.float() - before, dim=-1)
                self._pending.append((site, change / torch.linalg.vector_norm(before, dim=-1)))
            for lane, index in enumerate(members):
                look = self._looks[index]
                if site in look.means:
                    first = len(look.row.ids)
                    low, high = max(0, first - start), min(first + look.answer - start, hidden.shape[1])
                    if low < high:
                        part = hidden[lane, low:high].float().sum(0)
                        known = self._sums.get((index, site))
                        self._sums[index, site] = part if known is None else known + part

        return tap

    def gather(self, span: Span) -> None:
        """Sort what the taps of a pass took of edits by row: where an edit was in force."""
        for site, table in self._pending:
            shares = table.cpu().numpy()
            for lane, index in enumerate(span.members):
                held, look = self._edits[index], self._looks[index]
                if held is None or not look.moved:
                    continue
                chosen = [number for number, edit in enumerate(look.row.edits) if edit.site == site]
                for position in range(span.start, min(span.stop, len(look.sequence))):
                    if any(held.applies(number, position) for number in chosen):
                        self._shares[index, site].append(float(shares[lane, position - span.start]))
        self._pending.clear()

    def means(self, index: int) -> dict[Site, np.ndarray]:
        """The means of a row that is through, float32 [d] by site."""
        look = self._looks[index]
        found = {site: self._sums.pop((index, site), None) for site in look.means}
        return {
            site: (total / look.answer).cpu().numpy() for site, total in found.items() if total is not None
        }

    def moved(self, index: int) -> dict[Site, float | None]:
        """How far the edits of a row that is through moved it, in percent by site."""
        look = self._looks[index]
        sites = {edit.site for edit in look.row.edits} if look.moved else set()
        shares = {site: self._shares.pop((index, site), []) for site in sorted(sites)}
        return {site: 100 * float(np.median(found)) if found else None for site, found in shares.items()}
