"""Starting a kernel on this machine and waiting for its model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labtui import config as settings
from labtui.models import check_model
from labtui_artifacts import library
from labtui_artifacts.errors import LabError, Unreachable, UsageError, from_code
from labtui_kernels.broker import config as configuration
from labtui_kernels.broker import daemon, registry
from labtui_kernels.broker.config import KernelConfig

OnProgress = Callable[[float, float, str], None]
STOP_TIMEOUT = 60.0
ANSWER_WITHIN = 10.0
LISTED_WITHIN = 2.5
"""How long a kernel may take to answer when it is one of a list, in seconds."""


def configure(
    name: str,
    *,
    model: str | None = None,
    profile: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    quantize: str | None = None,
    idle_ttl: str | None = None,
    session: str | None = None,
) -> KernelConfig:
    """A kernel's configuration: what is given, over the profile, over the model that ``session`` was made on,
    over what it ran with before.

    Raises UsageError or BadFile with one line, also for a model that is plainly not there.
    """
    configuration.check_name(name)
    known = configuration.read_record(name)
    base = known.config if known is not None else KernelConfig(name, "")
    if profile is not None:
        chosen = settings.settings().profile(profile)
        ttl = configuration.parse_duration(chosen.idle_ttl) if chosen.idle_ttl else configuration.DEFAULT_TTL
        base = KernelConfig(name, chosen.model, chosen.dtype, chosen.device, chosen.quantize, ttl)
    elif model is not None:
        base = KernelConfig(name, model)
    elif session is not None:
        base = made_on(name, session)
    elif not base.model:
        raise UsageError(
            f"kernel {name!r} has not run here before: give --model (toy-qwen3, a Hub id, a folder, a .gguf) "
            "or --profile"
        )
    found = KernelConfig(
        name=name,
        model=resolve_model(model or base.model),
        dtype=dtype or base.dtype,
        device=device or base.device,
        quantize=quantize or base.quantize,
        idle_ttl=configuration.parse_duration(idle_ttl) if idle_ttl else base.idle_ttl,
    )
    check_model(found.model)
    return configuration.check(found)


QUANTIZED = {"nf4": "4bit", "int8": "8bit"}


def made_on(name: str, session: str) -> KernelConfig:
    """A kernel of that name with the model that the unfinished jobs of a session here were made on, in its
    precision; where no job is unfinished, the model that was loaded last in it."""
    from labtui_kernels.broker.jobs import Jobs
    from labtui_sessions.journal import read_events

    jobs = Jobs()
    for event in read_events(free_session(session)):
        jobs.observe(session, event)
    info = jobs.model_of(session)
    if not info.get("source"):
        raise UsageError(f"session {session!r} does not say which model it was made on: give --model")
    quantize = QUANTIZED.get(str(info.get("quantisation")))
    return KernelConfig(name, str(info["source"]), dtype=str(info.get("dtype") or "auto"), quantize=quantize)


def free_session(identity: str) -> Path:
    """The folder of a session that a kernel could go on with.

    UsageError when there is none; LabError when a process has it open. A lock that came along in a copy, of a
    process elsewhere, holds nobody up.
    """
    from labtui_artifacts.lock import Lock
    from labtui_sessions.home import folder_of
    from labtui_sessions.journal import LOCK

    folder = folder_of(identity)
    with Lock(folder / LOCK, what=f"session {identity}", timeout=0.0):
        return folder


def resolve_model(model: str) -> str:
    """The model as the kernel should look for it: paths absolute, since the kernel has another folder.

    UsageError for a path that does not exist. Bundled names and Hub ids are passed on as they are.
    """
    if model in library.models():
        return model
    path = Path(model).expanduser()
    looks_like_path = model.startswith((".", "/", "~")) or model.count("/") > 1 or model.endswith(".gguf")
    if path.exists():
        return str(path.absolute())
    if looks_like_path:
        raise UsageError(f"--model {model}: no such file or folder")
    if "/" not in model:
        raise UsageError(
            f"--model {model}: no bundled model has that name ({', '.join(library.models())}), and it is no "
            "folder here; a Hub id has an owner: Qwen/Qwen3-0.6B"
        )
    return model


def start_kernel(config: KernelConfig, session: str | None = None) -> bool:
    """Start it; False when a kernel of that name runs already (a worker that was given up is started again).

    ``session``: go on with that one. UsageError when the kernel that runs holds another model or session.
    """
    entry = registry.probe(config.name)
    if entry.hello is None:
        daemon.start(config, session=free_session(session).name if session else "")
        return True
    info = asyncio.run(ask(config.name, "info"))
    if session and info["session"] != session:
        raise UsageError(
            f"kernel {config.name!r} is already running, in session {info['session']}: stop it first, or "
            "choose another name"
        )
    if info["model"] != config.model:
        raise UsageError(
            f"kernel {config.name!r} is already running with {info['model']}: stop it first, or choose "
            "another name"
        )
    if info["failure"]:
        asyncio.run(ask(config.name, "worker.restart"))
    return False


async def ask(name: str, method: str, *, within: float = ANSWER_WITHIN, **params: Any) -> Any:
    """One request to a kernel on this machine; Unreachable when it has not answered ``within`` seconds."""
    from labtui.client import AsyncLab

    try:
        async with asyncio.timeout(within):
            lab = await AsyncLab.connect(name, attach=False)
            try:
                return await lab.request(method, **params)
            finally:
                await lab.close()
    except TimeoutError as error:
        raise Unreachable(
            f"kernel {name!r} is not answering: nothing came in {within:g} s; see `labtui kernel logs {name}`"
        ) from error


@dataclass(frozen=True)
class Running:
    """A kernel of this machine: what its ``info`` says, or why it says nothing."""

    name: str
    info: dict[str, Any] | None
    problem: str = ""


async def roster() -> list[Running]:
    """Every kernel that runs here, all asked at once; one that takes connections but does not answer in
    time is in it too."""
    found = await asyncio.gather(*(_look(name) for name in registry.names()))
    return [one for one in found if one is not None]


async def _look(name: str) -> Running | None:
    entry = await asyncio.to_thread(registry.probe, name, LISTED_WITHIN)
    if entry.hello is None:
        return Running(name, None, entry.problem) if entry.silent else None
    try:
        return Running(name, await ask(name, "info", within=LISTED_WITHIN))
    except LabError as error:
        return Running(name, None, str(error))


def wait_ready(name: str, on_progress: OnProgress, *, stop_on_failure: bool) -> dict[str, Any]:
    """Wait until the model is loaded; the kernel's info. The LabError that the loading ended with otherwise.

    ``stop_on_failure``: a kernel that cannot load its model is of no use and is stopped again.
    """
    return asyncio.run(_wait_ready(name, on_progress, stop_on_failure))


async def _wait_ready(name: str, on_progress: OnProgress, stop_on_failure: bool) -> dict[str, Any]:
    from labtui.client import AsyncLab

    lab = await AsyncLab.connect(name)
    try:
        with lab.subscribed() as take:
            while True:
                info = await lab.request("info")
                if info["state"] in ("ready", "busy"):
                    return info
                if info["failure"]:
                    if stop_on_failure:
                        await lab.request("stop", force=True)
                    raise from_code(info["failure_code"], info["failure"])
                if info["state"] in ("draining", "stopping"):
                    raise Unreachable(f"kernel {name!r} is stopping: {info['detail']}")
                on_progress(info["progress"] or 0.0, 1.0, info["detail"])
                await take()
                if not lab.link.up:
                    await _up_again(lab, take)
    finally:
        await lab.close()


async def _up_again(lab: Any, take: Callable[[], Any]) -> None:
    """A kernel may start again with new code while it loads."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while not lab.link.up:
        if time.monotonic() > deadline:
            raise Unreachable(f"{lab.where}: {lab.link.detail}")
        await take()


def wait_gone(name: str) -> None:
    """Wait until a stopping kernel has gone."""
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        try:
            registry.Lock(name).release()
            return
        except UsageError:
            time.sleep(0.02)
    raise LabError(f"kernel {name!r} is still stopping: `labtui kernel stop {name} --force` does not wait")
