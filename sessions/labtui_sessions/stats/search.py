"""Finding dead zone, effective band and collapse of a line without running the whole of its grid.

What is asked next follows from what has been measured, and from nothing else, so a search that was cut off goes
the same way again. Of each line (``zones.Line``), on ``Frame.steps`` strengths:

1. every third strength gets a few prompts, and null rows where text stands and at the last of them: no stretch of
   three goes unseen;
2. the first collapsed strength and the first outside the null's band are closed in on by halves, a few prompts
   each (a few prompts are held against the bound that the whole cell would have, ``null.Size``);
3. the strengths on both sides of each threshold, and the second one of the effective band, are measured until
   more rows cannot be expected to change what is said of them, at most in full, as the grid has them. Where that
   changes an answer, step 2 goes on from there;
4. a strength that contradicts a plain order (inside the band between two outside, coherent beyond the
   collapse) is measured likewise: what remains is told as not monotone. Where no strength is outside the band,
   so is the one that comes nearest.

What a few null rows say of the bound is held together with what its neighbours' say, since directions that mean
nothing do more and more as strength grows (``smoothed``); null rows in full stand for themselves.

The rows are bounded for the lines together; of a line that this has stopped only what is sure is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, exp, floor, lgamma, log, sqrt

from .intervals import t_quantile
from .zones import Level, Line, Zone, zone_of

STRIDE = 3
STEADY = 2
"""Strengths in succession outside the null's band with which the effective band begins."""
FLIP = 0.01
"""A few rows settle whether text stands when all of them would say otherwise with this probability at most."""
REACH = 8
"""Steps over which bounds of the null are smoothed."""
_SURE = 0.98


@dataclass(frozen=True)
class Frame:
    """The grid of a line: its strengths, and the rows of a cell, a few of them and all of them."""

    steps: int
    few: int
    prompts: int
    few_nulls: int
    nulls: int

    @property
    def cell(self) -> int:
        """Rows of one cell of the grid, its null's included."""
        return self.prompts + self.nulls


@dataclass(frozen=True)
class Want:
    """So many prompts and null rows at a strength, those that are there already included."""

    index: int
    prompts: int
    nulls: int


Asked = Mapping[int, Want]


def wanted(frame: Frame, asked: Asked, levels: Mapping[int, Level]) -> list[Want]:
    """What to measure next, the most important first; nothing when all is said. ``levels`` by strength's number."""
    view = _View(frame, asked, levels)
    for stage in (view.survey, view.close_in, view.settle, view.doubts):
        found = [want for want in stage() if view.adds(want)]
        if found:
            return found
    return []


@dataclass(frozen=True)
class _View:
    frame: Frame
    asked: Asked
    levels: Mapping[int, Level]

    def adds(self, want: Want) -> bool:
        known = self.asked.get(want.index)
        return known is None or want.prompts > known.prompts or want.nulls > known.nulls

    @property
    def end(self) -> int:
        """The first collapsed strength; ``steps`` where there is none."""
        return next((i for i in sorted(self.levels) if self.levels[i].ruined), self.frame.steps)

    @property
    def first(self) -> int:
        """The first strength outside the null's band before the collapse that does not stand alone, as far as is
        known; the collapse where there is none."""
        for index in sorted(self.levels):
            if index < self.end and self.levels[index].outside:
                after = [i for i in range(index + 1, min(index + STEADY, self.end)) if i in self.levels]
                if all(self.levels[i].outside is not False for i in after):
                    return index
        return self.end

    def _below(self, index: int) -> int:
        return max((i for i in self.levels if i < index), default=-1)

    def survey(self) -> Iterator[Want]:
        steps, few = self.frame.steps, self.frame.few
        for index in range(min(STRIDE, steps) - 1, steps, STRIDE):
            yield Want(index, few, 0)

    def close_in(self) -> Iterator[Want]:
        few, nulls, end = self.frame.few, self.frame.few_nulls, self.end
        if end - self._below(end) > 1:
            yield Want((end + self._below(end)) // 2, few, 0)
        if not nulls:
            return
        bare = [Want(i, self.asked[i].prompts, self._few_nulls(i)) for i in sorted(self.levels)]
        bare = [want for want in bare if self.asked[want.index].nulls < want.nulls]
        if bare:
            yield from bare
            return
        first = self.first
        if first - self._below(first) > 1:
            yield Want((first + self._below(first)) // 2, few, nulls)

    def _few_nulls(self, index: int) -> int:
        """How many null rows a strength of which a few prompts are known is to have: where text stands, at those of
        the survey and about the beginning of the band; and half as many at the strongest of the survey.

        A null direction's rows have more in common where text has collapsed, and the grid pools that over all
        strengths (``null.consistency``): from those alone where text stands, the bounds would come out too small.
        """
        survey, few = range(min(STRIDE, self.frame.steps) - 1, self.frame.steps, STRIDE), self.frame.few_nulls
        if index >= self.end:
            return few // 2 if index == survey[-1] else 0
        return few if index in survey or index <= self.first + STEADY else 0

    def settle(self) -> Iterator[Want]:
        first, end = self.first, self.end
        if self.frame.nulls:
            for index in (first, first - 1, *range(first + 1, first + STEADY)):
                if index < end and not self.sure_of_band(index):
                    yield self._more(index)
        for index in (end, end - 1):
            if not self.sure_of_text(index):
                yield self._more(index, nulls=False)
        if self.frame.nulls and not self.sure_of_band(end - 1):
            yield self._more(end - 1)

    def doubts(self) -> Iterator[Want]:
        """The strongest contradiction of each sort that is not settled, unless one is: then it is no doubt."""
        healed = [i for i, level in self.levels.items() if i > self.end and level.ruined is False]
        if healed and not any(self.sure_of_text(i) for i in healed):
            yield self._more(max(healed, key=lambda i: self.levels[i].coherent or 0.0), nulls=False)
        back = [i for i, level in self.levels.items() if self.first < i < self.end and level.outside is False]
        if back and not any(self.sure_of_band(i) for i in back):
            yield self._more(min(back, key=lambda i: _reach(self.levels[i])))
        if self.first == self.end:  # a band may be narrow: the nearest to one is looked at again
            near = [i for i in self.levels if i < self.end and self.levels[i].outside is False]
            nearest = max(near, key=lambda i: _reach(self.levels[i]), default=None)
            if nearest is not None and not self.sure_of_band(nearest):
                yield self._more(nearest)

    def _more(self, index: int, nulls: bool = True) -> Want:
        """The next larger share of a cell: a few prompts, half of them, all of them."""
        frame, known = self.frame, self.asked.get(index, Want(index, 0, 0))
        half = ceil(frame.prompts / 2)
        sizes = (frame.few, max(frame.few, half), frame.prompts)
        prompts = next((size for size in sizes if size > known.prompts), frame.prompts)
        if not nulls:
            return Want(index, prompts, known.nulls)
        return Want(index, prompts, frame.nulls if known.nulls else frame.few_nulls)

    def sure_of_text(self, index: int) -> bool:
        """Whether more rows can hardly change what is said of the text at a strength."""
        if not 0 <= index < self.frame.steps:
            return True
        asked, level = self.asked.get(index), self.levels.get(index)
        if asked is not None and asked.prompts >= self.frame.prompts:
            return True
        if level is None or level.coherent is None:
            return False
        good = round(level.coherent * level.judged)
        return flip_chance(good, level.judged, self.frame.prompts) < FLIP

    def sure_of_band(self, index: int) -> bool:
        """The same of the null's band."""
        if not 0 <= index < self.frame.steps:
            return True
        asked, level = self.asked.get(index), self.levels.get(index)
        if asked is None or level is None:
            return False
        if asked.prompts >= self.frame.prompts and asked.nulls >= self.frame.nulls:
            return True
        if level.effect is None or level.bound is None or level.error is None:
            return False
        rest = max(0.0, 1 - level.prompts / self.frame.prompts)
        half = t_quantile(max(1, level.prompts - 1), _SURE) * level.error * sqrt(rest)
        loose = 1.0 if asked.nulls >= self.frame.nulls else exp(3 / sqrt(2 * max(1, level.null_rows - 1)))
        low, high = abs(level.effect) - half, abs(level.effect) + half
        return low > level.bound * loose if level.outside else high * loose < level.bound


def smoothed(frame: Frame, asked: Asked, levels: Mapping[int, Level]) -> dict[int, Level]:
    """The levels with the null's bound, where its rows are not all there, as a line through its neighbours' has it.

    Locally weighted least squares of log bound on the number of the strength, tricube weights times null rows,
    the slope not below zero.
    """
    known = [
        (i, log(level.bound), level.null_rows)
        for i, level in levels.items()
        if level.bound is not None and level.bound > 0 and asked[i].nulls and not level.ruined
    ]
    found = dict(levels)
    for index, level in levels.items():
        if level.bound is None or asked[index].nulls >= frame.nulls:
            continue
        near = [(j - index, y, n * (1 - (abs(j - index) / REACH) ** 3) ** 3) for j, y, n in known]
        near = [(x, y, w) for x, y, w in near if abs(x) < REACH]
        if len(near) > 1:
            found[index] = replace(level, bound=exp(_line_at_zero(near)))
    return found


def _line_at_zero(points: Sequence[tuple[int, float, float]]) -> float:
    """The weighted regression line of (x, y, weight) at x = 0, its slope not below zero."""
    total = sum(w for _, _, w in points)
    x_mean = sum(w * x for x, _, w in points) / total
    y_mean = sum(w * y for _, y, w in points) / total
    squares = sum(w * (x - x_mean) ** 2 for x, _, w in points)
    slope = sum(w * (x - x_mean) * (y - y_mean) for x, y, w in points) / squares if squares > 0 else 0.0
    return y_mean - max(0.0, slope) * x_mean


def _reach(level: Level) -> float:
    """The effect in units of the bound."""
    return abs(level.effect or 0.0) / level.bound if level.bound else 0.0


def flip_chance(good: int, seen: int, whole: int) -> float:
    """The chance that of ``whole`` rows the other side has the majority, given ``good`` of ``seen``.

    Beta-binomial of the rows to come, with a uniform prior of the rate. Half and half counts as a majority of
    good ones, as in ``zones.Level.ruined``.
    """
    left = max(0, whole - seen)
    total = 0.0
    for more in range(left + 1):
        if (good + more < whole / 2) != (good < seen / 2):
            a, b = good + more + 1, seen - good + left - more + 1
            ways = lgamma(left + 1) - lgamma(more + 1) - lgamma(left - more + 1)
            total += exp(ways + _log_beta(a, b) - _log_beta(good + 1, seen - good + 1))
    return total


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


@dataclass(frozen=True)
class Finding:
    """What is known of a line at the end. Strengths are those of the sheet that the levels come from."""

    line: Line
    zone: Zone
    open: bool
    """The bound on rows stopped the search: the thresholds are those of what is sure."""
    undecided: tuple[float, ...]
    """Strengths that were measured and are not sure, of an open line."""
    rows: int
    """Rows of this line, null rows included."""
    levels: tuple[Level, ...]


@dataclass
class Search:
    """The searches of several lines of one grid, within ``most`` rows together."""

    frame: Frame
    lines: Sequence[Line]
    most: int
    asked: dict[Line, dict[int, Want]] = field(default_factory=dict)
    stopped: set[Line] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.asked = {line: {} for line in self.lines}

    def spent(self, line: Line) -> int:
        """Rows asked for on a line."""
        return sum(want.prompts + want.nulls for want in self.asked[line].values())

    def ask(self, levels: Mapping[Line, Mapping[int, Level]]) -> dict[Line, list[Want]]:
        """The next rows of every line, within the bound; nothing when all lines have ended.

        A line may use its share of the rows; what others leave over is given out when they are through.
        """
        wants = {
            line: wanted(self.frame, self.asked[line], self._smooth(line, levels)) for line in self.lines
        }
        eager = {line: found for line, found in wants.items() if found}
        share = floor(self.most / max(1, len(self.lines)))
        granted = self._grant(eager, dict.fromkeys(eager, share))
        if eager and not granted:
            left = self.most - sum(self.spent(line) for line in self.lines)
            granted = self._grant(eager, {line: self.spent(line) + left // len(eager) for line in eager})
        self.stopped = set(eager) - set(granted)
        return granted

    def _grant(self, eager: Mapping[Line, list[Want]], caps: Mapping[Line, int]) -> dict[Line, list[Want]]:
        granted: dict[Line, list[Want]] = {}
        for line, wants in eager.items():
            for want in wants:
                known = self.asked[line].get(want.index, Want(want.index, 0, 0))
                want = Want(want.index, max(want.prompts, known.prompts), max(want.nulls, known.nulls))
                cost = want.prompts - known.prompts + want.nulls - known.nulls
                if cost and self.spent(line) + cost <= caps[line]:
                    self.asked[line][want.index] = want
                    granted.setdefault(line, []).append(want)
        return granted

    def _smooth(self, line: Line, levels: Mapping[Line, Mapping[int, Level]]) -> dict[int, Level]:
        return smoothed(self.frame, self.asked[line], levels.get(line, {}))

    def finding(self, line: Line, levels: Mapping[int, Level]) -> Finding:
        """What was found on a line."""
        asked, stopped = self.asked[line], line in self.stopped
        told = smoothed(self.frame, asked, levels)
        undecided = set()
        if stopped:
            view = _View(self.frame, asked, told)
            for index, level in told.items():
                if not view.sure_of_text(index):
                    level = replace(level, coherent=None)
                if not view.sure_of_band(index):
                    level = replace(level, bound=None)
                if level != told[index]:
                    told[index] = level
                    undecided.add(level.point.strength)
        known = [told[index] for index in sorted(told)]
        zone = zone_of(line, known, STEADY)
        if stopped:
            zone = self._sure(zone, told)
        return Finding(line, zone, stopped, tuple(sorted(undecided)), self.spent(line), tuple(known))

    def _sure(self, zone: Zone, told: Mapping[int, Level]) -> Zone:
        """A stopped line's zone with those thresholds alone whose neighbour on the grid is sure as well."""
        index = {level.point.strength: i for i, level in told.items()}

        def inside(i: int) -> bool:
            return i < 0 or (i in told and told[i].outside is False)

        end = self.frame.steps if zone.collapse is None else index[zone.collapse]
        text = end == 0 or (end - 1 in told and told[end - 1].ruined is False)
        if zone.effective is None:
            sure = zone.dead is not None and text and index[zone.dead] == end - 1
            dead, effective = (zone.dead, None) if sure else (None, None)
        else:
            first = index[zone.effective[0]]
            second = first + 1 == end or (first + 1 in told and told[first + 1].outside is True)
            sure = inside(first - 1) and second
            dead, effective = (zone.dead, zone.effective) if sure else (None, None)
        return replace(zone, dead=dead, effective=effective, collapse=zone.collapse if text else None)
