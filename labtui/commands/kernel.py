"""``labtui kernel``: start, list, look into and stop kernels; here, or at the other end of ``--via``."""

from __future__ import annotations

import subprocess
from typing import Any

import click

from labtui import output
from labtui.options import Target, json_option, target_options
from labtui_artifacts.errors import Unreachable

LOADING = 3600.0
"""Seconds that a kernel elsewhere may take to load its model, as one here may (``Limits.load_budget``)."""


@click.group("kernel")
def command() -> None:
    """Start, list and stop kernels: background processes that hold a model."""


def _elsewhere(target: Target, words: list[str], *, work: float | None = 0.0) -> bool:
    """Run the same command at the other end of ``--via``; True when there is one.

    ``work``: the seconds that the command itself may take there (None: it goes on until it is interrupted), over
    those that the way there may take, a password included. Unreachable when it has not ended then.
    """
    via = target.settled().via
    if not via:
        return False
    from labtui import link

    within = None if work is None else link.FIRST_TIMEOUT + work
    try:
        command = link.remote_command(via, ["kernel", *words])
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=within)
    except OSError as error:
        raise Unreachable(f"--via {via!r}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise Unreachable(
            f"--via {via!r}: `labtui kernel {words[0]}` has not ended there in {within:g} s: "
            "is the machine reachable, and does the command ask for something?"
        ) from error
    if done.returncode:
        raise SystemExit(3 if done.returncode in (126, 127, 255) else done.returncode)
    return True


def _ask(name: str, method: str, **params: Any) -> Any:
    """One request to a kernel on this machine."""
    import asyncio

    from labtui.starting import ask

    return asyncio.run(ask(name, method, **params))


@command.command()
@click.argument("name")
@click.option("--model", help="A bundled name (toy-qwen3), a Hub id, a local folder or a .gguf file.")
@click.option("--profile", help="A profile of the config file: model, dtype, device, quantisation.")
@click.option("--quantize", type=click.Choice(["4bit", "8bit"]), help="Load the weights in fewer bits.")
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]), help="Default: auto.")
@click.option("--device", help="auto, cpu, cuda or cuda:N. Default: auto.")
@click.option("--idle-ttl", help="End by itself after so long without clients and jobs. Default: 8h.")
@click.option("--session", metavar="ID", help="Go on with this session, on its model: also one copied here.")
@click.option("--wait", is_flag=True, help="Return when the model is loaded.")
@json_option
@target_options
def start(name: str, wait: bool, as_json: bool, target: Target, **options: str | None) -> None:
    """Start a kernel, or go on with one that ran before (then --model may be left out)."""
    words = ["start", name, *(["--wait"] if wait else []), *(["--json"] if as_json else [])]
    for key, value in options.items():
        if value is not None:
            words += [f"--{key.replace('_', '-')}", value]
    if _elsewhere(target, words, work=LOADING if wait else 0.0):
        return
    from labtui.starting import configure, start_kernel, wait_ready

    config = configure(name, **options)
    fresh = start_kernel(config, options["session"])
    if not fresh:
        output.note(f"kernel {name!r} is already running")
    if wait:
        with output.Progress(f"loading {config.model}", unit="") as progress:
            info = wait_ready(name, progress.update, stop_on_failure=fresh)
    else:
        info = _ask(name, "info")
    if as_json:
        output.emit_json(info)
    else:
        output.note(f"kernel {name!r} is {info['state']}: {info['model']}")
        if wait and info["detail"]:
            output.note(info["detail"])


@command.command()
@json_option
@target_options
def ps(as_json: bool, target: Target) -> None:
    """List the kernels that run here."""
    if _elsewhere(target, ["ps", *(["--json"] if as_json else [])]):
        return
    import asyncio

    from labtui.starting import roster

    rows = []
    for kernel in asyncio.run(roster()):
        if (info := kernel.info) is None:
            rows.append({"name": kernel.name, "state": "not answering", "detail": kernel.problem})
            continue
        rows.append(
            {
                "name": kernel.name,
                "state": info["state"],
                "model": info["model"],
                "device": (info["info"] or {}).get("device") or info["device"],
                "jobs": info["jobs"],
                "clients": info["clients"],
                "uptime": round(info["uptime"], 1),
                "session": info["session"],
                "detail": info["detail"],
            }
        )
    if as_json:
        output.emit_json(rows)
        return
    for row in rows:
        if "uptime" in row:
            row["uptime"] = output.duration(row["uptime"])
    columns = ["name", "state", "model", "device", "jobs", "clients", "uptime", "session", "detail"]
    output.table(rows, columns)


@command.command()
@click.argument("name", required=False)
@json_option
@target_options
def info(name: str | None, as_json: bool, target: Target) -> None:
    """What is known of a kernel: state, model, jobs, memory."""
    chosen = _chosen(name, target)
    if _elsewhere(target, ["info", *chosen, *(["--json"] if as_json else [])]):
        return
    found = _ask(_resolve(chosen), "info")
    if as_json:
        output.emit_json(found)
        return
    jobs = found.pop("open_jobs")
    model = found.pop("info") or {}
    memory = found.pop("memory") or {}
    found["uptime"] = output.duration(found["uptime"])
    found["broker_memory"] = output.size(found["broker_memory"])
    found.pop("started")
    found |= {f"memory {key}": output.size(value) for key, value in memory.items() if isinstance(value, int)}
    output.pairs({key: value for key, value in found.items() if value not in (None, "", False)})
    output.pairs({f"model {key}": value for key, value in model.items() if value not in (None, "", [])})
    if jobs:
        output.table(jobs, ["job", "kind", "status", "priority", "cells", "losses", "client", "session"])


def _chosen(name: str | None, target: Target) -> list[str]:
    chosen = name or target.settled().kernel
    return [chosen] if chosen else []


def _resolve(chosen: list[str]) -> str:
    from labtui_kernels.broker import registry

    return chosen[0] if chosen else registry.only()


@command.command()
@click.argument("name", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many of the last lines.")
@target_options
def logs(name: str | None, follow: bool, lines: int, target: Target) -> None:
    """The kernel's log: one JSON object a line."""
    chosen = _chosen(name, target)
    words = ["logs", *chosen, "-n", str(lines), *(["-f"] if follow else [])]
    if _elsewhere(target, words, work=None if follow else 0.0):
        return
    from labtui_kernels.broker import logs as kernel_logs
    from labtui_kernels.broker.config import check_name

    path = kernel_logs.log_path(check_name(_resolve(chosen)))
    if not path.exists():
        raise Unreachable(f"kernel {path.stem!r} has no log: it never ran here")
    for line in kernel_logs.read_tail(path, max(1, lines)):
        print(output.clean(line))
    if follow:
        for line in kernel_logs.follow(path):
            print(output.clean(line), flush=True)


@command.command()
@click.argument("name", required=False)
@click.option("--force", is_flag=True, help="Do not wait for the step that runs.")
@target_options
def stop(name: str | None, force: bool, target: Target) -> None:
    """Stop a kernel; unfinished jobs go on at its next start."""
    chosen = _chosen(name, target)
    if _elsewhere(target, ["stop", *chosen, *(["--force"] if force else [])]):
        return
    from labtui.starting import STOP_TIMEOUT, wait_gone

    found = _resolve(chosen)
    answer = _ask(found, "stop", force=force, within=STOP_TIMEOUT)
    wait_gone(found)
    left = answer["unfinished"]
    output.note(
        f"kernel {found!r} has stopped"
        + (f"; {left} unfinished jobs go on at its next start" if left else "")
    )


@command.command()
@json_option
@target_options
def gc(as_json: bool, target: Target) -> None:
    """Remove what kernels that are gone left behind: sockets, upload pieces, temporary files."""
    if _elsewhere(target, ["gc", *(["--json"] if as_json else [])]):
        return
    from labtui_artifacts import paths
    from labtui_artifacts.store import Store
    from labtui_kernels.broker import registry

    removed = [f"{name}.sock" for name in registry.clean()]
    alive = registry.alive()
    for path in paths.runtime().glob(".upload-*"):
        if not any(path.name.startswith(f".upload-{name}-") for name in alive):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    removed += Store(paths.artifacts()).sweep()
    if as_json:
        output.emit_json({"removed": removed})
    else:
        output.note(f"removed {', '.join(removed)}" if removed else "nothing to remove")


@command.command()
@click.argument("name", required=False)
def pipe(name: str | None) -> None:
    """The kernel's socket on stdin and stdout, for --via."""
    from labtui.piping import shuttle
    from labtui_kernels.broker import registry

    connection = registry.connect(name or registry.only())
    connection.settimeout(None)
    shuttle(connection)
