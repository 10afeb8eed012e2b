"""The pictures that a kernel was sent, by the SHA-256 of their bytes: ``$LABTUI_HOME/images/<digest>``.

A file here is a picture as the user had it, byte for byte, 0600. It is written beside its place and renamed, so that it
is whole or absent, and its bytes are checked against its name before it comes here and whenever it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from labtui_artifacts import paths
from labtui_artifacts.errors import BadFile, UsageError

PREFIX = "sha256:"
MAX_BYTES = 64 * 1024 * 1024
"""Bytes of one picture's file at most."""
KEPT_SECONDS = 3600.0
"""How long a picture that no session names is kept: the job that it was sent for may still be on its way."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether ``text`` is ``sha256:`` and 64 lower-case hexadecimal digits."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes) -> str:
    """The digest of a picture's bytes."""
    return PREFIX + hashlib.sha256(data).hexdigest()


def short(digest: str) -> str:
    """A digest as it is shown."""
    return digest.removeprefix(PREFIX)[:12]


def with_short(text: str) -> str:
    """A text with the digests in it as they are shown."""
    return _DIGEST.sub(lambda match: short(match[0]), text)


@dataclass(frozen=True)
class Stored:
    """A picture in the store: its digest, its bytes, and when it was last sent or asked for."""

    digest: str
    bytes: int
    used: float


class ImageStore:
    """Pictures by digest in one folder (``$LABTUI_HOME/images`` where none is given)."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = paths.images() if folder is None else folder

    def path(self, digest: str) -> Path:
        """Where a picture lies or would lie. UsageError for what is no digest."""
        if not is_digest(digest):
            raise UsageError(f"picture {digest[:80]!r}: expected sha256: and 64 hexadecimal digits")
        return self.folder / digest.removeprefix(PREFIX)

    def __contains__(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def touch(self, digest: str) -> bool:
        """Whether the picture is here; if so it is kept for another `KEPT_SECONDS`."""
        try:
            os.utime(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def require(self, digest: str, name: str = "") -> Path:
        """Where a picture lies; UsageError when it is not here. ``name`` is what the user calls it, for the error."""
        path = self.path(digest)
        if not path.is_file():
            called = f"{name} ({short(digest)})" if name and name != short(digest) else short(digest)
            raise UsageError(
                f"picture {called} is not in this kernel's store; send the file again, as in @{name or 'photo.png'}"
            )
        return path

    def read(self, digest: str, name: str = "") -> bytes:
        """A picture's bytes. UsageError when it is not here, BadFile when they are not those it is named by."""
        path = self.require(digest, name)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if digest_of(data) != digest:
            raise BadFile(
                f"{path}: damaged: its bytes are not those of picture {name or short(digest)}; remove the file and send "
                "the picture again"
            )
        return data

    def put(self, data: bytes) -> str:
        """Store a picture's bytes; its digest. What is here already is not written again."""
        digest = digest_of(data)
        if not self.touch(digest):
            part = self.folder / f".part-{os.getpid()}-{short(digest)}"
            try:
                self.receive(part, 0, data)
                self.adopt(part, digest)
            finally:
                part.unlink(missing_ok=True)
        return digest

    def receive(self, part: Path, offset: int, data: bytes) -> int:
        """Add a piece to a file on its way, which begins anew at offset 0; its length.

        UsageError for a piece out of order or over `MAX_BYTES`; OSError when the disk is full, and then, as after any
        failure, nothing is left of it.
        """
        if offset + len(data) > MAX_BYTES:
            part.unlink(missing_ok=True)
            raise UsageError(f"picture: longer than {MAX_BYTES // 2**20} MiB; expected a smaller file")
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if offset else os.O_CREAT | os.O_TRUNC)
        try:
            handle = os.open(part, flags, 0o600)
        except FileNotFoundError:
            raise UsageError("picture: pieces must come in order, from offset 0") from None
        try:
            if os.fstat(handle).st_size != offset:
                raise UsageError("picture: pieces must come in order, from offset 0")
            os.lseek(handle, offset, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        return offset + len(data)

    def check(self, part: Path, digest: str) -> None:
        """Raise UsageError unless a file's bytes are those of ``digest``."""
        with part.open("rb") as file:
            found = PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise UsageError(
                f"picture {short(digest)}: the bytes that came are those of {short(found)}, so it was damaged on the way "
                "or changed meanwhile; send it again"
            )

    def adopt(self, part: Path, digest: str) -> None:
        """Move a whole, checked file to its place; it reaches the disk first."""
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.rename(self.path(digest))

    def __iter__(self) -> Iterator[Stored]:
        for path in sorted(self.folder.iterdir()):
            if is_digest(PREFIX + path.name):
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    yield Stored(PREFIX + path.name, found.st_size, found.st_mtime)

    def unnamed(self, named: Collection[str], now: float | None = None) -> list[Stored]:
        """The pictures that are not among ``named`` and that nobody asked for within `KEPT_SECONDS`."""
        now = time.time() if now is None else now
        return [one for one in self if one.digest not in named and now - one.used > KEPT_SECONDS]

    def remove(self, stored: Collection[Stored], now: float | None = None) -> None:
        """Remove pictures, and what is left of files that stopped on their way."""
        for one in stored:
            self.path(one.digest).unlink(missing_ok=True)
        now = time.time() if now is None else now
        for path in self.folder.glob(".part-*"):
            with contextlib.suppress(FileNotFoundError):
                if now - path.stat().st_mtime > KEPT_SECONDS:
                    path.unlink()
