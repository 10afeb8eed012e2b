"""From the logits of all lanes to tokens and numbers, with one copy to the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .rows import Emitted
from .sampling import Chooser
from .tracks import Lane, Track


@dataclass(eq=False)
class Picked:
    """The tokens that the lanes process next (on the device, [lanes]), and the rows' emissions."""

    tokens: torch.Tensor
    emissions: dict[int, Emitted]

    def of(self, track: Track) -> Emitted:
        return self.emissions[id(track)]


@torch.inference_mode()
def pick(logits: torch.Tensor, chooser: Chooser, lanes: Sequence[Lane], main: torch.Tensor | None) -> Picked:
    """Choose a token for every row; ``logits`` float32 [lanes, vocab].

    A shadow lane takes its row's token (``main`` holds for each lane the lane of its row). Token ids travel
    to the host in a float32 table with the other numbers: they are exact there, vocabularies being below
    2^24.
    """
    top, index = logits.topk(2, dim=-1)
    points = _points(chooser, lanes, logits.device)
    tokens = chooser.choose(logits, index[:, 0], points)
    forced = [-1 if lane.shadow else lane.track.forced for lane in lanes]
    if any(token >= 0 for token in forced):
        wanted = torch.tensor(forced, device=logits.device)
        tokens = torch.where(wanted >= 0, wanted, tokens)
    if main is not None:
        tokens = tokens[main]
    logprobs = logits.gather(1, tokens[:, None]).squeeze(1) - logits.logsumexp(-1)
    table = torch.stack(
        [tokens.float(), logprobs, top[:, 0] - top[:, 1], index[:, 0].float()], dim=1
    ).tolist()
    return Picked(tokens, _emissions(table, lanes))


def _points(chooser: Chooser, lanes: Sequence[Lane], device: torch.device) -> torch.Tensor:
    if chooser.sampled is None:
        return torch.empty(0)
    points = [
        [float(lane.track.points[len(lane.track.tokens)])]
        for lane in lanes
        if not lane.shadow and lane.track.points is not None
    ]
    return torch.tensor(points, dtype=torch.float64, device=device)


def _emissions(table: list[list[float]], lanes: Sequence[Lane]) -> dict[int, Emitted]:
    plain = {id(lane.track): line[1] for lane, line in zip(lanes, table, strict=True) if lane.shadow}
    emissions = {}
    for lane, (token, logprob, gap, best) in zip(lanes, table, strict=True):
        track = lane.track
        if lane.shadow:
            continue
        unsteered = plain.get(id(track), logprob if track.row.surprise else None)
        emissions[id(track)] = Emitted(
            key=track.row.key,
            index=len(track.tokens),
            token=int(token),
            logprob=logprob,
            plain_logprob=unsteered,
            gap=gap,
            finish=track.finish(int(token)),
            best=int(best),
        )
    return emissions
