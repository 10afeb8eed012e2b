"""The thresholds of a calibration: as a job's result keeps them, and as pages and listings show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .log import EventLog, each
from .markdown import cell, grid, line
from .stats.search import Finding, Frame
from .stats.zones import Level

Phase = dict[str, Any]
"""One site: ``dead`` (the last strength inside the null's band), ``first`` and ``last`` (the ends of the effective
band), ``collapse`` (the first strength where text is ruined), each None or a map of its strength in three units and
what it rests on."""

NAMES = ("dead", "first", "last", "collapse")


def thresholds(finding: Finding) -> list[float]:
    """The strengths that a finding names, in %."""
    return list(dict.fromkeys(value for value in _named(finding).values() if value is not None))


def _named(finding: Finding) -> dict[str, float | None]:
    zone = finding.zone
    first, last = zone.effective or (None, None)
    return dict(zip(NAMES, (zone.dead, first, last, zone.collapse), strict=True))


def phase(finding: Finding, doses: Mapping[float, Mapping[str, float | None]], frame: Frame) -> Phase:
    """A finding as plain data. ``doses`` gives alpha, abs and pct by strength in %."""
    levels = {level.point.strength: level for level in finding.levels}
    zone = finding.zone
    told: Phase = {"direction": zone.direction, "site": zone.site, "where": zone.where}
    for name, percent in _named(finding).items():
        told[name] = None if percent is None else {**doses[percent], **_rests_on(levels[percent])}
    return told | {
        "monotone": zone.monotone,
        "known": zone.known,
        "open": finding.open,
        "undecided": list(finding.undecided),
        "rows": finding.rows,
        "grid": frame.steps * frame.cell,
        "probes": [
            {
                "pct": level.point.strength,
                **_rests_on(level),
                "outside": level.outside,
                "ruined": level.ruined,
            }
            for level in finding.levels
        ],
    }


def _rests_on(level: Level) -> dict[str, Any]:
    return {
        "prompts": max(level.prompts, level.judged),
        "null_rows": level.null_rows,
        "effect": level.effect,
        "bound": level.bound,
        "coherent": level.coherent,
    }


def phases_of(result: Mapping[str, Any] | None) -> list[Phase]:
    """The phases in a job's result; none where it has none, or they are not what they should be."""
    found = (result or {}).get("phases")
    if not isinstance(found, list):
        return []
    return [one for one in found if isinstance(one, dict) and all(_is_threshold(one.get(n)) for n in NAMES)]


def results_by_table(log: EventLog) -> dict[str, list[dict[str, Any]]]:
    """The results with phases of a session's jobs, by the table that they are about."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in each(log):
        result = event.data.get("result") if event.kind == "job.finished" else None
        if isinstance(result, dict) and phases_of(result) and isinstance(result.get("table"), str):
            found.setdefault(result["table"], []).append(result)
    return found


def _is_threshold(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def as_rows(phases: Sequence[Phase]) -> list[dict[str, Any]]:
    """For a table on a terminal."""
    return [
        {
            "direction": one.get("direction"),
            "site": one.get("site"),
            "dead zone to": percent(one["dead"]),
            "effective": band(one),
            "collapse from": percent(one["collapse"]),
            "note": note(one),
        }
        for one in phases
    ]


def percent(threshold: Mapping[str, Any] | None) -> str:
    """``34% (α 0.4)``; empty for none."""
    if threshold is None:
        return ""
    value, alpha = threshold.get("pct"), threshold.get("alpha")
    known = isinstance(value, int | float) and isinstance(alpha, int | float)
    return f"{value:.3g}% (α {alpha:.3g})" if known else ""


def band(one: Phase) -> str:
    """The effective band; empty where there is none."""
    return f"{percent(one['first'])} to {percent(one['last'])}" if one["first"] and one["last"] else ""


def in_short(one: Phase) -> str:
    """The thresholds on one line, strengths in %."""
    dead, first, last, collapse = (_brief(one[name]) for name in NAMES)
    told = [
        f"dead zone to {dead}" if dead else "",
        f"effective {first} to {last}" if first and last else "",
        f"collapse from {collapse}" if collapse else "",
        note(one),
    ]
    return " · ".join(text for text in told if text) or "no threshold on this grid"


def _brief(threshold: Mapping[str, Any] | None) -> str:
    value = (threshold or {}).get("pct")
    return f"{value:.3g}%" if isinstance(value, int | float) else ""


def note(one: Phase) -> str:
    """What is to be said of a site beside its thresholds."""
    told = [
        "" if one.get("monotone", True) else "not monotone",
        "" if one.get("known", True) else "no null rows: only the collapse",
        _open(one),
    ]
    return ", ".join(text for text in told if text)


def _open(one: Phase) -> str:
    if not one.get("open"):
        return ""
    at = ", ".join(f"{value:.3g}%" for value in one.get("undecided") or [] if isinstance(value, int | float))
    return "the bound on rows ended the search" + (f", undecided at {at}" if at else "")


def page(result: Mapping[str, Any]) -> Iterator[str]:
    """Markdown: the thresholds of every site, what each rests on, and how they were found."""
    phases = phases_of(result)
    if not phases:
        return
    yield f"### Dead zone, effective band and collapse, by {line(str(result.get('outcome')))}"
    yield ""
    rows, whole = result.get("rows"), result.get("grid")
    share = (
        f", {100 * rows / whole:.0f}%" if isinstance(rows, int) and isinstance(whole, int) and whole else ""
    )
    yield (
        f"Found by adaptive search: {rows} of the {whole} rows of the full grid were run{share} (zero and null rows "
        "counted on both sides). Inside the dead zone the effect stays within the 95% band of random and "
        "shuffled-label directions of the same norm; text has collapsed where fewer than half of the answers are "
        "coherent. Each threshold is a strength of the grid whose neighbour on the grid was measured too."
    )
    yield ""
    shown = as_rows(phases)
    yield from grid(list(shown[0]), [list(one.values()) for one in shown])
    yield ""
    for one in phases:
        yield f"- {line(str(one.get('site')))}: " + "; ".join(_evidence(one)) + "."
    yield ""


def _evidence(one: Phase) -> Iterator[str]:
    """What the thresholds rest on, one after the other."""
    for name, what in (
        ("dead", "inside"),
        ("first", "outside"),
        ("last", "still outside"),
        ("collapse", "collapsed"),
    ):
        at = one[name]
        if at is None or (name == "last" and one["first"] and at.get("pct") == one["first"].get("pct")):
            continue
        if name == "collapse":
            why = f"{cell(_hundred(at.get('coherent')))}% coherent of {cell(at.get('prompts'))} prompts"
        else:
            why = (
                f"effect {cell(at.get('effect'))} against ±{cell(at.get('bound'))}, {cell(at.get('prompts'))} prompts, "
                f"{cell(at.get('null_rows'))} null rows"
            )
        yield f"{what} at {percent(at)}: {why}"
    if not any(one[name] for name in NAMES):
        yield note(one) if one.get("open") else "no threshold on this grid"


def _hundred(share: Any) -> float | None:
    return 100 * share if isinstance(share, int | float) else None
