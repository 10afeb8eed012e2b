"""What several kinds of spec have as fields: names of artifacts, expressions, and readings of poles."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from labtui_artifacts.errors import UsageError

from ..lang.positions import parse_where
from .base import Spec

Name: TypeAlias = Annotated[str, Meta(max_length=100)]
Expression: TypeAlias = Annotated[str, Meta(max_length=2000)]
Pooling: TypeAlias = Literal["last", "mean", "max"]
POOLINGS: tuple[Pooling, ...] = ("last", "mean", "max")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")


def check_name(name: str, key: str, spec: Spec) -> None:
    """Raise UsageError unless ``name`` can be an artifact's name."""
    if not _NAME.match(name):
        raise spec.refuse(key, f"{name!r} is no name; expected lower-case letters, digits, '.', '_' or '-'")


def parse_read(text: str) -> tuple[Pooling, str]:
    """A reading: pooling and place. ``last`` -> (last, prompt), ``mean@content`` -> (mean, content)."""
    word, mark, place = text.partition("@")
    pooling: Pooling | None = next((name for name in POOLINGS if name == word), None)
    if pooling is None:
        raise UsageError(
            f"read {text!r}: expected last, mean or max, with a place after '@' as in mean@content"
        )
    where = str(parse_where(place)) if mark else ("prompt" if pooling == "last" else "content")
    if where.startswith("generated"):
        raise UsageError(
            f"read {text!r}: the poles are prompts, nothing is generated; expected a place in the prompt"
        )
    return pooling, where
