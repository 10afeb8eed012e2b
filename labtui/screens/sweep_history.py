"""Which sweeps the Sweep screen shows: the one in view, those that lie over it, the one that is subtracted, and the
sweeps of other sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import on

from labtui.cells import Key, Reading, SweepTable, group_of, key_of
from labtui.curves import MOST_OVER, Over
from labtui.projection import SessionCard, Source
from labtui.replaying import END, open_player
from labtui.screens.sweep_plan import SweepPlan
from labtui.sweeps import SUFFIX, Entry, confirmations, entries
from labtui.widgets.dialog import Field, Form, Menu, Values
from labtui.widgets.lists import Choice, right
from labtui.widgets.panel import Panel
from labtui.widgets.sweeplist import SweepList
from labtui.wording import when
from labtui_sessions.tables import Condition

if TYPE_CHECKING:
    from labtui_sessions.fields import JobView
    from labtui_sessions.phases import Phase
    from labtui_sessions.stats import Difference

ANY = "all"
GRID = "the grid"
CONTROLS = (ANY, GRID, "zero", "random", "shuffled", "negated", "prompt")


@dataclass(frozen=True)
class Filter:
    """What is looked at: empty for everything. ``group`` is a class of prompts, and the numbers are of them alone;
    the control is of the table's rows, since statistics need all of them."""

    direction: str = ""
    where: str = ""
    control: str = ""
    group: str = ""

    def conditions(self) -> list[Condition]:
        """As conditions on the table's rows."""
        found = [Condition("where", "=", self.where)] if self.where else []
        found += [Condition("direction", "=", self.direction)] if self.direction else []
        if self.control:
            found.append(Condition("control", "=", "" if self.control == GRID else self.control))
        return found

    @property
    def text(self) -> str:
        """In words; empty where nothing is left out."""
        return " · ".join(part for part in (self.direction, self.where, self.control, self.group) if part)


@dataclass(frozen=True)
class Pin:
    """A cell that is kept in view: of which sweep, and which one."""

    entry: str
    cell: Key


class SweepHistory(SweepPlan):
    """The part of the Sweep screen that is about which sweeps are shown."""

    SCOPE = "sweep"

    def __init__(self) -> None:
        super().__init__()
        self.metric = "words"
        self.filter = Filter()
        self.entries: list[Entry] = []
        self.chosen = ""
        """Key of the sweep in view; empty follows the last one."""
        self.over: list[str] = []
        self.base = ""
        """Key of the sweep that is subtracted."""
        self.pins: list[Pin] = []
        self.others: list[Source] = []
        """Sessions that were opened beside the one in view."""
        self.tables: dict[str, SweepTable] = {}
        self.confirming: JobView | None = None
        self._less: dict[tuple[Reading, Reading], Mapping[Key, Difference]] = {}
        self._results: dict[tuple[str, str, int], dict[str, Any]] = {}
        """What calibrations said at their end, by session, job and how often it was taken up; empty while it is
        being fetched."""

    # -- what is shown --------------------------------------------------------------------------------

    @property
    def shown(self) -> Entry | None:
        """The sweep in view."""
        return self.entry(self.chosen) or next(iter(self.entries), None)

    def entry(self, key: str) -> Entry | None:
        """The sweep of that key."""
        return next((entry for entry in self.entries if entry.key == key), None)

    @property
    def table(self) -> SweepTable | None:
        """The rows of the sweep in view; None before the first one."""
        return self.tables.get(self.shown.key) if self.shown is not None else None

    @property
    def again(self) -> SweepTable | None:
        """The table of its confirmations."""
        return self.tables.get(self.shown.key + SUFFIX) if self.shown is not None else None

    @property
    def reading(self) -> Reading | None:
        """What was last read out of the sweep's table."""
        return self.table.reading if self.table is not None else None

    def reading_of(self, key: str) -> Reading | None:
        """What was last read out of another one's."""
        table = self.tables.get(key)
        return table.reading if table is not None else None

    @property
    def less(self) -> Mapping[Key, Difference] | None:
        """The cells in view less those of the baseline; None where nothing is subtracted, or it is not read yet."""
        shown = self.shown
        return self._minus(shown.key) if shown is not None else None

    def _minus(self, key: str) -> Mapping[Key, Difference] | None:
        reading, base = self.reading_of(key), self.reading_of(self.base)
        if reading is None or base is None:
            return None
        pair = (reading, base)
        if pair not in self._less:
            from labtui_sessions.stats import differences

            found = differences(reading.sheet, base.sheet, reading.summary.metric)
            now = {table.reading for table in self.tables.values()}
            self._less = {known: less for known, less in self._less.items() if now >= set(known)}
            self._less[pair] = {key_of(one.point): one for one in found}
        return self._less[pair]

    def overs(self) -> list[Over]:
        """The sweeps that lie over the one in view, as far as they are read and have its metric."""
        metric = self.reading.summary.metric if self.reading is not None else ""
        found = []
        for key in self.over:
            entry, reading = self.entry(key), self.reading_of(key)
            if entry is None or reading is None or entry == self.shown or reading.summary.metric != metric:
                continue
            if key == self.base:  # less itself nothing is left of it
                continue
            found.append(Over(entry.label, reading, self._minus(key) if self.base else None))
        return found

    @property
    def phases(self) -> list[Phase]:
        """The thresholds of the sweep in view, where the last job that wrote its rows searched for them."""
        from labtui_sessions.phases import phases_of

        job = self.shown.job if self.shown is not None else None
        return phases_of(self._result(self.shown, job)) if self.shown is not None and job is not None else []

    def _result(self, entry: Entry, job: JobView) -> dict[str, Any]:
        """What a calibration said at its end; empty before it is here."""
        if job.kind != "calibrate" or job.status != "done":
            return {}
        source, key = entry.source, (entry.key, job.job, job.starts)
        if key not in self._results:
            self._results[key] = {}

            def then(result: dict[str, Any]) -> None:
                self._results[key] = result
                self.app.pump.changed()

            self.app.do(lambda: source.result(job.job), then, group="result")
        return self._results[key]

    # -- following ------------------------------------------------------------------------------------

    def follow(self, source: Source | None) -> None:
        """List the sweeps there are, and read the tables of those that are shown as they grow."""
        self.entries = entries(source, self.others) if source is not None else []
        known = {entry.key for entry in self.entries}
        self.chosen = self.chosen if self.chosen in known else ""
        self.over = [key for key in self.over if key in known]
        self.base = self.base if self.base in known else ""
        shown = self.shown
        wanted = [shown.key] if shown is not None else []
        wanted += [*self.over, self.base, *(pin.entry for pin in self.pins)]
        kept: dict[str, SweepTable] = {}
        for key in dict.fromkeys(wanted):
            entry = self.entry(key)
            if entry is not None and (table := self._read(entry, key, entry.table, entry.live)) is not None:
                kept[key] = table
        again = confirmations(shown.source.state, shown.table) if shown is not None else None
        self.confirming = again if again is not None and again.live else None
        if shown is not None and again is not None:
            key = shown.key + SUFFIX
            table = self._read(shown, key, shown.table + SUFFIX, again.live)
            kept |= {key: table} if table is not None else {}
        self.tables = kept

    def _read(self, entry: Entry, key: str, name: str, live: bool) -> SweepTable | None:
        """A table, read anew when it has grown, or shrunk as in a replay; one reading at a time."""
        view = entry.source.state.tables.get(name)
        if view is None:
            return None
        table = self.tables.get(key)
        if table is None or table.source is not entry.source:
            table = SweepTable(entry.source, name)
        group = self.filter.group if not key.endswith(SUFFIX) else ""
        wanted = (view.rows, self.metric, not live, group)
        if table.due(wanted):
            self.app.do(lambda: table.read(*wanted), lambda _: self.app.pump.changed(), group="table")
        return table

    def project_history(self) -> None:
        """The list of sweeps."""
        shown = self.shown
        listed = self.query_one(SweepList)
        listed.show(
            ("", "sweep", "when", "directions", "sites", "strengths", "prompts", "rows", "status"),
            [(entry.key, (self._marks(entry), *_columns(entry))) for entry in self.entries],
        )
        panel = self.query_one("#history", Panel)
        count = len(self.entries)
        if shown is None:
            panel.note("none in this session · O opens another's")
            return
        said = [f"{count} sweep{'s' if count > 1 else ''}"]
        said += [f"▲ {len(self.over)} over it"] if self.over else []
        base = self.entry(self.base)
        said += [f"− {base.label}"] if base is not None else []
        panel.note(" · ".join(said))

    def _marks(self, entry: Entry) -> str:
        """How a sweep is shown: ``▶`` in view, ``▲`` over it, ``−`` subtracted."""
        marks = "▶" if entry == self.shown else " "
        marks += "▲" if entry.key in self.over else " "
        return marks + ("−" if entry.key == self.base else " ")

    # -- choosing -------------------------------------------------------------------------------------

    def watch_last(self) -> None:
        self.chosen = ""

    def _under_cursor(self) -> Entry | None:
        key = self.query_one(SweepList).current
        return self.entry(key) if key is not None else None

    @on(SweepList.Picked)
    def _sweep_picked(self, message: SweepList.Picked) -> None:
        entry = self.entry(message.key)
        if entry is not None:
            self.choose(entry)

    def choose(self, entry: Entry) -> None:
        """Show a sweep; its spec comes into the form unless something was written there."""
        first = self.entries[0] if self.entries else None
        self.chosen = "" if entry == first else entry.key
        self.app.say(f"showing {entry.label}" + ("" if entry.rows else ", which has no rows yet"))

    @on(SweepList.Laid)
    def _sweep_laid(self) -> None:
        entry = self._under_cursor()
        if entry is None:
            return
        if entry.key in self.over:
            self.over.remove(entry.key)
            self.app.say(f"{entry.label} no longer lies over the chart")
        elif entry == self.shown:
            self.app.say("this sweep is the one in view; enter on another shows that one")
        elif len(self.over) >= MOST_OVER:
            self.app.say(
                f"{MOST_OVER} sweeps lie over the chart already, which is all that can be told apart"
            )
        else:
            self.over.append(entry.key)
            self.app.say(f"{entry.label} lies over the chart")

    @on(SweepList.Subtracted)
    def _sweep_subtracted(self) -> None:
        entry = self._under_cursor()
        if entry is None:
            return
        if entry.key == self.base:
            self.base = ""
            self.app.say("nothing is subtracted")
        elif entry == self.shown:
            self.app.say("a sweep less itself is nothing: choose another as baseline")
        else:
            self.base = entry.key
            self.app.say(f"less {entry.label}: cells and prompts that both have; others are absent")

    def action_filter(self) -> None:
        rows, now = (self.table.rows if self.table is not None else []), self.filter
        if not rows:
            self.app.say("there is no table yet to filter")
            return
        places = self.reading.places if self.reading is not None else []
        groups = dict.fromkeys(group for row in rows if (group := group_of(row)))

        def field(id: str, label: str, value: str, options: Any, hint: str = "") -> Field:
            listed = (ANY, *dict.fromkeys(options))
            return Field(id, label, value or ANY, options=listed, free=False, hint=hint)

        fields = [
            field("direction", "direction", now.direction, (place[0] for place in places)),
            field("where", "where", now.where, (place[1] for place in places)),
            field("control", "control", now.control, CONTROLS[1:], "of the table's rows"),
            field("group", "prompts", now.group, groups, "class or set; all numbers are then of these alone"),
        ]

        def set_filter(values: Values | None) -> None:
            if values is not None:
                self.filter = Filter(**{name: "" if v == ANY else v for name, v in values.items()})
                self.app.say(f"only {self.filter.text}" if self.filter.text else "everything is shown")

        self.app.push_screen(Form("Show only", fields, accept="Filter"), set_filter)

    # -- other sessions -------------------------------------------------------------------------------

    def action_other(self) -> None:
        """Open another session's sweeps beside this one's."""
        here = self.app.source.state.id if self.app.source is not None else ""
        there = {source.state.id for source in self.others}

        async def list_them() -> list[SessionCard]:
            return await self.app.lobby.sessions()

        def choose(cards: list[SessionCard]) -> None:
            known = {card.id: card for card in cards if card.id not in (here, *there)}
            choices = [Choice(c.id, c.title or c.id, f"{when(c.when)}  {c.model}") for c in known.values()]
            choices.append(Choice("", "a session file …", "a .safetensors file on this machine"))
            self.app.push_screen(
                Menu("Sweeps of another session", choices), lambda id: self._open_other(id, known)
            )

        self.app.do(list_them, choose, group="sessions", opens=True)

    def _open_other(self, id: str | None, known: Mapping[str, SessionCard]) -> None:
        if id is None:
            return
        if id:
            self.app.do(lambda: self.app.lobby.open(known[id]), self._opened)
            return

        def check(values: Values) -> str:
            path = Path(values["path"]).expanduser()
            return "" if path.is_file() else f"{path} is not there" if values["path"] else "a file is needed"

        def open_it(values: Values | None) -> None:
            if values is not None:

                async def work() -> Source:
                    return open_player(Path(values["path"]).expanduser(), at=END)

                self.app.do(work, self._opened)

        self.app.push_screen(
            Form("Sweeps of a session file", [Field("path", "file", check=check)], accept="Open"), open_it
        )

    def _opened(self, source: Source) -> None:
        state = source.state
        found = len(entries(source))
        if self.app.source is not None and self.app.source.state.id == state.id:
            self.app.say("that is the session in view: its sweeps are in the list")
            return
        if not found:
            self.app.say(f"{state.title or state.id} has no sweeps")
            return
        self.others = [other for other in self.others if other.state.id != state.id] + [source]
        self.action_focus_panel("history")
        self.app.say(
            f"{found} sweep{'s' if found > 1 else ''} of {state.title or state.id} at the end of the list"
        )


def _columns(entry: Entry) -> tuple[Any, ...]:
    spec, job = entry.spec, entry.job
    prompts = spec.get("prompts")
    count = len(prompts) if isinstance(prompts, list) else (prompts or {}).get("set", spec.get("choose", ""))
    status = job.status if job is not None else ""
    if job is not None and job.live and job.fraction is not None:
        status += f" {job.fraction:.0%}"
    return (
        entry.label,
        when(job.queued) if job is not None else "",
        _listed(spec.get("directions") or spec.get("direction") or spec.get("deltas")),
        _short(str(spec.get("sites", ""))),
        _searched(spec) if job is not None and job.kind == "calibrate" else _listed(spec.get("strengths")),
        right(str(count)),
        right(f"{entry.rows:,}"),
        status,
    )


def _searched(spec: Mapping[str, Any]) -> str:
    """The strengths among which a calibration searches."""
    ends = [spec.get("weakest"), spec.get("strongest")]
    return " to ".join(f"{end:g}%" for end in ends if isinstance(end, int | float))


def _listed(values: Any) -> str:
    if not isinstance(values, list):
        return "" if values is None else str(values)
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return _short(", ".join(texts))


def _short(text: str) -> str:
    return text if len(text) <= 18 else text[:17] + "…"
