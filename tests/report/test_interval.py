"""Intervals and rolling values behind the curves."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_serl.report.interval import (
    SuccessCount,
    chance_of_as_many,
    difference_interval,
    mean_interval,
    rolling_mean,
    rolling_success,
    wilson_interval,
)

counts = st.integers(1, 400).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_matches_published_values(successes: int, trials: int, low: float, high: float) -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


@given(counts)
def test_wilson_bounds_solve_the_score_equation(count: tuple[int, int]) -> None:
    successes, trials = count
    rate = successes / trials
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= rate <= high <= 1
    for bound in (low, high):
        score = abs(rate - bound) - 1.96 * math.sqrt(bound * (1 - bound) / trials)
        assert score == pytest.approx(0, abs=1e-7)
    assert wilson_interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("successes", "trials", "z"), [(0, 0, 1.96), (-1, 5, 1.96), (6, 5, 1.96), (1, 5, 0.0)])
def test_wilson_refuses_impossible_numbers(successes: int, trials: int, z: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        wilson_interval(successes, trials, z)


def test_wilson_refuses_fractions() -> None:
    with pytest.raises(TypeError):
        wilson_interval(1.5, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_difference_matches_published_values(
    first: tuple[int, int],
    second: tuple[int, int],
    low: float,
    high: float,
) -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 873-890, table II, method 10.
    computed = difference_interval(SuccessCount(*first, "a"), SuccessCount(*second, "b"))
    assert computed == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("first", "second", "chance"),
    [
        ((3, 4), (1, 4), 17 / 70),  # the lady tasting tea
        ((4, 4), (0, 4), 1 / 70),
        ((10, 10), (2, 3), 3 / 13),
        ((0, 5), (3, 5), 1.0),
        ((4, 4), (0, 0), 1.0),
    ],
)
def test_chance_of_as_many_is_fishers(first: tuple[int, int], second: tuple[int, int], chance: float) -> None:
    assert chance_of_as_many(SuccessCount(*first, ""), SuccessCount(*second, "")) == pytest.approx(chance)


def test_mean_interval_is_student_t() -> None:
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - 4.303 / math.sqrt(3), 2 + 4.303 / math.sqrt(3)))
    assert mean_interval([0.4]) == (0.4, 0.4, 0.4)
    twenty_one = [float(value) for value in range(21)]
    half = mean_interval(twenty_one)[2] - 10
    assert half * math.sqrt(21) / math.sqrt(38.5) == pytest.approx(2.086, abs=1e-3)
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


@given(st.lists(st.booleans(), max_size=150), st.integers(1, 60), st.integers(1, 20))
def test_rolling_success_equals_counting_by_hand(outcomes: list[bool], window: int, min_trials: int) -> None:
    env_steps = [10.0 * (index + 1) for index in range(len(outcomes))]
    curve = rolling_success(env_steps, [float(value) for value in outcomes], window, min_trials)
    assert curve.x == env_steps[min_trials - 1 :]
    for position, end in enumerate(range(min_trials, len(outcomes) + 1)):
        recent = [outcomes[index] for index in range(end) if index >= end - window]
        assert curve.rate[position] == recent.count(True) / len(recent)
        assert (curve.low[position], curve.high[position]) == wilson_interval(recent.count(True), len(recent))


def test_rolling_success_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        rolling_success([1.0], [0.5])
    with pytest.raises(ValueError, match="2 env_steps but 1"):
        rolling_success([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="window"):
        rolling_success([1.0], [1.0], window=0)


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), max_size=60), st.integers(1, 20))
def test_rolling_mean_leaves_out_gaps(values: list[float], window: int) -> None:
    means = rolling_mean(values, window)
    assert len(means) == len(values)
    for index, mean in enumerate(means):
        recent = [v for v in values[max(0, index + 1 - window) : index + 1] if not math.isnan(v)]
        assert math.isnan(mean) if not recent else mean == pytest.approx(fmean(recent))
