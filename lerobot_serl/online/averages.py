"""Averages of metrics that may still be on their way on the device."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Averages:
    """Adds up metrics without waiting for the device, and reads all of them back at once.

    A metric may be missing in some updates, come up later, or be NaN where there was nothing to average: each is averaged over the updates
    that had a finite one.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}

    @torch.no_grad()
    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """One update's metrics: numbers, or tensors of one number each."""
        tensors = {name: value if value.dim() == 0 else value.reshape(()) for name, value in metrics.items() if isinstance(value, Tensor)}
        numbers = {name: value for name, value in metrics.items() if name not in tensors}
        if tensors:  # those that come together are added together, in a few operations for all of them
            self._add(tuple(tensors), torch.stack(list(tensors.values())).float())
        if numbers:
            self._add(tuple(numbers), torch.tensor(list(numbers.values()), dtype=torch.float64))

    def read(self) -> dict[str, float]:
        """The averages since the last call, with one transfer for all that lies on a device."""
        groups, self._sums = self._sums, {}
        totals: dict[str, tuple[float, float]] = {}
        for kind in {(sums.device, sums.dtype) for sums in groups.values()}:
            alike = {names: sums for names, sums in groups.items() if (sums.device, sums.dtype) == kind}
            sums, counts = torch.cat(list(alike.values()), dim=1).tolist()
            for name, total, count in zip([name for names in alike for name in names], sums, counts, strict=True):
                before = totals.get(name, (0.0, 0.0))
                totals[name] = before[0] + total, before[1] + count
        return {name: total / count for name, (total, count) in totals.items() if count}

    def _add(self, names: tuple[str, ...], values: Tensor) -> None:
        is_there = values * 0 == 0  # neither NaN nor infinite, in two operations instead of four
        added = torch.stack([values.where(is_there, 0.0), is_there.to(values.dtype)])
        self._sums[names] = self._sums[names] + added if names in self._sums else added
