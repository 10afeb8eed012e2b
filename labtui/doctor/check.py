"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One finding. ``fail`` is for what the core cannot do without; ``todo`` is empty when all is well."""

    area: str
    name: str
    status: Status
    what: str
    todo: str = ""
    data: dict[str, Any] = field(default_factory=dict)
