"""Two policies on the same starts: what can be said of their difference, in pure Python.

Rates and differences are shares between 0 and 1, or -1 and 1; a difference is the second minus the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lerobot_serl.report.interval import POWER_80, Z_95, SuccessCount


@dataclass(frozen=True)
class PairedCounts:
    """Starts by who succeeded from them.

    Attributes:
        both: starts from which both succeeded.
        first_only: from which the first alone succeeded.
        second_only: from which the second alone succeeded.
        neither: from which none succeeded.

    Raises:
        ValueError: a count is below 0, or all are 0.
    """

    both: int
    first_only: int
    second_only: int
    neither: int

    def __post_init__(self) -> None:
        counts = (self.both, self.first_only, self.second_only, self.neither)
        if min(counts) < 0 or sum(counts) == 0:
            raise ValueError(f"counts of pairs must be 0 or more and not all 0, not {counts}")

    @classmethod
    def of(cls, first: Sequence[bool], second: Sequence[bool]) -> PairedCounts:
        """Count the outcomes of two policies, entry by entry from the same start.

        >>> PairedCounts.of([True, True, False, False], [True, False, True, False])
        PairedCounts(both=1, first_only=1, second_only=1, neither=1)

        Raises:
            ValueError: the lengths differ, or there is no outcome.
        """
        pairs = list(zip(first, second, strict=True))
        return cls(*(pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))))

    @property
    def trials(self) -> int:
        """Number of starts."""
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def first(self) -> SuccessCount:
        """Successes of the first policy."""
        return SuccessCount(self.both + self.first_only, self.trials, "first")

    @property
    def second(self) -> SuccessCount:
        """Successes of the second policy."""
        return SuccessCount(self.both + self.second_only, self.trials, "second")

    @property
    def difference(self) -> float:
        """Rate of the second minus that of the first."""
        return (self.second_only - self.first_only) / self.trials

    def _correlation(self) -> float:
        """Newcombe's phi: the correlation of the outcomes, corrected towards 0 where it is above 0; 0 without variation."""
        first, second, n = self.first.successes, self.second.successes, self.trials
        scale = math.sqrt(first * (n - first) * second * (n - second))
        excess = float(self.both * self.neither - self.first_only * self.second_only)
        if excess > 0:
            excess = max(0.0, excess - n / 2)
        return excess / scale if scale > 0 else 0.0

    def interval(self) -> tuple[float, float]:
        """Newcombe's 95 % interval of the difference.

        R. G. Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired
        data, Statistics in Medicine 17 (1998) 2635-2650, method 10: Wilson's limits of both rates, squared and added,
        with the correlation of the pairs.

        >>> [round(bound, 4) for bound in PairedCounts(59, 6, 16, 80).interval()]
        [0.0046, 0.1186]

        Returns:
            (low, high), each between -1 and 1; they enclose the difference.
        """
        (low_1, high_1), (low_2, high_2) = self.first.interval, self.second.interval
        rate_1, rate_2, phi = self.first.rate, self.second.rate, self._correlation()

        def reach(down: float, up: float) -> float:
            return math.sqrt(max(0.0, down**2 - 2 * phi * down * up + up**2))

        low = self.difference - reach(rate_2 - low_2, high_1 - rate_1)
        high = self.difference + reach(rate_1 - low_1, high_2 - rate_2)
        return max(-1.0, low), min(1.0, high)

    def mcnemar_p(self) -> float:
        """Exact two-sided McNemar test: how likely pairs that differ are split so unevenly if the policies are equally good.

        Twice the smaller tail of a binomial with one half, at most 1.

        >>> round(PairedCounts(59, 6, 16, 80).mcnemar_p(), 4)
        0.0525
        """
        differing = self.first_only + self.second_only
        tail = sum(math.comb(differing, k) for k in range(min(self.first_only, self.second_only) + 1))
        return min(1.0, 2 * tail / 2**differing)

    def starts_needed(self) -> int | None:
        """Starts that would tell the policies apart with 80 % power at the 5 % level if the shares are as seen.

        R. J. Connor, Sample size for testing differences in proportions for the paired-sample design, Biometrics 43
        (1987) 207-211: (z_0.975 sqrt(s) + z_0.8 sqrt(s - d^2))^2 / d^2, with the share s of pairs that differ and the difference d.

        >>> PairedCounts(25, 5, 45, 25).starts_needed()
        23

        Returns:
            None if the policies succeeded equally often.
        """
        share, difference = (self.first_only + self.second_only) / self.trials, self.difference
        if difference == 0:
            return None
        spread = Z_95 * math.sqrt(share) + POWER_80 * math.sqrt(max(0.0, share - difference**2))
        return math.ceil((spread / difference) ** 2)
