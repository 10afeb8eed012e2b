"""What the Diagnose screen makes of a diagnosis' tables: lines, curves over the depth, a landscape, a map of cosines.

All numbers are those of the tables (:mod:`labtui_sessions.diagnosis` reads them); nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labtui.widgets.chart import Plot, Series
from labtui.widgets.heatmap import NOTHING as NO_MAP
from labtui.widgets.heatmap import Map, Tile
from labtui_kernels import specs
from labtui_kernels.specs.diagnose import count_diagnose
from labtui_sessions.diagnosis import Cosines, Layer, Plane, number, ordered, steps
from labtui_sessions.pace import seconds_for
from labtui_sessions.tables import as_json

if TYPE_CHECKING:
    from labtui_kernels.lang.shape import ModelShape
    from labtui_sessions.fields import ArtifactView, JobView
    from labtui_sessions.state import SessionState

HEADS = {
    "reference": "norm",
    "separation": "apart",
    "separation_pct": "%",
    "spread": "spread",
    "snr": "SNR",
    "snr_null": "chance",
    "split_half": "halves",
    "accuracy": "held out",
    "cosine": "stored",
    "explained": "explained",
    "pc1": "PC1",
    "pc2": "PC2",
    "reference_mean": "norm with sinks",
}
"""The columns of the anatomy, the most telling first, since a small screen shows but the first."""

CURVES: dict[str, tuple[str, tuple[str, ...]]] = {
    "norms": ("norms", ("reference", "reference_mean", "separation", "spread")),
    "snr": ("signal to noise", ("snr", "snr_null")),
    "stability": ("stability", ("split_half", "accuracy", "cosine")),
}
"""Id, title, and the columns drawn together."""
LABELS = {
    "reference": "norm",
    "reference_mean": "with sinks",
    "separation": "apart",
    "spread": "spread",
    "snr": "apart / spread",
    "snr_null": "by chance",
    "split_half": "split halves",
    "accuracy": "held out",
    "cosine": "as stored",
}
MARKS = {"positive": ("▲", "$accent"), "negative": ("▽", "$lab-second"), "neutral": ("·", "$foreground")}
"""Glyph and style of each group's prompts: told apart without colour."""
MEANS = {"positive": ("◆", "$accent"), "negative": ("◇", "$lab-second"), "neutral": ("○", "$foreground")}
TABLES = ("anatomy", "landscape", "cosines")

# -- jobs ---------------------------------------------------------------------------------------------


def jobs_of(state: SessionState) -> list[JobView]:
    """The diagnoses of a session, oldest first."""
    return [job for job in state.jobs.values() if job.kind == "diagnose"]


def table_of(job: JobView, what: str) -> str:
    """The name of one of a diagnosis' tables."""
    return f"{job.plan.get('table') or job.spec.get('table') or job.job}-{what}"


def label_of(job: JobView) -> str:
    """How the tables call the poles of a diagnosis."""
    said = job.result.get("poles") if job.result else None
    return str(said or job.spec.get("direction") or job.spec.get("style") or "given")


def spec_for(poles: str, artifacts: Mapping[str, ArtifactView], compare: Sequence[str]) -> dict[str, Any]:
    """The spec that diagnoses a stored direction of that name, or else a style."""
    stored = poles in artifacts and artifacts[poles].kind == "direction"
    others = [name for name in compare if not (stored and name == poles)]
    return {
        "kind": "diagnose",
        ("direction" if stored else "style"): poles,
        **({"directions": others} if others else {}),
    }


def planned(spec: Mapping[str, Any], state: SessionState, shape: ModelShape | None) -> str:
    """How much a diagnosis is, and how long it takes at the pace of what was read before; raises UsageError."""
    checked = specs.load(spec)
    if shape is None or not isinstance(checked, specs.Diagnose):
        return ""
    kept = state.artifacts.get(checked.direction)
    pairs = kept.meta.get("pairs") if kept is not None else None
    counts = count_diagnose(checked, shape, pairs if isinstance(pairs, int) else None)
    seconds = seconds_for(counts, state.jobs.values())
    parts = [f"{counts['sites']} sites"]
    parts += [f"{counts['prompts']} prompts in one pass"] if "prompts" in counts else []
    parts += [f"about {max(1, round(seconds))} s"] if seconds is not None else []
    return " · ".join(parts)


# -- anatomy ------------------------------------------------------------------------------------------


def columns_of(layers: Sequence[Layer]) -> list[str]:
    """The columns in which some layer has a number."""
    return [name for name in HEADS if any(layer.get(name) is not None for layer in layers)]


def shown(column: str, value: float | None) -> str:
    """A number of the anatomy."""
    if value is None:
        return "·"
    if column in ("accuracy", "explained", "pc1", "pc2"):
        return f"{value:.0%}"
    if column == "separation_pct":
        return f"{value:.0f}%"
    if column in ("split_half", "cosine"):
        return f"{value:.3f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def layer_text(layer: Layer) -> str:
    """Why numbers of a layer are absent, on one line; empty where none is."""
    found: dict[str, list[str]] = {}
    for name, why in layer.reasons.items():
        if name in HEADS:
            found.setdefault(why, []).append(HEADS[name])
    return " · ".join(f"no {', '.join(names)}: {why}" for why, names in found.items())


def curve_of(layers: Sequence[Layer], which: str, at: str | None) -> Plot | None:
    """Some numbers over the depth; ``at`` is the site under the cursor. None without two sites."""
    if len(layers) < 2:
        return None
    x, axis = steps([layer.site for layer in layers])
    series = []
    for column in CURVES[which][1]:
        points = tuple(
            (step, value)
            for step, layer in zip(x, layers, strict=True)
            if (value := layer.get(column)) is not None
        )
        if points:
            series.append(Series(LABELS[column], points))
    if not series:
        return None
    here = next((step for step, layer in zip(x, layers, strict=True) if layer.site == at), None)
    span = (0.0, 1.0) if which == "stability" else (0.0, 0.0)
    names = () if axis else tuple(layer.site for layer in layers)
    return Plot(tuple(series), axis or "site", mark_x=here, span_y=span, names=names)


# -- landscape ----------------------------------------------------------------------------------------


def landscape_of(plane: Plane | None) -> Plot | None:
    """The prompts as points, the groups' means above them."""
    if plane is None:
        return None
    series = [
        Series(group, tuple((spot.x, spot.y) for spot in plane.points[group]), *MARKS[group], joined=False)
        for group in ("neutral", "negative", "positive")
        if group in plane.points
    ]
    there = [group for group in ("neutral", "negative", "positive") if group in plane.means]
    for group in there:
        spot, (glyph, style) = plane.means[group], MEANS[group]
        others = " ".join(MEANS[other][0] for other in there if other != group)
        label = f"{others} means".lstrip() if group == there[-1] else ""
        series.append(Series(label, ((spot.x, spot.y),), glyph, style, joined=False))
    return Plot(tuple(series)) if series else None


def landscape_note(plane: Plane | None) -> str:
    """What share of the variance both axes show."""
    if plane is None or plane.explained is None:
        return ""
    across, up = plane.explained
    return f"{across:.0%} of the variance across, {up:.0%} up"


# -- cosines ------------------------------------------------------------------------------------------


def map_of(found: Cosines | None) -> Map:
    """Directions by directions, cosines as digits."""
    if found is None or not found.names:
        return NO_MAP
    tiles = tuple(tuple(_tile(found.get(one, other)) for other in found.names) for one in found.names)
    return Map(found.names, found.names, tiles, found.site)


def _tile(value: float | None) -> Tile | None:
    return None if value is None else Tile(f"{value:+.2f}", value)


def pair_curve(rows: Sequence[Mapping[str, Any]], one: str, other: str, at: str | None) -> Plot | None:
    """The cosine of a pair over the depth; None without two sites that have one."""
    values = {str(row.get("site")): value for row in rows if (value := number(row.get("cosine"))) is not None}
    sites = ordered(str(row.get("site")) for row in rows)
    x, axis = steps(sites)
    points = tuple((step, values[site]) for step, site in zip(x, sites, strict=True) if site in values)
    if len(points) < 2:
        return None
    here = next((step for step, site in zip(x, sites, strict=True) if site == at), None)
    names = () if axis else tuple(sites)
    series = (Series(f"{one} and {other}", points),)
    return Plot(series, axis or "site", mark_x=here, span_y=(0.0, 0.0), names=names)


def tabbed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as text, tab between columns."""
    names = [name for name in dict.fromkeys(n for row in rows for n in row) if name != "reasons"]
    lines = ["\t".join(names)]
    for row in rows:
        values = ("" if (v := row.get(name)) is None else v for name in names)
        lines.append("\t".join(v if isinstance(v, str) else as_json(v) for v in values))
    return "\n".join(lines) if rows else ""
