"""The ledger of a kernel's machine, asked for over the wire."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
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


def there(tmp_path: Path, *words: str, code: int = 0) -> str:
    """A command of another home folder that reaches the kernel's machine by ``--via``; what it said."""
    home = {name: os.environ[name] for name in ("LABTUI_HOME", "LABTUI_RUNTIME")}
    way = " ".join(["env", *(f"{name}={value}" for name, value in home.items())])
    env = {**os.environ, "LABTUI_HOME": str(tmp_path), "LABTUI_REMOTE": f"{sys.executable} -m labtui",
           "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "labtui", "--via", way, "--kernel", "k", "claim", *words],
        capture_output=True, text=True, env=env, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


async def test_the_command_reaches_the_ledger_of_another_machine(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    kernels.start()
    await (await kernels.ready()).close()

    async def say(*words: str, code: int = 0) -> str:
        return await asyncio.to_thread(there, tmp_path, *words, code=code)

    await say(
        "add", "Terse shortens", "--metric", "words", "--less", "-5", "--site", "llm.2", "--strength", "12%"
    )
    assert ledger.get("terse-shortens").threshold == -5.0
    write_sweep(paths.sessions() / "s-new", t=time.time() + 60)
    assert "terse-shortens" in await say("ls")
    assert "confirmed by 1 of 1 session" in await say("check", "terse-shortens")
    assert "no claim 'other' there" in await say("check", "other", code=2)
    assert "--session looks into sessions of this machine" in await say("check", "--session", "x", code=2)
    await say("rm", "terse-shortens")
    assert ledger.everything() == ([], {}) and not (tmp_path / "claims").exists()


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
