"""The Sweep screen's spec: what it would run and how long that takes, shown before it runs; running and extending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from textual.content import Content
from textual.widgets import Static

from labtui.calibrating import FORMED, sweep_spec
from labtui.pictures import sent
from labtui.projection import Kernel, Source, need, shape_of
from labtui.screens.base import BaseScreen
from labtui.widgets.dialog import Confirm
from labtui.widgets.panel import Panel
from labtui.widgets.sweepform import SweepForm
from labtui.wording import ago
from labtui_artifacts.errors import LabError, Unreachable
from labtui_kernels import specs
from labtui_kernels.specs.plan import count

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.state import SessionState

MEASURED = {
    "sweep": "≈ {} at the speed of the last sweep",
    "answers": "at most {}, by answers written alone",
}


@dataclass(frozen=True)
class Counted:
    """How much a spec is, or why it cannot be run. ``told``: the kernel said so, who knows what directions bring
    along and what is in the table already."""

    counts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    told: bool = False

    @property
    def extends(self) -> str:
        """The table that has some of the rows already."""
        return str(self.counts.get("extends") or "")

    @property
    def new(self) -> int:
        """Rows that would run."""
        return self.counts.get("new", self.counts.get("rows", 0))

    @property
    def time(self) -> str:
        """How long they take, by what was measured; empty where nothing was."""
        words = MEASURED.get(str(self.counts.get("measured")), "")
        return words.format(ago(self.counts["seconds"])) if words else ""

    @property
    def how_long(self) -> str:
        """The same, or that the kernel has measured nothing; empty where none was asked, as in a replay."""
        return self.time or ("no sweep has been timed here yet" if self.told else "")

    def line(self) -> Content:
        """All of it on one line, the most important first."""
        if self.error:
            return Content.styled(f"! {self.error}", "$error")
        counts, new = self.counts, self.new
        named = ("site", "strength", "prompt")
        product = " × ".join(f"{n} {name}{'s' * (n != 1)}" for name in named for n in [counts[f"{name}s"]])
        for name in ("directions", "places", "seeds"):
            product += f" × {counts[name]} {name}" if counts.get(name, 1) > 1 else ""
        controls = self.controls()
        total = f"{counts['rows']:,}"
        head = f"{new:,} new of {total} rows, extends {self.extends}" if self.extends else f"{total} rows"
        return Content.assemble(
            (head, "bold $accent"),
            *([(f"  {self._short_time()} ", "$lab-dim")] if self.time else []),
            f" = {product}",
            f" + controls: {controls}" if controls else "",
            *(
                [(f"  ! no direction {', '.join(self.missing)} here", "bold $warning")]
                if self.missing
                else []
            ),
        )

    @property
    def missing(self) -> list[str]:
        """Directions of the spec that the kernel does not have."""
        return list(self.counts.get("missing") or [])

    def controls(self) -> str:
        """The rows that would run beside the grid, by kind."""
        by_kind = self.counts.get("new_controls", self.counts.get("controls", {}))
        return ", ".join(f"{rows:,} {name}" for name, rows in by_kind.items())

    def _short_time(self) -> str:
        sign = "≈" if self.counts.get("measured") == "sweep" else "≤"
        return f"{sign} {ago(self.counts['seconds'])}"

    def cost(self, *, short: bool = False) -> Content:
        """Below the form: the rows that would run by kind, and how long they take; ``short`` in a few lines."""
        if self.error:
            return Content.styled(f"! {self.error}", "$error")
        if short:
            return self._short_cost()
        by_kind = dict(self.counts.get("new_controls", self.counts.get("controls", {})))
        grid = self.new - sum(by_kind.values())
        parts: list[str | tuple[str, str]] = [("rows that run", "$lab-dim"), f"\n{grid:>7,} of the grid"]
        parts += [f"\n{rows:>7,} {CONTROL_NAMES.get(name, name)}" for name, rows in by_kind.items()]
        parts.append((f"\n{self.new:>7,} in all", "bold $accent"))
        if self.extends:
            there = self.counts["rows"] - self.new
            parts.append((f"\n{there:>7,} are in {self.extends} already", "$lab-dim"))
        if not self.told:
            parts.append(("\nshuffled ones as far as directions bring them along", "$lab-dim"))
        parts += [(f"\n{self.how_long}", "$lab-dim")] if self.how_long else []
        if self.missing:
            parts.append((f"\n! no direction {', '.join(self.missing)} here", "bold $warning"))
        return Content.assemble(*parts)

    def _short_cost(self) -> Content:
        by_kind = dict(self.counts.get("new_controls", self.counts.get("controls", {})))
        kinds = [f"{self.new - sum(by_kind.values()):,} grid"]
        kinds += [f"{rows:,} {name}" for name, rows in by_kind.items()]
        parts: list[str | tuple[str, str]] = [
            ("runs ", "$lab-dim"),
            (f"{self.new:,} rows", "bold $accent"),
            f" = {' + '.join(kinds)}",
        ]
        if self.extends:
            there = self.counts["rows"] - self.new
            parts.append((f" · {there:,} are in {self.extends} already", "$lab-dim"))
        parts += [(f" · {self.how_long}", "$lab-dim")] if self.how_long else []
        if self.missing:
            parts.append((f" ! no direction {', '.join(self.missing)} here", "bold $warning"))
        return Content.assemble(*parts)

    @property
    def head(self) -> str:
        """For the title of the form."""
        if self.error or not self.counts:
            return "!" if self.error else ""
        return f"{self.new:,} new rows, extends {self.extends}" if self.extends else f"{self.new:,} rows"


CONTROL_NAMES = {
    "zero": "zero, α = 0",
    "random": "random directions",
    "shuffled": "shuffled labels",
    "negated": "negated, the sign check",
    "prompt": "asked for in the prompt",
}


class SweepPlan(BaseScreen):
    """The part of the Sweep screen that is about its spec."""

    SCOPE = "sweep"

    def __init__(self) -> None:
        super().__init__()
        self.touched = False
        self.counted = Counted()
        self._form_job = ""
        self._answer: tuple[object, Counted] | None = None
        """The kernel's last answer, and what it was asked for."""
        self._asking: object = None

    @property
    def form(self) -> SweepForm:
        return self.query_one(SweepForm)

    def copy_spec(self) -> dict[str, Any]:
        return self.form.spec()

    # -- showing --------------------------------------------------------------------------------------

    def project_form(self, source: Source | None, job: JobView | None) -> None:
        """Put the last sweep's spec in, unless something was written, and count what is there."""
        formed = job is not None and job.kind in FORMED
        if job is not None and formed and job.spec and job.job != self._form_job and not self.touched:
            self._form_job = job.job
            self.form.extends = ""
            self.form.show(sweep_spec(job.spec), self._names(source))
        line = self.query_one("#sweep-count", Static)
        if source is None:
            text = "no kernel is attached: 1 goes Home, b there starts the bundled toy"
            line.update(Content.styled(text, "$warning"))
            return
        self.counted = self._count(source.state)
        if not self.counted.counts and not self.counted.error:
            text = "the model is still loading; rows are counted when it is there"
            line.update(Content.styled(text, "$lab-dim"))
            return
        line.update(
            self._unlike(job) if job is not None and not formed and not self.touched else self.counted.line()
        )
        self.form.tell(self.counted.cost(short=self.has_class("-short")))
        self.query_one("#form", Panel).note(self.counted.head)

    @staticmethod
    def _unlike(job: JobView) -> Content:
        """In place of the form's rows: the map is of a job that the form cannot describe."""
        return Content.styled(
            f"a {job.kind}: the spec beside it is another's; labtui spec {job.kind} writes one", "$lab-dim"
        )

    def _names(self, source: Source | None) -> Mapping[str, str]:
        """How pictures are written in a prompt, by digest."""
        return self.app.views.names(source.state) if source is not None else {}

    def _count(self, state: SessionState) -> Counted:
        """The count of the spec in the form: the kernel's once it has answered, until then the one made here."""
        shape = shape_of(state)
        if shape is None:
            return Counted()
        try:
            spec = specs.load(self.copy_spec())
            here = Counted(count(spec, shape))
        except LabError as error:
            return Counted(error=str(error))
        if not self.app.live:
            return here
        key = (
            spec,
            self.app.kernel is not None and self.app.kernel.link.up,
            tuple((a.name, a.t) for a in state.artifacts.values()),
            _ends(state),
        )
        if self._answer is not None and self._answer[0] == key:
            return self._answer[1] if self._answer[1].counts or self._answer[1].error else here
        if self._asking is None:  # one question at a time: while keys come, the next is of what stands then
            self._ask(key, specs.to_dict(spec))
        return here

    def _ask(self, key: object, spec: dict[str, Any]) -> None:
        self._asking = key

        async def work() -> Counted:
            try:
                kernel = need(self.app.kernel)
                ready, pictures = await sent(kernel, spec)
                self.app.views.note(pictures)
                answer = await kernel.request("plan", spec=ready)
            except Unreachable:
                return Counted()  # the banner tells of the link
            except LabError as error:
                return Counted(error=str(error))
            known = isinstance(answer, dict) and "rows" in answer
            return Counted(answer, told=True) if known else Counted()

        def then(told: Counted) -> None:
            self._asking, self._answer = None, (key, told)
            self.app.pump.changed()

        self.app.do(work, then, group="plan")

    # -- running --------------------------------------------------------------------------------------

    def action_run(self) -> None:
        if not self.app.live:
            self.app.say("a replay cannot run anything; attach to a kernel (1) first")
            return
        try:
            spec = specs.to_dict(specs.load(self.copy_spec()))
        except LabError as error:
            self.app.say(str(error), bad=True)
            return
        counted = self.counted
        if counted.told and not counted.new:
            self.app.say(f"every row of this is in {counted.extends} already; a makes a table of its own")
            return
        if not counted.counts.get("confirm"):
            self._run(spec)
            return

        def sure(yes: bool | None) -> None:
            if yes:
                self._run({**spec, "confirm": True})

        self.app.push_screen(Confirm(f"Run {counted.new:,} rows?", counted.how_long, yes="Run them"), sure)

    def _run(self, spec: dict[str, Any]) -> None:
        self.touched = False
        self.watch_last()
        self.submit(spec, f"queued, to extend {spec['table']}" if spec.get("table") else "queued")

    def watch_last(self) -> None:
        """Show the sweep that is run next."""

    def submit(self, spec: dict[str, Any], said: str) -> None:
        """Queue a sweep."""

        async def work(kernel: Kernel) -> Any:
            return await self.app.views.submit(kernel, spec, priority="batch")

        self.ask(work, lambda _: self.app.say(said))

    def extend(self, table: str, job: JobView) -> None:
        """Put the spec that made a table into the form, to be extended: what it has already is not run again."""
        self.touched = True
        self._form_job = job.job
        self.form.extends = table
        self.form.show(sweep_spec(job.spec), self._names(self.app.source))
        self.action_focus_panel("form")
        self.app.say(f"add strengths, prompts or seeds: r runs only the rows that {table} lacks")

    def extend_no_more(self) -> None:
        """Let the form make a table of its own."""
        table, self.form.extends = self.form.extends, ""
        self.app.say(f"no longer extends {table}: r makes a table of its own")


def _ends(state: SessionState) -> tuple[str, ...]:
    """The jobs that have ended, after each of which a plan may be another."""
    return tuple(job.job for job in state.jobs.values() if not job.live)
