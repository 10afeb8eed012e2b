"""Line charts: plotext 6 behind one widget.

plotext has one global figure and clamps it to the terminal unless told otherwise; two threads that
build at once get each other's points. So every chart of the app goes through :func:`render`, on the
main thread, one at a time.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from textual.content import Content
from textual.widget import Widget

STYLES = ("$accent", "$lab-second", "$success", "$error", "$foreground", "$warning")
SYMBOLS = ("●", "▲", "■", "◆", "○", "△")
"""Each series has a symbol as well as a colour, so that the chart reads without colour."""

MOST_SERIES = 12
"""Lines that are drawn at most."""

_FIRST_CODE = 101
"""Palette codes from here on mark the series in plotext's output; they are replaced by the theme's styles."""
_SGR = re.compile(r"\x1b\[([0-9;]*)m")


@dataclass(frozen=True)
class Series:
    """One line: ``points`` are (x, y) in data units; a point that is not finite is left out.

    Without a label it is not in the legend. Symbol and style are those of its place among the lines, unless given.
    """

    label: str
    points: tuple[tuple[float, float], ...]
    symbol: str = ""
    style: str = ""
    joined: bool = True
    """Whether a line goes through the points."""


@dataclass(frozen=True)
class Plot:
    """What a chart shows."""

    series: tuple[Series, ...]
    x_label: str = ""
    y_label: str = ""
    log_y: bool = False
    mark_x: float | None = None
    """A vertical line, at the present strength."""
    span_y: tuple[float, float] | None = None
    """Heights that are in view whatever the points are."""
    names: tuple[str, ...] = ()
    """What x = 0, 1, 2, ... are called; without them they are numbers."""


def render(plot: Plot, width: int, height: int) -> Content:
    """The chart as ``height`` lines of ``width`` cells, first the legend. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("charts are built on the main thread only")
    shown = [
        replace(s, points=tuple(sorted(p for p in s.points if math.isfinite(p[0]) and math.isfinite(p[1]))))
        for s in plot.series[:MOST_SERIES]
    ]
    shown = [
        replace(s, symbol=s.symbol or SYMBOLS[i % len(SYMBOLS)], style=s.style or STYLES[i % len(STYLES)])
        for i, s in enumerate(s for s in shown if s.points)
    ]
    if not shown or width < 16 or height < 5:
        return Content("")
    legend = _legend(plot, shown, width)
    return Content("\n").join([legend, *_draw(plot, shown, width, height - 1)])


def _legend(plot: Plot, shown: Sequence[Series], width: int) -> Content:
    parts: list[Content | tuple[str, str] | str] = []
    for series in shown:
        if series.label:
            parts += [(f"{series.symbol} ", series.style), f"{series.label}   "]
    left = Content.assemble(*parts)
    right = Content.styled(f"→ {plot.x_label}", "$lab-dim") if plot.x_label else Content("")
    gap = width - left.cell_length - right.cell_length
    return Content.assemble(left, " " * gap, right) if gap > 0 else left


def _draw(plot: Plot, shown: Sequence[Series], width: int, height: int) -> list[Content]:
    import plotext

    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.axes(True, axis=0, side=0)
    figure.axes(True, axis=1, side=0)
    figure.axes(False, axis=0, side=1)
    figure.axes(False, axis=1, side=1)
    ys = [_height(y, plot.log_y) for s in shown for _, y in s.points] + list(plot.span_y or ())
    xs = sorted({x for s in shown for x, _ in s.points})
    if plot.mark_x is not None and xs[0] <= plot.mark_x <= xs[-1]:
        ends = (min(ys), max(ys) if max(ys) > min(ys) else min(ys) + 1)
        figure.draw(figure.signal([plot.mark_x] * 2, ends, marker="┊").lines(True))
    for joined in (True, False):  # symbols last, so that no line hides one
        for index, series in enumerate(shown):
            if joined and not series.joined:
                continue
            x = [p[0] for p in series.points]
            y = [_height(p[1], plot.log_y) for p in series.points]
            symbol = "braille" if joined else series.symbol
            pixel = plotext.pixel(_FIRST_CODE + index)
            figure.draw(figure.signal(x, y, marker=plotext.marker(symbol, pixel)).lines(joined))
    ticks = _ticks(min(ys), max(ys), max(2, height // 3))
    low, high = min(ticks[0], *ys), max(ticks[-1], *ys)
    figure.ruler(1, 0).lim(low, high + (high - low) * 0.02)
    figure.ruler(1, 0).ticks(ticks, [_number(10**t if plot.log_y else t) for t in ticks])
    span = xs[-1] - xs[0] or 1.0
    figure.ruler(0, 0).lim(xs[0] - span * 0.03, xs[-1] + span * 0.03)
    free = not any(series.joined for series in shown)
    room = max([8, *(len(name) + 2 for name in plot.names)])
    kept = _ticks(xs[0], xs[-1], max(2, width // 14)) if free else _spread(xs, max(2, width // room))
    kept = [x for x in kept if xs[0] - span * 0.03 <= x <= xs[-1] + span * 0.03]
    named = {float(number): name for number, name in enumerate(plot.names)}
    figure.ruler(0, 0).ticks(kept, [named.get(x) or _number(x) for x in kept])
    styles = [series.style for series in shown]
    return [_themed(line, styles) for line in figure.build().string().rstrip("\n").split("\n")]


def _height(y: float, log: bool) -> float:
    return math.log10(max(y, 1e-9)) if log else y


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that enclose ``low`` to ``high``, about ``count`` of them, a step of 1, 2 or 5."""
    if high <= low:
        return [low, low + (abs(low) or 1.0)]
    rough = (high - low) / count
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [k * step for k in range(first, last + 1)]


def _spread(values: Sequence[float], count: int) -> list[float]:
    """At most ``count`` of the sorted ``values``, the ends kept, spread over their range."""
    if len(values) <= count:
        return list(values)
    step = (values[-1] - values[0]) / (count - 1)
    kept = [values[0]]
    for value in values[1:-1]:
        if value - kept[-1] >= step and values[-1] - value >= step * 0.6:
            kept.append(value)
    return [*kept, values[-1]]


def _themed(line: str, styles: Sequence[str]) -> Content:
    """A line of plotext's output with its palette replaced by the lines' styles."""
    parts: list[tuple[str, str]] = []
    style, at = "$lab-dim", 0
    for match in _SGR.finditer(line):
        if match.start() > at:
            parts.append((line[at : match.start()], style))
        codes = match[1].split(";")
        if codes[:2] == ["38", "5"]:
            index = int(codes[2]) - _FIRST_CODE
            style = styles[index] if 0 <= index < len(styles) else "$lab-dim"
        at = match.end()
    if at < len(line):
        parts.append((line[at:], style))
    return Content.assemble(*parts)


class Chart(Widget, can_focus=False):
    """A chart that is built anew only when what it shows or its size has changed."""

    DEFAULT_CSS = ""

    def __init__(self, *, empty: str, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._empty = empty
        self._plot: Plot | None = None
        self._built: tuple[Plot | None, int, int] | None = None
        self._content = Content("")

    @property
    def plot(self) -> Plot | None:
        return self._plot

    def show(self, plot: Plot | None) -> bool:
        """Show ``plot``; False when nothing changed."""
        if plot == self._plot:
            return False
        self._plot = plot
        self.refresh()
        return True

    def render(self) -> Content:
        width, height = self.size
        key = (self._plot, width, height)
        if key != self._built:
            content = render(self._plot, width, height) if self._plot is not None else Content("")
            self._content = content if content.plain else Content.styled(self._empty, "$lab-dim")
            self._built = key
        return self._content
