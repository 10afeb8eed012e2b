"""An arm of the Steer screen: which of its answers it shows while they grow, and what it marks."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.geometry import Region

from labtui import themes
from labtui.widgets.arms import Arm
from labtui.widgets.growing import GrowingText
from labtui_sessions.fields import RowView


class Two(App[None]):
    CSS = "Arm { height: 1fr; border: solid $foreground; } GrowingText { height: 1fr; overflow: hidden scroll; }"

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return themes.derived(self.current_theme)

    def compose(self) -> ComposeResult:
        yield Arm(title="Steered", id="steered", waiting="nothing yet")


def row(name: str, text: str, *, ended: bool, tokens: int = 7) -> RowView:
    return RowView(
        "j", name, text=text, tokens=tokens, finished=1.0 if ended else None, finish="stop" if ended else ""
    )


def plain(app: Two) -> str:
    return app.query_one(GrowingText).plain


async def test_of_several_answers_that_grow_one_streams_and_the_others_are_counted() -> None:
    async with Two().run_test(size=(60, 20)) as pilot:
        arm = pilot.app.query_one(Arm)
        rows = [
            row("a", "first one", ended=True),
            row("b", "second", ended=False),
            row("c", "third", ended=False, tokens=3),
            row("d", "fourth one", ended=True),
            row("e", "fifth", ended=False, tokens=4),
        ]
        arm.show(rows, (), "words")
        text = plain(pilot.app)  # type: ignore[arg-type]
        assert "first one" in text and "second▌" in text and "fourth one" in text
        assert "third" not in text and "fifth" not in text
        assert text.endswith("── 2 more on their way · 7 tokens ──")
        assert "third" in arm.text, "copying takes all that was generated"
        arm.show([row(r.row, r.text, ended=True) for r in rows], (), "words")
        assert "third" in plain(pilot.app) and "more on their way" not in plain(pilot.app)  # type: ignore[arg-type]


async def test_words_that_differ_are_marked_when_both_answers_have_ended() -> None:
    async with Two().run_test(size=(60, 20)) as pilot:
        arm = pilot.app.query_one(Arm)

        def underlined() -> str:
            strips = pilot.app.query_one(GrowingText)._lines
            return "".join(s.text for line in strips for s in line if s.style and s.style.underline)

        mine, other = row("a", "one two three four", ended=True), row("p", "one four", ended=False)
        arm.show([mine], [other], "words")
        assert underlined() == ""
        arm.show([mine], [row("p", "one four", ended=True)], "words")
        assert underlined() == "two three"
        arm.show([row("a", "one two three four", ended=False)], [row("p", "one four", ended=True)], "words")
        assert underlined() == ""


async def test_a_new_title_paints_the_border_and_nothing_else() -> None:
    async with Two().run_test(size=(60, 20)) as pilot:
        arm = pilot.app.query_one(Arm)
        arm.show([row("a", "one", ended=False)], (), "words")
        await pilot.pause()
        asked: list[Region] = []
        set_dirty = arm._set_dirty

        def watched(*regions: Region) -> None:
            asked.extend(regions or [Region(0, 0, *arm.size)])
            set_dirty(*regions)

        arm._set_dirty = watched  # type: ignore[method-assign]
        arm.note("8 tokens …")
        assert {region.height for region in asked} == {1}
        await pilot.pause()
        screen = pilot.app.screen._compositor.render_strips()
        assert "8 tokens" in screen[arm.region.bottom - 1].text
