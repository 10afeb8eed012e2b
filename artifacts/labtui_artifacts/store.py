"""The store: a folder of artifacts by name, safe for several processes at once.

``<root>/<name>.safetensors`` is the artifact ``name``; ``<root>/incoming/`` is where a worker leaves finished
files for the owner of the store to adopt. Every change is one rename under a short writer's lock, so readers
need no lock and never see half a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_artifacts.files import Array, ArtifactFile
from labtui_artifacts.header import Header, read_header
from labtui_artifacts.kinds import index
from labtui_artifacts.lock import Lock
from labtui_artifacts.paths import secure_folder

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
MAX_NAME = 100
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Entry:
    """One line of a listing. ``problem`` is the one line that says why a file cannot be read, else ``""``."""

    name: str
    kind: str
    bytes: int
    modified: float
    meta: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


class Store:
    """The artifacts under ``root``, which is made (0700) when missing."""

    def __init__(self, root: Path, *, timeout: float = 10.0) -> None:
        """``timeout``: seconds that a change waits for another process's change to end."""
        self.root = secure_folder(root, what="artifact folder")
        self._timeout = timeout

    def list(self, kind: str | None = None) -> list[Entry]:
        """Every artifact (of ``kind``) by name; damaged files are listed with their problem."""
        entries = [self._entry(path) for path in self._paths()]
        return [entry for entry in entries if kind is None or entry.kind == kind]

    def names(self) -> list[str]:
        """Every name, sorted."""
        return [path.name.removesuffix(SUFFIX) for path in self._paths()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and is_name(name) and self._place(name).is_file()

    def get(self, name: str, *, kind: str | Sequence[str] | None = None) -> ArtifactFile:
        """Open artifact ``name``; UsageError names the nearest when there is none, BadFile when damaged."""
        return files.read(self.path(name), kind=kind)

    def path(self, name: str) -> Path:
        """The file of an existing artifact."""
        place = self._place(check_name(name))
        if not place.is_file():
            raise UsageError(self._unknown(name))
        return place

    def put(
        self,
        name: str,
        kind: str,
        tensors: Mapping[str, Array],
        meta: Mapping[str, Any],
        *,
        replace: bool = False,
    ) -> Header:
        """Store an artifact; without ``replace`` an existing name is a UsageError."""
        place = self._place(check_name(name))
        with self._writing():
            self._check_free(name, replace)
            return files.write(place, kind, tensors, meta)

    def put_file(self, name: str, source: Path, *, replace: bool = False) -> Header:
        """Store a checked copy of the artifact file ``source``."""
        place = self._place(check_name(name))
        if read_header(source).kind == index.KIND:
            raise UsageError(
                f"{source}: an index is more than this file; build it here with `labtui run index`"
            )
        with self._writing():
            self._check_free(name, replace)
            files.copy(source, place)
        return read_header(place)

    def rename(self, old: str, new: str) -> None:
        """Give artifact ``old`` the free name ``new``."""
        target = self._place(check_name(new))
        with self._writing():
            place = self.path(old)
            self._check_free(new, replace=False)
            place.rename(target)
            files.sync_folder(self.root)

    def delete(self, name: str) -> None:
        """Remove artifact ``name``; of an index also the shards that no other index is made of."""
        with self._writing():
            entry = self._entry(self.path(name))
            self.path(name).unlink()
            files.sync_folder(self.root)
            if entry.kind == index.KIND and not entry.problem:
                index.remove_shards(self.root, str(entry.meta.get("key")))

    def shard_folder(self, key: str) -> Path:
        """The folder of an index's shards, made when missing."""
        secure_folder(self.root / index.FOLDER, what="folder of shards")
        return secure_folder(index.place(self.root, key), what="folder of shards")

    def free_name(self, name: str) -> str:
        """``name`` when it is free, else the first free of ``name-2``, ``name-3``..."""
        candidate, number = check_name(name), 1
        while candidate in self:
            number += 1
            candidate = f"{name}-{number}"
        return candidate

    def incoming(self) -> Path:
        """The folder where a worker leaves finished artifacts."""
        return secure_folder(self.root / "incoming", what="incoming folder")

    def save_incoming(
        self, name: str, kind: str, tensors: Mapping[str, Array], meta: Mapping[str, Any]
    ) -> Header:
        """Write an artifact where the owner of the store will adopt it; no lock is needed."""
        return files.write(self.incoming() / f"{check_name(name)}{SUFFIX}", kind, tensors, meta)

    def adopt(self, name: str, *, replace: bool = False) -> Header:
        """Move the finished artifact ``name`` from the incoming folder into the store, after checking it."""
        source = self.incoming() / f"{check_name(name)}{SUFFIX}"
        read_header(source)
        place = self._place(name)
        with self._writing():
            self._check_free(name, replace)
            source.rename(place)
            files.sync_folder(self.root)
            files.sync_folder(source.parent)
        return read_header(place)

    def waiting(self) -> list[str]:
        """Names in the incoming folder that nobody adopted, as after a broker was killed."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self.incoming().glob(f"*{SUFFIX}"))

    def sweep(self) -> list[str]:
        """Remove temporary files that a killed writer left behind; returns their names."""
        removed = []
        with self._writing():
            for path in self.root.glob(".*.part"):
                with suppress(FileNotFoundError):
                    path.unlink()
                    removed.append(path.name)
        return removed

    def _writing(self) -> Lock:
        return Lock(self.root / ".lock", what=f"artifact store {self.root}", timeout=self._timeout)

    def _place(self, name: str) -> Path:
        return self.root / f"{name}{SUFFIX}"

    def _paths(self) -> list[Path]:
        found = [path for path in self.root.glob(f"*{SUFFIX}") if is_name(path.name.removesuffix(SUFFIX))]
        return sorted(found)

    def _entry(self, path: Path) -> Entry:
        name = path.name.removesuffix(SUFFIX)
        try:
            status = path.stat()
        except OSError as problem:
            return Entry(name, "", 0, 0.0, problem=f"{path}: cannot be read ({problem.strerror})")
        try:
            header = read_header(path)
        except LabError as problem:
            return Entry(name, "", status.st_size, status.st_mtime, problem=str(problem))
        return Entry(name, header.kind, status.st_size, status.st_mtime, header.meta)

    def _check_free(self, name: str, replace: bool) -> None:
        if not replace and os.path.lexists(self._place(name)):
            raise UsageError(
                f"artifact {name!r} exists already in {self.root}: choose another name (free: "
                f"{self.free_name(name)}) or delete it first"
            )

    def _unknown(self, name: str) -> str:
        from difflib import get_close_matches

        names = self.names()
        if not names:
            return f"no artifact {name!r}: the store {self.root} is empty"
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names[:12])}"
        return f"no artifact {name!r} in {self.root}: {hint}"


def is_name(text: str) -> bool:
    """Whether ``text`` can name an artifact."""
    return len(text) <= MAX_NAME and NAME.fullmatch(text) is not None


def check_name(text: str) -> str:
    """``text`` when it can name an artifact, else UsageError."""
    if not is_name(text):
        shown = text if len(text) <= 40 else text[:37] + "..."
        raise UsageError(
            f"{shown!r} cannot name an artifact: expected a-z, 0-9, '.', '_', '-', starting with a letter or "
            f"digit, at most {MAX_NAME} characters"
        )
    return text


def name_from(text: str) -> str:
    """A valid name made from a file name or title; UsageError when nothing of it is left."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:MAX_NAME].rstrip("-._")
    if not plain:
        raise BadFile(f"no artifact name can be made of {text!r}: give one")
    return plain
