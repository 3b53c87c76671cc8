"""The control loop's rate, with a clock that moves only when told."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl.actor.pace import Pace

PERIOD_S = 0.1


class FakeClock:
    """Seconds that pass when somebody sleeps or works; `oversleep_s` is added to every sleep."""

    def __init__(self, oversleep_s=0.0):
        self.now_s, self.oversleep_s, self.slept = 100.0, oversleep_s, []

    def __call__(self):
        return self.now_s

    def sleep(self, seconds):
        assert seconds >= 0
        self.slept.append(seconds)
        self.now_s += seconds + self.oversleep_s


@pytest.fixture
def clock():
    return FakeClock()


def ticks(clock, pace, work_s):
    """Times of the ticks, since the beginning, that follow each so long work."""
    start_s, times = clock.now_s, []
    for seconds in work_s:
        clock.now_s += seconds
        pace.wait()
        times.append(clock.now_s - start_s)
    return times


def test_ticks_lie_on_the_grid_whatever_the_work(clock):
    pace = Pace(10, clock, clock.sleep)
    assert ticks(clock, pace, [0.0, 0.09, 0.03, 0.1, 0.05]) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert (pace.late_ticks, pace.worst_lateness_s) == (0, 0.0)


def test_a_late_tick_is_counted_and_measured(clock):
    pace = Pace(10, clock, clock.sleep)
    times = ticks(clock, pace, [0.05, 0.25, 0.05, 0.3])
    assert pace.late_ticks == 2
    assert pace.worst_lateness_s == pytest.approx(0.2)
    assert times == pytest.approx([0.1, 0.35, 0.45, 0.75])


def test_wait_returns_how_late_it_is(clock):
    pace = Pace(10, clock, clock.sleep)
    clock.now_s += 0.04
    assert pace.wait() == 0.0
    clock.now_s += 0.17
    assert pace.wait() == pytest.approx(0.07)
    assert len(clock.slept) == 1  # the late tick does not sleep at all


def test_after_a_long_stop_the_grid_starts_anew(clock):
    """Ten seconds of a stuck cable must not be followed by a hundred ticks without a pause."""
    pace = Pace(10, clock, clock.sleep)
    times = ticks(clock, pace, [10.0, 0.0, 0.0, 0.0])
    assert times == pytest.approx([10.0, 10.1, 10.2, 10.3])
    assert pace.late_ticks == 1


def test_a_little_oversleep_is_not_late_and_the_grid_does_not_drift():
    clock = FakeClock(oversleep_s=0.005)
    pace = Pace(10, clock, clock.sleep)
    times = ticks(clock, pace, [0.05] * 50)
    assert times[-1] == pytest.approx(5.005)
    assert pace.late_ticks == 0


def test_begin_forgets_what_was(clock):
    pace = Pace(10, clock, clock.sleep)
    ticks(clock, pace, [0.5, 0.5])
    clock.now_s += 3.0
    pace.begin()
    assert (pace.late_ticks, pace.worst_lateness_s) == (0, 0.0)
    assert ticks(clock, pace, [0.02]) == pytest.approx([0.1])


@settings(max_examples=200, deadline=None)
@given(work_s=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), oversleep_s=st.floats(0.0, 0.02))
def test_it_never_catches_up(work_s, oversleep_s):
    """However late, two ticks are at least a period less the tolerance apart, and every tick is on time or counted."""
    clock = FakeClock(oversleep_s)
    pace = Pace(10, clock, clock.sleep)
    times = [0.0, *ticks(clock, pace, work_s)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= PERIOD_S - pace.tolerance_s - 1e-9
    assert pace.late_ticks <= sum(gap > PERIOD_S for gap in gaps)
    assert pace.late_ticks >= sum(gap > PERIOD_S + 2 * pace.tolerance_s + 1e-9 for gap in gaps)
