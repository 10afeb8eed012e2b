"""Every metric there is: those of the lab, and those of other packages by entry point.

A package adds a metric with

    [project.entry-points."labtui.metrics"]
    politeness = "my_package.metrics:Politeness"

where the name is the metric's head and the object a subclass of :class:`~.base.Metric`. Each is imported when a
spec asks for it, not before: a spec of words alone is checked without NumPy, and a broken package is heard of
by those who want it and by nobody else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from labtui_artifacts.errors import BadFile, UsageError

from ..lang.text import bounded, did_you_mean, shown
from .base import Facts, Metric, Result

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "labtui.metrics"
MAX_NAME = 200

BUILT_IN: dict[str, str] = {
    "words": "text:Words",
    "tokens": "text:Tokens",
    "distinct": "text:Distinct",
    "repetition": "text:Repetition",
    "contractions": "text:Contractions",
    "questions": "text:Questions",
    "enthusiasm": "text:Enthusiasm",
    "style": "text:Style",
    "classifier": "classifier:Classifier",
    "perplexity": "guard:Perplexity",
    "kl": "guard:Kl",
    "kl-mean": "guard:KlMean",
    "coherent": "guard:Coherent",
    "margin": "inside:Margin",
    "fence": "blocks:Fence",
    "fence-valid": "blocks:FenceValid",
    "latex": "blocks:Latex",
    "latex-valid": "blocks:LatexValid",
    "latex-first": "blocks:LatexFirst",
    "lens": "lenses:LensRate",
    "choice": "choices:Choice",
    "cosine": "inside:Cosine",
    "perturbation": "inside:Perturbation",
    "probe": "inside:Probe",
}
"""Head -> module of this package and class."""

_HEAD = re.compile(r"[a-z][a-z0-9-]{0,59}\Z")


def built_in(head: str) -> type[Metric]:
    """The lab's own metric of a head."""
    module, _, name = BUILT_IN[head].partition(":")
    return getattr(import_module(f"{__package__}.{module}"), name)


def metric(name: str) -> Metric:
    """The metric of a name; UsageError for an unknown one, or one whose argument cannot mean anything."""
    bounded(name, "metric", MAX_NAME)
    head = name.partition(":")[0]
    for own in (head, name.rpartition("-")[0]):  # lens:hype, or distinct-2
        if own not in BUILT_IN:
            continue
        kind = built_in(own)
        argument = kind.read(name)
        if argument is not None:
            return kind(name, argument)
        if own == head:  # its argument is missing, or it takes none
            example = f", such as {kind.example}" if kind.example else ""
            raise UsageError(f"metric {shown(name)}: expected {kind.form()}{example}")
    for point in plugins():
        if point.name == head:
            return _of_plugin(point, name)
    heads = [*BUILT_IN, *(point.name for point in plugins())]
    near = did_you_mean(name, [*described(), *heads]) or f" (known: {', '.join(heads)})"
    raise UsageError(f"unknown metric {shown(name)}{near}")


def described() -> dict[str, str]:
    """The lab's metrics: a name that may be asked for -> what it measures."""
    kinds = [built_in(head) for head in BUILT_IN]
    return {kind.example or kind.head: kind.about for kind in kinds}


def plugins() -> Iterator[EntryPoint]:
    """The entry points of other packages, each head once, none of them imported."""
    from importlib.metadata import entry_points

    seen = set(BUILT_IN)
    for point in entry_points(group=GROUP):
        if _HEAD.match(point.name) and point.name not in seen:
            seen.add(point.name)
            yield point


def _of_plugin(point: EntryPoint, name: str) -> Metric:
    package = point.dist.name if point.dist is not None else point.value
    try:
        kind = point.load()
        if not (isinstance(kind, type) and issubclass(kind, Metric)):
            raise TypeError(f"{point.value} is no subclass of labtui_kernels.metrics.base.Metric")
        if kind.head != point.name:
            raise TypeError(f"its head is {kind.head!r}, its entry point is named {point.name!r}")
        argument = kind.read(name)
        return kind(name, "" if argument is None else argument)
    except (UsageError, BadFile):
        raise
    except Exception as problem:
        raise UsageError(
            f"metric {shown(name)} of the package {package!r} cannot be loaded ({_line(problem)}): "
            "update that package, or leave the metric out"
        ) from problem


def value(each: Metric, row: Facts) -> Result:
    """A metric's value of a row. What a faulty metric raises, and what is no finite number, is a reason."""
    try:
        found, reason = each.value(row)
    except Exception as problem:
        return None, f"the metric failed ({_line(problem)})"
    if found is None:
        return None, reason or "not computed"
    if not isinstance(found, bool | int | float):
        return None, f"the metric gave {type(found).__name__}, not a number"
    return (found, "") if math.isfinite(found) else (None, "not a finite number")


def _line(problem: Exception) -> str:
    said = " ".join(str(problem).split())[:200]
    return f"{type(problem).__name__}: {said}" if said else type(problem).__name__
