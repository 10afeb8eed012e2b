"""The table of methods that a broker answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from labtui_kernels.broker.clients import Client
    from labtui_kernels.broker.server import Broker

Run = Callable[["Broker", "Client", Any], Awaitable[Any]]


class Params(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of a method; this one takes none."""


@dataclass(frozen=True)
class Method:
    """A method: the shape of its parameters, and what answers it."""

    params: type[msgspec.Struct]
    run: Run


METHODS: dict[str, Method] = {}


def method(name: str, params: type[msgspec.Struct] = Params) -> Callable[[Run], Run]:
    """Register an answer for requests of that name."""

    def register(run: Run) -> Run:
        METHODS[name] = Method(params, run)
        return run

    return register
