"""``labtui artifact``: list, inspect, import and export what the store holds."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from labtui import output
from labtui.options import Target, json_option, target_options

FORMATS = ("safetensors", "gguf", "npy", "svec", "neuronpedia", "pt")
EXPORTS = ("safetensors", "gguf", "npy", "svec", "neuronpedia")


@click.group("artifact", help="List, inspect, import and export directions and other artifacts.")
def command() -> None:
    pass


@command.command("ls")
@click.option("--kind", metavar="KIND", help="Only artifacts of this kind, as direction.")
@target_options
@json_option
def ls(target: Target, kind: str | None, as_json: bool) -> None:
    """List the artifacts of the store."""
    from labtui.shelf import find

    found = find(target).list(kind)
    if as_json:
        output.emit_json(found)
        return
    rows = [
        {**entry, "size": output.size(entry["bytes"]), "about": _about(entry), "changed": _when(entry)}
        for entry in found
    ]
    if rows:
        output.table(rows, ["name", "kind", "size", "changed", "about"])
    else:
        output.note(
            "the store is empty: `labtui artifact import FILE`, or make a direction with `labtui run`"
        )


@command.command("show")
@click.argument("name", metavar="A")
@target_options
@json_option
def show(target: Target, name: str, as_json: bool) -> None:
    """Say what artifact A holds and where it came from."""
    from labtui.shelf import find

    found = find(target).show(name)
    if as_json:
        output.emit_json(found)
        return
    meta = found["meta"]
    output.pairs(
        {"name": found["name"], "kind": found["kind"], "size": output.size(found["bytes"]), **_facts(meta)}
    )
    print()
    sites = _sites(meta, found.get("references", {}))
    if sites:
        columns = ("site", "norm", "reference", "percent", "gap", "split_half")
        output.table(sites, [column for column in columns if any(column in row for row in sites)])
        return
    rows = [
        {"tensor": key, "dtype": value["dtype"], "shape": str(value["shape"])}
        for key, value in found["tensors"].items()
    ]
    output.table(rows, ["tensor", "dtype", "shape"])


@command.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "name", metavar="NAME", help="Its name in the store (default: the file's).")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Its format (default: by its content).")
@click.option("--site", help="Where a single vector belongs, as llm.12.")
@click.option(
    "--rows",
    type=click.Choice(["blocks", "hidden-states"]),
    default="blocks",
    show_default=True,
    help="What a row of a bare stack is: block k's output, or transformers' hidden_states[k].",
)
@click.option("--force", is_flag=True, help="Replace an artifact of that name.")
@target_options
@json_option
def import_(
    target: Target,
    path: Path,
    name: str | None,
    format_: str | None,
    site: str | None,
    rows: str,
    force: bool,
    as_json: bool,
) -> None:
    """Bring a file into the store: safetensors, control-vector GGUF, npy, svec, Neuronpedia or pt."""
    from labtui.shelf import find
    from labtui_artifacts.exchange import Reading

    reading = Reading(site=_site(site) if site else None, rows=rows)
    stored, kind, notes = find(target, changing=True).bring(path, name, format_, reading, force)
    for line in notes:
        output.note(line)
    if as_json:
        output.emit_json({"name": stored, "kind": kind, "notes": list(notes)})
    else:
        output.note(f"stored as {stored!r} ({kind})")


@command.command("export")
@click.argument("name", metavar="A")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "format_", type=click.Choice(EXPORTS), required=True, help="The format to write.")
@click.option(
    "--site", "sites", multiple=True, help="Only this site, as llm.12 (may be given several times)."
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@target_options
@json_option
def export(
    target: Target, name: str, path: Path, format_: str, sites: tuple[str, ...], force: bool, as_json: bool
) -> None:
    """Write artifact A to PATH in another tool's format."""
    from labtui.shelf import find

    chosen = [_site(site) for site in sites] or None
    notes = find(target).take(name, path, format_, chosen, force)
    for line in notes:
        output.note(line)
    if as_json:
        output.emit_json({"name": name, "path": str(path), "format": format_, "notes": list(notes)})
    else:
        output.note(f"wrote {path}")


@command.command("rename")
@click.argument("old")
@click.argument("new")
@target_options
def rename(target: Target, old: str, new: str) -> None:
    """Give artifact OLD the name NEW."""
    from labtui.shelf import find

    find(target, changing=True).rename(old, new)
    output.note(f"{old!r} is now {new!r}")


@command.command("rm")
@click.argument("name", metavar="A")
@target_options
@json_option
def rm(target: Target, name: str, as_json: bool) -> None:
    """Delete artifact A."""
    from labtui.shelf import find

    find(target, changing=True).delete(name)
    if as_json:
        output.emit_json({"deleted": name})
    else:
        output.note(f"deleted {name!r}")


def _site(text: str) -> str:
    from labtui_kernels.lang.sites import parse_site

    return str(parse_site(text))


def _when(entry: dict[str, Any]) -> str:
    return datetime.fromtimestamp(entry["modified"]).strftime("%Y-%m-%d %H:%M")


def _about(entry: dict[str, Any]) -> str:
    if entry["problem"]:
        return entry["problem"].partition(": ")[2] or entry["problem"]
    meta = entry["meta"]
    parts = [str(meta[key]) for key in ("title", "method") if isinstance(meta.get(key), str)]
    sites = meta.get("sites")
    if isinstance(sites, list):
        parts.append(f"{len(sites)} sites" if len(sites) != 1 else str(sites[0]))
    model = meta.get("model")
    if isinstance(model, dict) and isinstance(model.get("name"), str):
        parts.append(model["name"])
    return ", ".join(parts)


def _facts(meta: dict[str, Any]) -> dict[str, Any]:
    """The single values of an artifact's meta, and those of its model and origin, by dotted name."""
    found: dict[str, Any] = {}
    for key, value in meta.items():
        if isinstance(value, str | int | float):
            found[key] = value
        elif isinstance(value, dict) and key in ("model", "origin"):
            found.update(
                {
                    f"{key}.{inner}": item
                    for inner, item in value.items()
                    if isinstance(item, str | int | float)
                }
            )
    return found


def _sites(meta: dict[str, Any], references: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a site, as far as stored: its norm, the site's reference norm (median), the one in % of the other
    (what strength 1 is), the gap and the split-half stability.
    """
    sites = meta.get("sites")
    if not isinstance(sites, list):
        return []
    rows: list[dict[str, Any]] = [{"site": str(site)} for site in sites]
    for key, column in (("norms", "norm"), ("gaps", "gap"), ("split_half", "split_half")):
        values = meta.get(key)
        if isinstance(values, dict):
            for row in rows:
                if isinstance(values.get(row["site"]), int | float):
                    row[column] = values[row["site"]]
    for row in rows:
        reference = (references.get(row["site"]) or {}).get("median")
        if reference and "norm" in row:
            row["reference"], row["percent"] = reference, 100 * row["norm"] / reference
    return rows
