"""Directions and edits of an expression as vectors and numbers for one model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from labtui_artifacts.errors import UsageError
from labtui_artifacts.kinds.direction import DirectionFile

from ..directions.compose import compose
from ..engine import Edit
from ..lang.algebra import DirectionExpr
from ..lang.edits import EditTerm, explain_unknown, format_edits, touched
from ..lang.shape import ModelShape
from ..lang.sites import Site, format_group, site_width
from ..lang.strength import Strength, parse_strength
from ..models.compatibility import compatibility, warning

if TYPE_CHECKING:
    from labtui_artifacts.store import Store

    from ..models.chat import Rendered
    from ..models.info import ModelInfo


LARGEST = float(torch.finfo(torch.float32).max)


@dataclass(frozen=True)
class Dose:
    """One edit term with the norm and the reference at its first site, and its edits in the engine."""

    term: EditTerm
    norm: float
    reference: float | None
    engine: tuple[int, ...]

    def alpha(self, strength: Strength) -> float:
        """α at the first site for a strength in any unit."""
        return strength.to_alpha(self.norm, self.reference)

    def record(self) -> dict[str, Any]:
        """The strength in its three units, as a session records it. None where a unit says nothing."""
        alpha, absolute, percent = self.term.strength.value, None, None
        if self.term.op == "add":
            alpha, absolute, percent = self.term.strength.all_units(self.norm, self.reference)
        return {
            "text": str(self.term.strength),
            "alpha": alpha,
            "abs": absolute,
            "pct": percent,
            "direction": self.term.direction,
            "sites": format_group(self.term.sites),
            "where": str(self.term.where),
            "reference": self.reference,
        }


@dataclass(frozen=True)
class Resolved:
    """The edits of a row, ready for the engine: ``text`` is their canonical line."""

    text: str
    terms: tuple[EditTerm, ...]
    doses: tuple[Dose, ...]
    edits: tuple[Edit, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]

    def edited(self, prompt: Rendered) -> list[int]:
        """The prompt positions that an edit touches; one in the vision tower touches the tokens of its patches."""
        masks = [touched(term, len(prompt.ids), prompt.content, prompt.images) for term in self.terms]
        return [i for i in range(len(prompt.ids)) if any(mask[i] for mask in masks)]

    def turn(self, edit: int, strength: float | str) -> tuple[float, list[tuple[int, float]]]:
        """A knob's new value for term ``edit``: α at its first site, and (engine edit, strength) to set."""
        if not 0 <= edit < len(self.doses):
            raise UsageError(f"edit {edit}: the row has {len(self.doses)} edits, counted from 0")
        dose = self.doses[edit]
        wanted = parse_strength(strength)
        if dose.term.op == "add":
            alpha = dose.alpha(wanted)
        elif wanted.unit == "alpha" and wanted.value >= 0:
            alpha = wanted.value
        else:
            raise UsageError(f"edit {edit}: expected a share such as 1 or 0.5, found {wanted}")
        return alpha, [(index, alpha) for index in dose.engine]


def check_places(terms: Iterable[EditTerm], prompt: Rendered) -> None:
    """Raise UsageError unless every edit's places exist in the prompt."""
    for term in terms:
        touched(term, len(prompt.ids), prompt.content, prompt.images)


PLAIN = Resolved("", (), (), (), (), ())


@dataclass
class Resolver:
    """Reads directions from a store for one model.

    ``force`` takes directions of other models; ``rename`` maps the names in an expression to those in the
    store; ``given`` holds vectors that are not in the store yet; ``references`` are the measured norms.
    ``notes`` says by stored name what is odd about the directions that were used.
    """

    store: Store
    info: ModelInfo
    shape: ModelShape
    force: bool = False
    rename: Mapping[str, str] = field(default_factory=dict)
    references: dict[Site, float] = field(default_factory=dict)
    given: dict[str, dict[Site, torch.Tensor]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    _files: dict[str, DirectionFile] = field(default_factory=dict)

    def file(self, name: str) -> DirectionFile:
        """A stored direction, checked to be usable on this model."""
        stored = self.rename.get(name, name)
        if name not in self._files:
            if stored not in self.store:
                raise explain_unknown(stored, [entry.name for entry in self.store.list("direction")])
            opened = DirectionFile.view(self.store.get(stored, kind="direction"), stored)
            self._check_model(opened)
            self._files[name] = opened
        return self._files[name]

    def fitting(self) -> list[str]:
        """The names of the stored directions that were fitted on the loaded model, in any precision."""
        found = []
        for entry in self.store.list("direction"):
            fits = compatibility(entry.meta, self.info, _sites_of(entry.meta)) in ("same", "precision")
            if fits and not entry.problem and entry.meta.get("method") != "activation":
                found.append(entry.name)
        return found

    def _check_model(self, opened: DirectionFile) -> None:
        match = compatibility(opened.meta, self.info, opened.sites)
        said = warning(match, opened.meta, self.info, opened.sites)
        if match in ("width", "no") and not self.force:
            forced = match == "width" or opened.model.get("width") is None  # else there is nothing to force
            raise UsageError(
                f"direction {opened.name!r}: {said}; make it again on this model"
                + (", or set force = true (--force)" if forced else "")
            )
        if said:
            self.notes[opened.name] = f"{opened.name}: {said}"

    def vector(self, expr: DirectionExpr, site: Site) -> torch.Tensor:
        """The value of an expression at a site, float32 [d]; UsageError for a site or width that it lacks."""
        value = compose(expr, site, site_width(site, self.shape), self._stored)
        if not bool(torch.isfinite(value).all()):
            raise UsageError(f"direction {expr}: its value at {site.short} is not finite")
        return value

    def _stored(self, name: str, site: Site, shuffled: int | None = None, /) -> torch.Tensor:
        if shuffled is not None:
            return self._shuffled(name, site, shuffled)
        if name in self.given and site in self.given[name]:
            return self.given[name][site]
        return torch.from_numpy(self.file(name).vector(str(site)))

    def _shuffled(self, name: str, site: Site, number: int) -> torch.Tensor:
        """At the norm of the direction itself, so that sums weigh alike."""
        opened = self.file(name)
        return torch.from_numpy(opened.shuffled(str(site), number)) * opened.norm(str(site))

    def shuffles(self, expr: DirectionExpr) -> int:
        """How many shuffled-label controls an expression of stored directions has."""
        return min((self.file(name).shuffles for name in expr.names if name not in self.given), default=0)

    def reference(self, site: Site, expr: DirectionExpr) -> float | None:
        """The reference norm at a site: as measured on this model, else as stored with the direction."""
        if site in self.references:
            return self.references[site]
        for name in expr.names:
            opened = self.file(name)
            same = opened.model.get("weight_hash") == self.info.weight_hash
            if same and str(site) in opened.sites and opened.reference(str(site)) is not None:
                return opened.reference(str(site))
        return None

    def missing(self, terms: Iterable[EditTerm]) -> list[Site]:
        """The sites of these edits whose reference norm is not known yet."""
        wanted = {site: term.expr for term in terms if term.op == "add" for site in term.sites}
        return sorted(site for site, expr in wanted.items() if self.reference(site, expr) is None)

    def check(self, terms: Iterable[EditTerm]) -> None:
        """Raise UsageError for a direction that is not there, is of another model, or lacks a site of its term."""
        for term in terms:
            for site in term.sites:
                self.vector(term.expr, site)

    def resolve(self, terms: Sequence[EditTerm]) -> Resolved:
        """Edits for the engine, one a site, in order.

        Within a group the vectors are scaled so that one α, the first site's, serves all: 8% at ``llm.12+14``
        is 8% of each site's own reference norm, and turning it keeps that so.
        """
        edits: list[Edit] = []
        doses: list[Dose] = []
        for term in terms:
            vectors = [self.vector(term.expr, site) for site in term.sites]
            norms = [float(vector.double().norm()) for vector in vectors]
            if term.op == "project" and min(norms) == 0:
                raise UsageError(f"edit !{term.direction}: its norm is zero at {format_group(term.sites)}")
            references = [self.reference(site, term.expr) for site in term.sites]
            scales = self._scales(term, norms, references)
            alpha = term.strength.value * scales[0]
            if abs(alpha) * max(norms) > LARGEST:
                raise UsageError(
                    f"edit {term}: a strength of {alpha:g} times the direction's norm is not finite"
                )
            first = len(edits)
            for site, vector, scale in zip(term.sites, vectors, scales, strict=True):
                scaled = vector if scale == scales[0] else vector * (scale / scales[0])
                edits.append(Edit(site, term.op, scaled, alpha, term.where))
            doses.append(Dose(term, norms[0], references[0], tuple(range(first, len(edits)))))
        names = tuple(dict.fromkeys(name for term in terms for name in term.expr.names))
        stored = [self.rename.get(name, name) for name in names]
        notes = tuple(self.notes[name] for name in stored if name in self.notes)
        return Resolved(format_edits(terms), tuple(terms), tuple(doses), tuple(edits), names, notes)

    def _scales(
        self, term: EditTerm, norms: Sequence[float], references: Sequence[float | None]
    ) -> list[float]:
        """α for a strength of 1 in the term's unit, at each of its sites."""
        if term.op != "add" or term.strength.unit == "alpha":
            return [1.0] * len(norms)
        one = Strength(1.0, term.strength.unit)
        pairs = zip(norms, references, strict=True)
        scales = [one.to_alpha(norm, reference) for norm, reference in pairs]
        if not all(math.isfinite(scale) and scale > 0 for scale in scales):
            raise UsageError(f"edit {term}: the strength {term.strength} has no finite α there")
        return scales


def read_positions(
    resolver: Resolver, names: Sequence[str], prompt_len: int, content: Sequence[bool]
) -> list[int]:
    """The prompt positions at which the first of these directions was read, for showing."""
    for name in (name for name in names if name not in resolver.given):
        pooling, _, place = resolver.file(name).read.partition("@")
        if pooling == "last" and place in ("", "prompt", "all"):
            return [prompt_len - 1]
        if pooling in ("mean", "max"):
            return [i for i, mark in enumerate(content) if mark]
    return []


def _sites_of(meta: Mapping[str, Any]) -> list[str]:
    """The sites that a stored direction says it has."""
    said = meta.get("sites")
    return [site for site in said if isinstance(site, str)] if isinstance(said, list) else []
