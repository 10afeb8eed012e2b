"""Calibrations on the Sweep screen: they fill a sweep's table, and are made from the same form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labtui_artifacts.errors import UsageError
from labtui_kernels import specs
from labtui_kernels.specs.images import has_pictures

GRIDS = ("sweep", "calibrate", "stroop")
"""Kinds of job whose rows are cells of a grid."""
FORMED = ("sweep", "calibrate")
"""Those whose spec is a sweep's form."""
_SAME = ("sites", "prompts", "dose", "batch", "force", *specs.Decoding.__struct_fields__)


def sweep_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The sweep whose cells a job's spec runs: a calibration's is that of its whole grid."""
    try:
        loaded = specs.load(spec)
    except UsageError:  # as a file has it that another version wrote
        return dict(spec)
    return specs.to_dict(loaded.grid()) if isinstance(loaded, specs.Calibrate) else dict(spec)


def calibration(sweep: Mapping[str, Any], outcome: str) -> dict[str, Any]:
    """The calibration of a sweep's direction at its sites, on its prompts where they are 20 or more, or about pictures.

    UsageError where the sweep is none, or has several directions or positions.
    """
    loaded = specs.load(sweep)
    if not isinstance(loaded, specs.Sweep):
        raise UsageError("expected the spec of a sweep")
    if len(loaded.directions) != 1 or len(loaded.places) != 1:
        raise UsageError("a calibration is of one direction and one place along the text; name one of each")
    same = {name: sweep[name] for name in _SAME if name in sweep}
    prompts = same.get("prompts")
    if isinstance(prompts, list) and len(prompts) < 20 and not has_pictures(same):
        del same["prompts"]  # nothing can be told from so few: the neutral topics are asked
    made = {
        **same,
        "kind": "calibrate",
        "direction": loaded.directions[0],
        "where": loaded.places[0],
        "seed": loaded.seeds[0],
        "outcome": outcome if outcome and outcome != "coherent" else "words",
    }
    return specs.to_dict(specs.load(made))
