"""A diagnosis of terse at eight blocks: noise grows with the depth, and at llm.0.in the poles do not differ."""

from __future__ import annotations

import math
from typing import Any

from tests.support.fake_kernel import FakeKernel

BLOCKS = 8
SITES = tuple(f"llm.{block}" for block in range(BLOCKS))
NAMES = ("terse", "formal", "dry")
SPEC: dict[str, Any] = {"kind": "diagnose", "direction": "terse", "directions": ["formal", "dry"]}
PLAN = {"rows": 0, "cells": 17, "sites": 9, "pairs": 12, "prompts": 48, "table": "d1"}
RESULT = {
    "table": "d1",
    "poles": "terse",
    "method": "mean-difference",
    "read": "last",
    "pairs": 12,
    "notes": [],
}
FLAT = "the poles do not differ here"


def anatomy() -> list[dict[str, Any]]:
    """The rows of the anatomy, first of all a site where the poles are one."""
    none = dict.fromkeys(("snr", "snr_null", "split_half", "accuracy", "explained", "cosine"))
    flat: dict[str, Any] = {
        "poles": "terse", "site": "llm.0.in", "reference": 2.5, "reference_mean": 2.6, "separation": 0.0,
        "separation_pct": 0.0, "spread": 0.0, **none, "pc1": 0.0, "pc2": 0.0,
        "reasons": {"snr": "the poles have no spread", **dict.fromkeys(("split_half", "accuracy", "explained"), FLAT)},
    }  # fmt: skip
    return [flat, *(layer(block) for block in range(BLOCKS))]


def layer(block: int) -> dict[str, Any]:
    reference, apart, spread = 20.0 + 6 * block, 10.0 + 2 * block, 2.0 + block * block / 4
    return {
        "poles": "terse", "site": f"llm.{block}", "reference": reference, "reference_mean": reference * 1.4,
        "separation": apart, "separation_pct": 100 * apart / reference, "spread": spread, "snr": apart / spread,
        "snr_null": 0.45, "split_half": 1 - block * block / 100, "accuracy": 1 - block / 40, "explained": 0.9 - block / 20,
        "cosine": 1.0, "pc1": 0.7 - block / 20, "pc2": 0.15 + block / 50,
    }  # fmt: skip


def landscape(site: str) -> list[dict[str, Any]]:
    """The prompts of a site in three clouds, and their means."""
    block = SITES.index(site)
    centres = {"positive": (8.0, -2.0), "negative": (-8.0, -3.0), "neutral": (0.5, 7.0)}
    rows = []
    for group, (x, y) in centres.items():
        for number in range(12):
            turn, far = number * 2.4, (0.6 + block / 4) * math.sqrt(number + 1)
            at = {"x": x + far * math.cos(turn), "y": y + far * math.sin(turn) / 2}
            rows.append(
                {"group": group, "point": "prompt", "number": number, **at, "prompt": f"{group} {number}"}
            )
        mean = {"x": x, "y": y, "explained_x": 0.7 - block / 20, "explained_y": 0.15 + block / 50}
        rows.append({"group": group, "point": "mean", "number": None, **mean, "prompt": ""})
    return [{"poles": "terse", "site": site, **row} for row in rows]


def cosines(site: str) -> list[dict[str, Any]]:
    block = SITES.index(site)
    pairs = (("terse", "formal", 0.1 + block / 20), ("terse", "dry", -0.4), ("formal", "dry", None))
    return [
        {"site": site, "a": one, "b": other, "cosine": value}
        | ({"reasons": {"cosine": "dry has no vector here"}} if value is None else {})
        for one, other, value in pairs
    ]


def kernel(moment: str) -> FakeKernel:
    """A kernel with that diagnosis: ``empty`` before it, ``running``, ``done``, or ``failed`` after the anatomy."""
    made = FakeKernel().ready(*NAMES)
    if moment != "empty":
        diagnose(made, moment)
    return made


def diagnose(made: FakeKernel, moment: str = "done") -> None:
    """The events of that diagnosis."""
    made.emit("job.queued", job="d1", kind="diagnose", spec=SPEC, priority="interactive", client="app")
    made.emit("job.started", job="d1", plan=PLAN)
    made.emit("kernel.state", state="busy")
    if moment == "running":
        made.telemetry["progress"] = {"job": "d1", "done": 18, "total": 48, "text": "prompts"}
        made.tell()
        return
    made.emit("cell.committed", job="d1", cell="anatomy", table="d1-anatomy", rows=anatomy())
    for what, rows_of in (("landscape", landscape), ("cosines", cosines)) if moment == "done" else ():
        for site in SITES:
            made.emit(
                "cell.committed", job="d1", cell=f"{what}:{site}", table=f"d1-{what}", rows=rows_of(site)
            )
    error = "the device has no memory left for a single prompt" if moment == "failed" else None
    result = {"result": RESULT} if error is None else {}
    made.emit("job.finished", job="d1", status=moment, seconds=3.0, error=error, audit={"ok": True}, **result)
    made.emit("kernel.state", state="ready")
