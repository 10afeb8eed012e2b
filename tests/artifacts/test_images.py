"""The store of pictures: whole or absent, by their bytes alone, bounded."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest

from labtui_artifacts import images
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.images import ImageStore, digest_of, is_digest

DATA = bytes(range(256)) * 40


def parts(store: ImageStore) -> list[str]:
    return [path.name for path in store.folder.iterdir() if not is_digest("sha256:" + path.name)]


def test_bytes_come_back_under_their_digest(lab_home: Path) -> None:
    store = ImageStore()
    digest = store.put(DATA)
    assert digest == digest_of(DATA) and digest in store and store.read(digest) == DATA
    place = lab_home / "images" / digest.removeprefix("sha256:")
    assert place.stat().st_mode & 0o777 == 0o600 and place.parent.stat().st_mode & 0o777 == 0o700
    before = place.stat().st_ino
    assert store.put(DATA) == digest and place.stat().st_ino == before and not parts(store)


def test_a_missing_and_a_damaged_one_are_one_line() -> None:
    store = ImageStore()
    with pytest.raises(
        UsageError, match=r"picture cat.png \(\w{12}\) is not in this kernel's store; send the file again"
    ):
        store.read(digest_of(b"x"), "cat.png")
    digest = store.put(DATA)
    store.path(digest).write_bytes(DATA[:-1])
    with pytest.raises(BadFile, match="its bytes are not those of picture"):
        store.read(digest)
    for text in ("x", "../../etc/passwd", "sha256:../x", digest.upper()):
        with pytest.raises(UsageError, match="expected sha256: and 64 hexadecimal digits"):
            store.path(text)


def test_pieces_come_in_order_and_their_bytes_are_held_against_the_digest() -> None:
    store = ImageStore()
    part, digest = store.folder / ".part-x", digest_of(DATA)
    with pytest.raises(UsageError, match="in order, from offset 0"):
        store.receive(part, 100, DATA[100:])
    assert store.receive(part, 0, DATA[:5000]) == 5000
    assert part.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="in order"):
        store.receive(part, 4000, DATA[4000:])
    assert not part.exists()
    store.receive(part, 0, DATA[:5000])
    with pytest.raises(UsageError, match="the bytes that came are those of"):
        store.check(part, digest)
    store.receive(part, 5000, DATA[5000:])
    store.check(part, digest)
    store.adopt(part, digest)
    assert store.read(digest) == DATA and not part.exists()


def test_one_that_is_too_long_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ImageStore()
    part = store.folder / ".part-x"
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    store.receive(part, 0, DATA[:900])
    with pytest.raises(UsageError, match="expected a smaller file"):
        store.receive(part, 900, DATA[900:1101])
    assert not part.exists()


def test_no_room_on_the_disk_leaves_nothing() -> None:
    store = ImageStore()
    part = store.folder / ".part-x"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (6000, hard)
    )  # the system refuses to write on, as on a full disk
    try:
        with pytest.raises(OSError):
            store.receive(part, 0, DATA)
        with pytest.raises(OSError):
            store.put(DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not parts(store) and digest_of(DATA) not in store


def test_what_no_session_names_goes_after_a_while() -> None:
    store = ImageStore()
    named, fresh, old = (store.put(DATA + bytes([n])) for n in range(3))
    stale = store.folder / ".part-old"
    stale.write_bytes(b"x")
    long_ago = time.time() - 2 * images.KEPT_SECONDS
    for path in (store.path(named), store.path(old), stale):
        os.utime(path, (long_ago, long_ago))
    doomed = store.unnamed({named})
    assert [one.digest for one in doomed] == [old]
    assert store.touch(old) and not store.unnamed({named}) and not store.touch(digest_of(b"none"))
    store.remove(doomed)
    assert {one.digest for one in store} == {named, fresh} and not stale.exists()
