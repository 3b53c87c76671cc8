"""Averages of metrics that may still be on their way on the device."""

import math
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor


class Averages:
    """Adds up metrics without waiting for the device, and reads all of them back at once.

    A metric may be missing in some updates, come up later, or be NaN where there is nothing to say: its average is over the others.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
        self._tensors: dict[tuple[str, ...], Tensor] = {}

    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """One update's metrics: numbers, or tensors of one number each.

        Raises:
            ValueError: a tensor of another size, by the metric's name.
        """
        tensors = {}
        for name, value in metrics.items():
            if not isinstance(value, Tensor):
                self._add(name, 0.0 if math.isnan(value) else value, not math.isnan(value))
            elif value.numel() == 1:
                tensors[name] = value.detach().reshape(())
            else:
                raise ValueError(f"metric {name!r} has the shape {tuple(value.shape)}, expected one number")
        if tensors:  # those that come together are added together, in a few operations for all of them
            names, values = tuple(tensors), torch.stack(list(tensors.values())).float()
            missing = values.isnan()
            new = torch.stack([values.masked_fill(missing, 0.0), (~missing).float()])
            self._tensors[names] = self._tensors[names] + new if names in self._tensors else new

    def read(self) -> dict[str, float]:
        """The averages since the last call, with one transfer for all that lies on a device."""
        if self._tensors:
            totals, counts = torch.cat(list(self._tensors.values()), dim=1).tolist()
            for name, total, count in zip([name for names in self._tensors for name in names], totals, counts, strict=True):
                self._add(name, total, count)
        averages = {name: total / count for name, (total, count) in self._numbers.items() if count}
        self._tensors.clear()
        self._numbers.clear()
        return averages

    def _add(self, name: str, total: float, count: float) -> None:
        sums = self._numbers[name]
        sums[0] += total
        sums[1] += count
