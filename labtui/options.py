"""Options that many commands share: which kernel, and by which way."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from labtui.lab import Lab

VIA_HELP = 'How to reach its machine: "ssh node", "srun --jobid 42 --overlap".'
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Target:
    """The kernel a command speaks to: its name (None: the only one) and the way there (None: here)."""

    kernel: str | None = None
    via: str | None = None
    low_bandwidth: bool = False
    debug: bool = False
    images: str | None = None

    def settled(self) -> Target:
        """With what environment and config file say where no option was given."""
        from labtui import config

        said = config.settings({"kernel": self.kernel, "via": self.via})
        return replace(self, kernel=said.kernel, via=said.via)

    def connect(self) -> Lab:
        """Connect; raises ``Unreachable`` with one line that lists what is running."""
        from labtui.lab import connect

        target = self.settled()
        return connect(target.kernel, via=target.via)


def target_options(function: F) -> F:
    """Give a command ``--kernel`` and ``--via``: it receives ``target: Target``, the root's filling gaps."""

    @click.option("--kernel", metavar="NAME", help="The kernel to speak to (default: the only one running).")
    @click.option("--via", metavar="COMMAND", help=VIA_HELP)
    @click.pass_context
    @functools.wraps(function)
    def wrapped(ctx: click.Context, /, kernel: str | None, via: str | None, **kwargs: Any) -> Any:
        root = ctx.find_object(Target) or Target()
        target = replace(root, kernel=kernel or root.kernel, via=via or root.via)
        return ctx.invoke(function, target=target, **kwargs)

    return wrapped  # type: ignore[return-value]


def json_option(function: F) -> F:
    """Give a command ``--json``: it receives ``as_json: bool``."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")(function)
