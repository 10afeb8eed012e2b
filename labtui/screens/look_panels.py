"""The panels beside the picture: what the patch under the cursor is, and what the model answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widgets import Static

from labtui.look_text import (
    alike_text,
    answer_text,
    neighbours_text,
    norms_plot,
    patch_text,
    readings_text,
    scores_text,
)
from labtui.looking import Sight, asked_of, question_of
from labtui.parts import NOTHING
from labtui.projection import arms
from labtui.screens.look_actions import LookActions, why_not
from labtui.widgets.chart import Chart
from labtui.widgets.panel import Panel
from labtui_sessions import looks

if TYPE_CHECKING:
    from labtui_sessions.state import SessionState

WAITING = "on their way"
GONE = "much was run since, so this answer is no longer held here: labtui session show has it, r asks again"


class LookPanels(LookActions):
    """The part of the Look screen that tells of one patch, and of answers."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[str, object] = {}

    def put(self, id: str, content: Content | str) -> None:
        """A text in its place; nothing is painted where it is the same."""
        content = Content(content) if isinstance(content, str) else content
        now = (content.plain, tuple(content.spans))
        if self._texts.get(id) != now:
            self._texts[id] = now
            self.query_one(f"#{id}", Static).update(content)

    # -- the patch under the cursor -------------------------------------------------------------------

    def project_patch(self) -> None:
        sight, patch = self.sight, self.picture.patch
        if sight is None or patch is None or patch >= sight.patches:
            self.put("look-patch", "")
            self._project_neighbours(None, 0)
            self._project_readings(None, 0)
            self._project_scores(None, 0)
            self.query_one("#look-norms", Chart).show(None)
            self.query_one("#norms", Panel).note("")
            return
        self.put("look-patch", patch_text(sight, patch, self.values("norm")))
        self._project_neighbours(sight, patch)
        self._project_readings(sight, patch)
        self._project_scores(sight, patch)
        every = looks.depths(self.rows(sight.of("depth")))
        norms = looks.by_site(self.rows(sight.of("patches"), f"patch={patch}"), "norm")
        self.query_one("#look-norms", Chart).show(norms_plot(norms, every, self.site))
        self.query_one("#norms", Panel).note(alike_text(every, self.site), self.site or "")

    def _project_neighbours(self, sight: Sight | None, patch: int) -> None:
        panel = self.query_one("#neighbours", Panel)
        if sight is None:
            self.put(
                "look-neighbours", Content.styled("words in captions that this patch is near to", "$lab-dim")
            )
            panel.note("")
            return
        rows = self.rows(sight.of("neighbours"), f"patch={patch}")
        found = looks.neighbours(rows, self.how)
        if not sight.index:
            why = "no index was given: o reads the picture again with one (labtui run index --set name=captions)"
            self.put("look-neighbours", Content.styled(why, "$lab-dim"))
            panel.note("none")
            return
        width = max(24, panel.size.width - 2)
        waiting = (
            WAITING if rows is NOTHING or (self.job is not None and self.job.live) else "none were found"
        )
        self.put(
            "look-neighbours",
            neighbours_text(found, self.site, width) if found else Content.styled(waiting, "$lab-dim"),
        )
        panel.note(f"{self.how} cosine · index {sight.index}", self.site or "")

    def _project_readings(self, sight: Sight | None, patch: int) -> None:
        panel = self.query_one("#readings", Panel)
        if sight is None:
            self.put("look-readings", Content.styled("nearest words, without any context", "$lab-dim"))
            panel.note("")
            return
        rows = self.rows(sight.of("readings"), f"{self.at} patch={patch}")
        found = looks.readings(rows, patch)
        if found:
            self.put("look-readings", readings_text(found, max(24, panel.size.width - 2)))
        else:
            live = self.job is not None and self.job.live
            in_tower = (self.site or "").startswith("vision.") and self.site != "vision.merged"
            why = "words are read in the decoder and after the merger: , and . change the site"
            said = why if in_tower else WAITING if live or rows is NOTHING else "not read here"
            self.put("look-readings", Content.styled(said, "$lab-dim"))
        panel.note("", self.site or "")

    def _project_scores(self, sight: Sight | None, patch: int) -> None:
        panel = self.query_one("#scores", Panel)
        read = sight is not None and "scores" in sight.parts
        panel.set_class(not read, "-without")
        if sight is None or not read:
            why = "where a patch stands along directions" if sight is None else why_not("scores")
            self.put("look-scores", Content.styled(why, "$lab-dim"))
            panel.note("")
            return
        rows = self.rows(sight.of("scores"), f"patch={patch}")
        found = looks.scores(rows, patch)
        self.along = self.along if self.along in found else next(iter(found), "")
        width = max(24, panel.size.width - 2)
        if found:
            self.put("look-scores", scores_text(found, self.along, self.site, sight.patches, width))
        else:
            live = rows is NOTHING or (self.job is not None and self.job.live)
            self.put("look-scores", Content.styled(WAITING if live else "none were read", "$lab-dim"))
        panel.note("", self.site or "")

    # -- question, edits, answers ---------------------------------------------------------------------

    def project_answers(self, state: SessionState | None) -> None:
        panel = self.query_one("#answers", Panel)
        digest = self.sight.digest if self.sight is not None else ""
        job = asked_of(state, digest) if state is not None and digest else None
        plain, steered = arms(state, job.job) if state is not None and job is not None else ([], [])
        waiting = "i writes a question, r asks it" if job is None else "no answer yet" if job.live else GONE
        failed = job.error if job is not None and job.error else ""
        self.put(
            "look-plain-text",
            Content.assemble(
                ("plain\n", "$lab-dim"), answer_text(plain[0] if plain else None, failed or waiting)
            ),
        )
        edits = str(job.spec.get("edits") or "") if job is not None else ""
        other = "no edit: e writes one, v marks where" if not edits else failed or waiting
        self.put(
            "look-steered-text",
            Content.assemble(
                (f"steered {edits}".rstrip() + "\n", "$lab-dim"),
                answer_text(steered[0] if steered else None, other),
            ),
        )
        panel.note(question_of(job.spec) if job is not None else "")
