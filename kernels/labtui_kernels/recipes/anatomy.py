"""Layer anatomy: what each site says of two poles, as the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from ..directions.estimate import Estimate, estimate_all
from ..directions.landscape import Landscape
from ..directions.stability import cosine, shuffled_signal_to_noise, signal_to_noise
from ..lang.sites import Site
from ..specs import Diagnose, Direction
from .keep import finite
from .norms import Norms

LEAST_SHUFFLED = 4
"""Pairs from which labels are shuffled for what chance alone gives."""

Readings = dict[str, dict[Site, torch.Tensor]]
"""By group, activations [prompts, d] by site."""


def layers(
    source: Direction | Diagnose,
    readings: Readings,
    references: Mapping[Site, Norms],
    planes: Mapping[Site, Landscape],
    stored: Mapping[Site, torch.Tensor] | None,
) -> list[dict[str, Any]]:
    """A row for each site that was read; a number that does not exist is None with its reason.

    ``stored`` has the vectors of the stored direction that the poles are of; None where they are no direction's.
    """
    positive, negative = readings["positive"], readings["negative"]
    found = _estimates(source, positive, negative)
    spreads = _signals(positive, negative)
    rows = []
    for site in positive:
        estimate, pairs = found.get(site), len(positive[site])
        line = {
            "site": site.short,
            **_norms(references[site], float((_mean(positive[site]) - _mean(negative[site])).norm())),
            **spreads[site],
            "split_half": finite(estimate.split_half) if estimate else None,
            "accuracy": finite(estimate.accuracy) if estimate else None,
            "explained": estimate.explained if estimate else None,
            **_shares(planes.get(site)),
        }
        reasons = _reasons(pairs, apart=estimate is not None)
        if stored is not None:
            kept = stored.get(site)
            line["cosine"] = finite(cosine(kept, estimate.vector)) if kept is not None and estimate else None
            reasons["cosine"] = "the direction has no vector here" if kept is None else reasons["explained"]
        absent = {name: reason for name, reason in reasons.items() if line[name] is None}
        rows.append({**line, "reasons": absent} if absent else line)
    return rows


def _reasons(pairs: int, *, apart: bool) -> dict[str, str]:
    """Why a number is absent, if it is."""
    halves = "halves need two pairs each" if apart else "the poles do not differ here"
    spread = "the poles have no spread" if pairs > 1 else "one pair has no spread"
    return {
        "separation_pct": "the reference norm is zero",
        "spread": spread,
        "snr": spread,
        "snr_null": spread if pairs >= LEAST_SHUFFLED else "too few pairs to shuffle",
        "split_half": halves,
        "accuracy": halves,
        "explained": halves,
        "pc1": "no landscape was asked for here",
        "pc2": "no landscape was asked for here",
    }


def _norms(reference: Norms, apart: float) -> dict[str, float | None]:
    return {
        "reference": reference.median,
        "reference_mean": reference.mean,
        "separation": apart,
        "separation_pct": 100 * apart / reference.median if reference.median else None,
    }


def _shares(plane: Landscape | None) -> dict[str, float | None]:
    across, up = plane.explained if plane is not None else (None, None)
    return {"pc1": across, "pc2": up}


def _signals(
    positive: Mapping[Site, torch.Tensor], negative: Mapping[Site, torch.Tensor]
) -> dict[Site, dict[str, float | None]]:
    """Spread of points about the mean of their own pole, signal to noise, and the same under shuffled labels."""
    pairs = len(next(iter(positive.values())))
    if pairs < 2:
        return {site: dict.fromkeys(("spread", "snr", "snr_null")) for site in positive}
    signal = signal_to_noise(positive, negative)
    chance = shuffled_signal_to_noise(positive, negative) if pairs >= LEAST_SHUFFLED else {}
    return {
        site: {
            "spread": _spread(positive[site], negative[site]),
            "snr": finite(signal[site]),
            "snr_null": finite(chance.get(site)),
        }
        for site in positive
    }


def _spread(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Root-mean-square distance of points to the mean of their own pole, as in ``signal_to_noise``."""
    squares = sum(float((pole.double() - _mean(pole)).square().sum()) for pole in (positive, negative))
    return math.sqrt(squares / (2 * (len(positive) - 1)))


def _mean(points: torch.Tensor) -> torch.Tensor:
    return points.double().mean(0)


def _estimates(
    source: Direction | Diagnose, positive: Mapping[Site, torch.Tensor], negative: Mapping[Site, torch.Tensor]
) -> dict[Site, Estimate]:
    """The direction of every site where the poles differ at all, by the source's method."""
    apart = [site for site in positive if bool((_mean(positive[site]) != _mean(negative[site])).any())]
    if not apart:
        return {}
    method = "mean-difference" if source.method == "pair" else source.method
    poles = ({site: pole[site] for site in apart} for pole in (positive, negative))
    return estimate_all(method, *poles, seed=source.seed)
