"""Success rates with honest error bars, in pure Python.

Every function works on plain numbers and lists; rates are shares between 0 and 1.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

Z_95 = 1.96
"""Standard normal quantile of a two-sided 95 % interval."""

POWER_80 = 0.8416
"""Standard normal quantile of 80 % power."""

_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Two-sided 95 % quantiles of Student's t for 1 to 15 degrees of freedom."""


@dataclass(frozen=True)
class SuccessCount:
    """Successes out of trials, with where they come from in words (for a legend)."""

    successes: int
    trials: int
    source: str

    @property
    def rate(self) -> float:
        """Share of successes, 0 to 1."""
        return self.successes / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval of the rate."""
        return wilson_interval(self.successes, self.trials)


@dataclass(frozen=True)
class RateCurve:
    """A success rate along a run; four lists of the same length.

    Attributes:
        x: environment steps after the newest episode of each window.
        rate: share of successes in the window, 0 to 1.
        low: lower Wilson bound.
        high: upper Wilson bound.
    """

    x: list[float]
    rate: list[float]
    low: list[float]
    high: list[float]


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of a success probability.

    Args:
        successes: number of successes, 0 to trials.
        trials: number of trials, at least 1.
        z: standard normal quantile, finite and above 0 (1.96 for 95 %).

    Returns:
        (low, high), shares between 0 and 1 that enclose successes / trials.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count or z is out of range.
    """
    successes, trials = operator.index(successes), operator.index(trials)
    if trials < 1:
        raise ValueError(f"trials must be at least 1, not {trials}")
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be between 0 and {trials}, not {successes}")
    if not (math.isfinite(z) and z > 0):
        raise ValueError(f"z must be finite and above 0, not {z}")
    rate = successes / trials
    scale = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, min(rate, centre - half))
    high = 1.0 if successes == trials else min(1.0, max(rate, centre + half))
    return low, high


def difference_interval(first: SuccessCount, second: SuccessCount) -> tuple[float, float]:
    """Newcombe's 95 % interval of first.rate - second.rate for independent trials.

    Returns:
        (low, high), each between -1 and 1.
    """
    (low_1, high_1), (low_2, high_2) = first.interval, second.interval
    difference = first.rate - second.rate
    low = difference - math.hypot(first.rate - low_1, high_2 - second.rate)
    high = difference + math.hypot(high_1 - first.rate, second.rate - low_2)
    return low, high


def chance_of_as_many(first: SuccessCount, second: SuccessCount) -> float:
    """Fisher's exact test, one-sided: how likely as many successes of `first` or more are, if both succeed equally often.

    Exact however few the trials are, and on the safe side: R. A. Fisher, Statistical Methods for Research Workers (1934), section 21.02.
    """
    successes, trials = first.successes + second.successes, first.trials + second.trials
    ways = sum(
        math.comb(first.trials, mine) * math.comb(second.trials, successes - mine)
        for mine in range(first.successes, min(first.trials, successes) + 1)
    )
    return ways / math.comb(trials, successes)


def trials_needed(first: SuccessCount, second: SuccessCount) -> int | None:
    """Trials of each that would tell two independent rates apart with 80 % power at the 5 % level if they are as seen.

    J. L. Fleiss, Statistical Methods for Rates and Proportions (1981), chapter 3, without correction for continuity:
    (z_0.975 sqrt(2 p q) + z_0.8 sqrt(p1 q1 + p2 q2))^2 / (p1 - p2)^2, with the mean p of both rates and q = 1 - p.

    >>> trials_needed(SuccessCount(25, 100, "a"), SuccessCount(40, 100, "b"))
    152

    Returns:
        None if the rates are equal.
    """
    if first.rate == second.rate:
        return None
    mean = (first.rate + second.rate) / 2
    variance = first.rate * (1 - first.rate) + second.rate * (1 - second.rate)
    spread = Z_95 * math.sqrt(2 * mean * (1 - mean)) + POWER_80 * math.sqrt(variance)
    return math.ceil((spread / (first.rate - second.rate)) ** 2)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of one value per run with its 95 % Student t interval (no interval width for a single value).

    Raises:
        ValueError: values is empty.
    """
    if not values:
        raise ValueError("mean_interval needs at least one value")
    mean = fmean(values)
    if len(values) == 1:
        return mean, mean, mean
    freedom = len(values) - 1
    quantile = _T_95[freedom - 1] if freedom <= len(_T_95) else _t_quantile(freedom)
    half = quantile * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def _t_quantile(freedom: int) -> float:
    """95 % quantile of Student's t from its series in 1 / freedom (Abramowitz and Stegun 26.7.5), off by < 0.001."""
    first = (Z_95**3 + Z_95) / 4
    second = (5 * Z_95**5 + 16 * Z_95**3 + 3 * Z_95) / 96
    return Z_95 + first / freedom + second / freedom**2


def rolling_success(
    env_steps: Sequence[float],
    successes: Sequence[float],
    window: int = 50,
    min_trials: int = 1,
) -> RateCurve:
    """Success rate of the last `window` episodes after each episode, with Wilson 95 % bounds.

    Args:
        env_steps: cumulative environment steps after each episode, in order.
        successes: 1 for success, 0 for failure, one per episode.
        window: episodes per window; the first windows hold fewer.
        min_trials: leave out windows with fewer episodes than this.

    Raises:
        ValueError: lengths differ, window is below 1, or a success is neither 0 nor 1.
    """
    if len(env_steps) != len(successes):
        raise ValueError(f"{len(env_steps)} env_steps but {len(successes)} successes")
    if window < 1:
        raise ValueError(f"window must be at least 1, not {window}")
    if any(value not in (0, 1) for value in successes):
        raise ValueError("every success must be 0 or 1")
    curve = RateCurve([], [], [], [])
    for end in range(max(1, min_trials), len(successes) + 1):
        recent = successes[max(0, end - window) : end]
        count = int(sum(recent))
        low, high = wilson_interval(count, len(recent))
        curve.x.append(float(env_steps[end - 1]))
        curve.rate.append(count / len(recent))
        curve.low.append(low)
        curve.high.append(high)
    return curve


def rolling_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of the last `window` entries at each position; NaN entries are left out.

    Returns:
        A list as long as `values`; NaN where a window holds no finite entry.

    Raises:
        ValueError: window is below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, not {window}")
    means = []
    for end in range(1, len(values) + 1):
        finite = [value for value in values[max(0, end - window) : end] if math.isfinite(value)]
        means.append(fmean(finite) if finite else math.nan)
    return means
