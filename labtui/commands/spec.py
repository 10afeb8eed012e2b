"""``labtui spec``: a commented template of a kind of spec."""

from __future__ import annotations

import click


@click.command("spec")
@click.argument("kind")
def command(kind: str) -> None:
    """Print a TOML template of KIND with every field and its default."""
    from labtui_kernels.specs import template

    print(template(kind), end="")
