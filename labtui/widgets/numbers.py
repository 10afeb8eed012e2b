"""Numbers by site, as artifact headers keep them."""

from __future__ import annotations

from collections.abc import Iterable

from labtui_artifacts.errors import LabError
from labtui_kernels.lang.sites import parse_site


def numbers(value: object) -> dict[str, float]:
    """The entries of a map that are numbers; one that is a map counts with its ``median``."""
    found: dict[str, float] = {}
    for key, item in value.items() if isinstance(value, dict) else ():
        number = item.get("median") if isinstance(item, dict) else item
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            found[str(key)] = float(number)
    return found


def by_site(names: Iterable[str]) -> list[str]:
    """Site names in the order in which a forward pass reaches them; what is no site comes last."""

    known, rest = [], []
    for name in names:
        try:
            known.append((parse_site(name), name))
        except LabError:
            rest.append(name)
    return [*(name for _, name in sorted(known)), *sorted(rest)]
