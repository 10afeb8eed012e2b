"""The ledger of a kernel's machine, asked for over the wire."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from labtui_artifacts import paths
from labtui_artifacts.errors import UsageError
from labtui_sessions import ledger
from labtui_sessions.ledger import Board
from tests.sessions.test_findings import write_sweep
from tests.support import kernels

NEW: dict[str, Any] = {
    "name": "shorter", "text": "terse shortens", "metric": "words", "of": "effect", "comparison": "less",
    "threshold": -5.0, "query": {"site": "llm.2", "strength": "12%"},
}  # fmt: skip


async def test_claims_are_added_decided_and_removed_through_the_broker() -> None:
    kernels.start()
    lab = await kernels.ready()
    before = time.time()
    await lab.request("claim.add", **NEW)
    assert before <= ledger.get("shorter").created <= time.time()
    write_sweep(paths.sessions() / "s-new", t=time.time() + 60)
    found = msgspec.convert(await lab.request("claim.board"), Board)
    assert [(one.claim.name, one.status) for one in found.claims] == [("shorter", "confirmed")]
    assert [(e.session, e.role, e.found[0].model) for e in found.claims[0].evidence] == [
        ("s-new", "deciding", "toy-qwen3")
    ]
    await lab.request("claim.remove", name="shorter")
    assert ledger.everything() == ([], {})
    await lab.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": float("nan")}, "finite"), ({"name": "../x"}, "expected a name"), ({"of": "mean"}, "claim.add"),
        ({"created": 0.0}, "unknown field"), ({"query": {"site": 3}}, "claim.add"), ({"parent": "nobody"}, "no claim"),
    ],
)  # fmt: skip
async def test_claims_that_make_no_sense_are_refused_in_one_line(
    change: dict[str, Any], message: str
) -> None:
    kernels.start()
    lab = await kernels.ready()
    with pytest.raises(UsageError, match=message) as caught:
        await lab.request("claim.add", **{**NEW, **change})
    assert "\n" not in str(caught.value)
    await lab.close()
