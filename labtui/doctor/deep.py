"""The deep check: a real generation, plain and steered, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from labtui.doctor.check import Check

TRIAL_SECONDS = 600.0


def checks(timeout: float = TRIAL_SECONDS) -> Iterator[Check]:
    """Load the bundled model, steer it, and compare every byte of its parameters afterwards."""
    command = [sys.executable, "-m", "labtui.doctor.trial"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        yield Check(
            "deep", "generation", "fail", f"not done after {timeout:.0f} s", "is the machine overloaded?"
        )
        return
    lines = done.stdout.strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        what = f"the trial ended with code {done.returncode}: {last[:300]}"
        yield Check("deep", "generation", "fail", what, f"{' '.join(command)} shows it whole")
        return
    yield Check(
        "deep", "model", "ok", f"{found['model']} on {found['device']} ({found['dtype']})", data=found
    )
    yield _judge(
        "plain", found["zero_equals_plain"], f"{found['plain_words']} words, and the same with α = 0"
    )
    yield _judge("steered", found["steered_differs"], f"{found['steered_words']} words with {found['edit']}")
    yield _judge("audit", found["audit_ok"], found["audit"])


def _judge(name: str, good: bool, what: str) -> Check:
    if good:
        return Check("deep", name, "ok", what)
    return Check(
        "deep", name, "fail", what, "this install does not steer as it should: report it with this output"
    )
