"""A sweep's table as a file, or its map as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtui.app_actions import short_path
from labtui.cells import as_table
from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui_sessions.stats import Summary

KINDS = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".parquet": "parquet"}
PICTURE = ".png"


def export_problem(text: str) -> str:
    """What is wrong with a name to export to, or empty."""
    path = Path(text).expanduser().absolute()
    if path.suffix.lower() not in (*KINDS, PICTURE):
        return f"expected a name that ends in {', '.join(KINDS)} or {PICTURE}"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    return "exists already; give another name" if path.exists() else ""


def export_to(path: Path, name: str, rows: list[dict[str, Any]], summary: Summary | None) -> str:
    """Write the table, or the map as a picture, as the name of the file says; the line that tells of it."""
    problem = export_problem(str(path))
    if problem:
        raise UsageError(f"{path}: {problem}")
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        _draw(path, summary)
        return f"wrote the map to {short_path(path)}"
    from labtui_sessions.export import export

    written = export(as_table(name, rows), path, kind)
    return f"wrote {written:,} rows to {short_path(path)}"


def _draw(path: Path, summary: Summary | None) -> None:
    from labtui_artifacts.files import write_atomically
    from labtui_sessions import figures

    if not figures.available():
        raise UsageError(figures.MISSING)
    figure = figures.heatmap(summary) if summary is not None else None
    if figure is None:
        raise UsageError("there is no map to draw yet: it takes the effects of two cells")
    data = figures.png(figure)
    write_atomically(path, lambda out: out.write(data) and None, expected=len(data))
