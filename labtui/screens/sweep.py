"""Sweep: directions, sites, strengths and prompts as rows of one table, its cells as a map, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from labtui.actions import bindings
from labtui.cells import (
    ABSENT,
    LEGEND,
    Board,
    Reading,
    beside,
    board_of,
    effect_text,
    interval_text,
    key_of,
    lens_text,
    less_text,
    phase_text,
    row_text,
    scale_of,
    strength_text,
    zone_text,
)
from labtui.curves import curve_of, missing_from
from labtui.projection import Source
from labtui.screens.sweep_actions import SweepActions
from labtui.screens.sweep_history import Pin
from labtui.texts import Answer, answer_of, answers_of, asked_at, pictures_of, prompts_of
from labtui.widgets.answers import NOTHING, About, CellAnswers
from labtui.widgets.chart import Chart
from labtui.widgets.heatmap import Heatmap
from labtui.widgets.lists import Grid, right
from labtui.widgets.panel import Panel
from labtui.widgets.prompt import Prompt
from labtui.widgets.rowtable import RowTable
from labtui.widgets.sweepform import SweepForm
from labtui.widgets.sweeplist import SweepList
from labtui.wording import ago
from labtui_artifacts.images import is_digest, short

if TYPE_CHECKING:
    from labtui_sessions.phases import Phase
    from labtui_sessions.state import SessionState
    from labtui_sessions.stats import Cell


class Sweep(SweepActions):
    """Many rows at once."""

    SCOPE = "sweep"
    BINDINGS = bindings("sweep")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self._drawn: object = None
        self._told: object = None

    def body(self) -> ComposeResult:
        with Horizontal(id="sweep", classes="-chart"):
            with Vertical(classes="drawer left"):
                yield Panel(SweepForm(id="sweep-form"), title="Spec", key="i", id="form")
            with Vertical(id="sweep-centre"):
                yield Static("", id="sweep-count", markup=False)
                yield Static("", id="sweep-progress", markup=False)
                with Container(id="sweep-body"):
                    yield from self._upper()
                    yield from self._lower()

    def _upper(self) -> ComposeResult:
        with Vertical(id="sweep-upper"):
            empty = "sites by strengths fill in here while a sweep runs"
            yield Panel(Heatmap(id="sweep-map", empty=empty), title="Map", key="m", id="map")
            yield Static("", id="verdict", markup=False)
            empty = "the effect over strength at the cursor's site, its interval and the null's bound"
            chart = Chart(id="sweep-chart", empty=empty)
            yield Panel(chart, title="Chart", key="v", id="chart", classes="lower")

    def _lower(self) -> ComposeResult:
        with Vertical(id="sweep-lower"):
            yield Panel(CellAnswers(id="cell-answers"), title="Texts", key="x", id="texts", classes="lower")
            yield Panel(Grid(id="pin-grid"), title="Pinned", key="o", id="pins", classes="lower")
            yield Panel(RowTable(id="row-table"), title="Table", key="t", id="table", classes="lower")
            yield Panel(SweepList(id="sweep-list"), title="Sweeps", key="H", id="history", classes="lower")

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        self.follow(source)
        shown = self.shown
        self.project_form(source, shown.job if shown is not None else None)
        self._project_progress(source.state if source is not None else None)
        self._project_board()
        self._project_cell()
        self._project_rows()
        self.project_history()
        if charts or self.query_one("#sweep-chart", Chart).plot is None:
            self._project_chart()

    def _project_progress(self, state: SessionState | None) -> None:
        line, shown, again = self.query_one("#sweep-progress", Static), self.shown, self.confirming
        job = shown.job if shown is not None else None
        if state is None or shown is None or job is None:
            line.update(Content.styled("no sweep has been run in this session yet", "$lab-dim"))
            return
        total = job.to_run or 0
        share = 1.0 if job.status == "done" else job.fraction or 0.0
        wide = max(10, min(40, self.size.width - 50 - len(shown.label)))
        full = round(share * wide)
        named = len(self.entries) > 1
        parts: list[str | tuple[str, str]] = [
            *([(f"{shown.label}  ", "bold")] if named else []),
            ("█" * full, "$accent"),
            ("░" * (wide - full), "$lab-line"),
            f" {job.cells} of at most {total} cells  "
            if job.kind == "calibrate"
            else f" {job.cells}/{total} cells  ",
            (job.status, "bold $error" if job.status in ("failed", "lost") else "bold"),
        ]
        seconds = (job.finished or state.t) - (job.started or state.t)
        if job.status == "running" and job.cells and seconds > 0:
            rate = job.cells / seconds
            parts.append((f"  {rate_text(rate)} · {ago((total - job.cells) / rate)} left", "$lab-dim"))
        elif job.seconds is not None:
            parts.append((f"  in {ago(job.seconds)}", "$lab-dim"))
        if job.error:
            parts.append((f"  {job.error}", "$error"))
        if job.audit is not None and not job.audit.get("ok", True):
            parts.append((f"  ! audit: {job.audit.get('detail', 'not clean')}", "bold $error"))
        if again is not None:
            parts.append((f"  confirming {again.cells}/{again.plan.get('cells') or '?'}", "$accent"))
        line.update(Content.assemble(*parts))

    def _project_board(self) -> None:
        reading, less = self.reading, self.less
        places = self.places
        if self.place not in places:
            self.place = places[0] if places else None
        entry = self.shown.key if self.shown is not None else ""
        pins = tuple(pin.cell for pin in self.pins if pin.entry == entry)
        key = (reading, self.place, pins, less)
        if key != self._drawn:
            self._drawn = key
            self.board = board_of(reading, self.place, pins, less) if reading and self.place else Board()
        self.query_one(Heatmap).show(self.board.map)
        panel = self.query_one("#map", Panel)
        if reading is None or self.place is None:
            panel.note("the filter leaves nothing" if reading is not None else "empty")
            return
        where = "" if self.place[1] == "all" else f" on {self.place[1]}"
        base = self.entry(self.base)
        minus = f" less {base.label}" if base is not None and less is not None else ""
        only = f", {self.filter.group} prompts only" if self.filter.group else ""
        legend = LEGEND if less is None else f"{ABSENT} no counterpart"
        panel.note(legend, f"{self.place[0]}{where}: effect on {reading.summary.metric}{minus}{only}")

    # -- the cell under the cursor --------------------------------------------------------------------

    def _project_cell(self) -> None:
        reading, cell = self.reading, self.cell
        again = self.again.reading if self.again is not None else None
        busy = self.confirming.cells if self.confirming is not None else None
        pinned = tuple((pin, self.reading_of(pin.entry)) for pin in self.pins)
        texts = (self.asked_prompt, self.picked_row, self.app.views.kept)
        phases = self.phases
        told = (reading, cell, again, busy, texts, pinned, self.base, self.reading_of(self.base), phases)
        if told == self._told:
            return
        self._told = told
        verdict = self.query_one("#verdict", Static)
        verdict.display = cell is not None
        if cell is not None:
            verdict.update(self._verdict(cell, phases))
        self._project_answers(cell)
        self._project_pins()

    def _verdict(self, cell: Cell, phases: Sequence[Phase]) -> Content:
        """The cell's sentence, its confirmation's, and what stands beside it."""
        reading = self.reading
        parts: list[str | tuple[str, str]] = [(f"{cell.point.site} {strength_text(cell.point)}: ", "bold")]
        base = self.entry(self.base)
        if self.less is not None and base is not None:
            parts += [(f"{less_text(self.less.get(key_of(cell.point)), base.label)}\n", "bold $accent")]
        fresh = self.confirmed(cell)
        if (
            fresh is not None
        ):  # both verdicts on the first line, since a small screen has no room for the rest
            beside_it = f"{effect_text(fresh)} {interval_text(fresh)}".strip()
            parts += [(f"{cell.verdict} · ", "bold"), (f"on fresh prompts {fresh.verdict}", "bold $accent")]
            parts += [
                (f" {beside_it}\n", "bold"),
                cell.sentence,
                "\n",
                ("fresh: ", "$accent"),
                fresh.sentence,
            ]
        else:
            parts.append(cell.sentence)
            parts += [("\nbeing confirmed on fresh prompts", "$accent")] if self.being_confirmed(cell) else []
        if cell.absent:
            parts += [
                "\n",
                (f"{cell.absent} of {cell.rows} rows have no value, or no zero row yet", "$lab-dim"),
            ]
        if reading is not None:
            zone = phase_text(phases, cell) or self._zone(reading, cell)
            lines = [line for line in (zone, lens_text(reading, cell), *beside(reading, cell)) if line]
            parts += [part for line in lines for part in ("\n", (line, "$lab-dim"))]
        return Content.assemble(*parts)

    def _zone(self, reading: Reading, cell: Cell) -> str:
        """The zones of the rows that are there."""
        found = zone_text(reading, cell)
        return f"so far: {found}" if found and self.shown is not None and self.shown.live else found

    def _project_answers(self, cell: Cell | None) -> None:
        """The cell's answers to one prompt, and beside them the zero row's."""
        reading = self.reading
        panel = self.query_one("#texts", Panel)
        metric = reading.summary.metric if reading is not None else self.metric
        if self.picked_row is not None and self.picked_row < len(self.rows):
            row = self.rows[self.picked_row]
            answer = answer_of(row, self.query_one(RowTable).zero_of(self.picked_row), metric)
            panel.note(f"row {self.picked_row + 1}", row_text(row))
            about = self._about(row.get("picture"), row.get("prompt_images"))
            self.query_one(CellAnswers).show(str(row.get("prompt") or ""), [answer], metric, about)
            return
        prompts = prompts_of(reading, cell) if reading is not None and cell is not None else []
        answers: list[Answer] = []
        asked = note = ""
        about = NOTHING
        if reading is not None and cell is not None and prompts:
            at = asked_at(reading, prompts, self.asked_prompt)
            asked, note = reading.sheet.prompts[prompts[at]], f"prompt {at + 1} of {len(prompts)}"
            answers = answers_of(reading, cell, prompts[at])
            about = self._about(*pictures_of(reading, prompts[at]))
        panel.note(note, f"{cell.point.site} {strength_text(cell.point)}" if cell is not None else "")
        self.query_one(CellAnswers).show(asked, answers, metric, about)

    def _about(self, names: Any, digests: Any) -> About:
        """A row's pictures, from its columns ``picture`` and ``prompt_images``."""
        first = str(digests or "").partition(" ")[0]
        shown = ", ".join(short(name) if is_digest(name) else name for name in str(names or "").split(", "))
        return About(shown, first, self.app.views.get(first) if first else None)

    def _project_pins(self) -> None:
        readings = [self.reading_of(pin.entry) for pin in self.pins]
        several = any(len(reading.places) > 1 for reading in readings if reading is not None)
        others = len({pin.entry for pin in self.pins} | {self.shown.key if self.shown else ""}) > 1
        metric = self.reading.summary.metric if self.reading is not None else self.metric
        heads = ["site", "strength", metric, "95% interval", "null", "p", "verdict", "fresh"]
        heads = [*(["sweep"] if others else []), *(["direction", "where"] if several else []), *heads]
        rows = []
        for pin in self.pins:
            entry = self.entry(pin.entry)
            before = [entry.label if entry is not None else "not open"] if others else []
            before += [pin.cell[0], pin.cell[2]] if several else []
            rows.append((repr(pin), (*before, *self._pin(pin))))
        self.query_one("#pin-grid", Grid).show(heads, rows)
        self.query_one("#pins", Panel).note(f"{len(rows)}" if rows else "space on the map pins a cell")

    def _pin(self, pin: Pin) -> tuple[Any, ...]:
        """A pinned cell's numbers."""
        reading = self.reading_of(pin.entry)
        cell = reading.find(pin.cell) if reading is not None else None
        if cell is None or reading is None:
            return (
                pin.cell[1],
                f"α {float(pin.cell[3]):.3g}",
                *(right("·") for _ in range(4)),
                "not there",
                "",
            )
        here = self.shown is not None and pin.entry == self.shown.key
        fresh = self.confirmed(cell) if here else None
        scale = scale_of(reading.cells((pin.cell[0], pin.cell[2])))
        return (
            cell.point.site,
            right(scale.label(cell)),
            right(effect_text(cell)),
            right(interval_text(cell)),
            right(f"±{cell.null_bound:.3g}" if cell.null_bound is not None else ""),
            right(f"{cell.p_family:.2g}" if cell.p_family is not None else ""),
            cell.verdict + (", collapsed" if cell.collapsed else ""),
            f"{effect_text(fresh)} {fresh.verdict}" if fresh is not None else "",
        )

    def _project_chart(self) -> None:
        current, over, less = self.query_one(Heatmap).current, self.overs(), self.less
        panel, plot = self.query_one("#chart", Panel), None
        metric = self.reading.summary.metric if self.reading is not None else self.metric
        missing: list[str] = []
        base = self.entry(self.base)
        if current is not None:
            site, mark = current
            label = self.shown.label if self.shown is not None and over else "effect"
            plot = curve_of(
                self.board, site, mark, place=self.place, over=over, less=less, label=label
            )  # fmt: skip
            if plot is None and less is not None and base is not None:
                missing = [f"at {site} there are no two strengths that {base.label} has too"]
            missing += [why for one in over if (why := missing_from(one, self.board, site, self.place))]
        self.query_one("#sweep-chart", Chart).show(plot)
        minus = f" less {base.label}" if base is not None and less is not None else ""
        panel.note(f"effect on {metric}{minus}" if plot is not None else "", " · ".join(missing))

    def _project_rows(self) -> None:
        note = self.query_one(RowTable).show(self.rows, tuple(self.filter.conditions()), self.filter.group)
        self.query_one("#table", Panel).note(note, self.filter.text)

    def focus_scopes(self) -> list[str]:
        if isinstance(self.focused, SweepList):
            return ["list", "sweeps"]
        return super().focus_scopes()

    # -- what the widgets say -------------------------------------------------------------------------

    @on(Heatmap.Moved)
    def _cell_moved(self) -> None:
        self.picked_row = None
        self._project_cell()
        if self.app.frozen:
            self._project_chart()
        else:
            self.app.pump.changed()

    @on(Heatmap.Picked)
    def _cell_picked(self) -> None:
        self.picked_row = None
        self.show_lower("texts")
        self._project_cell()

    @on(Heatmap.Pinned)
    def _cell_pinned(self) -> None:
        self.toggle_pin()
        self._project_board()
        self._project_cell()

    @on(Grid.Picked, "#pin-grid")
    def _pin_picked(self, message: Grid.Picked) -> None:
        pin = next((pin for pin in self.pins if repr(pin) == message.key), None)
        if pin is not None:
            self.picked_row = None
            self.go_to(pin)
            self._project_cell()

    @on(RowTable.Looked)
    def _rows_looked(self) -> None:
        self.query_one("#table", Panel).note(self.query_one(RowTable).note, self.filter.text)

    @on(Grid.Picked, "#cell-grid")
    def _row_picked(self, message: Grid.Picked) -> None:
        self.picked_row = int(message.key)
        self.show_lower("texts")
        self._project_cell()

    @on(Input.Changed)
    @on(Prompt.Changed)
    def _typed(self, event: Input.Changed | Prompt.Changed) -> None:
        box = event.input if isinstance(event, Input.Changed) else event.text_area
        if not isinstance(box, (Input, Prompt)) or not self.query_one(SweepForm).typed(box):
            return
        self.touched = True
        self.app.pump.changed()

    @on(Prompt.Submitted)
    def _newline(self) -> None:
        self.query_one("#sweep-prompts", Prompt).insert("\n")

    @on(Input.Submitted, "SweepForm Input")
    def _submitted(self) -> None:
        self.focus_next()


def rate_text(rate: float) -> str:
    """``0.4 cells/s``, ``1 cell/s``."""
    shown = f"{rate:.2g}"
    return f"{shown} cell/s" if shown == "1" else f"{shown} cells/s"
