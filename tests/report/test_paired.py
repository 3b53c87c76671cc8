"""Paired outcomes: against published numbers, and properties that hold for every table."""

from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_serl.report import interval, paired
from lerobot_serl.report.interval import SuccessCount, trials_needed
from lerobot_serl.report.paired import PairedCounts

cells = st.tuples(*[st.integers(0, 60)] * 4).filter(any)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 2635-2650, the examples of method 10.
        ((36, 2, 12, 0), 0.0569, 0.3404),
        ((36, 0, 14, 0), 0.1528, 0.4167),
        ((20, 2, 12, 16), 0.0562, 0.3292),
        # Altman et al., Statistics with Confidence (2000), table 6.2.
        ((14, 0, 5, 22), 0.0115, 0.2265),
        # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014) 2850-2875: Bentur's and Cavo's data.
        ((1, 1, 7, 12), 0.0256, 0.5069),
        ((59, 6, 16, 80), 0.0046, 0.1186),
    ],
)
def test_interval_matches_published_values(table: tuple[int, int, int, int], low: float, high: float) -> None:
    assert PairedCounts(*table).interval() == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("table", "p"), [((1, 1, 7, 12), 0.0703), ((59, 6, 16, 80), 0.0525), ((9, 0, 0, 1), 1.0), ((0, 3, 3, 0), 1.0)])
def test_exact_mcnemar_matches_published_values(table: tuple[int, int, int, int], p: float) -> None:
    # Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013) 91: exact conditional test.
    assert PairedCounts(*table).mcnemar_p() == pytest.approx(p, abs=5e-5)


def test_mcnemar_is_the_two_sided_binomial_test() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    for first_only in range(12):
        for second_only in range(12):
            if first_only + second_only:
                exact = scipy_stats.binomtest(first_only, first_only + second_only).pvalue
                assert PairedCounts(5, first_only, second_only, 5).mcnemar_p() == pytest.approx(exact)


@given(cells)
def test_interval_encloses_the_difference_and_turns_with_the_order(table: tuple[int, int, int, int]) -> None:
    both, first_only, second_only, neither = table
    counts, swapped = PairedCounts(*table), PairedCounts(both, second_only, first_only, neither)
    low, high = counts.interval()
    assert -1 <= low <= counts.difference <= high <= 1
    assert swapped.interval() == pytest.approx((-high, -low), abs=1e-12)
    assert swapped.mcnemar_p() == counts.mcnemar_p()
    assert 0 < counts.mcnemar_p() <= 1
    assert swapped.starts_needed() == counts.starts_needed()
    assert counts.difference == pytest.approx(counts.second.rate - counts.first.rate)


@given(cells)
def test_counting_failures_turns_the_interval(table: tuple[int, int, int, int]) -> None:
    both, first_only, second_only, neither = table
    low, high = PairedCounts(*table).interval()
    assert PairedCounts(neither, second_only, first_only, both).interval() == pytest.approx((-high, -low), abs=1e-12)


@given(cells)
def test_a_table_that_does_not_tell_them_apart_needs_more_starts(table: tuple[int, int, int, int]) -> None:
    counts = PairedCounts(*table)
    low, high = counts.interval()
    needed = counts.starts_needed()
    assert (needed is None) == (table[1] == table[2])
    if low <= 0 <= high and needed is not None:
        assert needed > counts.trials


def test_starts_needed_has_the_power_it_promises() -> None:
    """Connor's approximation of the power, turned round, at the number of starts."""
    counts = PairedCounts(30, 5, 15, 50)
    n, share, difference = counts.starts_needed(), 0.2, 0.1
    assert n is not None
    z = (difference * math.sqrt(n) - 1.96 * math.sqrt(share)) / math.sqrt(share - difference**2)
    assert 0.5 * (1 + math.erf(z / math.sqrt(2))) == pytest.approx(0.8, abs=0.003)


def test_independent_trials_needed() -> None:
    # 152 of each for 25 against 40 % is the textbook's number without correction for continuity.
    assert trials_needed(SuccessCount(25, 100, "a"), SuccessCount(40, 100, "b")) == 152
    assert trials_needed(SuccessCount(40, 100, "a"), SuccessCount(25, 100, "b")) == 152
    assert trials_needed(SuccessCount(5, 10, "a"), SuccessCount(25, 50, "b")) is None


def test_pairs_are_counted_in_order_and_must_be_as_many() -> None:
    assert PairedCounts.of([True, True, False, False, True], [True, False, True, False, True]) == PairedCounts(2, 1, 1, 1)
    with pytest.raises(ValueError, match="shorter"):
        PairedCounts.of([True, True], [True])
    with pytest.raises(ValueError, match="not all 0"):
        PairedCounts.of([], [])
    with pytest.raises(ValueError, match="0 or more"):
        PairedCounts(1, -1, 0, 0)


@pytest.mark.parametrize("module", [paired, interval])
def test_examples_in_the_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0
