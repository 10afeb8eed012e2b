"""Frames are bounded: the latest wins, charts are rarer, a frozen view holds."""

from __future__ import annotations

from labtui.pump import LONGEST, Pump, Rates


class Clock:
    """A clock and its timers, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, object]] = []

    def later(self, seconds: float, call) -> None:
        self.timers.append((self.now + seconds, call))

    def run(self, until: float) -> None:
        while due := sorted((t for t in self.timers if t[0] <= until), key=lambda t: t[0]):
            self.timers.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1]()  # type: ignore[operator]
        self.now = until


def pumped(rates: Rates) -> tuple[Clock, Pump, list[tuple[float, bool]]]:
    clock, frames = Clock(), []
    pump = Pump(
        lambda charts: frames.append((clock.now, charts)), clock.later, rates, clock=lambda: clock.now
    )
    return clock, pump, frames


def test_a_thousand_changes_a_second_make_few_frames() -> None:
    clock, pump, frames = pumped(Rates(text=10.0, chart=2.0))
    for number in range(1000):
        clock.run(number / 1000)
        pump.changed()
    clock.run(2.0)
    assert 9 <= len(frames) <= 13
    assert 2 <= sum(charts for _, charts in frames) <= 4


def test_what_frames_cost_bounds_them_to_the_budget() -> None:
    clock, pump, frames = pumped(Rates(text=10.0, chart=2.0, bytes=4_000.0))
    paint, spent = pump.paint, []

    def costly(charts: bool) -> None:
        paint(charts)
        spent.append(1_500)
        pump.meter.spend(1_500)

    pump.paint = costly
    for number in range(10_000):
        clock.run(number / 1000)
        pump.changed()
    assert 0.7 * 40_000 <= sum(spent) <= 40_000 + 2 * 1_500
    clock.run(20.0)
    assert clock.timers == [] and frames[-1][1]


def test_one_costly_frame_delays_the_next_by_seconds_at_most() -> None:
    clock, pump, frames = pumped(Rates(text=10.0, chart=2.0, bytes=4_000.0))
    pump.meter.spend(1_000_000)
    pump.changed()
    clock.run(0.99 * LONGEST)
    assert frames == []
    clock.run(1.01 * LONGEST)
    assert len(frames) == 1


def test_without_a_budget_bytes_cost_nothing() -> None:
    clock, pump, frames = pumped(Rates(text=10.0, chart=2.0))
    pump.meter.spend(1_000_000)
    pump.changed()
    clock.run(0.1)
    assert len(frames) == 1


def test_other_rates_bring_their_budget_with_them() -> None:
    clock, pump, frames = pumped(Rates(text=10.0, chart=2.0))
    pump.suit(Rates(text=4.0, chart=1.0, bytes=4_000.0))
    pump.meter.spend(4_000)
    pump.changed()
    clock.run(0.7)
    assert frames == []
    pump.suit(Rates(text=10.0, chart=2.0))
    clock.run(1.0)
    assert len(frames) == 1


def test_the_last_change_is_always_painted_with_its_charts() -> None:
    clock, pump, frames = pumped(Rates(text=10.0, chart=2.0))
    pump.now()
    clock.run(0.05)
    pump.changed()
    clock.run(3.0)
    assert frames[-1][0] <= 0.6 and frames[-1][1]
    assert clock.timers == []


def test_frozen_paints_nothing_and_thawing_paints_what_was_held() -> None:
    clock, pump, frames = pumped(Rates())
    pump.now()
    pump.frozen = True
    count = len(frames)
    for number in range(50):
        clock.run(number / 10)
        pump.changed()
    assert len(frames) == count
    pump.thaw()
    assert len(frames) == count + 1


def test_rates_fall_over_ssh_and_on_a_slow_line() -> None:
    here = Rates.suited(low_bandwidth=False, environ={})
    far = Rates.suited(low_bandwidth=False, environ={"SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"})
    slow = Rates.suited(low_bandwidth=True, environ={"SSH_TTY": "/dev/pts/1"})
    assert (here.chart, far.chart, slow.chart) == (8.0, 2.0, 1.0)
    assert slow.text < far.text <= here.text
