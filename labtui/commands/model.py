"""``labtui model``: the models at hand, and the sites of one."""

from __future__ import annotations

from typing import Any

import click

from labtui import output
from labtui.options import Target, json_option, target_options


@click.group("model")
def command() -> None:
    """List models, and the sites of one."""


@command.command()
@json_option
def ls(as_json: bool) -> None:
    """The bundled models, those of the config's profiles, and Qwen models in the Hub's cache."""
    from labtui.models import at_hand

    rows = at_hand()
    if as_json:
        output.emit_json(rows)
    else:
        output.table(rows, ["model", "where", "architecture", "bytes"])


@command.command()
@click.argument("model", required=False)
@json_option
@target_options
def show(model: str | None, as_json: bool, target: Target) -> None:
    """The sites of MODEL (or of the kernel's model): name, shape, and what others call it."""
    from labtui.models import describe

    shown = describe(model) if model is not None else _of_kernel(target)
    if as_json:
        output.emit_json(shown)
        return
    facts = {key: value for key, value in shown.items() if key not in ("sites", "aliases")}
    output.pairs({key: value for key, value in facts.items() if value or value is False})
    for alias in shown["aliases"]:
        print(alias["note"])
    rows = [{**site, "also": _also(site)} for site in shown["sites"]]
    output.table(rows, ["site", "width", "shape", "also"], limit=100)


def _also(site: dict[str, Any]) -> str:
    return "; ".join(
        [site["note"]] * bool(site["note"]) + [f"{tool}: {name}" for tool, name in site["also"].items()]
    )


def _of_kernel(target: Target) -> dict[str, Any]:
    from labtui.models import sites_of
    from labtui_kernels.lang.shape import ModelShape

    with target.connect() as lab:
        found = lab.request("sites")
    windowed = found["model"].get("vision_windowed", [])
    return {**found["model"], **sites_of(ModelShape(**found["shape"]), windowed)}
