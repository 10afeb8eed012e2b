"""Strengths and their three units: α (times the stored vector), absolute norm, % of the reference norm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from labtui_artifacts.errors import UsageError

from .text import finite, number, shown

Unit: TypeAlias = Literal["alpha", "abs", "pct"]

NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
"""How a number without sign is written, everywhere in the lab's expressions."""

_STRENGTH = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:\|\s*(?P<inner>[+-]?)\s*(?P<abs>{NUMBER})\s*\||(?P<pct>{NUMBER})\s*%|(?P<alpha>{NUMBER}))\Z"
)
_HOW = "expected a number (α), |39| (absolute norm) or 8% (of the site's reference norm)"


@dataclass(frozen=True)
class Strength:
    """How far an edit moves an activation.

    ``alpha`` multiplies the stored vector as it is; ``abs`` is the norm of what is added; ``pct`` is that
    norm in per cent of the site's reference norm. ``value`` is finite; its sign is the side to move to.
    """

    value: float
    unit: Unit = "alpha"

    def __post_init__(self) -> None:
        if self.unit not in ("alpha", "abs", "pct"):
            raise UsageError(f"strength: unknown unit {shown(str(self.unit))}; {_HOW}")
        object.__setattr__(self, "value", finite(self.value, "strength"))

    def __str__(self) -> str:
        if self.unit == "pct":
            return f"{number(self.value)}%"
        if self.unit == "abs":
            return f"{'-' if self.value < 0 else ''}|{number(abs(self.value))}|"
        text = number(self.value)
        return text if set(text) & set(".e") else text + ".0"

    def __neg__(self) -> Strength:
        return Strength(-self.value, self.unit)

    def to_alpha(self, vector_norm: float, reference_norm: float | None) -> float:
        """The factor to multiply a vector of norm ``vector_norm`` with.

        Raises UsageError for a vector of norm zero, or a % at a site whose reference norm is not known.
        """
        if self.unit == "alpha":
            return self.value
        if not vector_norm > 0:
            raise UsageError(
                f"strength {self}: the direction's norm is zero there, so it cannot be scaled to a norm"
            )
        if self.unit == "abs":
            return finite(self.value / vector_norm, f"strength {self}")
        if reference_norm is None or not reference_norm > 0:
            raise UsageError(
                f"strength {self}: the reference norm of that site is not known; measure it "
                "(a reference job) or give an absolute norm, |39|"
            )
        return finite(self.value / 100.0 * reference_norm / vector_norm, f"strength {self}")

    def all_units(
        self, vector_norm: float, reference_norm: float | None
    ) -> tuple[float, float, float | None]:
        """The same strength as (α, absolute norm, %); the % is None where no reference norm is known."""
        alpha = self.to_alpha(vector_norm, reference_norm)
        absolute = alpha * vector_norm if self.unit != "abs" else self.value
        if self.unit == "pct":
            return alpha, absolute, self.value
        known = reference_norm is not None and reference_norm > 0
        return alpha, absolute, (absolute / reference_norm * 100.0 if known and reference_norm else None)


def parse_strength(text: str | float | Strength) -> Strength:
    """A strength from ``2.0`` (α), ``|39|`` or ``-|39|`` (absolute norm), ``8%``, or a number (α).

    Raises UsageError for anything else, NaN and infinities included.
    """
    if isinstance(text, Strength):
        return text
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        try:
            return Strength(float(text))
        except OverflowError:
            raise UsageError(f"strength: the number is too large; {_HOW}") from None
    if not isinstance(text, str):
        raise UsageError(f"strength: found {type(text).__name__}; {_HOW}")
    match = _STRENGTH.match(text.strip()) if len(text) <= 100 else None
    if match is None:
        raise UsageError(f"strength {shown(text)}: {_HOW}")
    value = float(match["abs"] or match["pct"] or match["alpha"])
    if match["sign"] == "-":
        value = -value
    if match["inner"] == "-":
        value = -value
    unit: Unit = "abs" if match["abs"] else "pct" if match["pct"] else "alpha"
    return Strength(finite(value, f"strength {shown(text)}"), unit)
