"""Steer: choose a site and a direction, turn the strength, read the plain and the steered answer side by
side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.suggester import Suggester
from textual.widgets import Input, Static

from labtui.actions import bindings
from labtui.projection import Source, arms, last_job, shape_of
from labtui.screens.draft import Draft
from labtui.screens.steer_actions import SteerActions
from labtui.widgets.arms import Arm
from labtui.widgets.chart import Chart, Plot, Series
from labtui.widgets.knob import Knob, Reading, Scale
from labtui.widgets.lists import Choice, Choices
from labtui.widgets.numbers import numbers
from labtui.widgets.options import OptionsForm
from labtui.widgets.panel import Panel
from labtui.widgets.prompt import Prompt
from labtui.widgets.sitetree import SiteTree
from labtui.widgets.thumbnail import PictureLines, Shown
from labtui.widgets.tokens import Templated, Tokens, generated_tokens, legend, spans
from labtui_artifacts.errors import UsageError
from labtui_artifacts.images import short, with_short
from labtui_kernels.lang.edits import complete_edits

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView, Tried
    from labtui_sessions.state import SessionState

EXAMPLE = "none yet; for example 30%*terse@llm.4"
STYLE = "style:"
"""Prefix of a choice that is not a direction yet, but a bundled style one can be made from."""


class _Continue(Suggester):
    """Offers how an edit expression may go on."""

    def __init__(self, screen: Steer) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._screen = screen

    async def get_suggestion(self, value: str) -> str | None:
        shape = self._screen.shape
        if shape is None or not value:
            return None
        found = complete_edits(value, shape, self._screen.direction_names)
        return next((text for text in found if text.startswith(value) and text != value), None)


class Steer(SteerActions):
    """The main screen of the lab."""

    SCOPE = "steer"
    BINDINGS: list[Binding] = bindings("steer")  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.direction_names: list[str] = []

    def body(self) -> ComposeResult:
        with Horizontal(id="steer"):
            with Vertical(classes="drawer left"):
                yield Panel(SiteTree(id="site-tree"), title="Sites", key="s", id="sites")
                yield Panel(
                    Choices(id="direction-list", empty="none yet"),
                    title="Directions",
                    key="d",
                    id="directions",
                )
            with Vertical(id="centre"):
                yield Panel(
                    Input(id="edit-line", compact=True, placeholder=EXAMPLE, suggester=_Continue(self)),
                    Static("", id="edit-problem", classes="problem", markup=False),
                    Knob(id="knob"),
                    title="Edits",
                    key="e",
                    id="edits",
                )
                with Horizontal(id="asked"):
                    yield Panel(
                        Prompt(id="system-text", placeholder="system prompt"),
                        title="System",
                        key="I",
                        id="system",
                        classes="tuck",
                    )
                    yield Panel(
                        Static("", id="turns", markup=False),
                        Prompt(id="prompt-text", placeholder="ask the model something; enter runs"),
                        PictureLines(id="pictures"),
                        title="Prompt",
                        key="i",
                        id="prompt",
                    )
                yield Panel(
                    Prompt(id="prefill-text", placeholder="the answer begins with…"),
                    title="Prefill",
                    key="f",
                    id="prefill",
                    classes="tuck",
                )
                with Horizontal(id="arms"):
                    yield Arm(title="Plain", id="plain", waiting="the unsteered answer will be here")
                    yield Arm(title="Steered", id="steered", waiting="")
            with Vertical(classes="drawer right"):
                yield Panel(
                    OptionsForm(self.draft.options, id="option-form"), title="Sampling", key="o", id="options"
                )
                yield Panel(Tokens(id="token-view"), title="Tokens", key="t", id="tokens")
                yield Panel(
                    Chart(id="chart-words", empty="words over strength: run at two strengths or more"),
                    Chart(id="chart-perplexity", empty=""),
                    title="Strengths tried",
                    key="v",
                    id="chart",
                )
                yield Panel(
                    Choices(id="history-list", empty="what you run is kept here"),
                    title="History",
                    key="H",
                    id="history",
                )

    # -- projection -----------------------------------------------------------------------------------

    def project(self, source: Source | None, charts: bool) -> None:
        if source is None:
            self._empty("no kernel is attached: 1 goes Home, where b starts the bundled toy")
            return
        state = source.state
        self.shape = shape_of(state)
        job = last_job(state, "generate", "patch")
        if job is not None and (not source.live or not self.touched) and job.spec:
            self.draft = self.draft_of(job.spec)
        elif job is None and not source.live:
            self.draft = Draft()  # of a replay that has come to no run yet, not of the kernel before it
        if self.app.wanted_direction:
            name, self.app.wanted_direction = self.app.wanted_direction, ""
            self.take_direction(name)
        for term in self.draft.terms:
            self.want_detail(term.direction)
        self._project_pickers(state)
        self._project_draft(state)
        self._project_arms(state, job)
        self._project_tokens(state, job, source.live)
        self._project_history(state)
        if charts:
            self._project_chart(state)

    def _empty(self, why: str) -> None:
        self.shape = None
        for arm in self.query(Arm):
            arm.show((), (), self.marks, why)
        self.query_one(SiteTree).show(None, frozenset(), {}, frozenset())
        self.query_one(Tokens).show(why)

    def _project_pickers(self, state: SessionState) -> None:
        metas = {
            name: one.meta
            for name, one in state.artifacts.items()
            if one.kind == "direction" and one.meta.get("method") != "activation"  # that is a patch's
        }
        self.direction_names = list(metas)
        choices = [Choice(name, name, self._about(name)) for name in metas]
        made = {str(meta.get("style", "")) for meta in metas.values()} | set(metas)
        choices += [Choice(STYLE + s, f"+ {s}", "make it") for s in self.app.style_names if s not in made]
        picker = self.query_one("#direction-list", Choices)
        picker.show(choices)
        if self.draft.direction and not picker.has_focus:
            picker.select(self.draft.direction)
        self.query_one("#directions", Panel).note(self.draft.direction or f"{len(metas)} stored")
        detail = self.app.details.get(self.draft.direction, {})
        references = {**self.app.references, **numbers(detail.get("references"))}
        self.query_one(SiteTree).show(
            self.shape, frozenset(self.draft.site), references, frozenset(numbers(detail.get("norms")))
        )
        self.query_one("#sites", Panel).note("norm = reference" if references else "")

    def _about(self, name: str) -> str:
        detail = self.app.details.get(name)
        if not detail:
            return ""
        site = str(self.draft.site[0]) if self.draft.site else ""
        norm = numbers(detail.get("norms")).get(site)
        half = numbers(detail.get("split_half")).get(site)
        parts = [f"|{norm:.3g}|"] if norm is not None else ["not at this site"] if site else []
        if half is not None:
            parts.append(f"split-half {half:.2f}")
        return " ".join(parts) or f"{len(numbers(detail.get('norms')))} sites"

    def _project_draft(self, state: SessionState) -> None:
        draft = self.draft
        line = self.query_one("#edit-line", Input)
        if not line.has_focus and line.value != draft.edits:
            with self.prevent(Input.Changed):
                line.value = draft.edits
            self.query_one("#edit-problem").display = False
        self.query_one("#prompt-text", Prompt).show(draft.prompt)
        self.query_one("#system-text", Prompt).show(draft.system)
        self.query_one("#prefill-text", Prompt).show(draft.prefill)
        self.query_one("#prefill").set_class(not draft.prefill, "-unused")
        turns = self.query_one("#turns", Static)
        turns.display = bool(draft.turns)
        said = Content("\n").join(
            Content.assemble((f"{role:<9} ", "bold $lab-dim"), content.replace("\n", " ⏎ ")[:200])
            for role, content in draft.turns[-6:]
        )
        if said != turns.content:  # an update lays the screen out
            turns.update(said)
        self.query_one(OptionsForm).show(draft.options)
        self.query_one("#options", Panel).note(self._switches())
        term = draft.term
        self.query_one(Knob).show(
            Reading(term.strength, self.scale(state), str(term.where), self._knob_note(state), term.op)
            if term
            else Reading()
        )

    def _switches(self) -> str:
        thinking = {None: "default", True: "on", False: "off"}[self.draft.thinking]
        return f"thinking {thinking} · surprise {'on' if self.draft.options.surprise else 'off'}"

    def scale(self, state: SessionState) -> Scale:
        """What turns units into each other at the chosen site, from the artifact or from rows already run."""
        term = self.draft.term
        if term is None:
            return Scale()
        site = str(term.sites[0])
        detail = self.app.details.get(term.direction, {})
        vector = numbers(detail.get("norms")).get(site)
        reference = numbers(detail.get("references")).get(site, self.app.references.get(site))
        if vector is None:
            vector, known = _from_rows(state, term.direction, site)
            reference = reference if reference is not None else known
        return Scale(vector, reference)

    def _knob_note(self, state: SessionState) -> str:
        row = self.streaming(state)
        if row is None or not row.knobs:
            return ""
        turn = row.knobs[-1]
        return f"{turn.text or f'{turn.strength:g}'} from token {turn.step}"

    def _project_arms(self, state: SessionState, job: JobView | None) -> None:
        plain, steered = arms(state, job.job) if job is not None else ([], [])
        if job is not None and job.kind == "patch" and job.parent:
            plain = arms(state, job.parent)[0]
        said = ""
        if job is not None and job.error:
            said = f"{job.status}: {self._hinted(job.error)}"
        elif job is not None and job.status == "queued":
            said = "queued; it starts at the next step of what runs now"
        if job is None and not self.app.live:
            said = "nothing was generated up to this event"
        self.query_one("#plain", Arm).show(plain, steered, self.marks, said if not plain else "")
        edits = steered[-1].edits if steered else ""
        self.query_one("#steered", Arm).show(
            steered,
            plain,
            self.marks,
            said if said or steered else self._waiting_for(job),
            Content.styled(edits, "$accent"),
        )

    def _waiting_for(self, job: JobView | None) -> str:
        """What the steered arm says while it has no answer."""
        if not self.app.live:
            return "this run had no edit, so there is no steered answer"
        if self.draft.term is not None:
            return "r runs; both answers stream side by side"
        ran = "that run had no edit, so it gave the plain answer only. " if job is not None else ""
        if self.direction_names:
            return f"{ran}No edit is set: d chooses a direction, s a site; then r runs both arms"
        make = "D makes a direction from a bundled style and puts it in"
        return f"{ran}No edit is set: {make}; then r runs both arms"

    def _hinted(self, error: str) -> str:
        """An error of a job, with the key that mends it where there is one."""
        missing = next((s for s in self.app.style_names if f"no direction named {s!r}" in error), "")
        return f"{error}. D makes {missing} from its bundled style" if missing else error

    def _project_tokens(self, state: SessionState, job: JobView | None, live: bool) -> None:
        shown = self.tokens
        if not live or not self.touched or not shown:
            rows = state.rows_of(job.job) if job is not None else []
            row = next((r for r in reversed(rows) if r.prompt_pieces), None)
            if row is not None:
                shown = Templated(
                    tuple(row.prompt_pieces),
                    (),
                    frozenset(row.read),
                    frozenset(row.edited),
                    spans(row.images),
                    generated_tokens(self.draft.where) if row.edits else "",
                )
        self._project_pictures(state, job, live)
        self.query_one(Tokens).show(shown or "the templated prompt will be here")
        self.query_one("#tokens", Panel).note(legend(shown) if isinstance(shown, Templated) else "")
        if live:
            self.want_tokens()

    def _project_pictures(self, state: SessionState, job: JobView | None, live: bool) -> None:
        """The pictures of the prompt: as it is written, or as the last run had them."""
        shown = self.pictures
        if not live or not self.touched:
            rows = state.rows_of(job.job) if job is not None else []
            row = next((r for r in reversed(rows) if r.images), None)
            if row is not None:
                shown = [self._recorded(state, image) for image in row.images]
            elif not live:
                shown = []
        self.query_one(PictureLines).show(shown, self.picture_problem if live else "")

    def _recorded(self, state: SessionState, image: Mapping[str, Any]) -> Shown:
        digest = str(image.get("digest", ""))
        known = state.images.get(digest)
        span = next(iter(spans([image])), None)
        return Shown(
            digest,
            known.name if known is not None else short(digest),
            (known.width, known.height) if known is not None else (0, 0),
            span.rows if span is not None else 0,
            span.cols if span is not None else 0,
            span.frames if span is not None else 1,
            view=self.app.views.get(digest),
        )

    def _project_history(self, state: SessionState) -> None:
        runs = [j for j in state.jobs.values() if j.kind == "generate" and j.spec]
        choices = [
            Choice(
                j.job,
                with_short(str(self.draft_of(j.spec).prompt))[:60].replace("\n", " "),
                str(j.spec.get("edits") or "plain"),
            )
            for j in reversed(runs)
        ]
        self.query_one("#history-list", Choices).show(choices)
        self.query_one("#history", Panel).note(f"{len(runs)} runs")

    def _project_chart(self, state: SessionState) -> None:
        term = self.draft.term
        tried = related(state, self.draft, self.app.views.names(state))
        words = Series("words", _points(tried, "words"))
        perplexity = Series("perplexity", _points(tried, "perplexity"))
        mark = self.scale(state).all_units(term.strength)[0] if term is not None else None
        few = len({x for x, _ in words.points}) < 2
        self.query_one("#chart-words", Chart).show(None if few else Plot((words,), "strength α", mark_x=mark))
        chart = self.query_one("#chart-perplexity", Chart)
        chart.show(None if few else Plot((perplexity,), "strength α", log_y=True, mark_x=mark))
        chart.display = not few and bool(perplexity.points)
        self.query_one("#chart", Panel).note(f"{len(tried)} answers to this prompt")

    # -- what the widgets say -------------------------------------------------------------------------

    @on(SiteTree.Chosen)
    def _site_chosen(self, message: SiteTree.Chosen) -> None:
        self.change(self.draft.with_site((message.site,)))

    @on(Choices.Picked, "#direction-list")
    def _direction_picked(self, message: Choices.Picked) -> None:
        if not self.app.live:
            self.app.say("a replay shows what was chosen then; it cannot be changed")
        elif message.id.startswith(STYLE):
            self.make_from_style(message.id.removeprefix(STYLE))
        else:
            self.take_direction(message.id)
            self.want_detail(message.id)

    @on(Choices.Picked, "#history-list")
    def _history_picked(self, message: Choices.Picked) -> None:
        source = self.app.source
        job = source.state.jobs.get(message.id) if source is not None else None
        if job is not None and job.spec:
            self.change(self.draft_of(job.spec))

    @on(Input.Changed, "#edit-line")
    def _edits_typed(self, event: Input.Changed) -> None:
        event.stop()
        problem = self.query_one("#edit-problem", Static)
        try:
            self.change(self.draft.with_edits(event.value, self.shape), paint=False)
        except UsageError as error:
            problem.update(f"! {error}")
            problem.display = True
            return
        problem.display = False

    @on(Input.Submitted, "#edit-line")
    def _edits_done(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_run()

    @on(Prompt.Changed)
    def _typed(self, event: Prompt.Changed) -> None:
        field = {"prompt-text": "prompt", "system-text": "system", "prefill-text": "prefill"}[
            event.text_area.id or ""
        ]
        text = event.text_area.text
        if not isinstance(event.text_area, Prompt) or text == event.text_area.known:
            return
        event.text_area.known = text
        if getattr(self.draft, field) != text:
            self.change(replace(self.draft, **{field: text}), paint=False)

    @on(Prompt.Submitted)
    def _submitted(self) -> None:
        self.action_run()

    @on(OptionsForm.Changed)
    def _options_changed(self, message: OptionsForm.Changed) -> None:
        self.change(replace(self.draft, options=message.options))


def related(state: SessionState, draft: Draft, names: Mapping[str, str] | None = None) -> list[Tried]:
    """Finished rows that belong on one chart: answers to the draft's chat, the plain ones and those with the
    draft's direction and site. ``names`` says how pictures are written, by digest."""
    wanted = draft.edits.partition("*")[2]
    asked = {
        j.job
        for j in state.jobs.values()
        if j.spec and Draft.from_spec(j.spec, names).messages == draft.messages
    }
    found = []
    for one in state.tried:
        if one.job not in asked or one.knobbed or one.alpha is None:
            continue
        if not one.edits or (wanted and one.edits.partition("*")[2] == wanted):
            found.append(one)
    return found


def _points(tried: Sequence[Tried], name: str) -> tuple[tuple[float, float], ...]:
    """(α, mean of the outcome there); plain rows stand at zero."""
    sums: dict[float, list[float]] = {}
    for one in tried:
        value = getattr(one, name)
        if value is not None and one.alpha is not None:
            sums.setdefault(round(one.alpha, 4), []).append(float(value))
    return tuple((x, sum(values) / len(values)) for x, values in sorted(sums.items()))


def _from_rows(state: SessionState, direction: str, site: str) -> tuple[float | None, float | None]:
    """The vector's norm and the reference norm, as the strengths of a row already run tell them."""
    for row in reversed(list(state.rows.values())):
        for one in row.strengths:
            alpha, absolute, percent = one.get("alpha"), one.get("abs"), one.get("pct")
            same = one.get("direction") == direction and site in str(one.get("sites", ""))
            if not same or not alpha or not absolute:
                continue
            return abs(absolute / alpha), abs(absolute / percent * 100) if percent else None
    return None, None
