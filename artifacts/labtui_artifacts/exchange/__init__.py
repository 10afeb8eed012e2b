"""Directions to and from other tools' formats, each with its layer convention stated.

``read_foreign`` turns any known file into a direction, ``write_foreign`` the other way; ``import_into`` and
``export_from`` do it for a store, and take our own safetensors files as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labtui_artifacts import files
from labtui_artifacts.errors import BadFile, UsageError
from labtui_artifacts.exchange import control_vector, neuronpedia, npy, pt, svec
from labtui_artifacts.exchange.base import ROWS, Imported, Reading
from labtui_artifacts.files import Array
from labtui_artifacts.header import Header, open_regular
from labtui_artifacts.kinds.direction import DirectionFile, build
from labtui_artifacts.store import Store, check_name, name_from

__all__ = [
    "EXPORTS", "FORMATS", "NATIVE", "ROWS", "Imported", "Reading", "detect", "export_from", "import_into",
    "read_foreign", "write_foreign",
]  # fmt: skip

NATIVE = "safetensors"


@dataclass(frozen=True)
class Format:
    """A foreign format: its name, the layer convention in one line, and how it is read and written."""

    name: str
    convention: str
    read: Callable[[Path, Reading], Imported]
    write: Callable[[DirectionFile, Path, Sequence[str] | None], tuple[str, ...]]


FORMATS: dict[str, Format] = {
    name: Format(name, module.CONVENTION, module.read, module.write)
    for name, module in (
        ("gguf", control_vector),
        ("npy", npy),
        ("svec", svec),
        ("neuronpedia", neuronpedia),
        ("pt", pt),
    )
}
EXPORTS = (NATIVE, "gguf", "npy", "svec", "neuronpedia")
"""The formats that can be written."""


def detect(path: Path) -> str:
    """The format of a file (or folder), by its content first; UsageError when there is nothing there."""
    if path.is_dir():
        if (path / "vector.yaml").is_file():
            return "neuronpedia"
        raise UsageError(f"{path}: a folder without a vector.yaml, expected a file or a Neuronpedia vector")
    with open_regular(path) as handle:
        start = handle.read(8)
    if path.name == "vector.yaml" or (
        path.name == "vector.safetensors" and path.with_name("vector.yaml").is_file()
    ):
        return "neuronpedia"
    if start.startswith(b"GGUF"):
        return "gguf"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if path.suffix == ".svec":
        return "svec"
    if start.startswith(b"PK\x03\x04") or path.suffix in (".pt", ".pth", ".bin"):
        return "pt"
    return NATIVE


def read_foreign(
    path: Path, *, format: str | None = None, reading: Reading | None = None
) -> tuple[dict[str, Array], dict[str, Any], tuple[str, ...]]:
    """``(tensors, meta, notes)`` of a direction from a foreign file, ready to be stored.

    ``notes`` are lines the user should read. The meta's ``origin`` keeps the format, its convention, the
    file's name and what it said. Raises BadFile and UsageError with one line.
    """
    name = format or detect(path)
    if name not in FORMATS:
        raise UsageError(f"format {name!r}: expected one of {', '.join(FORMATS)}")
    chosen = FORMATS[name]
    found = chosen.read(path, reading or Reading())
    origin = {"format": name, "file": path.name, "convention": chosen.convention, **found.said}
    tensors, meta = build(found.vectors, meta={"method": "imported", "read": "unknown", "origin": origin})
    return tensors, meta, (f"{name}: {chosen.convention}", *found.notes)


def write_foreign(
    direction: DirectionFile, out: Path, format: str, sites: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Write a direction in a foreign format; returns notes. ``sites`` limits what is written."""
    if format not in FORMATS:
        raise UsageError(f"format {format!r}: expected one of {', '.join(EXPORTS)}")
    chosen = FORMATS[format]
    notes = chosen.write(direction, out, sites)
    return (f"{format}: {chosen.convention}", *notes)


def import_into(
    store: Store,
    path: Path,
    *,
    name: str | None = None,
    format: str | None = None,
    reading: Reading | None = None,
    replace: bool = False,
) -> tuple[str, Header, tuple[str, ...]]:
    """Bring a file into the store as ``name`` (default: the file's): (name, header, notes)."""
    found = format or detect(path)
    chosen = check_name(name) if name else name_from(_stem(path))
    if found == NATIVE:
        return chosen, store.put_file(chosen, path, replace=replace), ()
    tensors, meta, notes = read_foreign(path, format=found, reading=reading)
    return chosen, store.put(chosen, "direction", tensors, meta, replace=replace), notes


def export_from(
    store: Store,
    name: str,
    out: Path,
    *,
    format: str,
    sites: Sequence[str] | None = None,
    replace: bool = False,
) -> tuple[str, ...]:
    """Write artifact ``name`` of the store to ``out`` in ``format``; returns notes.

    Only directions have foreign formats. Raises UsageError when ``out`` exists and ``replace`` is not set.
    """
    if format not in EXPORTS and format not in FORMATS:
        raise UsageError(f"format {format!r}: expected one of {', '.join(EXPORTS)}")
    taken = out / "vector.yaml" if format == "neuronpedia" else out
    if taken.exists() and not replace:
        raise UsageError(f"{taken}: exists already: choose another name or say --force")
    file = store.get(name)
    if format == NATIVE:
        if sites:
            raise UsageError("--site is for foreign formats: a safetensors file is copied whole")
        if file.kind == "index":
            raise UsageError(f"index {name!r} is more than one file: build it again where it is needed")
        files.copy(file.path, out)
        return ()
    if file.kind != "direction":
        raise BadFile(f"artifact {name!r} holds a {file.kind}: only a direction can be written as {format}")
    return write_foreign(DirectionFile.view(file, name), out, format, sites)


def _stem(path: Path) -> str:
    if path.name in ("vector.yaml", "vector.safetensors"):
        return path.absolute().parent.name
    return path.stem if path.suffix else path.name
