"""``labtui replay``: watch a saved session; needs no kernel, no torch and no network."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from labtui.options import Target


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed",
    type=click.FloatRange(0.01, 1000),
    default=1.0,
    show_default=True,
    help="How many times faster than it happened.",
)
@click.option("--at", type=click.IntRange(min=0), help="Begin at this event, standing still.")
@click.pass_context
def command(ctx: click.Context, file: Path, speed: float, at: int | None) -> None:
    """Watch a saved session FILE: in the app on a terminal, as text elsewhere.

    FILE is a saved .safetensors file, or the folder of a session.
    """
    if sys.stdin.isatty() and sys.stdout.isatty():
        _watch(ctx.find_object(Target) or Target(), file, speed, at)
    else:
        from labtui.playback import write

        write(file, at, sys.stdout)


def _watch(target: Target, file: Path, speed: float, at: int | None) -> None:
    from labtui.lobby import open_app
    from labtui.replaying import Player
    from labtui_sessions.home import open_session

    with open_session(file) as log:
        player = Player(log, speed=speed, at=at, title=file.stem)
        open_app(target, replay=player)
