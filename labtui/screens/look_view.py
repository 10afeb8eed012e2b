"""What is in view on the Look screen: which look, which site, and the numbers of its patches there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.widgets import Input

from labtui.looking import Sight, effect_of, looks_of, sight_of
from labtui.parts import NOTHING
from labtui.projection import Source
from labtui.screens.job_view import JobScreen
from labtui.widgets.picture import Picture
from labtui_sessions import looks

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.state import SessionState

PANELS = ("neighbours", "readings", "scores", "norms", "answers")
"""Those that take turns where there is no room for all."""


class LookView(JobScreen):
    """The state of the Look screen, and the rows behind it."""

    SCOPE = "look"
    TURNS = PANELS
    NO_OTHER = "this session has no other picture"

    def __init__(self) -> None:
        super().__init__()
        self.sight: Sight | None = None
        """What the look read; None before it was planned."""
        self.effect: tuple[JobView, Sight] | None = None
        """The look that says what an edit did to the same patches."""
        self.site: str | None = None
        """The site in view."""
        self.overlay = "none"
        self.how = "raw"
        """Whether neighbours are searched by plain cosine, or less each layer's mean."""
        self.word: int | None = None
        """The position of the word whose attention is shown."""
        self.along = ""
        """The direction whose scores are shown."""

    @property
    def picture(self) -> Picture:
        return self.query_one(Picture)

    @property
    def question(self) -> str:
        return self.query_one("#question-line", Input).value

    @property
    def edits(self) -> str:
        return self.query_one("#look-edits", Input).value

    def jobs(self, state: SessionState) -> list[JobView]:
        return looks_of(state)

    def choose(self, source: Source | None) -> None:
        super().choose(source)
        self.sight = sight_of(self.job) if self.job is not None else None
        state = source.state if source is not None else None
        self.effect = effect_of(state, self.sight) if state is not None and self.sight is not None else None
        if self.sight is None:
            self.site = None
            return
        if self.site not in self.sight.sites:
            decoder = [site for site in self.sight.sites if site.startswith("llm.")] or list(self.sight.sites)
            self.site = decoder[len(decoder) // 2] if decoder else None
        if self.overlay not in self.overlays() and self.overlay != "effect":
            self.overlay = "none"

    def overlays(self) -> list[str]:
        """What can be laid over the picture now."""
        source, sight = self.app.source, self.sight
        if source is None or sight is None:
            return ["none"]
        tables = source.state.tables
        there = {"norm": "patches", "similarity": "similar", "scores": "scores", "attention": "attention"}
        found = ["none", *(kind for kind, table in there.items() if sight.of(table) in tables)]
        if self.effect is not None:
            found.insert(len(found) - ("attention" in found), "effect")
        return found

    # -- the numbers ----------------------------------------------------------------------------------

    def values(self, kind: str) -> tuple[float | None, ...]:
        """A number for each patch at the site in view; all None until it is here."""
        sight, patch = self.sight, self.picture.patch or 0
        if sight is None or self.site is None:
            return ()
        if kind == "effect":
            found = self.effect[1] if self.effect is not None else None
            rows = self.rows(found.of("effect"), self.at) if found else ()
            return looks.by_patch(rows, "change", sight.patches)
        if kind == "similarity":
            return looks.similar_to(self.rows(sight.of("similar"), self.at), patch, sight.patches)
        if kind == "scores":
            along = self.directions()
            self.along = self.along if self.along in along else next(iter(along), "")
            return looks.by_patch(along.get(self.along, ()), "projection", sight.patches)
        if kind == "attention":
            words, rows = self.words(), self.rows(sight.of("attention"), self.at)
            self.word = self.word if self.word in words else next(reversed(words), None)
            return looks.attention_of(rows, self.word, sight.patches) if self.word is not None else ()
        return looks.by_patch(self.rows(sight.of("patches"), self.at), "norm", sight.patches)

    def words(self) -> dict[int, str]:
        """The words whose attention is here, by position."""
        return looks.words(self.rows(self.sight.of("attention"), self.at)) if self.sight is not None else {}

    def directions(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of the scores at the site in view, by direction."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows(self.sight.of("scores"), self.at) if self.sight is not None else ():
            found.setdefault(str(row.get("direction") or ""), []).append(row)
        return found

    @property
    def at(self) -> str:
        """The filter for rows of the site in view."""
        return f"site={self.site}"

    def rows(self, table: str, filter: str = "") -> list[dict[str, Any]]:
        """Rows of a table as far as they are here; what is not is fetched."""
        source = self.app.source
        if self.parts is None or source is None or table not in source.state.tables:
            return NOTHING
        self.fetch(table, filter)
        return self.parts.get(table, filter)
