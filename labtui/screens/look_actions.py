"""What the keys of the Look screen do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.containers import Container
from textual.widgets import Input

from labtui.cells import as_table
from labtui.diagnoses import Parts
from labtui.exporting import KINDS, Drawn, export_problem, export_to
from labtui.looking import (
    OVERLAYS,
    Sight,
    ask_spec,
    effect_spec,
    looks_of,
    only_there,
    question_of,
    rect_text,
    site_for_edits,
)
from labtui.pictures import submit
from labtui.projection import Kernel, shape_of
from labtui.screens.base import BaseScreen
from labtui.widgets.dialog import Field, Form, Values
from labtui.widgets.picture import Picture
from labtui.wording import short_path
from labtui_artifacts.errors import LabError, UsageError
from labtui_artifacts.images import is_digest
from labtui_kernels import specs
from labtui_kernels.lang.edits import parse_edits
from labtui_kernels.specs.look import count_look

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.state import SessionState
    from labtui_sessions.tables import Table

PANELS = ("neighbours", "readings", "norms", "answers")
"""Those that take turns where there is no room for all."""
TABLES = ("patches", "depth", "readings", "neighbours", "effect", "attention", "similar")


class LookActions(BaseScreen):
    """The part of the Look screen that answers keys; what it shows is in ``look.py``."""

    SCOPE = "look"

    def __init__(self) -> None:
        super().__init__()
        self.parts: Parts | None = None
        self.job: JobView | None = None
        """The look in view."""
        self.sight: Sight | None = None
        """What it read; None before it was planned."""
        self.effect: tuple[JobView, Sight] | None = None
        """The look that says what an edit did to the same patches."""
        self.number, self.count = 0, 0
        """Which it is of how many."""
        self.site: str | None = None
        """The site in view."""
        self.overlay = "none"
        self.how = "raw"
        """Whether neighbours are searched by plain cosine, or less each layer's mean."""
        self.word: int | None = None
        """The position of the word whose attention is shown."""
        self._wanted = ""

    @property
    def picture(self) -> Picture:
        return self.query_one(Picture)

    @property
    def question(self) -> str:
        return self.query_one("#question-line", Input).value

    @property
    def edits(self) -> str:
        return self.query_one("#look-edits", Input).value

    def chosen(self, state: SessionState | None) -> JobView | None:
        """The look that is shown: the one asked for, else the last of the session."""
        found = looks_of(state) if state is not None else []
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
                group=f"look:{table}:{filter}",
            )

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
        indexes = ("", *(name for name, one in state.artifacts.items() if one.kind == "index"))
        before = self.job.spec if self.job is not None else {}

        def problem(values: Values) -> str:
            path = values["picture"].strip()
            if not path:
                return "expected the path of a picture on this machine"
            if not is_digest(path) and not Path(path).expanduser().is_file():
                return "there is no such file on this machine"
            return ""

        def trouble(values: Values) -> str:
            try:
                checked = specs.load(look_spec(values))
                if isinstance(checked, specs.Look) and shape is not None:
                    count_look(checked, shape)
            except LabError as error:
                return str(error)
            return ""

        def cost(values: Values) -> str:
            checked = specs.load(look_spec(values))
            if shape is None or not isinstance(checked, specs.Look):
                return ""
            counts = count_look(checked, shape)
            return f"{counts['sites']} sites · {', '.join(counts['parts'])}"

        fields = [
            Field("picture", "picture", self._last_picture(), hint="a file: PNG, JPEG, WebP, ...", check=problem),
            Field("question", "question", question_of(before), hint="asked by r; the patches are the same whatever it is"),
            Field("sites", "sites", str(before.get("sites") or "vision.merged,llm.*"), check=trouble,
                  hint="vision.*, vision.merged, llm.*"),
            Field("index", "neighbours in", str(before.get("index") or (indexes[1] if len(indexes) > 1 else "")),
                  options=indexes, hint="an index of captions; labtui run index --set name=captions makes one"),
        ]  # fmt: skip

        def run(values: Values | None) -> None:
            if values is not None:
                self._wanted = ""
                self.query_one("#question-line", Input).value = values["question"].strip()
                self.submit(look_spec(values))

        self.app.push_screen(Form("Look at a picture", fields, accept="Read", preview=cost), run)

    def _last_picture(self) -> str:
        return self.sight.digest if self.sight is not None else ""

    def submit(self, *wanted: dict[str, Any]) -> None:
        """Queue specs, one after the other; pictures that the kernel lacks are sent first."""

        async def work(kernel: Kernel) -> None:
            for spec in wanted:
                await submit(kernel, spec, priority="interactive")

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
        """Begin a rectangle; with one marked, let it go."""
        picture = self.picture
        if picture.marking:
            picture.action_pick()
            return
        if picture.marked is not None:
            picture.mark(None)
            self.marked()
            return
        if not picture.begin():
            self.app.say("there is no patch to begin at: o reads a picture")
            return
        self.set_focus(picture)
        self.app.say("arrows draw the rectangle, enter takes it, esc leaves it")

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
            line.value = only_there(line.value, rect, sight.number, stored[0] if stored else "", site)
        except UsageError as error:
            self.app.say(str(error), bad=True)
            return
        where = f"in {rect_text(rect)} alone" if rect is not None else "in the whole picture"
        self.app.say(
            f"edits act {where}; r asks and shows what they move" if self.app.live else f"edits act {where}"
        )

    def action_stop(self) -> None:
        source = self.app.source
        live = (
            [job for job in source.state.live_jobs() if job.kind in ("look", "generate")]
            if source is not None
            else []
        )
        if not live:
            self.app.say("nothing is running")
            return
        self.ask(
            lambda kernel: kernel.request("job.cancel", job=live[-1].job),
            lambda _: self.app.say("cancelled; what was read stays"),
        )

    # -- looking round --------------------------------------------------------------------------------

    def action_focus_panel(self, id: str) -> None:
        if id in PANELS:
            self.show_part(id)
        super().action_focus_panel(id)

    def show_part(self, id: str) -> None:
        """Show one of the panels that take turns on a small screen."""
        self.query_one("#look", Container).set_classes(f"-{id}")
        self.app.pump.now()

    def overlays(self) -> list[str]:
        """What can be laid over the picture now."""
        source, sight = self.app.source, self.sight
        if source is None or sight is None:
            return ["none"]
        tables = source.state.tables
        there = {"norm": "patches", "similarity": "similar", "attention": "attention"}
        found = ["none", *(kind for kind, table in there.items() if sight.of(table) in tables)]
        if self.effect is not None:
            found.insert(min(3, len(found)), "effect")
        return found

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

    def words(self) -> dict[int, str]:
        """The words whose attention is here, by position."""
        return {}

    def action_next_word(self) -> None:
        if "attention" not in self.overlays():
            self.app.say(why_not("attention"))
            return
        there = list(self.words())
        if self.overlay == "attention" and there:
            at = there.index(self.word) if self.word in there else -1
            self.word = there[(at + 1) % len(there)]
        self.overlay = "attention"
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

    def action_cycle_job(self) -> None:
        source = self.app.source
        found = looks_of(source.state) if source is not None else []
        if len(found) < 2 or self.job is None:
            self.app.say("this session has no other picture")
            return
        self._wanted = found[(self.number - 2) % len(found)].job
        self.app.pump.now()

    def leave(self) -> bool:
        """A rectangle that is being drawn is left first."""
        return self.picture.cancel() or super().leave()

    # -- export and copying ---------------------------------------------------------------------------

    def action_export(self) -> None:
        parts, names = self.parts, self._tables()
        if parts is None or not names:
            self.app.say("there is no table yet, so there is nothing to export")
            return

        def write(values: Values | None) -> None:
            if values is None:
                return
            path, name = Path(values["path"]).expanduser().absolute(), names[values["table"]]

            async def work() -> str:
                rows = await parts.fetch(name)
                return await asyncio.to_thread(export_to, path, as_table(name, rows), _no_picture)

            self.app.do(work, self.app.say)

        first = next(iter(names))
        start = short_path(Path.cwd() / f"{names[first]}.csv")
        fields = [
            Field("table", "table", first, options=tuple(names), free=False),
            Field(
                "path", "file", start, hint="ends in .csv, .json, .jsonl or .parquet", check=_table_problem
            ),
        ]
        self.app.push_screen(Form("Export", fields, accept="Write"), write)

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


def look_spec(values: Values) -> dict[str, Any]:
    """The spec of a form."""
    path = values["picture"].strip()
    image = path if is_digest(path) else str(Path(path).expanduser().absolute())
    spec: dict[str, Any] = {
        "kind": "look",
        "prompt": [{"role": "user", "content": values["question"].strip(), "images": [image]}],
        "sites": values["sites"].strip() or "vision.merged,llm.*",
    }
    return spec | ({"index": values["index"].strip()} if values["index"].strip() else {})


def why_not(overlay: str) -> str:
    """What an overlay needs that is not there."""
    return {
        "effect": "effect (e writes an edit, r runs it)",
        "attention": "attention (not read: o with a question reads it)",
        "similarity": "similarity (not read)",
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
