"""Look: a picture patch by patch, and what each of them is inside the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from labtui.actions import bindings
from labtui.diagnoses import NOTHING, Parts
from labtui.looking import (
    OVERLAYS,
    Sight,
    alike_text,
    answer_text,
    asked_of,
    decode_thumbnail,
    effect_of,
    head_text,
    neighbours_text,
    norms_plot,
    overlay_of,
    patch_text,
    pictures_of,
    question_of,
    readings_text,
    rect_in,
    rect_text,
    sight_of,
    tabbed_patches,
)
from labtui.projection import Source, arms, one_line, shape_of
from labtui.screens.look_actions import LookActions
from labtui.widgets.chart import Chart
from labtui.widgets.panel import Panel
from labtui.widgets.picture import Overlay, Picture, Scene
from labtui.widgets.reader import Reader
from labtui.wording import ago
from labtui_artifacts.errors import LabError, UsageError
from labtui_kernels.lang.edits import parse_edits
from labtui_sessions import looks

if TYPE_CHECKING:
    from PIL.Image import Image

    from labtui.widgets.raster import Rect
    from labtui_sessions.fields import ImageView, JobView
    from labtui_sessions.state import SessionState

EMPTY = "o reads a picture from a file; then the arrows walk over its patches"
WAITING = "on their way"
NO_KERNEL = "no kernel is attached: 1 goes Home, where one that sees is started (toy-qwen2-vl)"
TEXT_MODEL = "this model reads text only: on Home (1) another is started, such as toy-qwen2-vl"


class Look(LookActions):
    """A look of the session: its picture, and what its tables say of the patch under the cursor."""

    SCOPE = "look"
    BINDINGS = bindings("look")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self._images: dict[str, Image | None] = {}
        self._seen: str = ""
        self._source: Source | None = None
        self._texts: dict[str, object] = {}
        self._taken = ""
        """The edit that was taken up from a look; another one in the line was written since."""
        self._mark_taken: Rect | None = None

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
            self._source, self._images, self._wanted = source, {}, ""
        self.job = self.chosen(state)
        self.sight = sight_of(self.job) if self.job is not None else None
        self.effect = effect_of(state, self.sight) if state is not None and self.sight is not None else None
        if source is None or self.sight is None:
            self.parts = None
        elif self.parts is None or self.parts.source is not source:
            self.parts = Parts(source)
        self._settle()
        self._project_head(source, state)
        self._project_picture(source, state)
        self._project_patch()
        self._project_answers(state)
        self._project_edits()

    def _settle(self) -> None:
        """Bring what was chosen in line with the look in view."""
        sight = self.sight
        if sight is None:
            self.site = None
            return
        if self.site not in sight.sites:
            decoder = [site for site in sight.sites if site.startswith("llm.")] or list(sight.sites)
            self.site = decoder[len(decoder) // 2] if decoder else None
        if self.overlay not in self.overlays() and self.overlay != "effect":
            self.overlay = "none"
        if self.job is not None and self._seen != self.job.job:
            self._seen = self.job.job
            line = self.query_one("#question-line", Input)
            line.value = line.value or question_of(self.job.spec)
        self._steered(self.effect[0] if self.effect is not None else None)

    def _steered(self, job: JobView | None) -> None:
        """Take up the edit whose effect is shown, with its rectangle, where none is being written."""
        edits = str(job.spec.get("edits") or "") if job is not None else ""
        line = self.query_one("#look-edits", Input)
        if edits == self._taken or line.value not in ("", self._taken):
            return
        self._taken = line.value = edits
        self._mark_taken = rect_in(edits)

    def _project_head(self, source: Source | None, state: SessionState | None) -> None:
        line = self.query_one("#look-progress", Static)
        line.display = False
        if source is None or state is None:
            self._put("look-head", Content.styled(NO_KERNEL, "$warning"))
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
            self._put("look-head", Content.styled(text, "$warning" if blind else "$lab-dim"))
            return
        image = state.images.get(self.sight.digest) if self.sight is not None else None
        place = f"{self.job.job}, {self.number} of {self.count}" if self.count > 1 else self.job.job
        if self.sight is None:
            self._put("look-head", Content.assemble(("a picture", "bold $accent"), f" · {place}"))
        else:
            self._put("look-head", head_text(self.sight, image.name if image is not None else "", place))
        self._put("look-progress", self._progress(self.job))
        line.display = (
            self.job.status != "done" or bool((self.job.result or {}).get("notes")) or not _clean(self.job)
        )

    def _progress(self, job: JobView) -> Content:
        """How far the look is, or how it ended."""
        if job.live:
            told = self.app.kernel.telemetry.get("progress") if self.app.live and self.app.kernel else None
            told = told if isinstance(told, dict) and told.get("job") == job.job else {}
            done, total, text = told.get("done", 0), told.get("total", 0), str(told.get("text", ""))
            if not total and job.to_run:
                done, total, text = job.cells, job.to_run, "cells"
            wide = max(10, min(40, self.size.width - 50))
            full = round(wide * min(1.0, done / total)) if total else 0
            said = f" {done:.0f}/{total:.0f} {text}" if total else f" {job.status}"
            return Content.assemble(("█" * full, "$accent"), ("░" * (wide - full), "$lab-line"), said)
        parts: list[str | tuple[str, str]] = [(job.status, "bold" if job.status == "done" else "bold $error")]
        parts += [(f" in {ago(job.seconds)}", "$lab-dim")] if job.seconds is not None else []
        parts += [(f"  {job.error}", "$error")] if job.error else []
        for note in (job.result or {}).get("notes") or ():
            parts.append((f"  ! {note}", "$warning"))
        if not _clean(job):
            parts.append((f"  ! audit: {(job.audit or {}).get('detail', 'not clean')}", "bold $error"))
        return Content.assemble(*parts)

    def _put(self, id: str, content: Content | str) -> None:
        """A text in its place; nothing is painted where it is the same."""
        content = Content(content) if isinstance(content, str) else content
        now = (content.plain, tuple(content.spans))
        if self._texts.get(id) != now:
            self._texts[id] = now
            self.query_one(f"#{id}", Static).update(content)

    # -- the picture ----------------------------------------------------------------------------------

    def _project_picture(self, source: Source | None, state: SessionState | None) -> None:
        sight, picture, panel = self.sight, self.picture, self.query_one("#picture", Panel)
        if source is None or state is None:
            picture.say("")
            picture.show(None)
            panel.note("")
            return
        digest, view = self._shown(state)
        image = self._image(source, digest) if digest else None
        if image is None:
            missing = digest and digest in self._images
            picture.say(
                MISSING if missing else self._hint(state) if not digest else "the picture is on its way"
            )
            picture.show(blank(sight) if sight is not None and missing else None)
        elif sight is None:
            picture.show(Scene(digest, image))
        else:
            picture.show(Scene(digest, image, sight.rows, sight.cols, self._overlay(sight)))
        if self._mark_taken is not None and picture.scene is not None and not picture.marking:
            picture.mark(self._mark_taken)
            self._mark_taken = None
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
            return (digest, state.images[digest]) if digest in state.images else ("", None)
        return list(state.images.items())[-1] if state.images else ("", None)

    def _image(self, source: Source, digest: str) -> Image | None:
        """The picture's thumbnail, fetched when it is first wanted; None until it is here, or where it is damaged."""
        if digest not in source.state.images or digest in self._images:
            return self._images.get(digest)
        images = self._images

        async def work() -> None:
            try:
                images[digest] = decode_thumbnail(await source.thumbnail(digest))
            except LabError as error:
                images[digest] = None
                self.app.say(one_line(error), bad=True)

        self.app.do(work, lambda _: self.app.pump.changed(), group=f"look:picture:{digest}")
        return None

    def _overlay(self, sight: Sight) -> Overlay | None:
        if self.overlay == "none":
            return None
        values = self.values(self.overlay)
        word = self.words().get(self.word) if self.overlay == "attention" and self.word is not None else None
        return overlay_of(self.overlay, self.site or "", values, word or "")

    def values(self, kind: str) -> tuple[float | None, ...]:
        """A number for each patch at the site in view; all None until it is here."""
        sight, patch = self.sight, self.picture.patch or 0
        if sight is None or self.site is None:
            return ()
        if kind == "effect":
            found = self.effect[1] if self.effect is not None else None
            return looks.by_patch(
                self._rows(found.of("effect"), self._at) if found else (), "change", sight.patches
            )
        if kind == "similarity":
            return looks.similar_to(self._rows(sight.of("similar"), self._at), patch, sight.patches)
        if kind == "attention":
            words, rows = self.words(), self._rows(sight.of("attention"), self._at)
            self.word = self.word if self.word in words else next(reversed(words), None)
            return looks.attention_of(rows, self.word, sight.patches) if self.word is not None else ()
        return looks.by_patch(self._rows(sight.of("patches"), self._at), "norm", sight.patches)

    def words(self) -> dict[int, str]:
        return looks.words(self._rows(self.sight.of("attention"), self._at)) if self.sight is not None else {}

    @property
    def _at(self) -> str:
        return f"site={self.site}"

    def _rows(self, table: str, filter: str = "") -> list[dict[str, Any]]:
        """Rows of a table as far as they are here; what is not is fetched."""
        source = self.app.source
        if self.parts is None or source is None or table not in source.state.tables:
            return NOTHING
        self.fetch(table, filter)
        return self.parts.get(table, filter)

    # -- the patch under the cursor -------------------------------------------------------------------

    def _project_patch(self) -> None:
        sight, patch = self.sight, self.picture.patch
        if sight is None or patch is None or patch >= sight.patches:
            self._put("look-patch", "")
            self._project_neighbours(None, 0)
            self._project_readings(None, 0)
            self.query_one("#look-norms", Chart).show(None)
            self.query_one("#norms", Panel).note("")
            return
        self._put("look-patch", patch_text(sight, patch, self.values("norm")))
        self._project_neighbours(sight, patch)
        self._project_readings(sight, patch)
        every = looks.depths(self._rows(sight.of("depth")))
        norms = looks.by_site(self._rows(sight.of("patches"), f"patch={patch}"), "norm")
        self.query_one("#look-norms", Chart).show(norms_plot(norms, every, self.site))
        self.query_one("#norms", Panel).note(alike_text(every, self.site), self.site or "")

    def _project_neighbours(self, sight: Sight | None, patch: int) -> None:
        panel = self.query_one("#neighbours", Panel)
        if sight is None:
            self._put(
                "look-neighbours", Content.styled("words in captions that this patch is near to", "$lab-dim")
            )
            panel.note("")
            return
        rows = self._rows(sight.of("neighbours"), f"patch={patch}")
        found = looks.neighbours(rows, self.how)
        if not sight.index:
            why = "no index was given: o reads the picture again with one (labtui run index --set name=captions)"
            self._put("look-neighbours", Content.styled(why, "$lab-dim"))
            panel.note("none")
            return
        width = max(24, panel.size.width - 2)
        waiting = (
            WAITING if rows is NOTHING or (self.job is not None and self.job.live) else "none were found"
        )
        self._put(
            "look-neighbours",
            neighbours_text(found, self.site, width) if found else Content.styled(waiting, "$lab-dim"),
        )
        panel.note(f"{self.how} cosine · index {sight.index}", self.site or "")

    def _project_readings(self, sight: Sight | None, patch: int) -> None:
        panel = self.query_one("#readings", Panel)
        if sight is None:
            self._put("look-readings", Content.styled("nearest words, without any context", "$lab-dim"))
            panel.note("")
            return
        rows = self._rows(sight.of("readings"), f"{self._at} patch={patch}")
        found = looks.readings(rows, patch)
        if found:
            self._put("look-readings", readings_text(found, max(24, panel.size.width - 2)))
        else:
            live = self.job is not None and self.job.live
            in_tower = (self.site or "").startswith("vision.") and self.site != "vision.merged"
            why = "words are read in the decoder and after the merger: , and . change the site"
            said = why if in_tower else WAITING if live or rows is NOTHING else "not read here"
            self._put("look-readings", Content.styled(said, "$lab-dim"))
        panel.note("", self.site or "")

    # -- question, edits, answers ---------------------------------------------------------------------

    def _project_answers(self, state: SessionState | None) -> None:
        panel = self.query_one("#answers", Panel)
        digest = self.sight.digest if self.sight is not None else ""
        job = asked_of(state, digest) if state is not None and digest else None
        plain, steered = arms(state, job.job) if state is not None and job is not None else ([], [])
        waiting = (
            "i writes a question, r asks it" if job is None else "no answer yet" if job.live else "not asked"
        )
        failed = job.error if job is not None and job.error else ""
        self._put(
            "look-plain-text",
            Content.assemble(
                ("plain\n", "$lab-dim"), answer_text(plain[0] if plain else None, failed or waiting)
            ),
        )
        edits = str(job.spec.get("edits") or "") if job is not None else ""
        other = "no edit: e writes one, v marks where" if not edits else failed or waiting
        self._put(
            "look-steered-text",
            Content.assemble(
                (f"steered {edits}".rstrip() + "\n", "$lab-dim"),
                answer_text(steered[0] if steered else None, other),
            ),
        )
        panel.note(question_of(job.spec) if job is not None else "")

    def _project_edits(self) -> None:
        text = ""
        source = self.app.source
        try:
            parse_edits(self.edits, shape_of(source.state) if source is not None else None)
        except UsageError as error:
            text = str(error)
        self._put("look-problem", text)
        self.query_one("#look-problem", Static).display = bool(text)
        rect = self.picture.marked
        self.query_one("#edits", Panel).note(f"only in {rect_text(rect)}" if rect is not None else "")

    # -- what the widgets say -------------------------------------------------------------------------

    @on(Picture.Moved)
    def _moved(self) -> None:
        if self.app.frozen:
            self._project_patch()
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
        self.action_run()

    @on(Input.Changed, "#look-edits")
    def _edited(self) -> None:
        self._project_edits()

    def on_resize(self) -> None:
        self.app.pump.changed()

    def focus_scopes(self) -> list[str]:
        return ["picture"] if isinstance(self.focused, Picture) else super().focus_scopes()

    def copy_text(self) -> str:
        """The numbers of all patches at the site in view, tab between columns."""
        sight = self.sight
        if sight is None or self.site is None:
            return ""
        kinds = {"norm": "norm", "effect": "effect", "cosine to the patch under the cursor": "similarity"}
        return tabbed_patches(sight, self.site, {name: self.values(kind) for name, kind in kinds.items()})


MISSING = "this session holds no thumbnail of the picture; its patches are still there"


def _clean(job: JobView) -> bool:
    """Whether the audit after a job found nothing."""
    return job.audit is None or bool(job.audit.get("ok", True))


def blank(sight: Sight) -> Scene:
    """A grey picture in place of one that is not there, so that its patches can still be walked over."""
    from PIL import Image as pil

    return Scene(
        f"blank:{sight.digest}",
        pil.new("RGB", (sight.cols, sight.rows), (90, 90, 90)),
        sight.rows,
        sight.cols,
    )
