"""A table as a file, or what it shows as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtui.wording import short_path
from labtui_artifacts.errors import UsageError

if TYPE_CHECKING:
    from labtui_sessions.stats import Summary
    from labtui_sessions.tables import Table

Drawn = tuple[str, Any]
"""What a picture shows, and its matplotlib figure."""

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


def export_to(path: Path, table: Table, picture: Callable[[Table], Drawn]) -> str:
    """Write the table, or its picture, as the name of the file says; the line that tells of it."""
    problem = export_problem(str(path))
    if problem:
        raise UsageError(f"{path}: {problem}")
    kind = KINDS.get(path.suffix.lower())
    if kind is not None:
        from labtui_sessions.export import export

        return f"wrote {export(table, path, kind):,} rows to {short_path(path)}"
    from labtui_artifacts.files import write_atomically
    from labtui_sessions import figures

    if not figures.available():
        raise UsageError(figures.MISSING)
    name, figure = picture(table)
    data = figures.png(figure)
    write_atomically(path, lambda out: out.write(data) and None, expected=len(data))
    return f"wrote {name} to {short_path(path)}"


def map_of(summary: Summary | None) -> Drawn:
    """A sweep's map. UsageError where there is none yet."""
    from labtui_sessions import figures

    figure = figures.heatmap(summary) if summary is not None else None
    if figure is None:
        raise UsageError("there is no map to draw yet: it takes the effects of two cells")
    return "the map", figure


def diagnosis_of(table: Table) -> Drawn:
    """The first figure of a diagnosis' table. UsageError where it has none."""
    from labtui_sessions import diagnosis_figures

    made = next(iter(diagnosis_figures.draw(table)), None)
    if made is None:
        raise UsageError("there is nothing to draw in this table")
    return made[0].lower(), made[2]
