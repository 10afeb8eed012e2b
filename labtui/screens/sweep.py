"""Sweep: directions, sites, strengths and prompts as rows of one table, its cells as a map, and what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from labtui.actions import bindings
from labtui.cells import (
    LEGEND,
    Answer,
    Board,
    SweepTable,
    answers_of,
    beside,
    board_of,
    curve_of,
    effect_text,
    interval_text,
    prompts_of,
    strength_text,
    zone_text,
)
from labtui.projection import Source
from labtui.screens.home import ago
from labtui.screens.sweep_actions import SweepActions
from labtui.sweeps import sweep_jobs, table_of
from labtui.widgets.answers import CellAnswers
from labtui.widgets.chart import Chart
from labtui.widgets.heatmap import Heatmap
from labtui.widgets.lists import Grid, right
from labtui.widgets.panel import Panel
from labtui.widgets.prompt import Prompt
from labtui.widgets.rowtable import RowTable
from labtui.widgets.sweepform import SweepForm

if TYPE_CHECKING:
    from labtui.cells import Key
    from labtui_sessions.fields import JobView
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

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        state = source.state if source is not None else None
        job, again = sweep_jobs(state) if state is not None else (None, None)
        self.project_form(source, job)
        self._project_progress(state, job, again)
        self.table = self._follow(self.table, source, job)
        self.again = self._follow(self.again, source, again)
        self.confirming = again if again is not None and again.live else None
        self._project_board()
        self._project_cell()
        self._project_rows()
        if charts or self.query_one("#sweep-chart", Chart).plot is None:
            self._project_chart()

    def _project_progress(
        self, state: SessionState | None, job: JobView | None, again: JobView | None
    ) -> None:
        line = self.query_one("#sweep-progress", Static)
        if state is None or job is None:
            line.update(Content.styled("no sweep has been run in this session yet", "$lab-dim"))
            return
        total = job.plan.get("cells") or 0
        share = job.fraction or 0.0
        wide = max(10, min(40, self.size.width - 50))
        full = round(share * wide)
        parts: list[str | tuple[str, str]] = [
            ("█" * full, "$accent"),
            ("░" * (wide - full), "$lab-line"),
            f" {job.cells}/{total} cells  ",
            (job.status, "bold $error" if job.status in ("failed", "lost") else "bold"),
        ]
        seconds = (job.finished or state.t) - (job.started or state.t)
        if job.status == "running" and job.cells and seconds > 0:
            rate = job.cells / seconds
            parts.append((f"  {rate:.2g} cells/s · {ago((total - job.cells) / rate)} left", "$lab-dim"))
        elif job.seconds is not None:
            parts.append((f"  in {ago(job.seconds)}", "$lab-dim"))
        if job.error:
            parts.append((f"  {job.error}", "$error"))
        if job.audit is not None and not job.audit.get("ok", True):
            parts.append((f"  ! audit: {job.audit.get('detail', 'not clean')}", "bold $error"))
        if again is not None and again.live:
            parts.append((f"  confirming {again.cells}/{again.plan.get('cells') or '?'}", "$accent"))
        line.update(Content.assemble(*parts))

    def _follow(
        self, table: SweepTable | None, source: Source | None, job: JobView | None
    ) -> SweepTable | None:
        """The table of a job, read anew when it has grown, or shrunk as in a replay; one reading at a time."""
        name = table_of(job) if job is not None else ""
        view = source.state.tables.get(name) if source is not None else None
        if source is None or job is None or view is None:
            return None
        if table is None or table.source is not source or table.name != name:
            table = SweepTable(source, name)
        followed, wanted = table, (view.rows, self.metric, not job.live)
        if followed.due(wanted):
            self.app.do(lambda: followed.read(*wanted), lambda _: self.app.pump.changed(), group="table")
        return followed

    def _project_board(self) -> None:
        reading = self.reading
        places = reading.places if reading is not None else []
        if self.place not in places:
            self.place = places[0] if places else None
        pins = tuple(self.pins)
        key = (reading, self.place, pins)
        if key != self._drawn:
            self._drawn = key
            self.board = board_of(reading, self.place, pins) if reading and self.place else Board()
        self.query_one(Heatmap).show(self.board.map)
        panel = self.query_one("#map", Panel)
        if reading is None or self.place is None:
            panel.note("empty")
            return
        where = "" if self.place[1] == "all" else f" on {self.place[1]}"
        panel.note(LEGEND, f"{self.place[0]}{where}: effect on {reading.summary.metric}")

    # -- the cell under the cursor --------------------------------------------------------------------

    def _project_cell(self) -> None:
        reading, cell = self.reading, self.cell
        again = self.again.reading if self.again is not None else None
        busy = self.confirming.cells if self.confirming is not None else None
        told = (reading, cell, again, busy, self.asked_prompt, tuple(self.pins))
        if told == self._told:
            return
        self._told = told
        verdict = self.query_one("#verdict", Static)
        verdict.display = cell is not None
        if cell is not None:
            verdict.update(self._verdict(cell))
        self._project_answers(cell)
        self._project_pins()

    def _verdict(self, cell: Cell) -> Content:
        """The cell's sentence, its confirmation's, and what stands beside it."""
        reading = self.reading
        parts: list[str | tuple[str, str]] = [(f"{cell.point.site} {strength_text(cell.point)}: ", "bold")]
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
            lines = [line for line in (zone_text(reading, cell), *beside(reading, cell)) if line]
            parts += [part for line in lines for part in ("\n", (line, "$lab-dim"))]
        return Content.assemble(*parts)

    def _project_answers(self, cell: Cell | None) -> None:
        """The cell's answers to one prompt, and beside them the zero row's."""
        reading = self.reading
        prompts = prompts_of(reading, cell) if reading is not None and cell is not None else []
        answers: list[Answer] = []
        asked = note = ""
        if reading is not None and cell is not None and prompts:
            texts = [reading.sheet.prompts[number] for number in prompts]
            at = texts.index(self.asked_prompt) if self.asked_prompt in texts else 0
            asked, note = texts[at], f"prompt {at + 1} of {len(texts)}"
            answers = answers_of(reading, cell, prompts[at])
        panel = self.query_one("#texts", Panel)
        panel.note(note, f"{cell.point.site} {strength_text(cell.point)}" if cell is not None else "")
        metric = reading.summary.metric if reading is not None else ""
        self.query_one(CellAnswers).show(asked, answers, metric)

    def _project_pins(self) -> None:
        several = len(self.reading.places) > 1 if self.reading is not None else False
        metric = self.reading.summary.metric if self.reading is not None else self.metric
        heads = ["site", "strength", metric, "95% interval", "null", "p", "verdict", "fresh"]
        rows = [(repr(key), self._pin(key)) for key in self.pins]
        if several:
            heads = ["direction", "where", *heads]
            rows = [
                (name, (key[0], key[2], *cells)) for (name, cells), key in zip(rows, self.pins, strict=True)
            ]
        self.query_one("#pin-grid", Grid).show(heads, rows)
        self.query_one("#pins", Panel).note(f"{len(rows)}" if rows else "space on the map pins a cell")

    def _pin(self, key: Key) -> tuple[Any, ...]:
        """A pinned cell's numbers."""
        cell = self.reading.find(key) if self.reading is not None else None
        if cell is None:
            return (key[1], f"α {float(key[3]):.3g}", *(right("·") for _ in range(4)), "not there", "")
        fresh = self.confirmed(cell)
        return (
            cell.point.site,
            right(self.board.scale.label(cell)),
            right(effect_text(cell)),
            right(interval_text(cell)),
            right(f"±{cell.null_bound:.3g}" if cell.null_bound is not None else ""),
            right(f"{cell.p_family:.2g}" if cell.p_family is not None else ""),
            cell.verdict + (", collapsed" if cell.collapsed else ""),
            f"{effect_text(fresh)} {fresh.verdict}" if fresh is not None else "",
        )

    def _project_chart(self) -> None:
        current = self.query_one(Heatmap).current
        plot = curve_of(self.board, *current) if current is not None else None
        self.query_one("#sweep-chart", Chart).show(plot)
        metric = self.reading.summary.metric if self.reading is not None else self.metric
        self.query_one("#chart", Panel).note(f"effect on {metric}" if plot is not None else "")

    def _project_rows(self) -> None:
        self.query_one("#table", Panel).note(self.query_one(RowTable).show(self.rows))

    # -- what the widgets say -------------------------------------------------------------------------

    @on(Heatmap.Moved)
    def _cell_moved(self) -> None:
        self._project_cell()
        if self.app.frozen:
            self._project_chart()
        else:
            self.app.pump.changed()

    @on(Heatmap.Picked)
    def _cell_picked(self) -> None:
        self.show_lower("texts")
        self._project_cell()

    @on(Heatmap.Pinned)
    def _cell_pinned(self) -> None:
        self.toggle_pin()
        self._project_board()
        self._project_cell()

    @on(Grid.Picked, "#pin-grid")
    def _pin_picked(self, message: Grid.Picked) -> None:
        key = next((key for key in self.pins if repr(key) == message.key), None)
        if key is not None:
            self.go_to(key)
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

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.focus_next()
