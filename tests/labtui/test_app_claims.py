"""The Claims screen, driven by keys: over a fake kernel, and over the ledger and the sessions of a home folder."""

from __future__ import annotations

import time

from labtui.lobby import LocalLobby
from labtui.projection import Link
from labtui.replaying import Player
from labtui.screens.claims import Claims
from labtui.widgets.dialog import Confirm, Form
from labtui.widgets.lists import Grid
from labtui_artifacts import paths
from labtui_artifacts.errors import UsageError
from labtui_sessions import ledger
from tests.sessions.test_findings import write_sweep
from tests.support import claim_stories
from tests.support.settling import workers_done

SMALL = (80, 24)


async def settled(pilot) -> None:
    for _ in range(2):
        await workers_done(pilot.app)
        pilot.app.pump.now()
        await pilot.pause()


def lines(app) -> list[str]:
    """The claims as they are listed."""
    grid = app.screen.query_one("#claim-grid", Grid)
    return [" ".join(str(cell) for cell in grid.get_row_at(row)) for row in range(grid.row_count)]


async def test_status_is_a_glyph_a_word_and_what_decides(make_app) -> None:
    app = make_app(claim_stories.kernel("filled"), first="claims")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        shown = lines(app)
        assert shown[0].startswith("✓ confirmed terse-halves-answers 1 decides, 1 open, 1 exploratory")
        assert shown[1].startswith("○ open └ it-does-so-early")
        assert shown[2].startswith("✕ refuted late-sites-lengthen")
        assert shown[3].startswith("○ open terse-spares-coherence 3 exploratory")
        about = str(app.screen.query_one("#about-claim-text").render())
        assert "confirmed by 1 of 2 sessions since it was made; 1 older session exploratory" in about
        assert (
            "refined by it-does-so-early (○ open)" in about and "not corrected for repeated checks" in about
        )
        evidence = app.screen.query_one("#evidence-grid", Grid)
        rows = [[str(cell) for cell in evidence.get_row_at(row)] for row in range(3)]
        assert [row[0] for row in rows] == ["✓ exploratory", "✓ decides", "○ open"]
        assert all(row[3].index("●") < row[3].index("┃") for row in rows)
        await pilot.press("v", "j")
        app.pump.now()
        assert "all its prompts are in an older" in str(app.screen.query_one("#evidence").border_title)
        await pilot.press("G")
        app.pump.now()
        assert "12 prompts, under 20" in str(app.screen.query_one("#evidence").border_title)


async def test_a_claim_is_written_with_live_checks(make_app) -> None:
    made = claim_stories.kernel("filled")
    app = make_app(made, first="claims")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("a")
        form = app.screen
        assert isinstance(form, Form)

        def hint(field: str) -> str:
            return str(form.query_one(f"#hint-{field}").render())

        assert "say what is claimed" in hint("text")
        await pilot.press(*"Shorter", *["tab"] * 4, "ctrl+u", *"x")
        assert "a number is expected" in hint("threshold")
        await pilot.press("ctrl+u", *"-3", "tab", "tab", *"llm.2.out")
        assert "tables show this site as llm.2" in hint("site")
        await pilot.press(*["backspace"] * 4, "tab", *"lots")
        assert "as 2.0, 8% or |39|" in hint("strength")
        await pilot.press("ctrl+r")
        assert app.screen is form  # not accepted
        await pilot.press("ctrl+u", *"8%")
        assert "effect on words < -3 where site llm.2, strength 8%" in str(
            form.query_one("#preview").render()
        )
        await pilot.press("ctrl+r")
        await settled(pilot)
        assert made.params("claim.add") == {
            "name": "shorter", "text": "Shorter", "metric": "words", "of": "effect", "comparison": "less",
            "threshold": -3.0, "query": {"site": "llm.2", "strength": "8%"}, "parent": None,
        }  # fmt: skip
        assert made.methods().count("claim.board") == 2


async def test_refining_begins_as_the_parent_stands(make_app) -> None:
    made = claim_stories.kernel("filled")
    app = make_app(made, first="claims")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("f", "ctrl+r")
        await settled(pilot)
        sent = made.params("claim.add")
        assert sent["parent"] == "terse-halves-answers" and sent["name"] == "terse-halves-answers-2"
        assert sent["query"] == {"direction": "terse", "site": "llm.2", "strength": "8%"}
        assert (sent["comparison"], sent["threshold"]) == ("less", -15.0)


async def test_removing_asks_first_and_a_refusal_is_one_line(make_app) -> None:
    made = claim_stories.kernel("filled")
    made.answers["claim.remove"] = UsageError("claim 'x' is refined by y: remove these first")
    app = make_app(made, first="claims")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press("X")
        assert isinstance(app.screen, Confirm)
        await pilot.press("n")
        assert "claim.remove" not in made.methods()
        await pilot.press("X", "y")
        await settled(pilot)
        assert made.params("claim.remove") == {"name": "terse-halves-answers"}
        assert app.said == "! claim 'x' is refined by y: remove these first"
        assert made.methods().count("claim.board") == 1


async def test_what_cannot_be_checked_is_said_where_the_claims_would_be(make_app) -> None:
    made = claim_stories.kernel("failed")
    app = make_app(made, first="claims")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        about = app.screen.query_one("#about-claim-text")
        assert "✕ the disk of the sessions cannot be read" in str(about.render())
        made.answers["claim.board"] = {"claims": "none"}
        await pilot.press("r")
        await settled(pilot)
        assert "its answer is no board of claims" in str(about.render())
        made.answers["claim.board"] = claim_stories.board()
        await pilot.press("r")
        await settled(pilot)
        assert len(lines(app)) == 4


async def test_without_a_link_the_ledger_of_this_machine_is_shown(make_app) -> None:
    made = claim_stories.kernel("filled")
    made.link = Link("lost", "gone", 1)
    app = make_app(made, first="claims")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        assert "none on this machine" in str(app.screen.query_one("#claim-list").border_title)
        made.set_link(Link())
        await pilot.press("r")
        await settled(pilot)
        assert "4 on the machine of toy" in str(app.screen.query_one("#claim-list").border_title)


async def test_from_conjecture_to_the_session_that_decides(make_app) -> None:
    """Without a kernel: a claim is written, a session comes after it, enter replays that session, X removes it."""
    write_sweep(paths.sessions() / "s-old")
    app = make_app(lobby=LocalLobby(), first="claims")
    async with app.run_test(size=SMALL) as pilot:
        await settled(pilot)
        await pilot.press(
            "a", *"Terse shortens", *["tab"] * 4, "ctrl+u", *"-5", *["tab"] * 2, *"llm.2", "tab"
        )
        await pilot.press(*"12%", "ctrl+r")
        await settled(pilot)
        assert ledger.get("terse-shortens").query.site == "llm.2"
        assert lines(app)[0].startswith("○ open terse-shortens 1 exploratory")
        write_sweep(paths.sessions() / "s-new", t=time.time() + 60)
        await pilot.press("r")
        await settled(pilot)
        assert lines(app)[0].startswith("✓ confirmed terse-shortens 1 decides, 1 exploratory")
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.replay, Player) and app.replay.state.id == "s-new"
        await pilot.press("7", "v", "g", "enter")
        await settled(pilot)
        assert isinstance(app.replay, Player) and app.replay.state.id == "s-old"
        await pilot.press("7", "X", "y")
        await settled(pilot)
        assert isinstance(app.screen, Claims) and lines(app) == []
        assert ledger.everything() == ([], {})
