"""What the keys of the Steer screen do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual.widgets import Input

from labtui.pictures import Found, sent
from labtui.projection import Kernel, arms, last_job
from labtui.screens.base import BaseScreen
from labtui.screens.draft import WHERES, Draft, site_text
from labtui.widgets.arms import MARKS, Arm
from labtui.widgets.dialog import Field, Form, Menu, Values
from labtui.widgets.knob import UNITS, Scale, unit_name
from labtui.widgets.lists import Choice
from labtui.widgets.sitetree import SiteTree
from labtui.widgets.thumbnail import Shown
from labtui.widgets.tokens import Templated, Tokens, generated_tokens, indices, spans
from labtui_artifacts.errors import BadFile, LabError, UsageError
from labtui_kernels.lang.edits import touched
from labtui_kernels.lang.sites import Site, parse_sites
from labtui_kernels.lang.strength import Strength, parse_strength

if TYPE_CHECKING:
    from labtui_kernels.lang.edits import EditTerm
    from labtui_kernels.lang.shape import ModelShape
    from labtui_sessions.fields import RowView
    from labtui_sessions.state import SessionState

CHANGES = {
    "strength": "strength",
    "direction": "direction",
    "site": "site",
    "where": "where",
    "prompt": "prompt",
    "system": "system prompt",
    "seed": "seed",
    "temperature": "temperature",
    "max_new_tokens": "length limit",
}
"""What can be changed in "the same again with one thing changed"."""

TYPING_PAUSE = 0.2
"""Seconds without a key after which the templated prompt is asked for anew."""


class SteerActions(BaseScreen):
    """The part of the Steer screen that answers keys; what it shows is in ``steer.py``."""

    SCOPE = "steer"

    def __init__(self) -> None:
        super().__init__()
        self.draft = Draft()
        self.touched = False
        """Whether the draft was changed since the last run; until then it is that of the last run."""
        self.marks = "words"
        self.shape: ModelShape | None = None
        self.tokens: Templated | str = ""
        self.tokens_for: object = None
        self._misplaced = ""
        """What is wrong with the edits' places in this prompt."""
        self.pictures: list[Shown] = []
        self.picture_problem = ""

    def scale(self, state: SessionState) -> Scale:
        """What turns the units of a strength into each other at the chosen site."""
        raise NotImplementedError

    def draft_of(self, spec: dict[str, Any]) -> Draft:
        """The draft that a spec came from, its pictures named as the user did."""
        source = self.app.source
        return Draft.from_spec(spec, self.app.views.names(source.state) if source is not None else None)

    def change(self, draft: Draft, *, paint: bool = True) -> None:
        """Take a new draft; from here on the screen keeps it rather than that of the last run."""
        if draft == self.draft:
            return
        self.draft, self.touched = draft, True
        if paint:
            self.app.pump.now()
        else:
            self.app.pump.changed()

    # -- running --------------------------------------------------------------------------------------

    def action_run(self) -> None:
        """Generate both arms."""
        if not self.app.live:
            self.app.say("a replay cannot run anything; attach to a kernel (1) first")
            return
        if not self.draft.prompt.strip():
            self.action_focus_panel("prompt")
            self.app.say("write a prompt first; enter runs")
            return
        try:  # a line that is no edit was never taken into the draft: what would run is not what stands there
            self.draft.with_edits(self.query_one("#edit-line", Input).value, self.shape)
        except UsageError as error:
            self.app.say(str(error), bad=True)
            return
        self.submit(self.draft.spec())

    def submit(self, spec: dict[str, Any], parent: str | None = None) -> None:
        """Send a spec as an interactive job."""
        extra = {"parent": parent} if parent else {}

        async def work(kernel: Kernel) -> Any:
            return await self.app.views.submit(kernel, spec, priority="interactive", **extra)

        self.touched = False
        self.ask(work)

    def streaming(self, state: SessionState) -> RowView | None:
        """The steered row that is being written, or the last one that was."""
        job = last_job(state, "generate", "patch")
        rows = arms(state, job.job)[1] if job is not None else []
        return rows[-1] if rows else None

    def action_stop(self) -> None:
        source = self.app.source
        job = last_job(source.state, "generate", "patch") if source is not None else None
        if job is None or not job.live:
            self.app.say("nothing is being written")
            return
        self.ask(lambda kernel: kernel.request("job.cancel", job=job.job))

    # -- the knob -------------------------------------------------------------------------------------

    def action_nudge(self, way: int, size: str) -> None:
        self._turn(self.draft.nudged(way, size == "coarse"))

    def action_zero(self) -> None:
        self._turn(self.draft.with_strength(Strength(0.0, self.draft.strength.unit)))

    def action_negate(self) -> None:
        self._turn(self.draft.with_strength(-self.draft.strength))

    def _turn(self, draft: Draft) -> None:
        """Take the draft's strength, and send it to the row that is streaming, if one is."""
        if draft.term is None:
            self.app.say("choose a site (s) and a direction (d) first")
            return
        self.change(draft)
        source = self.app.source
        row = self.streaming(source.state) if source is not None else None
        if source is None or not source.live or row is None or row.finished is not None:
            return
        strength = str(draft.strength)

        async def work(kernel: Kernel) -> Any:
            return await kernel.request("knob", job=row.job, row=row.row, edit=0, strength=strength)

        self.ask(work, group="knob", exclusive=True)

    def action_unit(self) -> None:
        """Take the next unit that is known; the edit itself stays the same."""
        source, term = self.app.source, self.draft.term
        if source is None or term is None:
            self.app.say("choose a site (s) and a direction (d) first")
            return
        at = UNITS.index(term.strength.unit)
        for step in (1, 2):
            unit = UNITS[(at + step) % 3]
            converted = self.scale(source.state).convert(term.strength, unit)
            if converted is not None:
                self.change(self.draft.with_strength(converted))
                self.app.say(f"strength in {unit_name(unit)}")
                return
        self.app.say("the norms of this direction are not known yet, so the unit stays")

    def action_cycle_where(self) -> None:
        if self.draft.term is None:
            self.app.say("choose a site (s) and a direction (d) first")
            return
        now, places = str(self.draft.where), self._places(self.draft.term)
        at = places.index(now) if now in places else -1
        self.change(self.draft.with_where(places[(at + 1) % len(places)]))

    def _places(self, term: EditTerm) -> tuple[str, ...]:
        """What the where key goes through for an edit: pictures where the prompt has some, nothing else in the tower."""
        if any(site.tower == "vision" for site in term.sites):
            return (
                "all",
                *(f"image{number}" for number in range(len(self.pictures)) if len(self.pictures) > 1),
            )
        return (*WHERES, "image") if self.pictures else WHERES

    # -- view and text --------------------------------------------------------------------------------

    def action_marks(self) -> None:
        self.marks = MARKS[(MARKS.index(self.marks) + 1) % len(MARKS)]
        if self.marks == "surprise" and not self.draft.options.surprise and self.app.live:
            options = replace(self.draft.options, surprise=True)
            self.change(replace(self.draft, options=options))
            self.app.say("surprise is on from the next run: it costs a second, unsteered pass")
        else:
            said = {
                "words": "words that the other arm lacks are underlined",
                "none": "no marks",
                "surprise": "italic: over 2 nats under the unsteered model; ‹bold›: over 5",
            }
            self.app.say(said[self.marks])
        self.app.pump.now()

    def action_thinking(self) -> None:
        order: tuple[bool | None, ...] = (None, False, True)
        now = order[(order.index(self.draft.thinking) + 1) % 3]
        self.change(replace(self.draft, thinking=now))
        self.app.say(f"thinking: {({None: 'as the model does by default', True: 'on', False: 'off'})[now]}")

    def action_keep_turn(self) -> None:
        """The prompt and its steered answer become turns, so that the talk goes on from there."""
        source = self.app.source
        row = self.streaming(source.state) if source is not None else None
        if row is None or not row.text:
            self.app.say("there is no answer to go on from yet")
            return
        turns = (*self.draft.turns, ("user", self.draft.prompt), ("assistant", row.text))
        self.change(replace(self.draft, turns=turns, prompt=""))
        self.action_focus_panel("prompt")

    def action_drop_turn(self) -> None:
        turns = list(self.draft.turns)
        if not turns:
            self.app.say("there are no earlier turns")
            return
        if turns and turns[-1][0] == "assistant":
            turns.pop()
        prompt = turns.pop()[1] if turns and turns[-1][0] == "user" else ""
        self.change(replace(self.draft, turns=tuple(turns), prompt=prompt))

    def want_tokens(self) -> None:
        """Ask for the templated prompt, once for each text, and mark what the edits touch."""
        draft = self.draft
        key = (draft.messages.__repr__(), draft.thinking, draft.prefill)
        if self.shape is None or not draft.prompt:
            return
        if key == self.tokens_for:
            self._mark_tokens()
            return
        self.tokens_for = key

        async def work(kernel: Kernel) -> Any:
            if self.tokens:  # the next key replaces this request, so that who types waits for no paint of it
                await asyncio.sleep(TYPING_PAUSE)
            try:
                ready, pictures = await sent(kernel, {"prompt": draft.messages})
            except (UsageError, BadFile) as error:
                return error
            if not pictures and self.pictures:
                self.app.pump.changed()
            self.app.views.note(pictures)
            self.pictures = [self._shown(one) for one in pictures]
            try:
                return await kernel.request(
                    "tokens", messages=ready["prompt"], thinking=draft.thinking, prefill=draft.prefill
                )
            except (UsageError, BadFile) as error:
                if not pictures:
                    raise
                return error

        def then(answer: Any) -> None:
            self.picture_problem = str(answer) if isinstance(answer, LabError) else ""
            if not isinstance(answer, LabError):
                pieces = tuple(map(str, answer.get("pieces", ())))
                content = tuple(map(bool, answer.get("content", ())))
                images = spans(answer.get("images") or ())
                self.tokens = Templated(pieces, content, images=images)
                if len(images) == len(self.pictures):
                    pairs = zip(self.pictures, images, strict=True)
                    self.pictures = [
                        replace(one, rows=span.rows, cols=span.cols, frames=span.frames)
                        for one, span in pairs
                    ]
            else:
                self.pictures = []
            self.app.pump.changed()

        self.ask(work, then, group="tokens", exclusive=True)

    def _shown(self, found: Found) -> Shown:
        view = found.view if found.view is not None else self.app.views.get(found.digest)
        return Shown(found.digest, found.name, found.size, note=found.note, view=view)

    def _mark_tokens(self) -> None:
        if not isinstance(self.tokens, Templated) or not self.tokens.pieces:
            return
        edited: frozenset[int] = frozenset()
        problem = ""
        count = len(self.tokens.pieces)
        for term in self.draft.terms:
            try:
                edited |= indices(touched(term, count, self.tokens.content, self.tokens.images))
            except UsageError as error:
                problem = str(error)
        if problem != self._misplaced:
            self._misplaced = problem  # before it is said, since that paints, and comes here again
            if problem:
                self.app.say(problem)
        detail = self.app.details.get(self.draft.direction, {})
        read = (
            frozenset({count - 1})
            if detail.get("read", "last") == "last" and self.draft.terms
            else frozenset()
        )
        generated = generated_tokens(self.draft.where) if self.draft.terms else ""
        self.tokens = replace(self.tokens, edited=edited, read=read, generated=generated)
        if self.touched:
            self.query_one(Tokens).show(self.tokens)

    # -- directions -----------------------------------------------------------------------------------

    def want_detail(self, name: str) -> None:
        """Ask what a direction's norms and reference norms are."""
        self.app.want_detail(name)

    def action_make_direction(self) -> None:
        self.app.make_direction(self.make_from_style)

    def make_from_style(self, style: str) -> None:
        """Read a bundled style's direction at every site; the draft takes it."""
        self.app.make_from_style(style, lambda: self.take_direction(style, f"reading {style}; "))

    def take_direction(self, name: str, said: str = "") -> None:
        """Put a direction into the draft's edit; where there is none, into one at the site under the cursor,
        or in the middle of the model."""
        before, draft = self.draft.term, self.draft.with_direction(name)
        if draft.term is None and self.shape is not None:
            site = self.query_one(SiteTree).pointed or Site("llm", self.shape.blocks // 2, "out")
            draft = draft.with_site((site,))
        self.change(draft)
        if draft.term is not None and before is None:
            self.app.say(f"{said}edit {draft.edits}: , . turn it, r runs")
        elif said:
            self.app.say(said.removesuffix("; "))

    # -- again, patch ---------------------------------------------------------------------------------

    def action_again(self) -> None:
        """The last run with one thing changed."""
        source = self.app.source
        job = last_job(source.state, "generate") if source is not None else None
        if job is None or not job.spec:
            self.app.say("nothing has been run yet")
            return
        base = self.draft_of(job.spec)
        now = self._values(base)
        choices = [
            Choice(k, f"{title:<16}", now[k][:48])
            for k, title in CHANGES.items()
            if base.term or k not in ("strength", "direction", "site", "where")
        ]

        def chosen(what: str | None) -> None:
            if what is None:
                return
            field = Field(
                what, CHANGES[what], now[what], check=lambda values: self._problem(base, what, values)
            )
            self.app.push_screen(
                Form("The same again, but", [field], accept="Run"),
                lambda values: self._run_again(base, what, values, job.job),
            )

        self.app.push_screen(Menu("The same again with one thing changed", choices), chosen)

    def _values(self, draft: Draft) -> dict[str, str]:
        return {
            "strength": str(draft.strength),
            "direction": draft.direction,
            "site": site_text(draft.site),
            "where": str(draft.where),
            "prompt": draft.prompt,
            "system": draft.system,
            "seed": str(draft.options.seed),
            "temperature": f"{draft.options.temperature:g}",
            "max_new_tokens": str(draft.options.max_new_tokens),
        }

    def _changed(self, base: Draft, what: str, text: str) -> Draft:
        """``base`` with one value from its text; raises UsageError or ValueError."""
        if what == "strength":
            return base.with_strength(parse_strength(text))
        if what == "direction":
            return base.with_direction(text)
        if what == "site":
            return base.with_site(parse_sites(text, self.shape)[0] if self.shape else base.site)
        if what == "where":
            return base.with_where(text)
        if what in ("prompt", "system"):
            return replace(base, **{what: text})
        number = float(text) if what == "temperature" else int(text)
        return replace(base, options=replace(base.options, **{what: number}))

    def _problem(self, base: Draft, what: str, values: Values) -> str:
        try:
            changed = self._changed(base, what, values[what])
        except LabError as error:
            return str(error)
        except ValueError:
            return f"{CHANGES[what]}: expected a number"
        return "" if changed != base else "nothing is changed yet"

    def _run_again(self, base: Draft, what: str, values: Values | None, parent: str) -> None:
        if values is None or self._problem(base, what, values):
            return
        self.draft = self._changed(base, what, values[what])
        self.submit(self.draft.spec(), parent)

    def action_patch(self) -> None:
        """Take an activation from one arm and put it into the other."""
        source = self.app.source
        job = last_job(source.state, "generate") if source is not None else None
        if job is None or not job.spec:
            self.app.say("run something first: a patch takes an activation from one of its arms")
            return
        site = site_text(self.draft.site) if self.draft.site else "llm.0"

        def check(values: Values) -> str:
            try:
                parse_sites(values["site"], self.shape)
                int(values["position"])
            except LabError as error:
                return str(error)
            except ValueError:
                return "position: a token's index, -1 is the last of the prompt"
            return ""

        fields = [
            Field("from", "take from", "plain", options=("plain", "steered"), free=False),
            Field("site", "site", site, hint="where it is taken and put", check=check),
            Field("position", "position", "-1", hint="-1 is the prompt's last token"),
        ]

        def patch(values: Values | None) -> None:
            if values is None:
                return
            spec = self.patch_spec(job.spec, values)
            self.submit(spec, job.job)

        self.app.push_screen(
            Form(
                "Patch an activation",
                fields,
                accept="Patch",
                intro="The other arm is run again with this activation put in its place.",
            ),
            patch,
        )

    def patch_spec(self, base: dict[str, Any], values: Values) -> dict[str, Any]:
        """The spec of kind ``patch`` that takes from one arm and puts into the other."""
        keep = {
            k: v
            for k, v in base.items()
            if k
            in (
                "prompt",
                "system",
                "max_new_tokens",
                "temperature",
                "top_p",
                "top_k",
                "seed",
                "thinking",
                "prefill",
                "stop",
            )
        }
        return {
            "kind": "patch",
            **keep,
            "edits": base.get("edits", ""),
            "source": values["from"],
            "site": values["site"],
            "position": int(values["position"]),
        }

    # -- copying --------------------------------------------------------------------------------------

    def copy_text(self) -> str:
        """What ``y`` copies here: the panel in focus, else the steered answer."""
        if self.focused is not None:
            for node in self.focused.ancestors_with_self:
                if isinstance(node, Arm):
                    return node.text
                if isinstance(node, Tokens):
                    return node.text
        return self.query_one("#steered", Arm).text or self.query_one("#plain", Arm).text

    def copy_spec(self) -> dict[str, Any]:
        """The draft as a spec."""
        return self.draft.spec()
