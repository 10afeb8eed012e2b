"""What the keys of the Look screen do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from textual.containers import Container
from textual.widgets import Input

from labtui.exporting import KINDS, Drawn, export_problem
from labtui.looking import (
    OVERLAYS,
    ask_spec,
    effect_spec,
    only_there,
    rect_text,
    site_for_edits,
)
from labtui.projection import Kernel, shape_of
from labtui.screens.look_form import look_form, look_spec
from labtui.screens.look_view import LookView
from labtui.widgets.dialog import Values
from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from labtui_kernels.lang.edits import parse_edits

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.state import SessionState
    from labtui_sessions.tables import Table

UNTRIED = "random:1"
"""The direction of a first edit where none is stored."""
TABLES = ("patches", "depth", "scores", "readings", "neighbours", "effect", "attention", "similar")

T = TypeVar("T")


class LookActions(LookView):
    """The part of the Look screen that answers keys; what it shows is in ``look.py``."""

    # -- looking at a picture -------------------------------------------------------------------------

    def action_open(self) -> None:
        source = self.app.source
        if source is None or not self.app.live:
            self.app.say("a replay cannot read anything; attach to a kernel (1) first")
            return
        state = source.state
        shape = shape_of(state)
        if shape is not None and not shape.vision_blocks:
            self.app.say(
                "this model reads text only; Home (1) starts a Qwen-VL, such as toy-qwen2-vl", bad=True
            )
            return
        before = self.job.spec if self.job is not None else {}
        digest = self.sight.digest if self.sight is not None else ""

        def run(values: Values | None) -> None:
            self.set_focus(self.picture)
            if values is not None:
                self.wanted = ""
                self.query_one("#question-line", Input).value = values["question"].strip()
                self.submit(look_spec(values))

        self.app.push_screen(look_form(state, before, digest), run)

    def submit(self, *wanted: dict[str, Any]) -> None:
        """Queue specs, one after the other; pictures that the kernel lacks are sent first."""

        async def work(kernel: Kernel) -> None:
            for spec in wanted:
                await self.app.views.submit(kernel, spec, priority="interactive")

        self.ask(work, lambda _: self.app.say("queued"))

    # -- asking and steering --------------------------------------------------------------------------

    def action_run(self) -> None:
        if self.job is None or self.sight is None or not self.app.live:
            self.app.say("no picture was read yet: o opens one")
            return
        edits, question = self.edits.strip(), self.question.strip()
        try:
            parse_edits(edits)
        except UsageError as error:
            self.app.say(str(error), bad=True)
            return
        wanted = [ask_spec(self.job.spec, question, edits)]
        if edits:
            wanted.append(effect_spec(self.job.spec, edits))
            self.overlay = "effect"
        self.submit(*wanted)
        self.show_part("answers")

    def action_mark(self) -> None:
        """Begin a rectangle, or take the one that is being drawn."""
        picture = self.picture
        if picture.marking:
            picture.action_pick()
        elif picture.begin():
            self.set_focus(picture)
            self.app.say("arrows draw the rectangle, enter takes it, esc leaves it")
        else:
            self.app.say("there is no patch to begin at: o reads a picture")

    def action_unmark(self) -> None:
        self.picture.mark(None)
        self.marked()

    def marked(self) -> None:
        """Let the edits act in the marked rectangle alone, or in the whole picture where none is marked."""
        source, sight = self.app.source, self.sight
        if source is None or sight is None:
            return
        rect, line = self.picture.marked, self.query_one("#look-edits", Input)
        if rect is None and not line.value.strip():
            return
        state = source.state
        stored = [name for name, one in state.artifacts.items() if one.kind == "direction"]
        site = site_for_edits(sight.sites, self.site, shape_of(state))
        try:
            line.value = only_there(line.value, rect, sight.number, stored[0] if stored else UNTRIED, site)
        except UsageError as error:
            self.app.say(str(error), bad=True)
            return
        where = f"in {rect_text(rect)} alone" if rect is not None else "in the whole picture"
        self.app.say(
            f"edits act {where}; r asks and shows what they move" if self.app.live else f"edits act {where}"
        )

    def stoppable(self, state: SessionState) -> JobView | None:
        live = [job for job in state.live_jobs() if job.kind in ("look", "generate")]
        return live[-1] if live else None

    # -- looking round --------------------------------------------------------------------------------

    def action_cycle_overlay(self) -> None:
        there = self.overlays()
        at = there.index(self.overlay) if self.overlay in there else 0
        self.overlay = there[(at + 1) % len(there)]
        lacking = [name for name in OVERLAYS if name not in there]
        if len(there) == 1:
            self.app.say("nothing was read yet that could be laid over the picture")
        elif self.overlay == "none" and lacking:
            self.app.say(f"not here: {', '.join(why_not(name) for name in lacking)}")
        self.app.pump.now()

    def action_next_word(self) -> None:
        """The next word whose attention is shown; where scores are, the next direction."""
        if self.overlay == "scores" or self.query_one("#look", Container).has_class("-scores"):
            self._next_direction()
            return
        if "attention" not in self.overlays():
            self.app.say(why_not("attention"))
            return
        if self.overlay == "attention":
            self.word = _after(self.word, list(self.words()))
        self.overlay = "attention"
        self.app.pump.now()

    def _next_direction(self) -> None:
        there = list(self.directions())
        if not there:
            self.app.say(why_not("scores"))
            return
        self.along = _after(self.along, there) or ""
        self.app.pump.now()

    def action_turn_site(self, way: int) -> None:
        sites = self.sight.sites if self.sight is not None else ()
        if not sites:
            self.app.say("no site was read yet")
            return
        at = sites.index(self.site) if self.site in sites else 0
        self.site = sites[max(0, min(len(sites) - 1, at + way))]
        self.app.pump.now()

    def action_centred(self) -> None:
        self.how = "centred" if self.how == "raw" else "raw"
        self.show_part("neighbours")

    def action_zoom(self) -> None:
        self.picture.zoom()
        self.app.pump.now()

    def leave(self) -> bool:
        """A rectangle that is being drawn is left first; what is read or written beside the picture is left for it."""
        if self.picture.cancel():
            return True
        beside = self.focused is not None and self.focused is not self.picture
        left = super().leave()
        if beside and self.focused is None and self.picture.patch is not None:
            self.set_focus(self.picture)
        return left

    # -- export and copying ---------------------------------------------------------------------------

    def action_export(self) -> None:
        self.export_form(
            self._tables(), _no_picture, _table_problem, "ends in .csv, .json, .jsonl or .parquet"
        )

    def _tables(self) -> dict[str, str]:
        """The tables there are, by what they hold."""
        source, sight = self.app.source, self.sight
        if source is None or sight is None:
            return {}
        found = {what: sight.of(what) for what in TABLES if what != "effect"}
        if self.effect is not None:
            found["effect"] = self.effect[1].of("effect")
        return {what: name for what, name in found.items() if name in source.state.tables}

    def copy_spec(self) -> dict[str, Any]:
        if self.job is None or not self.job.spec:
            raise UsageError("no picture was read yet, so there is no spec")
        return specs.to_dict(specs.load(self.job.spec))


def _after(one: T | None, there: Sequence[T]) -> T | None:
    """What comes after one of them, round and round."""
    return there[(there.index(one) + 1 if one in there else 0) % len(there)] if there else one


def why_not(overlay: str) -> str:
    """What an overlay needs that is not there."""
    return {
        "effect": "effect (e writes an edit, r runs it)",
        "attention": "attention (not read: o with a question reads it)",
        "similarity": "similarity (not read)",
        "scores": "scores (not read: o with directions reads them)",
        "norm": "norm (not read)",
    }.get(overlay, overlay)


def _table_problem(values: Values) -> str:
    problem = export_problem(values["path"])
    if not problem and Path(values["path"]).suffix.lower() not in KINDS:
        return "expected a name that ends in .csv, .json, .jsonl or .parquet"
    return problem


def _no_picture(table: Table) -> Drawn:
    raise UsageError(
        f"{table.name}: a look's tables have no figure; give a name that ends in .csv or .parquet"
    )
