"""What the keys of the Sweep screen do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.containers import Horizontal

from labtui.calibrating import FORMED, calibration
from labtui.cells import Board, Place, as_table, key_of
from labtui.confirming import LEAST_FRESH, confirmation, one_cell
from labtui.exporting import export_problem, export_to, map_of
from labtui.screens.sweep_history import Pin, SweepHistory
from labtui.texts import asked_at, prompts_of
from labtui.widgets.dialog import Field, Form, Values
from labtui.widgets.heatmap import Heatmap
from labtui.widgets.rowtable import RowTable
from labtui.wording import short_path
from labtui_artifacts.errors import LabError

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.stats import Cell

LOWER = ("chart", "texts", "table", "pins", "history")
"""Panels of which a small screen shows one at a time."""


class SweepActions(SweepHistory):
    """The part of the Sweep screen that answers keys; what it shows is in ``sweep.py``."""

    SCOPE = "sweep"

    def __init__(self) -> None:
        super().__init__()
        self.place: Place | None = None
        self.board = Board()
        self.asked_prompt = ""
        """The id of the prompt whose texts are shown, as long as the cells have it."""
        self.picked_row: int | None = None
        """The row of the table whose texts are shown, until the cursor moves on the map."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The sweep's rows."""
        return self.table.rows if self.table is not None else []

    @property
    def places(self) -> list[Place]:
        """The directions and positions that the map can show, those left out that are filtered away."""
        found = self.reading.places if self.reading is not None else []
        kept = self.filter
        return [p for p in found if kept.direction in ("", p[0]) and kept.where in ("", p[1])]

    @property
    def cell(self) -> Cell | None:
        """The cell under the cursor."""
        current = self.query_one(Heatmap).current
        return self.board.cells.get(current) if current is not None else None

    def confirmed(self, cell: Cell) -> Cell | None:
        """The same cell on fresh prompts."""
        reading = self.again.reading if self.again is not None else None
        found = reading.find(key_of(cell.point)) if reading is not None else None
        return found if found is not None and found.metric == cell.metric else None

    def being_confirmed(self, cell: Cell) -> bool:
        """A confirmation of the cell is queued or runs."""
        reading, job = self.reading, self.confirming
        if reading is None or job is None:
            return False
        return all(job.spec.get(name) == value for name, value in one_cell(reading, cell).items())

    # -- running --------------------------------------------------------------------------------------

    def action_extend(self) -> None:
        if self.form.extends:
            self.extend_no_more()
            return
        shown = self.shown
        job = shown.job if shown is not None else None
        if shown is None or not shown.rows:
            self.app.say("there is no table yet to extend")
        elif shown.session:
            self.app.say(f"{shown.label} is of another session, so it cannot be extended here")
        elif job is None or not job.spec_kept or not job.spec:
            self.app.say(
                "the spec of this sweep is too long to be kept here, so it cannot be extended by key"
            )
        elif job.kind not in FORMED:
            self.app.say(
                f"{shown.label} is of a {job.kind} job, which runs as a whole; r makes a sweep of its own"
            )
        else:
            self.extend(shown.table, job)

    def action_calibrate(self) -> None:
        """Search the form's sites for the thresholds of its direction."""
        try:
            spec = calibration(self.copy_spec(), self.metric)
        except LabError as error:
            self.app.say(str(error), bad=True)
            return
        self.submit(spec, f"queued: {spec['direction']} at {spec['sites']}, by {spec['outcome']}")

    def _live_job(self) -> JobView | None:
        """The sweep in view, or its confirmation, while it is to be done."""
        jobs = [job for entry in self.entries if not entry.session for job in reversed(entry.jobs)]
        shown = self.shown
        first = list(reversed(shown.jobs)) if shown is not None and not shown.session else []
        job = next((job for job in (*first, self.confirming, *jobs) if job is not None and job.live), None)
        if job is None:
            self.app.say("no sweep is running")
        return job

    def action_hold(self) -> None:
        job = self._live_job()
        if job is not None:
            method = "job.resume" if job.status == "paused" else "job.pause"
            self.ask(lambda kernel: kernel.request(method, job=job.job))

    def action_stop(self) -> None:
        job = self._live_job()
        if job is not None:
            self.ask(
                lambda kernel: kernel.request("job.cancel", job=job.job),
                lambda _: self.app.say("cancelled; committed cells stay"),
            )

    # -- looking --------------------------------------------------------------------------------------

    def action_focus_panel(self, id: str) -> None:
        if id in LOWER:
            self.show_lower(id)
        super().action_focus_panel(id)

    def show_lower(self, id: str) -> None:
        """Show one of the panels that take turns on a small screen."""
        self.query_one("#sweep", Horizontal).set_classes(f"-{id}")

    def action_cycle_metric(self) -> None:
        reading = self.reading
        if reading is None:
            self.app.say("there is no table yet, so there is no metric to choose")
            return
        there = list(reading.metrics)
        at = there.index(reading.summary.metric)
        self.metric = there[(at + 1) % len(there)]
        self.app.say(f"metric {self.metric}, {(at + 1) % len(there) + 1} of {len(there)}")

    def action_cycle_place(self) -> None:
        places = self.places
        if len(places) < 2 or self.place is None:
            left_out = self.filter.direction or self.filter.where
            why = (
                "the filter leaves one"
                if left_out
                else "this sweep has one direction, and one place along the text"
            )
            self.app.say(why)
            return
        self.place = places[(places.index(self.place) + 1) % len(places)]
        self.app.say(f"{self.place[0]}, on {self.place[1]}")

    def action_turn_prompt(self, way: int) -> None:
        reading, cell = self.reading, self.cell
        if reading is None or cell is None:
            self.app.say("there is no cell under the cursor")
            return
        numbers = prompts_of(reading, cell)
        at = asked_at(reading, numbers, self.asked_prompt)
        self.asked_prompt = reading.sheet.prompt_ids[numbers[(at + way) % len(numbers)]]
        self.show_lower("texts")
        self.app.pump.now()

    def toggle_pin(self) -> None:
        """Pin the cell under the cursor, or let it go."""
        cell = self.cell
        if cell is None:
            self.app.say("there is no cell here to pin")
            return
        pin = Pin(self.shown.key if self.shown is not None else "", key_of(cell.point))
        if pin in self.pins:
            self.pins.remove(pin)
            self.app.say("no longer pinned")
        else:
            self.pins.append(pin)
            self.app.say(f"pinned, {len(self.pins)} in all; o lists them")

    def go_to(self, pin: Pin) -> None:
        """Put the map's cursor on a pinned cell, in the sweep and the map that have it."""
        entry, place = self.entry(pin.entry), (pin.cell[0], pin.cell[2])
        reading = self.reading_of(pin.entry)
        if entry is None or reading is None or place not in reading.places:
            self.app.say("that cell is not there now")
            return
        if self.shown is None or entry.key != self.shown.key:
            self.choose(entry)
        self.place = place
        self.app.pump.now()
        heads = self.board.heads(pin.cell)
        if heads is not None:
            self.query_one(Heatmap).select(*heads)

    # -- the table ------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        table = self.query_one(RowTable)
        self.show_lower("table")
        self.app.say(f"sorted by {table.next_column()}")

    def action_turn_sort(self) -> None:
        table = self.query_one(RowTable)
        self.show_lower("table")
        table.turn()
        self.app.say("largest first" if table.descending else "smallest first")

    def action_search_table(self) -> None:
        self.action_focus_panel("table")
        self.query_one(RowTable).grid.action_search()

    # -- export ---------------------------------------------------------------------------------------

    def action_export(self) -> None:
        table, reading = self.table, self.reading
        if table is None or not table.rows:
            self.app.say("there is no table yet, so there is nothing to export")
            return
        rows, name = table.rows, table.name

        def write(values: Values | None) -> None:
            if values is None:
                return
            path = Path(values["path"]).expanduser().absolute()
            summary = reading.summary if reading is not None else None

            def work() -> str:
                return export_to(path, as_table(name, rows), lambda _: map_of(summary))

            self.app.do(lambda: asyncio.to_thread(work), self.app.say)

        start = short_path(Path.cwd() / f"{name}.csv")
        hint = "ends in .csv, .json, .jsonl or .parquet for the table, .png for a picture of the map"
        field = Field("path", "file", start, hint=hint, check=lambda v: export_problem(v["path"]))
        self.app.push_screen(Form("Export", [field], accept="Write"), write)

    # -- confirming -----------------------------------------------------------------------------------

    def action_confirm(self) -> None:
        reading, cell, table = self.reading, self.cell, self.table
        shown = self.shown
        job = shown.job if shown is not None else None
        if reading is None or cell is None or table is None or shown is None or job is None:
            self.app.say("there is no cell under the cursor; m goes to the map")
            return
        if shown.session:
            self.app.say(f"{shown.label} is of another session, so its cells cannot be confirmed here")
            return
        fresh = self.confirmed(cell)
        if self.being_confirmed(cell):
            self.app.say("this cell is being confirmed already")
            return
        if fresh is not None and fresh.prompts >= LEAST_FRESH:
            self.app.say(f"confirmed already: {fresh.verdict} on {fresh.prompts} fresh prompts")
            return
        try:
            spec = confirmation(job, table.name, reading, cell)
        except LabError as error:
            self.app.say(str(error), bad=True)
            return
        self.submit(spec, f"queued: {len(spec['prompts'])} fresh prompts, into the table {spec['table']}")

    # -- copying --------------------------------------------------------------------------------------

    def copy_text(self) -> str:
        """The table, tab between columns."""
        rows = self.rows
        if not rows:
            return ""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        return "\n".join(
            "\t".join("" if r.get(c) is None else str(r.get(c)) for c in columns)
            for r in [dict(zip(columns, columns, strict=True)), *rows]
        )
