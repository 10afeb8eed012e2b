"""The run that the Steer screen is about to make: what its panels edit, and what the spec is built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from labtui_artifacts.errors import UsageError
from labtui_kernels.lang.edits import EditTerm, format_edits, parse_edits
from labtui_kernels.lang.positions import Where, parse_where
from labtui_kernels.lang.shape import ModelShape
from labtui_kernels.lang.sites import SiteGroup, format_group
from labtui_kernels.lang.strength import Strength
from labtui_kernels.specs.images import joined, split, word

SYSTEM = "You are a helpful assistant."
WHERES = ("all", "prompt", "last", "generated")
"""What the where key goes through; any other place is written in the edit expression."""

SEEN = ("all", "prompt", "image", "ink")
"""Kinds of places that a site of the vision tower has."""

MODERATE = Strength(30.0, "pct")
"""The strength of an edit that nobody has given one yet: seen in most models, and seldom their end."""

_STEPS = {"alpha": 0.1, "abs": 1.0, "pct": 0.5}
COARSE = 5.0


@dataclass(frozen=True)
class Options:
    """Sampling and length."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    n: int = 1
    surprise: bool = False


@dataclass(frozen=True)
class Draft:
    """A generation not yet run. Changing it gives another one, so that history can keep them."""

    prompt: str = ""
    system: str = SYSTEM
    turns: tuple[tuple[str, str], ...] = ()
    """Earlier turns as (role, content), without the system prompt."""
    prefill: str = ""
    thinking: bool | None = None
    terms: tuple[EditTerm, ...] = ()
    direction: str = ""
    """Chosen, though perhaps no term uses it yet."""
    site: SiteGroup = ()
    options: Options = field(default_factory=Options)

    # -- as a spec ------------------------------------------------------------------------------------

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The chat, system prompt first; pictures are named as the user did."""
        system: list[dict[str, Any]] = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *(_turn(role, text) for role, text in (*self.turns, ("user", self.prompt)))]

    @property
    def edits(self) -> str:
        """The edit expression, in its canonical form."""
        return format_edits(self.terms)

    def spec(self) -> dict[str, Any]:
        """The spec of kind ``generate``."""
        spec: dict[str, Any] = {"kind": "generate"}
        if self.turns:
            spec["prompt"] = [m for m in self.messages if m["role"] != "system"]
        else:
            spec["prompt"] = self.prompt
        spec["system"] = self.system
        spec["edits"] = self.edits
        options = self.options
        spec["max_new_tokens"] = options.max_new_tokens
        spec["temperature"] = options.temperature
        if options.temperature > 0:
            spec["top_p"], spec["top_k"] = options.top_p, options.top_k
        spec["seed"], spec["n"] = options.seed, options.n
        if self.thinking is not None:
            spec["thinking"] = self.thinking
        if self.prefill:
            spec["prefill"] = self.prefill
        if options.surprise:
            spec["surprise"] = True
        return spec

    @classmethod
    def from_spec(cls, spec: dict[str, Any], names: Mapping[str, str] | None = None) -> Draft:
        """The draft that such a spec came from; what does not fit is left at its default. ``names`` says what the user
        calls pictures, by digest."""
        turns: list[tuple[str, str]] = []
        prompt, system = spec.get("prompt", ""), spec.get("system", SYSTEM)
        if isinstance(prompt, list):
            for message in prompt:
                if isinstance(message, dict) and isinstance(message.get("content"), str):
                    turns.append((str(message.get("role", "user")), _typed(message, names or {})))
            if turns and turns[0][0] == "system":
                system = turns.pop(0)[1]
            prompt = turns.pop()[1] if turns and turns[-1][0] == "user" else ""
        try:
            terms = parse_edits(str(spec.get("edits", "")))
        except UsageError:
            terms = ()
        known = {name: spec[name] for name in Options.__dataclass_fields__ if spec.get(name) is not None}
        thinking = spec.get("thinking")
        return cls(
            prompt=str(prompt),
            system=str(system or ""),
            turns=tuple(turns),
            prefill=str(spec.get("prefill") or ""),
            thinking=thinking if isinstance(thinking, bool) else None,
            terms=terms,
            direction=terms[0].direction if terms else "",
            site=terms[0].sites if terms else (),
            options=Options(**known),
        )

    # -- the first edit, which the pickers and the knob turn ------------------------------------------

    @property
    def term(self) -> EditTerm | None:
        """The edit that the pickers and the knob change."""
        return self.terms[0] if self.terms else None

    @property
    def strength(self) -> Strength:
        return self.term.strength if self.term else Strength(0.0)

    @property
    def where(self) -> Where:
        return self.term.where if self.term else Where()

    def _with_first(self, term: EditTerm) -> Draft:
        return replace(self, terms=(term, *self.terms[1:]))

    def with_site(self, site: SiteGroup) -> Draft:
        """The same at another site."""
        if self.term:
            sees = any(one.tower == "vision" for one in site)
            where = Where() if sees and self.where.kind not in SEEN else self.where
            return replace(self._with_first(replace(self.term, sites=site, where=where)), site=site)
        return replace(self, site=site)._complete()

    def with_direction(self, name: str) -> Draft:
        """The same with another direction."""
        if self.term:
            return replace(self._with_first(replace(self.term, direction=name)), direction=name)
        return replace(self, direction=name)._complete()

    def _complete(self) -> Draft:
        """Once both a site and a direction are chosen there is an edit, of a moderate strength."""
        if self.terms or not (self.site and self.direction):
            return self
        return replace(self, terms=(EditTerm("add", MODERATE, self.direction, self.site),))

    def with_strength(self, strength: Strength) -> Draft:
        return self._with_first(replace(self.term, strength=strength)) if self.term else self

    def with_where(self, where: str) -> Draft:
        return self._with_first(replace(self.term, where=parse_where(where))) if self.term else self

    def with_edits(self, text: str, shape: ModelShape | None) -> Draft:
        """With the whole expression written anew; raises UsageError."""
        terms = parse_edits(text, shape)
        first = terms[0] if terms else None
        return replace(
            self,
            terms=terms,
            direction=first.direction if first else self.direction,
            site=first.sites if first else self.site,
        )

    def nudged(self, way: int, coarse: bool) -> Draft:
        """The strength one step of its unit further; rounded to the step, so that it can be said."""
        if not self.term or self.term.op != "add":
            return self
        unit = self.strength.unit
        step = _STEPS[unit] * (COARSE if coarse else 1.0)
        value = round(round((self.strength.value + way * step) / _STEPS[unit]) * _STEPS[unit], 6)
        return self.with_strength(Strength(value + 0.0, unit))

    def summary(self) -> str:
        """The edits in words for the top of the screen."""
        if not self.terms:
            return "no edit yet"
        return self.edits


def _turn(role: str, text: str) -> dict[str, Any]:
    """A turn as a message: what the user typed, its picture words taken out as images."""
    if role != "user":
        return {"role": role, "content": text}
    content, images = split(text)
    return {"role": role, "content": content, **({"images": images} if images else {})}


def _typed(message: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A message's text as the user would type it, its pictures as words."""
    images = message.get("images")
    known = [str(image) for image in images] if isinstance(images, list | tuple) else []
    role, text = message.get("role"), str(message["content"])
    return joined(text, [word(names.get(image, image)) for image in known]) if role == "user" else text


def site_text(site: SiteGroup) -> str:
    """A group of sites as it is written; a dash where none is chosen."""
    return format_group(site) if site else "—"
