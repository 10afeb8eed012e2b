"""The answers behind a sweep's cells and rows, each beside the unsteered one of the same prompt and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labtui.cells import Reading

if TYPE_CHECKING:
    from labtui_sessions.stats import Cell


@dataclass(frozen=True)
class Answer:
    """A steered answer and the unsteered one of the same prompt and seed (None: not there, or not yet)."""

    seed: int
    text: str
    finish: str
    value: Any
    zero_text: str | None
    zero_finish: str
    zero_value: Any


def prompts_of(reading: Reading, cell: Cell) -> list[int]:
    """Numbers of the prompts that a cell has rows of."""
    sheet = reading.sheet
    there = sheet.prompt[sheet.cell == sheet.points.index(cell.point)]
    return list(dict.fromkeys(there.tolist()))


def asked_at(reading: Reading, numbers: Sequence[int], id: str) -> int:
    """Where among prompts by number the one with that id is; the first where it is not there."""
    ids = [reading.sheet.prompt_ids[number] for number in numbers]
    return ids.index(id) if id in ids else 0


def pictures_of(reading: Reading, prompt: int) -> tuple[Any, Any]:
    """What the table says of a prompt's pictures: their names, and their digests; None where it says nothing."""
    sheet = reading.sheet
    rows = (sheet.prompt == prompt).nonzero()[0].tolist()
    names, digests = (sheet.columns.get(column) for column in ("picture", "prompt_images"))
    return (names[rows[0]] if names and rows else None, digests[rows[0]] if digests and rows else None)


def answers_of(reading: Reading, cell: Cell, prompt: int) -> list[Answer]:
    """A cell's answers to a prompt, one a seed."""
    sheet, metric = reading.sheet, reading.summary.metric
    columns = sheet.columns
    mine = (sheet.cell == sheet.points.index(cell.point)) & (sheet.prompt == prompt)

    def get(name: str, row: int | None) -> Any:
        return columns[name][row] if row is not None and name in columns else None

    found = []
    for row in mine.nonzero()[0].tolist():
        zeros = (sheet.zero & (sheet.pair == sheet.pair[row])).nonzero()[0].tolist()
        zero = zeros[0] if zeros else None
        seed = get("seed", row)
        found.append(
            Answer(
                seed if isinstance(seed, int) else 0,
                str(get("text", row) or ""),
                str(get("finish", row) or ""),
                get(metric, row),
                None if zero is None else str(get("text", zero) or ""),
                str(get("finish", zero) or ""),
                get(metric, zero),
            )
        )
    return found


def zero_rows(rows: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """For each row, by its place, the unsteered one of the same prompt and seed, where it is there."""
    from labtui_sessions.stats.sheet import prompt_ids

    ids = prompt_ids([row.get("prompt") for row in rows], [row.get("prompt_id") for row in rows])
    keys = [(id, row.get("seed")) for id, row in zip(ids, rows, strict=True)]
    zeros = {key: row for key, row in zip(keys, rows, strict=True) if _is_zero(row)}
    return {at: zeros[key] for at, key in enumerate(keys) if key in zeros}


def _is_zero(row: Mapping[str, Any]) -> bool:
    return row.get("control") == "zero" or (not row.get("control") and row.get("strength") == 0)


def answer_of(row: Mapping[str, Any], zero: Mapping[str, Any] | None, metric: str) -> Answer:
    """One row's answer and that of its zero row."""
    seed = row.get("seed")
    return Answer(
        seed if isinstance(seed, int) else 0,
        str(row.get("text") or ""),
        str(row.get("finish") or ""),
        row.get(metric),
        None if zero is None else str(zero.get("text") or ""),
        "" if zero is None else str(zero.get("finish") or ""),
        None if zero is None else zero.get(metric),
    )
