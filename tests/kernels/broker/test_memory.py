"""Only a kill for memory halves the batch; a kill by a person does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from labtui_kernels.broker.memory import killed_for_memory, oom_kills


@pytest.mark.parametrize(
    ("status", "before", "now", "expected"),
    [
        (-9, 3, 4, True),
        (-9, 3, 3, False),
        (-9, None, 4, True),
        (-9, 3, None, True),
        (-11, 3, 4, False),
        (1, 3, 4, False),
        (None, 3, 4, False),
    ],
)
def test_only_a_kill_that_the_system_counted_is_one_for_memory(
    status: int | None, before: int | None, now: int | None, expected: bool
) -> None:
    assert killed_for_memory(status, before, now) is expected


def test_the_count_is_read_from_the_system(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("pgfault 12\noom_kill 7\n")
    assert oom_kills(tmp_path / "vmstat") == 7
    (tmp_path / "vmstat").write_text("pgfault 12\n")
    assert oom_kills(tmp_path / "vmstat") is None
    assert oom_kills(tmp_path / "nothing") is None
