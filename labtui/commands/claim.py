"""``labtui claim``: keep claims, and hold them against sessions.

A claim is a metric, a comparison, a threshold and a query over sessions. Its status is computed, never set. With
``--via`` the ledger and the sessions are those of the kernel's machine.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from labtui import output
from labtui.options import Target, json_option, target_options
from labtui_artifacts.errors import BadFile, UsageError

if TYPE_CHECKING:
    from labtui_sessions.claims import Checked, Claim, Evidence
    from labtui_sessions.ledger import Board

SHOWN = 6
"""Cells of a session shown on a terminal."""
NOT_FRESH = ", on prompts that an older session has"


@click.group("claim")
def command() -> None:
    """Keep claims, and hold them against sessions."""


@command.command()
@click.argument("text")
@click.option("--metric", required=True, help="The metric it is about, as words.")
@click.option(
    "--of",
    type=click.Choice(("effect", "rate", "value")),
    default="effect",
    show_default=True,
    help="The change from the zero rows, the share of yes, or the mean itself.",
)
@click.option("--greater", type=float, metavar="X", help="It is greater than X.")
@click.option("--less", type=float, metavar="X", help="It is less than X.")
@click.option("--direction", default="", help="Only cells of this direction.")
@click.option("--site", default="", help="Only cells of this site, as the table shows it: llm.14.")
@click.option("--where", default="", help="Only cells of these positions.")
@click.option("--strength", default="", help="Only cells of this strength: 2.0, 8% or |39|.")
@click.option("--model", default="", help="Only rows that a model of this name made.")
@click.option("--table", default="", help="Only tables of this name.")
@click.option("--title", default="", help="Only sessions whose title has this in it.")
@click.option("--tag", default="", help="Only sessions with this tag.")
@click.option("--refines", "parent", metavar="CLAIM", help="The claim that this one refines.")
@click.option("--name", help="Its name (default: from the text).")
@json_option
@target_options
def add(
    text: str,
    metric: str,
    of: Any,
    greater: float | None,
    less: float | None,
    parent: str | None,
    name: str | None,
    as_json: bool,
    target: Target,
    **query: str,
) -> None:
    """Add the claim TEXT. Sessions begun before now count as exploratory: they never decide it."""
    import msgspec

    from labtui import fetching
    from labtui_sessions import ledger
    from labtui_sessions.claims import Claim, Query, named

    if (greater is None) == (less is None):
        raise UsageError("claim add: say --greater X or --less X, one of them")
    threshold = greater if greater is not None else less
    assert threshold is not None
    claim = Claim(
        name=name if name is not None else named(text),
        text=text,
        metric=metric,
        of=of,
        comparison="greater" if greater is not None else "less",
        threshold=threshold,
        created=time.time(),
        query=Query(**query),
        parent=parent,
    )
    if fetching.is_remote(target):
        fields = msgspec.to_builtins(claim)
        del fields["created"]  # its machine says when it was made
        fetching.ask(target, "claim.add", **fields)
    else:
        ledger.add(claim)
    if as_json:
        output.emit_json(_document(claim))
    else:
        print(f"{claim.name}: {output.clean(claim.formula)}; `labtui claim check {claim.name}` holds it up")


@command.command("ls")
@json_option
@target_options
def list_claims(as_json: bool, target: Target) -> None:
    """The claims, oldest first, without their status: that is what check computes."""
    from labtui import fetching
    from labtui_sessions import ledger

    if fetching.is_remote(target):
        board = _board(target)
        claims, problems = [one.claim for one in board.claims], board.problems
    else:
        claims, problems = ledger.everything()
    if as_json:
        output.emit_json({"claims": [_document(claim) for claim in claims], "problems": problems})
        return
    rows = [
        {
            "claim": claim.name,
            "made": _when(claim.created),
            "refines": claim.parent,
            "says": claim.formula,
            "text": claim.text,
        }
        for claim in claims
    ]
    output.table(rows, ["claim", "made", "refines", "says", "text"]) if rows else output.note(
        "the ledger is empty: `labtui claim add` makes a claim"
    )
    _say(problems)


@command.command()
@click.argument("names", nargs=-1, metavar="[CLAIM]...")
@click.option(
    "--session",
    "sessions",
    multiple=True,
    metavar="S",
    help="Look into this session only (a saved file or an id); may be given again. Default: all on this machine.",
)
@json_option
@target_options
def check(names: tuple[str, ...], sessions: tuple[str, ...], as_json: bool, target: Target) -> None:
    """The status of the claims (default: all), and which sessions decide it."""
    from labtui import fetching
    from labtui_sessions import ledger
    from labtui_sessions.claims import UNCORRECTED

    if fetching.is_remote(target):
        found, damaged, unread = _there(target, names, sessions)
    else:
        claims, damaged = ([ledger.get(name) for name in names], {}) if names else ledger.everything()
        found, unread = ledger.check_all(claims, sessions or None)
    if as_json:
        documents = [_checked(one) for one in found]
        output.emit_json({"claims": documents, "problems": {**damaged, **unread}, "note": UNCORRECTED})
    else:
        for one in found:
            _print(one)
        if found:
            output.note(UNCORRECTED)
        else:
            output.note("the ledger is empty: `labtui claim add` makes a claim")
        _say({**damaged, **unread})
    if damaged:
        raise BadFile(
            f"{len(damaged)} of the ledger's files could not be read: {next(iter(damaged.values()))}"
        )


@command.command()
@click.argument("name", metavar="CLAIM")
@target_options
def rm(name: str, target: Target) -> None:
    """Remove CLAIM for good; one that others refine stays until they are removed."""
    from labtui import fetching
    from labtui_sessions import ledger

    if fetching.is_remote(target):
        fetching.ask(target, "claim.remove", name=name)
    else:
        ledger.remove(name)
    output.note(f"removed claim {name}")


def _board(target: Target) -> Board:
    """The ledger of the kernel's machine, checked there."""
    import msgspec

    from labtui import fetching
    from labtui_sessions.ledger import Board

    return msgspec.convert(fetching.ask(target, "claim.board"), Board)


def _there(
    target: Target, names: tuple[str, ...], sessions: tuple[str, ...]
) -> tuple[list[Checked], dict[str, str], dict[str, str]]:
    """What the kernel's machine says of these claims: claims, files that are none, sessions not read."""
    if sessions:
        raise UsageError("claim check: --session looks into sessions of this machine, --via into another's")
    board = _board(target)
    known = {one.claim.name: one for one in board.claims}
    for name in names:
        if name not in known:
            raise UsageError(f"no claim {name!r} there; `labtui claim ls` lists those there are")
    damaged = {} if names else {k: why for k, why in board.problems.items() if k.endswith(".json")}
    unread = {k: why for k, why in board.problems.items() if not k.endswith(".json")}
    return [known[name] for name in names] if names else board.claims, damaged, unread


def _print(one: Checked) -> None:
    claim = one.claim
    refines = f", refines {claim.parent}" if claim.parent else ""
    print(f"{claim.name}  {one.sentence}")
    print(f"  {output.clean(claim.text)}")
    print(f"  {output.clean(claim.formula)} (made {_when(claim.created)}{refines})")
    rows = [row for evidence in one.evidence for row in _rows(evidence)]
    if rows:
        output.table(
            rows, ["session", "role", "model", "site", "strength", "estimate", "interval", "prompts", "says"]
        )
    print()


def _rows(evidence: Evidence) -> list[dict[str, Any]]:
    rows = [
        {
            "session": evidence.session,
            "role": evidence.role,
            "model": found.model,
            "site": found.site,
            "strength": found.strength,
            "estimate": found.estimate,
            "interval": "" if found.low is None else f"[{found.low:.4g}, {found.high:.4g}]",
            "prompts": found.prompts,
            "says": found.reason or found.status + (NOT_FRESH if evidence.fresh == 0 else ""),
        }
        for found in evidence.found[:SHOWN]
    ]
    if evidence.cells > SHOWN:
        rows.append({"session": evidence.session, "says": f"and {evidence.cells - SHOWN} more cells"})
    return rows


def _document(claim: Claim) -> dict[str, Any]:
    """A claim for JSON, every field there."""
    import msgspec

    return {
        **msgspec.to_builtins(claim),
        "query": msgspec.structs.asdict(claim.query),
        "says": claim.formula,
    }


def _checked(one: Checked) -> dict[str, Any]:
    import msgspec

    return {
        **_document(one.claim),
        "status": one.status,
        "sentence": one.sentence,
        "evidence": msgspec.to_builtins(one.evidence),
    }


def _when(t: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(t)) if 0 < t < 4e9 else ""


def _say(problems: dict[str, str]) -> None:
    for where, why in problems.items():
        output.note(f"labtui: {where}: {why}")
