"""What a calibration and a matching found, as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labtui import output


def show(result: Mapping[str, Any]) -> bool:
    """Print a job's thresholds or matched strengths; False when its result has neither."""
    from labtui_sessions.phases import as_rows, phases_of

    phases = phases_of(result)
    if phases:
        rows = as_rows(phases)
        output.table(rows, list(rows[0]))
        output.note(
            f"by {output.clean(str(result.get('outcome')))}; {result.get('rows')} of the full grid's "
            f"{result.get('grid')} rows, table {output.clean(str(result.get('table')))}"
        )
        return True
    strengths = result.get("strengths")
    if not isinstance(strengths, Mapping):
        return False
    target = result.get("target")
    output.table([{"site": site, "strength": text} for site, text in strengths.items()], ["site", "strength"])
    if isinstance(target, int | float):
        output.note(f"each has a mean teacher-forced KL of {target:.4g} nats, table {result.get('table')}")
    for line in result.get("refused") or []:
        output.note(f"refused: {output.clean(str(line))}")
    return True
