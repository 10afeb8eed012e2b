"""The sessions of a machine: listed, found, and only removed when nobody uses them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from labtui_artifacts import images
from labtui_artifacts.errors import LabError, UsageError
from labtui_artifacts.images import ImageStore
from labtui_sessions.bundle import save
from labtui_sessions.home import (
    CACHE,
    candidates,
    describe,
    folder_of,
    listing,
    named_images,
    open_session,
    remove,
    unnamed_images,
)
from labtui_sessions.journal import FILE, Journal
from tests.sessions.scenario import write_session


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_session(tmp_path / "old", t=1_700_000_000.0)
    write_session(tmp_path / "new", t=1_750_000_000.0)
    with Journal.open(tmp_path / "empty") as journal:
        journal.append("session.opened", {"id": "empty"}, 1_750_000_000.0)
    return tmp_path


def test_a_listing(root: Path) -> None:
    (root / "stray.txt").write_text("not a session")
    (root / "folder").mkdir()
    broken = root / "broken"
    broken.mkdir()
    (broken / FILE).write_bytes(b"PK" + bytes(60))
    listed = {one.id: one for one in listing(root)}
    assert set(listed) == {"old", "new", "empty", "broken"}
    new = listed["new"]
    assert (new.title, new.kernel, new.model, new.jobs, new.rows, new.notes) == (
        "mutex", "toy", "toy-qwen3", 2, 4, 1,
    )  # fmt: skip
    assert new.tags == ["terse"] and not new.open and new.bytes == (root / "new" / FILE).stat().st_size
    assert "not a session journal" in listed["broken"].problem
    assert [one.id for one in listing(root) if not one.problem][-1] == "old"
    with Journal.open(root / "new"):
        assert describe(root / "new").open


def test_a_long_journal_is_remembered_until_it_grows(root: Path) -> None:
    with Journal.open(root / "new") as journal:
        journal.append("note.added", {"id": "big", "text": "x" * 2_000_000})
    assert describe(root / "new").notes == 2
    assert (root / "new" / CACHE).exists()
    assert describe(root / "new").notes == 2
    with Journal.open(root / "new") as journal:
        journal.append("tag.added", {"tag": "more"})
    assert describe(root / "new").tags == ["terse", "more"]
    (root / "new" / CACHE).write_text("{")
    assert describe(root / "new").tags == ["terse", "more"]


def test_sessions_are_found_by_id_folder_and_file(root: Path) -> None:
    save(root / "new", root / "n.safetensors")
    for ref in ("new", root / "new", root / "new" / FILE, root / "n.safetensors"):
        with open_session(ref, root) as log:
            assert log.last_seq == 39
    for ref in ("nope", "../new", "", "a/b", "x.safetensors"):
        with pytest.raises(UsageError), open_session(ref, root):
            pass
    with pytest.raises(UsageError, match="expected an id"):
        folder_of("../../etc", root)


def test_only_old_and_empty_sessions_may_go(root: Path) -> None:
    now = 1_750_000_000.0 + 86400 * 10
    with Journal.open(root / "kept-by-note") as journal:
        journal.append("session.opened", {"id": "kept-by-note"}, 1_600_000_000.0)
        journal.append("note.added", {"id": "n", "text": "keep"}, 1_600_000_000.0)
    for name in ("old", "new"):
        with Journal.open(root / name) as journal:
            journal.append("note.removed", {"id": "n1"}, now - 86400 * (100 if name == "old" else 5))
    doomed = {one.id: one.why for one in candidates(listing(root), now=now)}
    assert doomed == {"empty": "empty", "old": "unchanged for 100 days"}
    with Journal.open(root / "empty"):
        assert "empty" not in {one.id for one in candidates(listing(root), now=now)}
        with pytest.raises(LabError, match="in use by process"):
            remove(root / "empty")
    assert "empty" not in {
        one.id for one in candidates(listing(root), now=1_750_000_000.0 + 60)
    }  # made a minute ago
    remove(root / "empty")
    assert {one.id for one in listing(root)} == {"old", "new", "kept-by-note"}


def test_pictures_go_once_no_session_is_about_them(root: Path) -> None:
    store = ImageStore()
    kept, doomed, nobody = (store.put(bytes([n]) * 99) for n in range(3))
    for folder, digest in (("new", kept), ("old", doomed)):
        with Journal.open(root / folder) as journal:
            journal.append("image.added", {"digest": digest, "name": "a.png"})
    assert named_images(root) == {kept, doomed} and not unnamed_images(root)
    long_ago = time.time() - 2 * images.KEPT_SECONDS
    for one in store:
        os.utime(store.path(one.digest), (long_ago, long_ago))
    assert [one.digest for one in unnamed_images(root)] == [nobody]
    without = unnamed_images(root, without=[str(root / "old")])
    assert {one.digest for one in without} == {nobody, doomed}
    (root / "broken").mkdir()
    (root / "broken" / FILE).write_bytes(b"PK" + bytes(60))
    with pytest.raises(LabError):
        unnamed_images(root)  # whose pictures those are is not known
