"""Look: a picture patch by patch, and what each of them is inside the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from labtui.actions import bindings
from labtui.look_text import head_text, tabbed_patches
from labtui.looking import (
    OVERLAYS,
    Sight,
    check_rects,
    overlay_of,
    pictures_of,
    place_text,
    question_of,
    rect_text,
    rects_in,
)
from labtui.projection import Source, shape_of
from labtui.screens.job_view import clean
from labtui.screens.look_panels import LookPanels
from labtui.widgets.chart import Chart
from labtui.widgets.panel import Panel
from labtui.widgets.picture import Picture
from labtui.widgets.reader import Reader
from labtui.widgets.scene import Overlay, Scene
from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import is_digest, short
from labtui_kernels.lang.edits import parse_edits

if TYPE_CHECKING:
    from labtui_sessions.fields import ImageView
    from labtui_sessions.state import SessionState

HIGH = 48
"""Lines from which on there is room for readings and scores."""
EMPTY = "o reads a picture from a file; then the arrows walk over its patches"
NO_KERNEL = "no kernel is attached: 1 goes Home, where one that sees is started (toy-qwen2-vl)"
TEXT_MODEL = "this model reads text only: on Home (1) another is started, such as toy-qwen2-vl"


class Look(LookPanels):
    """A look of the session: its picture, and what its tables say of the patch under the cursor."""

    SCOPE = "look"
    BINDINGS = bindings("look")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self._seen: str = ""
        self._arrived: str = ""
        """The look whose picture had the focus when it came."""
        self._source: Source | None = None
        self._taken = ""
        """The edit that was taken up from a look; another one in the line was written since."""

    def body(self) -> ComposeResult:
        yield Static("", id="look-head", markup=False)
        yield Static("", id="look-progress", markup=False)
        with Container(id="look", classes="-neighbours"):
            with Vertical(id="look-left"):
                yield Panel(
                    Picture(empty=EMPTY, id="look-picture", pixels=self.app.images),
                    title="Picture",
                    key="m",
                    id="picture",
                )
                yield Panel(
                    Input(id="question-line", compact=True, placeholder="ask about the picture; enter runs"),
                    title="Question",
                    key="i",
                    id="question",
                )
                yield Panel(
                    Input(id="look-edits", compact=True, placeholder="8%*terse@llm.3@image0; v marks where"),
                    Static("", id="look-problem", classes="problem", markup=False),
                    title="Edits",
                    key="e",
                    id="edits",
                )
            with Vertical(id="look-right"):
                yield Static("", id="look-patch", markup=False)
                with Panel(title="Neighbours", key="t", id="neighbours", classes="part"), Reader():
                    yield Static("", id="look-neighbours", markup=False)
                with Panel(title="Readings", key="s", id="readings", classes="part"), Reader():
                    yield Static("", id="look-readings", markup=False)
                with Panel(title="Scores", key="f", id="scores", classes="part -without"), Reader():
                    yield Static("", id="look-scores", markup=False)
                yield Panel(
                    Chart(id="look-norms", empty="the norm of this patch at every site"),
                    title="Norms",
                    key="u",
                    id="norms",
                    classes="part",
                )
                with (
                    Panel(title="Answers", key="x", id="answers", classes="part"),
                    Horizontal(id="look-arms"),
                ):
                    for arm in ("plain", "steered"):
                        with Reader(id=f"look-{arm}", classes="arm"):
                            yield Static("", id=f"look-{arm}-text", markup=False)

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        state = source.state if source is not None else None
        if source is not self._source:
            self._source, self.wanted = source, ""
        self.choose(source)
        self._take_up()
        self._project_head(source, state)
        self._project_picture(source, state)
        self._project_edits()
        self._arrive()
        self.project_patch()
        self.project_answers(state)

    def _take_up(self) -> None:
        """Write the question of the look in view, and the edit whose effect is shown, where nothing was written."""
        job, line = self.job, self.query_one("#look-edits", Input)
        if job is not None and self.sight is not None and self._seen != job.job:
            self._seen = job.job
            asked = self.query_one("#question-line", Input)
            asked.value = asked.value or question_of(job.spec)
        edits = str(self.effect[0].spec.get("edits") or "") if self.effect is not None else ""
        if edits != self._taken and line.value in ("", self._taken):
            self._taken = line.value = edits

    def _arrive(self) -> None:
        """Give the picture the focus when one has come that can be walked over, unless something else has it."""
        job = self.job.job if self.job is not None and self.picture.patch is not None else ""
        if job and job != self._arrived and self.focused is None:
            self.set_focus(self.picture)
        self._arrived = job or self._arrived

    def _project_head(self, source: Source | None, state: SessionState | None) -> None:
        line = self.query_one("#look-progress", Static)
        line.display = False
        if source is None or state is None:
            self.put("look-head", Content.styled(NO_KERNEL, "$warning"))
            return
        if self.job is None:
            shape = shape_of(state)
            loading = state.model is None
            text = "the model is still loading" if loading else "no picture was read in this session yet"
            blind = shape is not None and not shape.vision_blocks
            if blind:
                text = TEXT_MODEL
            elif not loading and not self.app.live:
                text = "no picture was read in this session up to here"
            self.put("look-head", Content.styled(text, "$warning" if blind else "$lab-dim"))
            return
        image = state.images.get(self.sight.digest) if self.sight is not None else None
        place = f"{self.job.job}, {self.number} of {self.count}" if self.count > 1 else self.job.job
        if self.sight is None:
            self.put("look-head", Content.assemble(("a picture", "bold $accent"), f" · {place}"))
        else:
            digest = self.sight.digest
            name = image.name if image is not None else self.app.views.names(state).get(digest, short(digest))
            self.put("look-head", head_text(self.sight, name, place))
        self.put("look-progress", self.progress(self.job))
        line.display = (
            self.job.status != "done" or bool((self.job.result or {}).get("notes")) or not clean(self.job)
        )

    # -- the picture ----------------------------------------------------------------------------------

    def _project_picture(self, source: Source | None, state: SessionState | None) -> None:
        sight, picture, panel = self.sight, self.picture, self.query_one("#picture", Panel)
        if source is None or state is None:
            picture.say("")
            picture.show(None)
            panel.note("")
            return
        digest, view = self._shown(state)
        image = self.app.views.get(digest) if digest else None
        if image is None:
            missing = bool(digest) and self.app.views.missing(digest)
            picture.say(
                MISSING if missing else self._hint(state) if not digest else "the picture is on its way"
            )
            picture.show(blank(sight) if sight is not None and missing else None)
        elif sight is None:
            picture.show(Scene(digest, image))
        else:
            picture.show(Scene(digest, image, sight.rows, sight.cols, self._overlay(sight)))
        self._note(panel, view)

    def _hint(self, state: SessionState) -> str:
        """What to do where there is no picture: empty where there is nothing to be done here."""
        shape = shape_of(state)
        return (
            EMPTY if self.app.live and self.job is None and shape is not None and shape.vision_blocks else ""
        )

    def _note(self, panel: Panel, view: ImageView | None) -> None:
        """The panel's title: what is laid over the picture, and where the cursor and the mark are."""
        picture, scene = self.picture, self.picture.scene
        rect = picture.rect
        parts = [rect_text(rect)] if rect is not None else []
        parts += ["marking"] if picture.marking else []
        parts += ["z shows all of it"] if picture.cut and scene is not None else []
        over = picture.legend
        if not over and self.overlay != "none" and self.sight is not None:
            over = f"{OVERLAYS[self.overlay]} {self.site}: not here"
        panel.note(" · ".join(parts) or (view.name if view is not None and self.sight is None else ""), over)

    def _shown(self, state: SessionState) -> tuple[str, ImageView | None]:
        """The digest of the picture in view, and what the session knows of it: the look's, else the last one."""
        if self.sight is not None:
            return self.sight.digest, state.images.get(self.sight.digest)
        if self.job is not None:
            number = self.job.spec.get("number") or 0
            named = pictures_of(self.job.spec)
            digest = named[number] if isinstance(number, int) and number < len(named) else ""
            return (digest, state.images.get(digest)) if is_digest(digest) else ("", None)
        return list(state.images.items())[-1] if state.images else ("", None)

    def _overlay(self, sight: Sight) -> Overlay | None:
        if self.overlay == "none":
            return None
        values = self.values(self.overlay)
        of = self.along if self.overlay == "scores" else ""
        if self.overlay == "attention" and self.word is not None:
            of = self.words().get(self.word) or ""
        return overlay_of(self.overlay, self.site or "", values, of)

    # -- edits ----------------------------------------------------------------------------------------

    def _project_edits(self) -> None:
        """What is wrong with the edits, and the rectangle that they name as the mark on the picture: the text is the
        truth, and a text that cannot be read leaves the mark where it is."""
        source, sight, text = self.app.source, self.sight, ""
        try:
            terms = parse_edits(self.edits, shape_of(source.state) if source is not None else None)
            if sight is not None:
                self.picture.keep(next(iter(rects_in(terms, sight)), None))
                check_rects(terms, sight)
        except UsageError as error:
            text = str(error)
        self.put("look-problem", text)
        self.query_one("#look-problem", Static).display = bool(text)
        self.query_one("#edits", Panel).note(
            place_text(self.edits, sight) if sight is not None and not text else ""
        )

    # -- what the widgets say -------------------------------------------------------------------------

    @on(Picture.Moved)
    def _moved(self) -> None:
        if self.app.frozen:
            self.project_patch()
        else:
            self.app.pump.now()

    @on(Picture.Picked)
    def _picked(self) -> None:
        self.action_focus_panel("neighbours" if self.sight is not None and self.sight.index else "readings")

    @on(Picture.Marked)
    def _marked(self) -> None:
        self.marked()
        self.app.pump.now()

    @on(Input.Submitted, "#question-line,#look-edits")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.picture.patch is not None:
            self.set_focus(self.picture)
        self.action_run()

    @on(Input.Changed, "#look-edits")
    def _edited(self) -> None:
        self._project_edits()

    def on_resize(self) -> None:
        self.set_class(self.size.height >= HIGH, "-high")
        self.app.pump.changed()

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        if self.focused is None and self.picture.patch is not None:
            self.set_focus(self.picture)

    def focus_scopes(self) -> list[str]:
        return ["picture"] if isinstance(self.focused, Picture) else super().focus_scopes()

    def copy_text(self) -> str:
        """The numbers of all patches at the site in view, tab between columns."""
        sight = self.sight
        if sight is None or self.site is None:
            return ""
        kinds = {"norm": "norm", "effect": "effect", "cosine to the patch under the cursor": "similarity"}
        if self.values("scores"):
            kinds[f"projection on {self.along}"] = "scores"
        return tabbed_patches(sight, self.site, {name: self.values(kind) for name, kind in kinds.items()})


MISSING = "this session holds no thumbnail of the picture; its patches are still there"


def blank(sight: Sight) -> Scene:
    """A grey picture in place of one that is not there, so that its patches can still be walked over."""
    from PIL import Image as pil

    return Scene(
        f"blank:{sight.digest}",
        pil.new("RGB", (sight.cols, sight.rows), (90, 90, 90)),
        sight.rows,
        sight.cols,
    )
