"""``labtui demo``: a small steering sweep on the bundled model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.option("--out", type=click.Path(path_type=Path), help="Where the session is saved without a terminal.")
@click.option("--headless", "plain", is_flag=True, help="Print a table and a chart even on a terminal.")
def command(out: Path | None, plain: bool) -> None:
    """A small steering sweep on the bundled model.

    On a terminal the app opens with the sweep running. Elsewhere it prints a table and a chart, saves the
    session and says how to replay it.
    """
    from labtui import demo

    if demo.is_terminal() and not plain:
        demo.in_app()
        return
    path = demo.headless(out or Path(demo.FILE))
    print(f"\nsession saved: {path}\nreplay it with: labtui replay {path}")
