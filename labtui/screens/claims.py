"""Claims: what is conjectured, what the sessions say of it, and by how much."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.color import Color
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from labtui.actions import bindings
from labtui.claimbook import claimbook, open_session
from labtui.projection import Source, one_line
from labtui.replaying import Player
from labtui.screens.base import BaseScreen
from labtui.screens.claim_form import claim_form, claim_of
from labtui.widgets.bars import fit
from labtui.widgets.dialog import Confirm, Values
from labtui.widgets.interval import THRESHOLD, Axis, draw
from labtui.widgets.lists import Grid, right
from labtui.widgets.panel import Panel
from labtui.widgets.reader import Reader
from labtui.wording import when
from labtui_artifacts.errors import UsageError
from labtui_sessions.claims import Checked, Claim, Evidence, Found
from labtui_sessions.ledger import Board

MARKS = {"confirmed": "✓", "refuted": "✕", "open": "○"}
"""A symbol for each status, so that it reads without colour."""
TONES = {"confirmed": "success", "refuted": "error", "open": "warning"}
ROLES = {"deciding": "decides", "open": "open", "exploratory": "exploratory"}
_FEW_COLUMNS = 100
"""Width below which tables leave out what is less needed."""


class Claims(BaseScreen):
    """The claims of a ledger, each with its status and its evidence."""

    SCOPE = "claims"
    BINDINGS = bindings("claims")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.board: Board | None = None
        self.place = ""
        self.problem = ""
        self.checking = False
        self._wanted = ""
        """The claim that the cursor goes to when it is there."""
        self._fetched = tempfile.TemporaryDirectory(prefix="labtui-")

    def body(self) -> ComposeResult:
        with Vertical(id="claims"):
            yield Panel(Grid(id="claim-grid"), title="Claims", id="claim-list")
            yield Panel(
                Reader(Static("", id="about-claim-text", markup=False), id="about-claim-scroll"),
                title="Claim",
                id="about-claim",
            )
            yield Panel(Grid(id="evidence-grid"), title="Evidence", id="evidence")

    def on_mount(self) -> None:
        super().on_mount()
        self.set_focus(self.query_one("#claim-grid", Grid))

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        if self.board is None or self.place != claimbook(self.app.kernel).place:
            self.action_check()

    def on_resize(self, event: events.Resize) -> None:
        self.app.pump.changed()

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        claims = in_order(self.board.claims) if self.board is not None else []
        wide = self.size.width >= _FEW_COLUMNS
        columns = ("status", "claim", "sessions", "says", *(("made",) if wide else ()))
        self.query_one("#claim-grid", Grid).show(
            columns, [(one.claim.name, self._line(one, depth, wide)) for depth, one in claims]
        )
        if self._wanted and any(one.claim.name == self._wanted for _, one in claims):
            self.query_one("#claim-grid", Grid).select(self._wanted)
            self._wanted = ""
        self.query_one("#claim-list", Panel).note(self._note(), self._wait())
        chosen = self.chosen()
        about, evidence = self.query_one("#about-claim", Panel), self.query_one("#evidence", Panel)
        evidence.display = chosen is not None
        about.note(chosen.claim.name if chosen is not None else "")
        body = self.query_one("#about-claim-text", Static)
        if chosen is None:
            body.update(self._nothing())
            return
        body.update(self._about(chosen))
        self._project_evidence(chosen)

    def _note(self) -> str:
        board = self.board
        if board is None:
            return ""
        facts = [f"{len(board.claims) or 'none'} on {self.place}"]
        if board.claims:
            facts.append(f"checked {when(board.at)}")
        if board.problems:
            facts.append(f"! {len(board.problems)} not read")
        return " · ".join(facts)

    def _wait(self) -> str:
        return "◌ checking" if self.checking else ""

    def _nothing(self) -> Content:
        """What stands where there is no claim: what it waits for, what is wrong, or how to begin."""
        if self.problem:
            return Content.assemble((f"✕ {self.problem}", "$error"), "\n", ("r tries again", "$lab-dim"))
        if self.board is None:
            return Content.styled("◌ holding the claims against the sessions…", "$lab-dim")
        lines = [
            Content.styled("No claim has been made yet.", "bold"),
            Content("A claim is written down before it is tested, and sessions decide it by rule:"),
            Content("confirmed or refuted where the whole interval lies on one side, else open."),
            Content.assemble(("  a  ", "bold reverse $accent"), "  write the first claim"),
        ]
        return Content("\n").join([*lines, *self._problems()])

    def _problems(self) -> list[Content]:
        found = self.board.problems if self.board is not None else {}
        return [Content.styled(f"! {where}: {why}", "$warning") for where, why in list(found.items())[:3]]

    def _about(self, one: Checked) -> Content:
        claim = one.claim
        lines = [
            Content.assemble((f"{MARKS[one.status]} {one.sentence}", f"bold ${TONES[one.status]}")),
            Content(claim.text),
            Content.styled(claim.formula, "$accent"),
        ]
        if all(evidence.role == "exploratory" for evidence in one.evidence):
            said = "only a session begun after it was made can decide it: 5 N begins one"
            lines.append(Content.styled(said, "$lab-dim"))
        if kin := self._kin(claim):
            lines.append(kin)
        said = f"made {when(claim.created)} · 95% intervals, not corrected for repeated checks"
        lines.append(Content.styled(said, "$lab-dim"))
        if self.problem:
            lines.insert(0, Content.styled(f"✕ not checked again: {self.problem}", "$error"))
        return Content("\n").join([*lines, *self._problems()])

    def _kin(self, claim: Claim) -> Content | None:
        """The claims that it refines, the nearest first, and those that refine it."""
        known = {one.claim.name: one for one in self.board.claims} if self.board is not None else {}
        above, name = [], claim.parent
        while name is not None and len(above) < len(known) + 1:
            above.append(name)
            name = known[name].claim.parent if name in known else None
        below = [one.claim.name for one in known.values() if one.claim.parent == claim.name]

        def told(name: str) -> str:
            return (
                f"{name} ({MARKS[known[name].status]} {known[name].status})"
                if name in known
                else f"{name} (gone)"
            )

        parts = []
        if above:
            parts.append("refines " + " ← ".join(told(name) for name in above))
        if below:
            parts.append("refined by " + ", ".join(told(name) for name in below))
        return Content(" · ".join(parts)) if parts else None

    def _line(self, one: Checked, depth: int, wide: bool) -> tuple[str | Text, ...]:
        roles = [evidence.role for evidence in one.evidence]
        counts = [(roles.count(role), word) for role, word in ROLES.items()]
        counts[0] = (counts[0][0], "decides" if counts[0][0] == 1 else "decide")
        cells = (
            Text(f"{MARKS[one.status]} {one.status}", self._tone(one.status)),
            "  " * (depth - 1) + ("└ " if depth else "") + one.claim.name,
            ", ".join(f"{n} {word}" for n, word in counts if n) or "none",
            one.claim.formula,
        )
        return (*cells, when(one.claim.created)) if wide else cells

    def _project_evidence(self, one: Checked) -> None:
        found = [(e, f) for e in one.evidence for f in e.found]
        wide = self.size.width >= _FEW_COLUMNS
        axis = Axis.over([one.claim.threshold, *(v for _, f in found for v in (f.low, f.high))])
        width = max(16, min(60, self.size.width - 110))
        sign = ">" if one.claim.comparison == "greater" else "<"
        places = _places([e.found for e in one.evidence])
        columns = ("", "session", "at", f"{sign} {one.claim.threshold:g} {THRESHOLD}".center(width),
                   "interval", "prompts", "what to know of it")  # fmt: skip
        rows: list[tuple[str, tuple[str | Text, ...]]] = []
        for number, ((evidence, cell), place) in enumerate(zip(found, places, strict=True)):
            tone = self._tone("" if evidence.role == "exploratory" else cell.status)
            line = draw(axis, width, one.claim.threshold, cell.low, cell.estimate, cell.high)
            cells = (
                Text(f"{MARKS[cell.status]} {ROLES[evidence.role]}", tone),
                fit(evidence.title or evidence.session, 40 if wide else 14),
                place,
                Text(line, tone),
                _interval(cell),
                right(str(cell.prompts)),
                cell.reason or stale(evidence),
            )
            rows.append((f"{number} {evidence.session}", cells))
        grid = self.query_one("#evidence-grid", Grid)
        grid.show(columns, rows)
        here = next((str(cells[-1]) for key, cells in rows if key == grid.current), "")
        hidden = sum(e.cells - len(e.found) for e in one.evidence)
        said = ("" if wide else here) or "enter replays the session"
        more = f" · {hidden} more cells" if hidden else ""
        self.query_one("#evidence", Panel).note(said + more if found else "no session has such cells")

    def _tone(self, status: str) -> Style:
        """The colour of a status, for a table's cell; a quiet one for what does not count."""
        color = self.app.theme_variables[TONES.get(status, "lab-dim")]
        return Style(color=Color.parse(color).rich_color)

    # -- what is under the cursor ---------------------------------------------------------------------

    def chosen(self) -> Checked | None:
        """The claim under the cursor."""
        name = self.query_one("#claim-grid", Grid).current
        claims = self.board.claims if self.board is not None else []
        return next((one for one in claims if one.claim.name == name), None)

    def session(self) -> str | None:
        """The session under the cursor of the evidence; elsewhere the first that decides, or the last."""
        chosen = self.chosen()
        if chosen is None or not chosen.evidence:
            return None
        grid = self.query_one("#evidence-grid", Grid)
        if grid.has_focus and grid.current is not None:
            return grid.current.partition(" ")[2]
        deciding = [one.session for one in chosen.evidence if one.role == "deciding"]
        return deciding[0] if deciding else chosen.evidence[-1].session

    @on(Grid.Moved)
    def _moved(self) -> None:
        self.app.pump.changed()

    @on(Grid.Picked)
    def _picked(self) -> None:
        self.action_open()

    # -- actions --------------------------------------------------------------------------------------

    def action_check(self) -> None:
        """Hold every claim against the sessions as they are now."""
        if self.checking:
            return
        book = claimbook(self.app.kernel)
        if book.place != self.place:
            self.board, self.place = None, book.place
        self.checking, self.problem = True, ""

        async def work() -> None:
            try:
                self.board = await book.board()
            except Exception as error:  # shown in the screen itself, where it stays
                self.problem = one_line(error)
            finally:
                self.checking = False

        self.app.do(work, lambda _: self.app.pump.now(), group="claims")
        self.app.pump.changed()

    def action_add(self) -> None:
        self._write(None)

    def action_refine(self) -> None:
        chosen = self.chosen()
        if chosen is None:
            self.app.say("there is no claim under the cursor; a writes one")
            return
        self._write(chosen.claim)

    def _write(self, parent: Claim | None) -> None:
        taken = [one.claim.name for one in self.board.claims] if self.board is not None else []
        above = parent.name if parent is not None else None

        def add(values: Values | None) -> None:
            if values is None:
                return
            claim = claim_of(values, taken, above)

            async def work() -> None:
                await claimbook(self.app.kernel).add(claim)

            def then(_: object) -> None:
                self.app.say(f"{claim.name} is on the board: sessions begun from now on can decide it")
                self._wanted = claim.name
                self.action_check()

            self.app.do(work, then, group="claims")

        self.app.push_screen(claim_form(taken, self.app.source, parent), add)

    def action_remove(self) -> None:
        chosen = self.chosen()
        if chosen is None:
            self.app.say("there is no claim under the cursor")
            return
        name = chosen.claim.name

        def sure(yes: bool | None) -> None:
            if not yes:
                return

            async def work() -> None:
                await claimbook(self.app.kernel).remove(name)

            def then(_: object) -> None:
                self.app.say(f"removed {name}")
                self.action_check()

            self.app.do(work, then, group="claims")

        detail = f"It is {chosen.status}. Sessions stay; one made anew has to be decided by new sessions."
        self.app.push_screen(Confirm(f"Remove the claim {name}?", detail, yes="Remove it"), sure)

    def action_open(self) -> None:
        session = self.session()
        if session is None:
            self.app.say("no session says anything of this claim")
            return
        place = Path(self._fetched.name) / "session.safetensors"

        def then(source: Source) -> None:
            if isinstance(source, Player):
                self.app.open_replay(source)

        self.app.say(f"opening {session}")
        self.app.do(lambda: open_session(session, self.app.lobby, self.app.kernel, place), then)

    # -- copying --------------------------------------------------------------------------------------

    def copy_text(self) -> str:
        chosen = self.chosen()
        return self._about(chosen).plain if chosen is not None else ""

    def copy_command(self) -> str:
        chosen = self.chosen()
        if chosen is None:
            raise UsageError("no claim is under the cursor")
        return f"labtui claim check {chosen.claim.name}"


def in_order(claims: Sequence[Checked]) -> list[tuple[int, Checked]]:
    """Claims as they are listed, each with its depth: below a claim those that refine it."""
    names = {one.claim.name for one in claims}
    below: dict[str | None, list[Checked]] = {}
    for one in claims:
        parent = one.claim.parent if one.claim.parent in names else None
        below.setdefault(parent, []).append(one)
    found: list[tuple[int, Checked]] = []
    waiting = [(0, one) for one in reversed(below.get(None, []))]
    while waiting:
        depth, one = waiting.pop()
        found.append((depth, one))
        waiting += [(depth + 1, child) for child in reversed(below.get(one.claim.name, []))]
    return found + [(0, one) for one in claims if all(one is not other for _, other in found)]


def stale(evidence: Evidence) -> str:
    """What is said of a session without a fresh prompt."""
    return "all its prompts are in an older session" if evidence.fresh == 0 else ""


def _places(sessions: Sequence[Sequence[Found]]) -> list[str]:
    """Where each cell of each session is: its site and strength, and what else tells it from another."""
    cells = [cell for found in sessions for cell in found]
    extra = [name for name in ("direction", "where", "model") if len({getattr(c, name) for c in cells}) > 1]
    if any(len({cell.table for cell in found}) > 1 for found in sessions):
        extra.append("table")

    def told(cell: Found) -> str:
        strength = f"{cell.strength:.3g}" if cell.strength_pct is None else f"{cell.strength_pct:.3g}%"
        return " ".join((cell.site, strength, *(getattr(cell, name) for name in extra)))

    return [told(cell) for cell in cells]


def _interval(cell: Found) -> str:
    return "" if cell.low is None or cell.high is None else f"[{cell.low:.3g}, {cell.high:.3g}]"
