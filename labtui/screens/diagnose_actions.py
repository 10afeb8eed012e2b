"""What the keys of the Diagnose screen do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from textual.containers import Container

from labtui.cells import as_table
from labtui.diagnoses import CURVES, TABLES, Parts, jobs_of, planned, spec_for, tabbed, table_of
from labtui.exporting import diagnosis_of, export_problem, export_to
from labtui.projection import shape_of
from labtui.screens.base import BaseScreen
from labtui.widgets.dialog import Field, Form, Values
from labtui.widgets.lists import Grid
from labtui.wording import short_path
from labtui_artifacts.errors import LabError, UsageError
from labtui_kernels import specs
from labtui_kernels.specs.diagnose import EVERY
from labtui_sessions.fields import JobView
from labtui_sessions.state import SessionState


class DiagnoseActions(BaseScreen):
    """The part of the Diagnose screen that answers keys; what it shows is in ``diagnose.py``."""

    SCOPE = "diagnose"

    def __init__(self) -> None:
        super().__init__()
        self.parts: Parts | None = None
        self.job: JobView | None = None
        """The diagnosis in view."""
        self.number, self.count = 0, 0
        """Which it is of how many."""
        self.which = "norms"
        self.pair: tuple[str, str] | None = None
        """The pair whose cosine is drawn over the depth, as the table has it."""
        self._wanted = ""

    @property
    def site(self) -> str | None:
        """The site under the cursor."""
        return self.query_one("#anatomy-grid", Grid).current

    def chosen(self, state: SessionState | None) -> JobView | None:
        """The diagnosis that is shown: the one asked for, else the last of the session."""
        found = jobs_of(state) if state is not None else []
        job = next((job for job in found if job.job == self._wanted), found[-1] if found else None)
        self.number, self.count = found.index(job) + 1 if job is not None else 0, len(found)
        return job

    def fetch(self, table: str, filter: str = "") -> None:
        """Bring a part of a table here, where it is not."""
        parts = self.parts
        if parts is not None and parts.due(table, filter):
            self.app.do(
                lambda: parts.fetch(table, filter),
                lambda _: self.app.pump.changed(),
                group=f"diagnosis:{table}:{filter}",
            )

    # -- running --------------------------------------------------------------------------------------

    def action_run(self) -> None:
        source = self.app.source
        if source is None or not self.app.live:
            self.app.say("a replay cannot run anything; attach to a kernel (1) first")
            return
        state = source.state
        stored = [name for name, artifact in state.artifacts.items() if artifact.kind == "direction"]
        names = tuple(dict.fromkeys([*stored, *self.app.style_names]))

        def spec(values: Values) -> dict[str, Any]:
            compare = [name.strip() for name in values["compare"].split(",") if name.strip()]
            found = spec_for(values["poles"].strip(), state.artifacts, compare)
            return {**found, "sites": values["sites"].strip() or "llm.*"}

        def problem(values: Values) -> str:
            if values["poles"].strip() not in names:
                return f"expected one of {', '.join(names)}"
            try:
                planned(spec(values), state, shape_of(state))
            except LabError as error:
                return str(error)
            return ""

        fields = [
            Field("poles", "poles of", names[0] if names else "", options=names, check=problem,
                  hint="a stored direction, or a bundled style"),
            Field("sites", "sites", "llm.*", hint="llm.*, llm.2-5, llm.*.mlp"),
            Field("compare", "cosines of", EVERY if len(stored) > 1 else "",
                  hint="names with commas between; * is every direction of this model"),
        ]  # fmt: skip

        def run(values: Values | None) -> None:
            if values is not None:
                self.submit(spec(values))

        form = Form(
            "Diagnose",
            fields,
            accept="Run",
            preview=lambda values: planned(spec(values), state, shape_of(state)),
        )
        self.app.push_screen(form, run)

    def submit(self, spec: dict[str, Any]) -> None:
        """Queue a diagnosis and show it when it begins."""
        self._wanted = ""
        self.ask(
            lambda kernel: self.app.views.submit(kernel, spec, priority="interactive"),
            lambda _: self.app.say("queued"),
        )

    def action_stop(self) -> None:
        job = self.job
        if job is None or not job.live:
            self.app.say("no diagnosis is running")
            return
        self.ask(
            lambda kernel: kernel.request("job.cancel", job=job.job),
            lambda _: self.app.say("cancelled; committed cells stay"),
        )

    # -- looking --------------------------------------------------------------------------------------

    def action_focus_panel(self, id: str) -> None:
        self.show_part(id)
        super().action_focus_panel(id)

    def show_part(self, id: str) -> None:
        """Show one of the panels that take turns on a small screen."""
        self.query_one("#diagnose", Container).set_classes(f"-{id}")

    def action_cycle_curves(self) -> None:
        there = [*CURVES, *(["pair"] if self.pair is not None else [])]
        if self.query_one("#diagnose", Container).has_class("-curves"):
            self.which = there[(there.index(self.which) + 1) % len(there)]
        self.show_part("curves")
        self.app.pump.now()

    def action_turn_site(self, way: int) -> None:
        grid = self.query_one("#anatomy-grid", Grid)
        if not grid.row_count:
            self.app.say("there is no site yet")
            return
        grid.move_cursor(row=max(0, min(grid.row_count - 1, grid.cursor_row + way)), animate=False)

    def action_cycle_job(self) -> None:
        source = self.app.source
        found = jobs_of(source.state) if source is not None else []
        if len(found) < 2 or self.job is None:
            self.app.say("this session has no other diagnosis")
            return
        self._wanted = found[(self.number - 2) % len(found)].job
        self.pair = None
        self.which = "norms" if self.which == "pair" else self.which
        self.app.pump.now()

    def pick_pair(self, pair: tuple[str, str] | None) -> None:
        """Draw the cosine of a pair over the depth."""
        if pair is None or pair[0] == pair[1]:
            self.app.say("a direction with itself: pick a pair of two")
            return
        names = self.names_in_map()
        self.pair = pair if names.index(pair[0]) < names.index(pair[1]) else (pair[1], pair[0])
        self.which = "pair"
        self.show_part("curves")
        self.app.pump.now()

    def names_in_map(self) -> list[str]:
        """The directions of the cosine map, in its order."""
        from labtui.widgets.heatmap import Heatmap

        return list(self.query_one(Heatmap).map.rows)

    # -- export ---------------------------------------------------------------------------------------

    def action_export(self) -> None:
        job, parts = self.job, self.parts
        there = [name for name in TABLES if job is not None and self._has(table_of(job, name))]
        if job is None or parts is None or not there:
            self.app.say("there is no table yet, so there is nothing to export")
            return

        def write(values: Values | None) -> None:
            if values is None:
                return
            path, name = Path(values["path"]).expanduser().absolute(), table_of(job, values["table"])

            async def work() -> str:
                rows = await parts.fetch(name)
                return await asyncio.to_thread(lambda: export_to(path, as_table(name, rows), diagnosis_of))

            self.app.do(work, self.app.say)

        start = short_path(Path.cwd() / f"{table_of(job, 'anatomy')}.csv")
        fields = [
            Field("table", "table", there[0], options=tuple(there), free=False),
            Field(
                "path",
                "file",
                start,
                hint="ends in .csv, .json, .jsonl or .parquet, or .png for a picture",
                check=lambda values: export_problem(values["path"]),
            ),
        ]
        self.app.push_screen(Form("Export", fields, accept="Write"), write)

    def _has(self, table: str) -> bool:
        source = self.app.source
        return source is not None and table in source.state.tables

    # -- copying --------------------------------------------------------------------------------------

    def copy_text(self) -> str:
        """The anatomy, tab between columns."""
        if self.parts is None or self.job is None:
            return ""
        return tabbed(self.parts.get(table_of(self.job, "anatomy")))

    def copy_spec(self) -> dict[str, Any]:
        if self.job is None or not self.job.spec:
            raise UsageError("nothing was diagnosed yet, so there is no spec")
        return specs.to_dict(specs.load(self.job.spec))
