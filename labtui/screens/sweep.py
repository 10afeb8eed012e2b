"""Sweep: directions, sites, strengths and prompts as rows of one table, and the outcome over strength."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from labtui.actions import bindings
from labtui.projection import Kernel, Source, last_job, shape_of
from labtui.screens.base import BaseScreen
from labtui.screens.home import ago
from labtui.widgets.chart import Chart, Plot, Series
from labtui.widgets.lists import Grid, right
from labtui.widgets.panel import Panel
from labtui.widgets.prompt import Prompt
from labtui.widgets.sweepform import SweepForm
from labtui_artifacts.errors import LabError
from labtui_kernels import specs
from labtui_kernels.specs.plan import count

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.state import SessionState
    from labtui_sessions.tables import Page

OUTCOMES = ("words", "perplexity", "tokens", "kl", "distinct-2")
"""Columns that the chart can show over strength."""

COLUMNS = {
    "site": "site",
    "strength": "strength",
    "strength_pct": "%",
    "words": "words",
    "tokens": "tokens",
    "perplexity": "perplexity",
    "kl": "kl",
    "distinct-2": "distinct-2",
    "coherent": "coherent",
    "finish": "finish",
    "control": "control",
    "direction": "direction",
    "where": "where",
    "prompt": "prompt",
}
"""Columns of the table and how they are headed; ``text`` is read in the line below it."""

MOST = 2_000
"""Most rows read for the table and the chart."""


class Sweep(BaseScreen):
    """Many rows at once."""

    SCOPE = "sweep"
    BINDINGS = bindings("sweep")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.outcome = "words"
        self.rows: list[dict[str, Any]] = []
        self._read: tuple[str, int, int] | None = None
        self._form_job = ""
        self.touched = False

    def body(self) -> ComposeResult:
        with Horizontal(id="sweep"):
            with Vertical(classes="drawer left"):
                yield Panel(SweepForm(id="sweep-form"), title="Spec", key="i", id="form")
            with Vertical(id="sweep-centre"):
                yield Static("", id="sweep-count", markup=False)
                yield Static("", id="sweep-progress", markup=False)
                yield Panel(
                    Grid(id="cell-grid"),
                    Static("", id="cell-text", markup=False),
                    title="Table",
                    key="t",
                    id="table",
                )
                yield Panel(
                    Chart(id="sweep-chart", empty="the outcome over strength, one line a site"),
                    title="Outcome",
                    key="v",
                    id="chart",
                )

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        state = source.state if source is not None else None
        job = last_job(state, "sweep") if state is not None else None
        if job is not None and job.spec and (job.job != self._form_job) and not self.touched:
            self._form_job = job.job
            self.query_one(SweepForm).show(job.spec)
        self._project_count(state, source)
        self._project_progress(state, job)
        self._read_rows(source, state, job)
        self._project_table(job)
        if charts:
            self.query_one(Chart).show(plot(self.rows, self.outcome))
            self.query_one("#chart", Panel).note(f"{self.outcome} over strength · c changes")

    def _project_count(self, state: SessionState | None, source: Source | None) -> None:
        line = self.query_one("#sweep-count", Static)
        if source is None:
            line.update(
                Content.styled(
                    "no kernel is attached: 1 goes Home, b there starts the bundled toy", "$warning"
                )
            )
            return
        line.update(self.planned(state))

    def planned(self, state: SessionState | None) -> Content:
        """How much the spec in the form is, or what is wrong with it."""
        shape = shape_of(state) if state is not None else None
        if shape is None:
            return Content.styled("the model is still loading; rows are counted when it is there", "$lab-dim")
        try:
            counts = count(specs.load(self.copy_spec()), shape)
        except LabError as error:
            return Content.styled(f"! {error}", "$error")
        controls = ", ".join(f"{n} {name}" for name, n in counts.get("controls", {}).items())
        return Content.assemble(
            (f"{counts['rows']:,} rows", "bold $accent"),
            f" = {counts['sites']} sites × {counts['strengths']} strengths × {counts['prompts']} prompts"
            + (f" × {counts['directions']} directions" if counts["directions"] > 1 else "")
            + (f" + controls: {controls}" if controls else ""),
        )

    def _project_progress(self, state: SessionState | None, job: JobView | None) -> None:
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
        line.update(Content.assemble(*parts))

    def _read_rows(self, source: Source | None, state: SessionState | None, job: JobView | None) -> None:
        """Fetch the table when it has grown, or shrunk as in a replay; one request at a time."""
        if source is None or state is None or job is None:
            self.rows, self._read = [], None
            return
        table = next((t for t in reversed(state.tables.values()) if t.job == job.job), None)
        if table is None:
            self.rows, self._read = [], None
            return
        key = (table.name, table.rows, id(source))
        if key == self._read:
            return
        self._read = key

        async def work() -> Page:
            return await source.page(table.name, max(0, table.rows - MOST), table.rows)

        def then(page: Page) -> None:
            self.rows = [dict(zip(page.columns, row, strict=False)) for row in page.rows]
            self.app.pump.changed()

        self.app.do(work, then, group="table")

    def _project_table(self, job: JobView | None) -> None:
        grid = self.query_one("#cell-grid", Grid)
        columns = [c for c in COLUMNS if any(r.get(c) not in (None, "") for r in self.rows)] or list(COLUMNS)[
            :5
        ]
        follow = not grid.has_focus
        changed = grid.show(
            [COLUMNS[c] for c in columns],
            [(str(i), tuple(_cell(c, r.get(c), r) for c in columns)) for i, r in enumerate(self.rows)],
        )
        if changed and follow and self.rows:
            grid.move_cursor(row=len(self.rows) - 1, animate=False)
        self.query_one("#table", Panel).note(f"{len(self.rows)} rows" if self.rows else "empty")
        self._project_text()

    def _project_text(self) -> None:
        key = self.query_one("#cell-grid", Grid).current
        text = (
            str(self.rows[int(key)].get("text") or "")
            if key is not None and int(key) < len(self.rows)
            else ""
        )
        self.query_one("#cell-text", Static).update(text.replace("\n", " ⏎ "))

    @on(Grid.Moved, "#cell-grid")
    def _moved(self) -> None:
        self._project_text()

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

    # -- actions --------------------------------------------------------------------------------------

    def action_run(self) -> None:
        if not self.app.live:
            self.app.say("a replay cannot run anything; attach to a kernel (1) first")
            return
        try:
            spec = specs.to_dict(specs.load(self.copy_spec()))
        except LabError as error:
            self.app.say(str(error), bad=True)
            return
        self.touched = False

        async def work(kernel: Kernel) -> Any:
            return await kernel.request("submit", spec=spec, priority="batch")

        self.ask(work, lambda _: self.app.say("queued"))

    def _live_job(self) -> JobView | None:
        source = self.app.source
        job = last_job(source.state, "sweep") if source is not None else None
        if job is None or not job.live:
            self.app.say("no sweep is running")
            return None
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

    def action_cycle_outcome(self) -> None:
        there = [o for o in OUTCOMES if any(isinstance(r.get(o), (int, float)) for r in self.rows)] or [
            "words"
        ]
        at = there.index(self.outcome) if self.outcome in there else -1
        self.outcome = there[(at + 1) % len(there)]
        self.app.pump.now()
        self.query_one(Chart).show(plot(self.rows, self.outcome))

    # -- copying --------------------------------------------------------------------------------------

    def copy_text(self) -> str:
        """The table, tab between columns."""
        if not self.rows:
            return ""
        columns = list(self.rows[0])
        return "\n".join(
            "\t".join("" if r.get(c) is None else str(r.get(c)) for c in columns)
            for r in [dict(zip(columns, columns, strict=True)), *self.rows]
        )

    def copy_spec(self) -> dict[str, Any]:
        return self.query_one(SweepForm).spec()


def _cell(column: str, value: Any, row: dict[str, Any]) -> Any:
    if value is None:
        return right("")
    if column in ("words", "tokens") and row.get("finish") == "length":
        return right(f"≥{value}")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return right(f"{value:.3g}{'%' if column.endswith('pct') else ''}")
    if isinstance(value, int):
        return right(str(value))
    text = str(value).replace("\n", " ")
    return text if len(text) <= 28 else text[:27] + "…"


def plot(rows: Sequence[dict[str, Any]], outcome: str) -> Plot | None:
    """Mean outcome over strength, one line a site (and direction where there are several); controls left out.

    The zero row, which stands for every site, is the point at strength 0 of each line.
    """
    zero = [float(r[outcome]) for r in rows if r.get("control") == "zero" and _is_number(r.get(outcome))]
    several = len({r.get("direction") for r in rows if not r.get("control")}) > 1
    sums: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        value, x = row.get(outcome), _alpha(row.get("strength"))
        if row.get("control") or not _is_number(value) or x is None:
            continue
        label = f"{row.get('direction')} {row.get('site')}" if several else str(row.get("site"))
        sums.setdefault(label, {}).setdefault(x, []).append(float(value))  # type: ignore[arg-type]
    series = []
    for label, points in sorted(sums.items(), key=lambda item: _natural(item[0])):
        if zero and 0.0 not in points:
            points[0.0] = zero
        series.append(Series(label, tuple((x, sum(v) / len(v)) for x, v in sorted(points.items()))))
    if not series:
        return None
    return Plot(
        tuple(series[:6]), x_label="strength", log_y=outcome in ("perplexity", "kl") and _positive(series)
    )


def _natural(label: str) -> list[tuple[bool, int, str]]:
    """An order in which llm.2 comes before llm.10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", label)]


def _positive(series: Sequence[Series]) -> bool:
    return all(y > 0 for s in series for _, y in s.points)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _alpha(value: object) -> float | None:
    """The x of a row: its strength as it was written, whatever the unit."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        return float(str(value).strip("%|").replace("-|", "-"))
    except ValueError:
        return None
