"""Parts of tables that a screen looks at."""

from __future__ import annotations

import pytest

from labtui.parts import NOTHING, Parts
from labtui_artifacts.errors import UsageError
from tests.support import look_stories


async def test_a_table_without_rows_has_none_whatever_is_asked_of_it() -> None:
    """It has no columns either, by which its rows could be told apart."""
    kernel = look_stories.kernel("done")
    kernel.emit("cell.committed", job="l1", cell="scores:llm.0", table="l1-scores", rows=[])
    parts = Parts(kernel)
    with pytest.raises(UsageError, match="no column 'patch'"):
        await kernel.page("l1-scores", 0, 10, filter="patch=3")
    assert await parts.fetch("l1-scores", "patch=3") == []
    assert parts.get("l1-scores", "patch=3") is not NOTHING, "it was asked, and is empty"
    assert len(await parts.fetch("l1-patches", "patch=3")) == len(look_stories.SITES)
