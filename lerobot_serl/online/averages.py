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

    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """One update's metrics: numbers, or tensors of one number each."""
        if not metrics:
            return
        names = tuple(metrics)
        device = next((value.device for value in metrics.values() if isinstance(value, Tensor)), None)
        values = torch.stack(
            [torch.as_tensor(value, dtype=torch.float32, device=device).detach().reshape(()) for value in metrics.values()]
        )
        is_there = values.isfinite()
        added = torch.stack([values.where(is_there, 0.0), is_there.float()])
        self._sums[names] = added if names not in self._sums else self._sums[names] + added

    def read(self) -> dict[str, float]:
        """The averages since the last call, with one transfer for all that lies on a device."""
        groups, self._sums = self._sums, {}
        totals: dict[str, tuple[float, float]] = {}
        if groups:
            total, count = (iter(row) for row in torch.cat(list(groups.values()), dim=1).tolist())
            for names in groups:
                for name in names:
                    before = totals.get(name, (0.0, 0.0))
                    totals[name] = before[0] + next(total), before[1] + next(count)
        return {name: total / count for name, (total, count) in totals.items() if count}
