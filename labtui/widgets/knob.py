"""The strength of the edit in its three units, on one line."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.widgets import Static

from labtui_kernels.lang.strength import Strength, Unit

UNITS: tuple[Unit, ...] = ("alpha", "abs", "pct")
_NAMES = {"alpha": "α", "abs": "norm", "pct": "% of reference"}


@dataclass(frozen=True)
class Scale:
    """What turns one unit into another at a site: the vector's norm and the site's reference norm."""

    vector: float | None = None
    reference: float | None = None

    def all_units(self, strength: Strength) -> tuple[float | None, float | None, float | None]:
        """The strength as (α, absolute norm, %), None where it cannot be known yet."""
        if self.vector is None or not self.vector > 0:
            known = {"alpha": 0, "abs": 1, "pct": 2}[strength.unit]
            found: list[float | None] = [None, None, None]
            found[known] = strength.value
            if strength.unit == "pct" and self.reference:
                found[1] = strength.value / 100 * self.reference
            return found[0], found[1], found[2]
        if strength.unit == "pct" and not self.reference:
            return None, None, strength.value
        return strength.all_units(self.vector, self.reference)

    def convert(self, strength: Strength, unit: Unit) -> Strength | None:
        """The same strength in another unit; None where a norm is not known."""
        value = self.all_units(strength)[UNITS.index(unit)]
        return Strength(float(f"{value:.4g}"), unit) if value is not None else None


@dataclass(frozen=True)
class Reading:
    """What the knob shows."""

    strength: Strength | None = None
    scale: Scale = Scale()
    where: str = "all"
    note: str = ""
    op: str = "add"


class Knob(Static):
    """``α 2.0   |39.2|   8.1 % of 482``, the unit in hand bold and bracketed, then where, then a note."""

    def __init__(self, *, id: str) -> None:
        super().__init__("", id=id)
        self._now: Reading | None = None

    def show(self, reading: Reading) -> None:
        if reading != self._now:
            self._now = reading
            self.update(draw(reading))


def draw(reading: Reading) -> Content:
    """The knob's line."""
    if reading.strength is None:
        return Content.styled("s chooses a site, d a direction, then , and . turn the strength", "$lab-dim")
    where = Content.assemble(("   where ", "$lab-dim"), reading.where)
    note = Content.styled(f"   {reading.note}", "bold $accent") if reading.note else Content("")
    if reading.op != "add":
        what = "projected out" if reading.op == "project" else "put in its place"
        return Content.assemble((f"{what}, share {reading.strength.value:g}", "bold"), where, note)
    alpha, absolute, percent = reading.scale.all_units(reading.strength)
    reference = f" of {reading.scale.reference:.4g}" if reading.scale.reference else ""
    shown = (
        ("alpha", f"α {_n(alpha)}"),
        ("abs", f"|{_n(absolute)}|"),
        ("pct", f"{_n(percent)} %{reference}"),
    )
    parts: list[str | tuple[str, str]] = []
    for unit, text in shown:
        in_hand = unit == reading.strength.unit
        parts.append((f"[{text}]", "bold $accent") if in_hand else (f" {text} ", "$foreground"))
        parts.append(" ")
    return Content.assemble(*parts, where, note)


def _n(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def unit_name(unit: str) -> str:
    """A unit as it is said to the user."""
    return _NAMES[unit]
