"""A board of claims for the screen: the real rule, held against sweeps of the stories."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from labtui_artifacts.errors import LabError
from labtui_sessions.claims import Claim, Comparison, Query, Studied, check
from labtui_sessions.ledger import Board
from labtui_sessions.tables import Table
from tests.support import sweep_stories
from tests.support.fake_kernel import T0, FakeKernel

MADE = T0 - 3600
MODEL = ("toy-qwen3", "w1")


def session(
    name: str, created: float, *, title: str = "", prompts: int = 20, running: bool = False
) -> Studied:
    """A session with the sweep of the stories, or its first prompts."""
    table = Table("s1")
    kept = set(sweep_stories.PROMPTS[:prompts])
    for number, rows in enumerate(sweep_stories.cells()):
        table.add("s1", f"c{number}", [row for row in rows if row["prompt"] in kept])
    return Studied(
        id=name, title=title, created=created, tables={"s1": table}, made_by={"s1": [MODEL] * table.rows},
        running=frozenset({"s1"} if running else ()),
    )  # fmt: skip


def claim(name: str, text: str, comparison: Comparison, threshold: float, **fields: Any) -> Claim:
    return Claim(
        **{"name": name, "text": text, "metric": "words", "of": "effect", "comparison": comparison,
           "threshold": threshold, "created": MADE, **fields}
    )  # fmt: skip


CLAIMS = (
    claim("terse-halves-answers", "terse halves answers", "less", -15.0,
          query=Query(direction="terse", site="llm.2", strength="8%")),
    claim("it-does-so-early", "it does so at every early site", "less", -15.0, parent="terse-halves-answers",
          query=Query(direction="terse", strength="8%")),
    claim("late-sites-lengthen", "late sites make answers longer", "greater", 2.0,
          query=Query(direction="terse", site="llm.6", strength="2%")),
)  # fmt: skip


def board() -> dict[str, Any]:
    """A confirmed, a refuted and two open claims, as the kernel answers."""
    sessions = [
        session("20251230-toy", MADE - 90_000, title="what terse does"),
        session("20260101-toy", MADE + 900, title="mutex, terse"),
        session("20260102-toy", MADE + 1800, prompts=12),
    ]
    late = claim("terse-spares-coherence", "text stays whole", "greater", 0.9, metric="coherent", of="rate",
                 created=MADE + 4000)  # fmt: skip
    checked = [check(one, sessions) for one in (*CLAIMS, late)]
    return msgspec.to_builtins(Board(claims=checked, problems={}, at=T0))


class WaitingKernel(FakeKernel):
    """A kernel that goes on checking."""

    async def request(self, method: str, **params: Any) -> Any:
        if method == "claim.board":
            await asyncio.Event().wait()
        return await super().request(method, **params)


def kernel(moment: str) -> FakeKernel:
    """A kernel whose ledger is ``empty``, being ``checked``, ``filled``, ``damaged`` or ``failed``."""
    made = (WaitingKernel() if moment == "checked" else FakeKernel()).ready("terse")
    if moment in ("filled", "damaged"):
        made.answers["claim.board"] = board()
    if moment == "damaged":
        made.answers["claim.board"]["problems"] = {"old.json": "not a claim: Input data was truncated"}
    if moment == "failed":
        made.answers["claim.board"] = LabError("the disk of the sessions cannot be read: Input/output error")
    return made
