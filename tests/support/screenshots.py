"""Screenshots for the README, of the app over a real kernel with the bundled model.

    python -m tests.support.screenshots docs [EDITS] [PROMPT]

writes ``steer.svg`` (120x36, a finished steered answer with its marks) and ``sweep.svg`` into the folder.
The kernel and its session live in a temporary home and are gone afterwards.

    python -m tests.support.screenshots replay FILE OUT.svg KEYS WIDTHxHEIGHT

writes one of a saved session at its end, after KEYS (separated by spaces) were pressed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

MODEL = "toy-qwen3"
EDITS = "30%*terse@llm.4"
PROMPT = "What is a compiler?"
SIZE = (120, 36)
PATIENCE = 600.0


async def take(out: Path, edits: str, prompt: str) -> None:
    """Make the direction, run both jobs, and write the two pictures."""
    from labtui.app import LabApp
    from labtui.client import AsyncLab
    from labtui.lobby import LocalLobby, style_help
    from labtui.running import run
    from labtui_artifacts import paths

    lab = await AsyncLab.connect("toy")
    try:
        style = {"kind": "direction", "name": "terse", "method": "mean-difference", "style": "terse"}
        await run(lab, style)
        term = edits.partition("*")[2].split("@")
        sweep: dict[str, Any] = {
            "kind": "sweep",
            "prompts": [prompt, "What is a lighthouse?"],
            "directions": [term[0]],
            "sites": "llm.1,2,4",
            "strengths": ["10%", "20%", "30%", "40%"],
            "max_new_tokens": 128,
            "metrics": ["words", "perplexity"],
        }
        await run(lab, sweep)
        for percent in ("10%", "20%", "40%"):
            await run(
                lab, {"kind": "generate", "prompt": prompt, "edits": percent + edits[edits.index("*") :]}
            )
        await run(lab, {"kind": "generate", "prompt": prompt, "edits": edits, "surprise": True})
        app = LabApp(
            LocalLobby(), kernel=lab, home=paths.home(), styles=style_help(), theme="lab-dark", first="steer"
        )
        async with app.run_test(size=SIZE) as pilot:
            for screen in ("steer", "sweep"):
                app.action_show_screen(screen)
                await _painted(pilot)
                svg = app.export_screenshot(title=f"labtui · {screen}")
                (out / f"{screen}.svg").write_text(svg, encoding="utf-8")
    finally:
        await lab.close()


async def take_replay(file: Path, out: Path, keys: list[str], size: tuple[int, int]) -> None:
    """A picture of a saved session at its end."""
    from labtui.app import LabApp
    from labtui.lobby import LocalLobby, style_help
    from labtui.replaying import END, Player
    from labtui_artifacts import paths
    from labtui_sessions.home import open_session

    with open_session(file) as log:
        player = Player(log, at=END, title=file.stem)
        app = LabApp(LocalLobby(), replay=player, home=paths.home(), styles=style_help(), theme="lab-dark")
        async with app.run_test(size=size) as pilot:
            await _painted(pilot)
            for key in keys:
                await pilot.press(key)
                await pilot.pause(0.2)
            await _painted(pilot)
            out.write_text(app.export_screenshot(title=f"labtui · {file.stem}"), encoding="utf-8")


async def _painted(pilot: Pilot[None]) -> None:
    """Until all that the screen asked for has come and is painted, with nothing in focus."""
    from tests.support.settling import workers_done

    for _ in range(3):
        await pilot.pause()
        await workers_done(pilot.app)
        pilot.app.screen.set_focus(None)
        pilot.app.pump.now()  # type: ignore[attr-defined]
        await pilot.pause(0.5)


def main(arguments: list[str]) -> int:
    """Start a kernel in a home of its own, take the pictures, stop it."""
    if arguments[:1] == ["replay"] and len(arguments) == 5:
        width, _, height = arguments[4].partition("x")
        size = (int(width), int(height))
        asyncio.run(take_replay(Path(arguments[1]), Path(arguments[2]), arguments[3].split(), size))
        return 0
    if not arguments or len(arguments) > 3:
        print(__doc__, file=sys.stderr)
        return 2
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="lt-"))
    os.environ["LABTUI_HOME"], os.environ["LABTUI_RUNTIME"] = str(place / "home"), str(place / "rt")

    from labtui.starting import ask, configure, start_kernel, wait_gone, wait_ready

    try:
        start_kernel(configure("toy", model=MODEL, dtype="float32", device="cpu"))
        wait_ready("toy", lambda done, total, text: None, stop_on_failure=True)
        asyncio.run(
            asyncio.wait_for(
                take(
                    out,
                    arguments[1] if len(arguments) > 1 else EDITS,
                    arguments[2] if len(arguments) > 2 else PROMPT,
                ),
                PATIENCE,
            )
        )
        asyncio.run(ask("toy", "stop", within=60.0, force=True))
        wait_gone("toy")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"wrote {out / 'steer.svg'} and {out / 'sweep.svg'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
