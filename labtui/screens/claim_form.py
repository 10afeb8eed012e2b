"""The form that writes a claim: every field is checked as it is typed, by the rules of the ledger."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import msgspec

from labtui.widgets.dialog import Field, Form, Values
from labtui_artifacts.errors import LabError
from labtui_kernels.lang.sites import format_group, parse_sites
from labtui_sessions.claims import MAX_NAME, Claim, Query, named, validate

if TYPE_CHECKING:
    from labtui.projection import Source

METRICS = ("words", "tokens", "perplexity", "coherent", "kl", "repetition", "distinct-2")
"""Offered where no session says what there is."""
SIGNS = {"greater than": "greater", "less than": "less"}
KINDS = {"effect (change from zero rows)": "effect", "rate (share of yes)": "rate", "value (mean)": "value"}
QUERY = ("direction", "site", "strength", "where", "model", "table", "title", "tag")
_HINTS = {
    "direction": "empty: every one, and every cell must hold",
    "strength": "2.0, 8% or |39|",
    "where": "all, prompt, last, generated, …",
    "model": "only rows that a model of this name made",
    "table": "only tables of this name",
    "title": "only sessions whose title has this in it",
    "tag": "only sessions with this tag",
}


def free(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it where it is taken."""
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def claim_of(values: Mapping[str, str], taken: Collection[str], parent: str | None) -> Claim:
    """The claim of a filled form; UsageError where it makes no sense. It is made when it is added."""
    text = values["text"].strip()
    query = {name: values[name].strip() for name in QUERY}
    return validate(
        Claim(
            name=values["name"].strip() or free(named(text), taken),
            text=text,
            metric=values["metric"].strip(),
            of=KINDS[values["of"]],  # type: ignore[arg-type]
            comparison=SIGNS[values["sign"]],  # type: ignore[arg-type]
            threshold=_number(values["threshold"]),
            created=0.0,
            query=Query(**query),
            parent=parent,
        )
    )


def claim_form(taken: Collection[str], source: Source | None, parent: Claim | None = None) -> Form:
    """The form for a new claim, or for one that refines ``parent`` and begins as it stands."""
    known = _known(source)
    begun = _begun(parent)
    above = parent.name if parent is not None else None

    def name_problem(values: Values) -> str:
        name = values["name"].strip() or free(named(values["text"]), taken)
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) or len(name) > MAX_NAME:
            return "lower-case letters, digits, - . _ are expected"
        return f"{name} is there already" if name in taken else ""

    def metric_problem(values: Values) -> str:
        return "" if values["metric"].strip() else "a metric is needed"

    def text_problem(values: Values) -> str:
        return "" if values["text"].strip() else "say what is claimed"

    fields = [
        Field("text", "claim", begun["text"], "in your words", check=text_problem),
        Field("metric", "metric", begun["metric"], options=known["metric"], check=metric_problem),
        Field("of", "its", begun["of"], options=tuple(KINDS), free=False),
        Field("sign", "is", begun["sign"], options=tuple(SIGNS), free=False),
        Field("threshold", "threshold", begun["threshold"], check=_threshold_problem),
        *(
            Field(name, name, begun[name], _HINTS.get(name, ""), known.get(name, ()), check=_CHECKS.get(name))
            for name in QUERY
        ),
        Field("name", "name", "", "default: from the claim's words", check=name_problem),
    ]

    def preview(values: Values) -> str:
        try:
            return claim_of(values, taken, above).formula
        except LabError as error:
            return f"! {error}"

    return Form(
        f"Refine {above}" if above else "A new claim",
        fields,
        accept="Add",
        intro="Sessions begun before it is added never decide it.",
        preview=preview,
    )


def _begun(parent: Claim | None) -> dict[str, str]:
    """The values that the form begins with."""
    if parent is None:
        return {**dict.fromkeys(QUERY, ""), "text": "", "metric": "words", "threshold": "0",
                "of": next(iter(KINDS)), "sign": "less than"}  # fmt: skip
    of = next(text for text, kind in KINDS.items() if kind == parent.of)
    sign = next(text for text, kind in SIGNS.items() if kind == parent.comparison)
    return {**msgspec.structs.asdict(parent.query), "text": parent.text, "metric": parent.metric,
            "threshold": f"{parent.threshold:.10g}", "of": of, "sign": sign}  # fmt: skip


def _known(source: Source | None) -> dict[str, tuple[str, ...]]:
    """By field, what the session in view suggests."""
    if source is None:
        return {"metric": METRICS}
    state = source.state
    columns = [name for table in state.tables.values() for name in table.columns]
    here = [name for name in dict.fromkeys(columns) if name in METRICS or ":" in name]
    directions = tuple(name for name, a in state.artifacts.items() if a.kind == "direction")
    model = str((state.model or {}).get("name") or "")
    return {
        "metric": tuple(dict.fromkeys((*here, *METRICS))),
        "direction": directions,
        "model": (model,) if model else (),
        "table": tuple(state.tables),
        "tag": tuple(state.tags),
    }


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _threshold_problem(values: Values) -> str:
    return "" if math.isfinite(_number(values["threshold"])) else "a number is expected"


def _strength_problem(values: Values) -> str:
    text = values["strength"].strip()
    try:
        validate(_sample(Query(strength=text)))
    except LabError:
        return "a number is expected, as 2.0, 8% or |39|"
    return ""


def _site_problem(values: Values) -> str:
    """Tables show a site by one name; a query of another finds nothing."""
    text = values["site"].strip()
    if not text:
        return ""
    try:
        groups = parse_sites(text, None)
    except LabError as error:
        return str(error)
    shown = [format_group(group) for group in groups]
    if len(shown) != 1:
        return "one site is expected; empty: every one"
    return "" if shown[0] == text else f"tables show this site as {shown[0]}"


def _sample(query: Query) -> Claim:
    return Claim(name="x", text="x", metric="x", of="effect", comparison="less", threshold=0.0,
                 created=0.0, query=query)  # fmt: skip


_CHECKS = {"strength": _strength_problem, "site": _site_problem}
