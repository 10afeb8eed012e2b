"""What the keys of the Diagnose screen do."""

from __future__ import annotations

from typing import Any

from textual.containers import Container

from labtui.diagnoses import CURVES, TABLES, jobs_of, planned, spec_for, tabbed, table_of
from labtui.exporting import diagnosis_of, export_problem
from labtui.projection import shape_of
from labtui.screens.job_view import JobScreen
from labtui.widgets.dialog import Field, Form, Values
from labtui.widgets.lists import Grid
from labtui_artifacts.errors import LabError, UsageError
from labtui_kernels import specs
from labtui_kernels.specs.diagnose import EVERY
from labtui_sessions.fields import JobView
from labtui_sessions.state import SessionState

PANELS = ("anatomy", "curves", "landscape", "cosines")
"""Those that take turns where there is no room for all."""


class DiagnoseActions(JobScreen):
    """The part of the Diagnose screen that answers keys; what it shows is in ``diagnose.py``."""

    SCOPE = "diagnose"
    TURNS = PANELS
    NO_OTHER = "this session has no other diagnosis"

    def __init__(self) -> None:
        super().__init__()
        self.which = "norms"
        self.pair: tuple[str, str] | None = None
        """The pair whose cosine is drawn over the depth, as the table has it."""

    @property
    def site(self) -> str | None:
        """The site under the cursor."""
        return self.query_one("#anatomy-grid", Grid).current

    def jobs(self, state: SessionState) -> list[JobView]:
        return jobs_of(state)

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
        self.wanted = ""
        self.ask(
            lambda kernel: self.app.views.submit(kernel, spec, priority="interactive"),
            lambda _: self.app.say("queued"),
        )

    # -- looking --------------------------------------------------------------------------------------

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

    def another(self) -> None:
        self.pair = None
        self.which = "norms" if self.which == "pair" else self.which

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
        source, job = self.app.source, self.job
        names = {what: table_of(job, what) for what in TABLES} if job is not None else {}
        there = source.state.tables if source is not None else {}
        self.export_form(
            {what: name for what, name in names.items() if name in there},
            diagnosis_of,
            lambda values: export_problem(values["path"]),
            "ends in .csv, .json, .jsonl or .parquet, or .png for a picture",
        )

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
