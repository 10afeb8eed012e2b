"""``labtui session new``, ``note``, ``tag`` and ``title``: a session is begun, and what people write into it."""

from __future__ import annotations

import click

from labtui.options import Target, target_options
from labtui_artifacts.errors import UsageError


@click.command()
@click.argument("text", metavar="[TITLE]", default="")
@target_options
def new(text: str, target: Target) -> None:
    """Begin a new session on a kernel; what is run from now on goes there. Jobs that run stay in theirs."""
    from labtui import fetching

    print(fetching.ask(target, "session.new", title=text[:400])["session"])


@click.command()
@click.argument("session")
@click.argument("text")
@target_options
def note(session: str, text: str, target: Target) -> None:
    """Add the note TEXT to SESSION."""
    import secrets

    from labtui import fetching

    if not text.strip():
        raise UsageError("note: the text is empty")
    data = {"id": f"n-{secrets.token_hex(4)}", "text": text, "job": None}
    fetching.annotate(session, target, "session.note", "note.added", data, text)


@click.command()
@click.argument("session")
@click.argument("tag")
@click.option("--remove", is_flag=True, help="Take the tag away.")
@target_options
def tag(session: str, tag: str, remove: bool, target: Target) -> None:
    """Give SESSION the tag TAG."""
    from labtui import fetching

    tag = tag.strip()
    if not 0 < len(tag) <= 64:
        raise UsageError("tag: expected 1 to 64 characters")
    method, kind = ("session.untag", "tag.removed") if remove else ("session.tag", "tag.added")
    fetching.annotate(session, target, method, kind, {"tag": tag}, tag)


@click.command()
@click.argument("session")
@click.argument("text")
@target_options
def title(session: str, text: str, target: Target) -> None:
    """Give SESSION the title TEXT."""
    from labtui import fetching

    fetching.annotate(session, target, "session.title", "session.titled", {"title": text[:400]}, text[:400])
