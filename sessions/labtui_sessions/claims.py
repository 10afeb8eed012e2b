"""Claims: conjecture, evidence, status.

A claim says of a metric that an effect, a rate or a value is greater or less than a threshold, in the cells
that a query finds in sessions. The rule:

- A cell decides where its whole 95% interval lies on one side of the threshold, and 20 prompts or more are in
  it. A number that cut answers make a lower bound can only decide upwards, an upper bound only downwards.
- A session confirms where every cell that the query finds in it does, refutes where every one does, and else
  leaves the claim open. A sweep that is still running decides nothing.
- The claim is confirmed or refuted by the sessions that were begun after it was made; where they disagree, or
  none decides, it is open. Sessions older than the claim may have suggested it: they are shown as exploratory
  and decide nothing.

Every cell must hold, so that a query over many cells is not confirmed by the luckiest of them. Rows are judged
by the model that made them: where a table has rows of several models, each model's are cells of their own.
Whether a session's prompts are fresh is counted and shown, and is no part of the rule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from labtui_artifacts.errors import UsageError

from .stats import Cell, Point, Sheet, Summary, is_sweep, summarise
from .stats.effects import CUT
from .stats.verdicts import MIN_PROMPTS
from .tables import Table

MAX_NAME = 100
MAX_TEXT = 1_000
MAX_SHOWN = 40
"""Cells of one session that are listed in a check."""

UNCORRECTED = "each interval is a 95% one by itself: nothing is corrected for how many claims, sessions and checks there are"
"""What a reader of statuses has to know."""

Subject = Literal["effect", "rate", "value"]
Comparison = Literal["greater", "less"]
Status = Literal["confirmed", "refuted", "open"]
Role = Literal["deciding", "open", "exploratory"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_NUMBER = r"-?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"
_STRENGTH = re.compile(rf"(?P<alpha>{_NUMBER})|(?P<pct>{_NUMBER})%|(?P<sign>-?)\|(?P<abs>{_NUMBER})\|", re.I)
_NEAR = 1e-3


class Query(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Which cells of which sessions; a field that is empty asks for nothing."""

    direction: str = ""
    site: str = ""
    where: str = ""
    strength: str = ""
    """As alpha, % or norm: ``2.0``, ``8%``, ``|39|``."""
    model: str = ""
    """The name of the model that made the rows."""
    table: str = ""
    title: str = ""
    """Part of the session's title, case aside."""
    tag: str = ""


class Claim(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A claim as it is stored. ``created`` is seconds since the epoch."""

    name: str
    text: str
    metric: str
    of: Subject
    comparison: Comparison
    threshold: float
    created: float
    query: Query = msgspec.field(default_factory=Query)
    parent: str | None = None
    """The claim that this one refines."""

    @property
    def formula(self) -> str:
        """What is claimed, in one line."""
        sign = ">" if self.comparison == "greater" else "<"
        places = [f"{name} {value}" for name, value in msgspec.structs.asdict(self.query).items() if value]
        where = " where " + ", ".join(places) if places else ""
        return f"{self.of} on {self.metric} {sign} {self.threshold:g}{where}"


Model = tuple[str, str]
"""A model's name and the hash of its weights."""


class Studied(msgspec.Struct, kw_only=True):
    """What a check needs of one session."""

    id: str
    title: str = ""
    tags: Sequence[str] = ()
    created: float = 0.0
    tables: Mapping[str, Table] = {}
    running: frozenset[str] = frozenset()
    """Names of tables whose sweep is still running."""
    made_by: Mapping[str, Sequence[Model]] = {}
    """By table, the model that made each row; a table that is not here was made by one without a name."""
    known: dict[tuple[str, str, Model], Summary] = {}
    """Summaries by table, metric and model, kept from claim to claim."""

    def models(self, table: str) -> list[Model]:
        """The models that made rows of a table, in the order of their first."""
        return list(dict.fromkeys(self.made_by.get(table, ()))) or [("", "")]

    def summary(self, table: str, metric: str, model: Model) -> Summary | None:
        """The summary of one model's rows of a sweep's table; None where it is no sweep's or lacks the metric."""
        key = (table, metric, model)
        if key not in self.known:
            found = self.tables[table]
            if not is_sweep(found) or metric not in found.columns:
                return None
            self.known[key] = summarise(self._sheet(found, model), metric, run_test=False)
        return self.known[key]

    def _sheet(self, table: Table, model: Model) -> Sheet:
        columns: dict[str, Sequence[Any]] = {name: c.values for name, c in table.columns.items()}
        if len(self.models(table.name)) > 1:
            kept = [i for i, other in enumerate(self.made_by[table.name]) if other == model]
            columns = {name: [values[i] for i in kept] for name, values in columns.items()}
        return Sheet.from_columns(columns, table.name)


class Found(msgspec.Struct, kw_only=True):
    """A cell that a claim is held against."""

    table: str
    model: str
    direction: str
    site: str
    where: str
    strength: float
    strength_pct: float | None
    estimate: float | None
    low: float | None
    high: float | None
    prompts: int
    status: Status
    reason: str
    """Why it decides nothing; empty where it does."""


class Evidence(msgspec.Struct, kw_only=True):
    """What one session says of a claim."""

    session: str
    title: str
    created: float
    role: Role
    status: Status
    """What it would say if it counted."""
    cells: int
    tables: list[str]
    fresh: int | None = None
    """Prompts here that no exploratory session of the claim has; None for an exploratory one."""
    found: list[Found]
    """The first ``MAX_SHOWN`` of them."""


class Checked(msgspec.Struct, kw_only=True):
    """A claim with its status and its evidence, oldest session first."""

    claim: Claim
    status: Status
    sentence: str
    evidence: list[Evidence]


def named(text: str) -> str:
    """A name from the first words of a claim's text."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower())[:6])[:60] or "claim"


def validate(claim: Claim) -> Claim:
    """The claim itself when it makes sense, else UsageError with what was expected."""
    if not _NAME.fullmatch(claim.name) or len(claim.name) > MAX_NAME:
        raise UsageError(
            f"claim {claim.name[:40]!r}: expected a name of lower-case letters, digits, - . _ "
            f"(at most {MAX_NAME}), beginning with a letter or digit"
        )
    where = f"claim {claim.name}"
    if not claim.text.strip() or len(claim.text) > MAX_TEXT:
        raise UsageError(f"{where}: text: expected 1 to {MAX_TEXT} characters")
    if not math.isfinite(claim.threshold) or not math.isfinite(claim.created):
        raise UsageError(f"{where}: threshold and created: expected finite numbers")
    if claim.parent is not None and not _NAME.fullmatch(claim.parent):
        raise UsageError(f"{where}: parent: expected the name of a claim")
    for name, value in {"metric": claim.metric, **msgspec.structs.asdict(claim.query)}.items():
        if len(value) > 400 or not value.isprintable() or (name == "metric" and not value):
            raise UsageError(f"{where}: {name}: expected up to 400 printable characters")
    if claim.query.strength and not _STRENGTH.fullmatch(claim.query.strength):
        raise UsageError(f"{where}: strength {claim.query.strength!r}: expected a number, as 2.0, 8% or |39|")
    return claim


def wants(query: Query, *, title: str, tags: Iterable[str]) -> bool:
    """The query looks into a session like this."""
    return query.title.casefold() in title.casefold() and (not query.tag or query.tag in tags)


def check(claim: Claim, sessions: Iterable[Studied]) -> Checked:
    """The status of a claim by the rule above, with what every session says that the query finds cells in."""
    looked = [(one, found) for one in sessions if (found := _evidence(claim, one)) is not None]
    seen = {p for one, e in looked if e.role == "exploratory" for p in _prompts(one, e)}
    for one, found in looked:
        if found.role != "exploratory":
            found.fresh = len(_prompts(one, found) - seen)
    evidence = [found for _, found in looked]
    evidence.sort(key=lambda one: (one.created, one.session))
    status = _agreed(one.status for one in evidence if one.role == "deciding")
    return Checked(claim=claim, status=status, sentence=_sentence(status, evidence), evidence=evidence)


def _prompts(session: Studied, evidence: Evidence) -> set[Any]:
    """The prompts of the tables that the evidence is from."""
    return {p for name in evidence.tables for p in session.tables[name].columns["prompt"].values}


def _agreed(statuses: Iterable[Status]) -> Status:
    """What all of them say; open where they differ or there is none."""
    different = set(statuses)
    return different.pop() if len(different) == 1 else "open"


def _sentence(status: Status, evidence: Sequence[Evidence]) -> str:
    old = sum(one.role == "exploratory" for one in evidence)
    fresh = len(evidence) - old
    aside = f"; {_count(old, 'older session')} exploratory" if old else ""
    decided = [one for one in evidence if one.role == "deciding"]
    if status != "open":
        return f"{status} by {len(decided)} of {_count(fresh, 'session')} since it was made{aside}"
    if decided:
        return f"open: {_count(len(decided), 'session')} disagree{aside}"
    if fresh:
        return f"open: none of {_count(fresh, 'session')} since it was made decides it{aside}"
    return f"open: no session since it was made has such cells{aside}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _evidence(claim: Claim, session: Studied) -> Evidence | None:
    if not wants(claim.query, title=session.title, tags=session.tags):
        return None
    found = [
        _found(claim, (table, model[0]), cell, summary, table in session.running)
        for table in session.tables
        if claim.query.table in ("", table)
        for model in session.models(table)
        if claim.query.model in ("", model[0])
        and (summary := session.summary(table, claim.metric, model)) is not None
        for cell in summary.grid
        if _matches(claim.query, cell.point)
    ]
    if not found:
        return None
    status = _agreed(one.status for one in found)
    role: Role = "open" if status == "open" else "deciding"
    return Evidence(
        session=session.id,
        title=session.title,
        created=session.created,
        role="exploratory" if session.created <= claim.created else role,
        status=status,
        cells=len(found),
        tables=sorted({one.table for one in found}),
        found=found[:MAX_SHOWN],
    )


def _matches(query: Query, point: Point) -> bool:
    same = (
        query.direction in ("", point.direction)
        and query.site in ("", point.site)
        and query.where in ("", point.where)
    )
    return same and (not query.strength or _is_strength(query.strength, point))


def _is_strength(text: str, point: Point) -> bool:
    match = _STRENGTH.fullmatch(text)
    if match is None:
        return False
    if match["alpha"] is not None:
        return math.isclose(float(match["alpha"]), point.strength, rel_tol=_NEAR)
    if match["pct"] is not None:
        return _near(float(match["pct"]), point.strength_pct)
    norm = float(match["abs"]) * (-1 if match["sign"] else 1)
    return _near(norm, point.strength_abs)


def _near(wanted: float, value: float | None) -> bool:
    return value is not None and math.isclose(wanted, value, rel_tol=_NEAR)


def _found(claim: Claim, place: tuple[str, str], cell: Cell, summary: Summary, running: bool) -> Found:
    """The cell of a summary, at a table and a model, held against the claim."""
    if claim.of == "effect":
        estimate, low, high, prompts = cell.effect, cell.low, cell.high, cell.prompts
        bound = cell.bound
    else:
        estimate, low, high, prompts = cell.value, cell.value_low, cell.value_high, cell.value_prompts
        bound = "lower" if cell.cut and claim.metric in CUT else ""
    status, reason = _decides(claim, low, high, bound)
    if claim.of == "rate" and not summary.rate:
        status, reason = "open", f"{claim.metric} is not yes or no, so it has no rate"
    elif running:
        status, reason = "open", "its sweep is still running"
    elif prompts < MIN_PROMPTS:
        status, reason = "open", f"{prompts} prompts, under {MIN_PROMPTS} it is descriptive"
    return Found(
        table=place[0],
        model=place[1],
        direction=cell.point.direction,
        site=cell.point.site,
        where=cell.point.where,
        strength=cell.point.strength,
        strength_pct=cell.point.strength_pct,
        estimate=estimate,
        low=low,
        high=high,
        prompts=prompts,
        status=status,
        reason=reason,
    )


def _decides(claim: Claim, low: float | None, high: float | None, bound: str) -> tuple[Status, str]:
    """What an interval says of the threshold, and why it says nothing."""
    if low is None or high is None:
        return "open", "no interval is known"
    above, below = low > claim.threshold, high < claim.threshold
    if not (above or below):
        return "open", "the interval holds the threshold"
    if bound == "unclear" or (bound == "lower" and below) or (bound == "upper" and above):
        return "open", "cut answers leave it open"
    return ("confirmed" if above == (claim.comparison == "greater") else "refuted"), ""
