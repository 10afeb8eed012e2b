"""A text that grows paints what changed, keeps its end in view, and never lays the screen out for a new line."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.content import Content
from textual.geometry import Offset, Region
from textual.selection import Selection

from labtui.widgets.growing import GrowingText

WIDTH, HEIGHT = 30, 10


class Watched(GrowingText):
    """Remembers which lines it asked to be painted."""

    def __init__(self) -> None:
        super().__init__(id="text")
        self.asked: list[tuple[int, int]] = []

    def refresh_lines(self, y_start: int, line_count: int = 1) -> None:
        self.asked.append((y_start, line_count))
        super().refresh_lines(y_start, line_count)


class Alone(App[None]):
    AUTO_FOCUS = None
    CSS = "GrowingText { height: 1fr; overflow: hidden scroll; scrollbar-size-vertical: 1; }"

    def compose(self) -> ComposeResult:
        yield Watched()


def lines(count: int) -> Content:
    return Content("\n".join(f"line {n}" for n in range(count)))


def shown(text: GrowingText) -> list[str]:
    return [text.render_line(y).text.rstrip() for y in range(text.size.height)]


async def test_only_the_lines_that_changed_are_painted() -> None:
    async with Alone().run_test(size=(WIDTH, HEIGHT)) as pilot:
        text = pilot.app.query_one(Watched)
        first = Content("an answer that is done\nand stays")
        text.show([first, Content("word")], growing=True)
        await pilot.pause()
        text.asked.clear()
        text.show([first, Content("word word")], growing=True)
        assert text.asked == [(2, 1)]
        text.asked.clear()
        text.show([first, Content("word word")], growing=True)
        assert text.asked == []
        text.show([first], growing=True)
        assert text.asked == [(2, 1)] and shown(text)[:3] == ["an answer that is done", "and stays", ""]


async def test_a_new_line_never_lays_the_screen_out_and_is_painted_once() -> None:
    async with Alone().run_test(size=(WIDTH, HEIGHT)) as pilot:
        text = pilot.app.query_one(Watched)
        text.show([lines(1)])
        await pilot.pause()
        laid: list[int] = []
        reflow = pilot.app.screen._compositor.reflow

        def counted(*args: object) -> object:
            laid.append(len(text._lines))
            return reflow(*args)  # type: ignore[arg-type]

        pilot.app.screen._compositor.reflow = counted  # type: ignore[method-assign, assignment]
        for count in range(2, 40):
            text.show([lines(count)], growing=True)
            assert text.scroll_offset.y == max(0, -(-(count - HEIGHT) // 5) * 5)
            await pilot.pause()
        text.show([lines(2)], growing=True)
        await pilot.pause()
        assert laid == [] and text.virtual_size.height == 2 and text.scroll_offset.y == 0


async def test_the_end_stays_in_view_by_half_pages_and_stands_at_the_bottom_when_done() -> None:
    async with Alone().run_test(size=(WIDTH, HEIGHT)) as pilot:
        text = pilot.app.query_one(Watched)
        tops = []
        for count in range(1, 40):
            text.show([lines(count)], growing=True)
            await pilot.pause()
            assert f"line {count - 1}" in shown(text)
            tops.append(text.scroll_offset.y)
        assert set(tops) == {0, 5, 10, 15, 20, 25, 30}
        text.show([lines(39)])
        await pilot.pause()
        assert shown(text)[-1] == "line 38" and shown(text)[0] == "line 29"


async def test_who_reads_is_not_moved() -> None:
    async with Alone().run_test(size=(WIDTH, HEIGHT)) as pilot:
        text = pilot.app.query_one(Watched)
        text.show([lines(30)])
        await pilot.pause()
        text.focus()
        await pilot.pause()
        await pilot.press("g")
        text.show([lines(35)], growing=True)
        await pilot.pause()
        assert shown(text)[0] == "line 0"
        await pilot.press("G")
        await pilot.pause()
        assert shown(text)[-1] == "line 34"


async def test_another_width_wraps_anew_and_a_selection_gives_its_text() -> None:
    async with Alone().run_test(size=(WIDTH, HEIGHT)) as pilot:
        text = pilot.app.query_one(Watched)
        text.show([Content("one two three four five six seven eight")])
        await pilot.pause()
        assert shown(text)[:2] == ["one two three four five six", "seven eight"]
        await pilot.resize_terminal(16, HEIGHT)
        await pilot.pause()
        assert shown(text)[:3] == ["one two three", "four five six", "seven eight"]
        assert text.plain == "one two three four five six seven eight"
        chosen = Selection(Offset(4, 0), Offset(4, 1))
        assert text.get_selection(chosen) == ("two three\nfour", "\n")


async def test_a_selection_is_painted_also_when_the_text_has_become_narrower() -> None:
    async with Alone().run_test(size=(WIDTH, HEIGHT)) as pilot:
        text = pilot.app.query_one(Watched)
        text.show([Content("one two three four five six seven eight")])
        await pilot.pause()
        pilot.app.screen.selections = {text: Selection(Offset(4, 0), Offset(25, 0))}
        await pilot.resize_terminal(16, HEIGHT)
        await pilot.pause()
        assert text.text_selection is not None
        assert shown(text)[:3] == ["one two three", "four five six", "seven eight"]


async def test_a_paint_never_shows_what_lies_past_the_end() -> None:
    """A screen finds its layout in several passes: text that was wrapped to a sliver has scrolled far down."""
    async with Alone().run_test(size=(WIDTH, HEIGHT)) as pilot:
        text = pilot.app.query_one(Watched)
        text.show([lines(60)])
        await pilot.pause()
        assert text.scroll_offset.y == 50
        text._parts = [(lines(3), [])]  # as the paint finds them, when only then the width is the final one
        text._wrapped_to = 1
        text.render_lines(Region(0, 0, WIDTH, HEIGHT))
        assert shown(text)[:4] == ["line 0", "line 1", "line 2", ""]
