"""The machine as the app sees it: its kernels and sessions, here or at the other end of ``--via``."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from labtui import config, output
from labtui.client import AsyncLab
from labtui.options import Target
from labtui.projection import Kernel, KernelCard, SessionCard, Start
from labtui.replaying import END, Player, open_player
from labtui_artifacts import library, paths
from labtui_artifacts.errors import Unreachable, from_code

SETTLED = 1.5
"""Seconds after which an app that was started has made what it keeps."""

REMOTE_WITHIN = 60.0
MOST_SESSIONS = 200


class LocalLobby:
    """This machine: the registry of kernels and the sessions in the home folder."""

    via: str | None = None

    async def kernels(self) -> list[KernelCard]:
        """Every kernel that answers; one that does not answer in time is listed with why."""
        from labtui.starting import roster

        return [
            card_of(one.info) if one.info is not None else KernelCard(one.name, error="not answering")
            for one in await roster()
        ]

    async def sessions(self) -> list[SessionCard]:
        from labtui_sessions import home

        listed = await asyncio.to_thread(home.listing)
        return [
            SessionCard(
                one.id,
                one.title,
                one.changed,
                one.model,
                one.events,
                one.jobs,
                tuple(one.tags),
                one.path,
                one.kernel,
            )
            for one in listed[:MOST_SESSIONS]
        ]

    async def models(self) -> list[str]:
        """The models that can be named without a download: the bundled ones."""
        return await asyncio.to_thread(library.models)

    async def profiles(self) -> dict[str, Start]:
        """The profiles of the config file."""
        known = (await asyncio.to_thread(config.settings)).profiles
        return {name: Start(name, p.model, p.dtype, p.device, p.quantize or "") for name, p in known.items()}

    async def start(self, start: Start) -> None:
        """Start a kernel; it answers before its model is loaded."""
        from labtui.starting import configure, start_kernel

        def begin() -> None:
            start_kernel(
                configure(
                    start.name,
                    model=start.model,
                    dtype=start.dtype,
                    device=start.device,
                    quantize=start.quantize or None,
                )
            )

        await asyncio.to_thread(begin)

    async def stop(self, name: str) -> None:
        from labtui.starting import ask

        await ask(name, "stop")

    async def connect(self, name: str) -> AsyncLab:
        return await AsyncLab.connect(name)

    async def save(self, kernel: Kernel, path: Path) -> None:
        """Fetch the kernel's session as one file, checked before it is put in place."""
        from labtui.fetching import pull

        target = Target(kernel.name, self.via)
        await asyncio.to_thread(pull, kernel.state.id, path, target, replace=True)

    async def open(self, card: SessionCard) -> Player:
        """A replay of a session here, as far as its journal was when it was opened."""
        from labtui_sessions.journal import JournalReader

        if card.path.endswith(".safetensors"):
            return open_player(card.path, at=END)
        folder = Path(card.path) if card.path else paths.sessions() / card.id
        log = await asyncio.to_thread(JournalReader.open, folder.parent if folder.is_file() else folder)
        return Player(log, at=END, title=card.title)


class RemoteLobby(LocalLobby):
    """The machine at the other end of ``--via``: its kernels by ``labtui kernel`` there; sessions lie
    here too."""

    def __init__(self, via: str) -> None:
        self.via = via
        self._command = via

    async def _run(self, words: list[str]) -> str:
        from labtui.link import remote_command

        process = await asyncio.create_subprocess_exec(
            *remote_command(self._command, words, batch=True),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), REMOTE_WITHIN)
        except TimeoutError as error:
            process.kill()
            raise Unreachable(
                f"--via {self.via!r}: `labtui {' '.join(words)}` there gave no answer in {REMOTE_WITHIN:g} s"
            ) from error
        if process.returncode:
            lines = err.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            raise from_code(
                process.returncode if process.returncode in (1, 2, 3, 4) else 3,
                f"--via {self.via!r}: {lines[-1].removeprefix('labtui: ')}",
            )
        return out.decode("utf-8", "replace")

    async def kernels(self) -> list[KernelCard]:
        try:
            rows = json.loads(await self._run(["kernel", "ps", "--json"]))
        except ValueError as error:
            raise Unreachable(f"--via {self.via!r}: `labtui kernel ps --json` there gave no JSON") from error
        return [card_of(row | {"kernel": row.get("name", "")}) for row in rows if isinstance(row, dict)]

    async def start(self, start: Start) -> None:
        await self._run(start.command().split()[1:])

    async def stop(self, name: str) -> None:
        await self._run(["kernel", "stop", name])

    async def connect(self, name: str) -> AsyncLab:
        return await AsyncLab.connect(name, via=self.via)


def card_of(info: dict[str, Any]) -> KernelCard:
    """A kernel's card from what its ``info`` says."""
    model = info.get("info") or {}
    memory = info.get("memory") or {}
    used = memory.get("device_used") or memory.get("process")
    return KernelCard(
        name=str(info.get("kernel") or info.get("name") or ""),
        state=str(info.get("state") or ""),
        model=str(model.get("name") or Path(str(info.get("model") or "")).name or ""),
        detail=str(info.get("detail") or ""),
        progress=info.get("progress"),
        device=str(memory.get("device") or model.get("device") or info.get("device") or ""),
        memory_used=used if isinstance(used, int) else None,
        memory_total=memory.get("device_total") if isinstance(memory.get("device_total"), int) else None,
        clients=info.get("clients") if isinstance(info.get("clients"), int) else None,
        uptime=info.get("uptime"),
        error=str(info.get("failure") or ("not answering" if info.get("state") == "not answering" else "")),
    )


def style_help() -> dict[str, str]:
    """The bundled styles and what each is."""
    found = {}
    for name in library.styles():
        style = library.style(name)
        found[name] = f"against {style.opposite}: {style.description}"
    return found


async def _first_kernel(target: Target) -> AsyncLab | None:
    """The kernel to open: the one that was named, or the only one here; None opens Home."""
    if target.kernel or target.via:
        return await AsyncLab.connect(target.kernel, via=target.via)
    from labtui_kernels.broker import registry

    names = await asyncio.to_thread(registry.alive)
    return await AsyncLab.connect(names[0]) if len(names) == 1 else None


def _spare_what_is_there() -> None:
    """Keep the garbage collector from what was made at the start and stays: modules, screens, styles.

    A full collection otherwise goes through all of it, 35 to 70 ms in which no key is answered.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def open_app(target: Target, *, replay: Player | None = None, first: str | None = None) -> None:
    """Run the app until the user leaves it.

    The kernel is connected before the app takes the screen, so that ssh can ask for a password. Raises a
    LabError when the kernel that was asked for cannot be reached.
    """
    said = config.settings({"images": target.images})
    target = target.settled()
    from labtui.widgets import graphics

    images, why_not = graphics.choose(
        said.images, os.environ, terminal=sys.stdin.isatty() and sys.stdout.isatty()
    )
    if why_not:
        output.note(f"labtui: {why_not}")
    os.environ.setdefault("TEXTUAL_FPS", "120")  # a key waits for up to two of Textual's frames

    from labtui.actions import rebind

    rebind(said.keys)
    gc.disable()  # until `_spare_what_is_there`
    from labtui.app import LabApp

    async def run() -> None:
        kernel = await _first_kernel(target) if replay is None else None
        app = LabApp(
            RemoteLobby(target.via) if target.via else LocalLobby(),
            kernel=kernel,
            replay=replay,
            first=first,
            low_bandwidth=target.low_bandwidth or said.low_bandwidth,
            home=paths.home_location(),
            styles=style_help(),
            theme=said.theme,
            images=images,
        )
        asyncio.get_running_loop().call_later(SETTLED, _spare_what_is_there)
        try:
            await app.run_async()
        finally:
            if app.kernel is not None:
                await app.kernel.close()

    asyncio.run(run())
