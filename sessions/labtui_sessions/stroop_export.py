"""A Stroop recipe as a folder with the names that the study used.

``results/steering_subpop.json`` (cosines before and after), ``results/behavioral_eval.json`` (answers), and
``chunks_subpop/{color,text}/layer{N}_all.safetensors`` (label -> unit centroid). The study's layer N is the output of
vision block N, counted from 0; ``merged`` is what the merger gives to the language model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labtui_artifacts.errors import UsageError
from labtui_artifacts.files import write_atomically, write_safetensors
from labtui_artifacts.kinds.chunks import ChunksFile, layer_files

from . import stroop
from .stroop_page import Judged, Study, studies
from .tables import Table, finite

STEERING, BEHAVIOR = "results/steering_subpop.json", "results/behavioral_eval.json"
LAYERS = "layerN is the output of vision block N, counted from 0"


def export(
    tables: Mapping[str, Table],
    folder: Path,
    chunks: ChunksFile | None = None,
    *,
    name: str = "",
    replace: bool = False,
) -> list[Path]:
    """Write the folder; the files that were written. ``name`` says which recipe, where there are several.

    UsageError when there is none, or a file is in the way.
    """
    study = _chosen(tables, name)
    files: dict[str, Any] = {
        STEERING: {"layers": LAYERS, **_steering(study)},
        BEHAVIOR: {"layers": LAYERS, **_behavior(study, tables)},
    }
    parts = {
        f"chunks_subpop/{place}": vectors
        for place, vectors in (layer_files(chunks) if chunks else {}).items()
    }
    places = [folder / place for place in (*files, *parts)]
    taken = next((place for place in places if place.exists()), None)
    if taken is not None and not replace:
        raise UsageError(f"{taken}: exists already; give another folder, or --force to replace it")
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
    for place, document in files.items():
        data = (json.dumps(finite(document), ensure_ascii=False, indent=1) + "\n").encode()
        write_atomically(folder / place, lambda out, data=data: out.write(data) and None)
    for place, vectors in parts.items():
        write_safetensors(folder / place, vectors, {"layers": LAYERS})
    return places


def _chosen(tables: Mapping[str, Table], name: str) -> Study:
    found = {study.name: study for study in studies(tables)}
    if name:
        if name not in found:
            raise UsageError(
                f"no Stroop recipe {name!r} in this session; it has {', '.join(found) or 'none'}"
            )
        return found[name]
    if len(found) != 1:
        known = f"{len(found)} ({', '.join(found)}): say which with --table" if found else "none"
        raise UsageError(f"Stroop recipes in this session: {known}")
    return next(iter(found.values()))


def _steering(study: Study) -> dict[str, Any]:
    rows = [{key: value for key, value in row.items() if value is not None} for row in study.cosines]
    return {"cosines": rows, "prediction": [_plain(one) for one in study.predictions]}


def _behavior(study: Study, tables: Mapping[str, Table]) -> dict[str, Any]:
    answers = [
        {key: row.get(key) for key in _ANSWER}
        for name in (study.name, f"{study.name}-judged")
        if name in tables
        for row in stroop.rows_of(tables[name])
    ]
    return {
        "cells": [_plain(one) for one in study.cells],
        "judged": [_judged(one) for one in study.judged],
        "interference": [_plain(one) for one in study.interference],
        "answers": answers,
    }


_ANSWER = (
    "split", "subset", "word", "ink", "target", "question", "delta", "direction", "site", "where", "strength_text",
    "strength_abs", "strength_pct", "control", "answer", "plain", "right", *stroop.OUTCOMES, "text", "picture",
)  # fmt: skip


def _judged(one: Judged) -> dict[str, Any]:
    return {
        **_plain(one.cell),
        "feasible": one.feasible,
        "random": {question: _plain(null) for question, null in one.random.items()},
        "permuted": {question: _plain(null) for question, null in one.permuted.items()},
        "negated": {question: _plain(rate) for question, rate in one.negated.items()},
    }


def _plain(value: Any) -> Any:
    """Dataclasses as maps, all the way down."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
