"""Batches of windows: what an update learns from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """``B`` windows of up to ``n`` steps, the first ``h`` of which are a chunk.

    Attributes:
        features, next_features: ``(B, F)`` at the window's start and after its last step, where the value that follows is asked for.
        base, next_base: ``(B, h, D)`` reference chunks there, in action units.
        chunk: ``(B, h, D)`` executed actions; steps beyond the window's length hold the reference chunk's.
        reward: ``(B,)`` discounted reward inside the window.
        discount: ``(B,)`` ``gamma^K``, 0 where the episode terminated inside the window.
        length: ``(B,)`` int64, ``K``, at most ``n``.
        intervention: ``(B, h)`` bool, a person executed this step; false beyond the window's length.
        is_demo: ``(B,)`` bool, drawn from the demonstrations' memory.
        images, next_images: camera key -> ``(B, C, H, W)`` uint8 where features are; empty unless the critics have an image encoder of their own.
        index: ``(B,)`` int64, number of the window's first transition in the memory that ``is_demo`` names; it never changes there.
        weight: ``(B,)`` of each window's error in the critics' loss; None: all count the same.
        previous: ``(B, D)`` action that was executed before the window; its own first one where an episode begins. None: nobody asks.
    """

    features: Tensor
    base: Tensor
    chunk: Tensor
    reward: Tensor
    discount: Tensor
    next_features: Tensor
    next_base: Tensor
    length: Tensor
    intervention: Tensor
    is_demo: Tensor
    images: Mapping[str, Tensor] = field(default_factory=dict)
    next_images: Mapping[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None
    weight: Tensor | None = None
    previous: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device, or itself."""
        if self.reward.device == torch.device(device):
            return self
        return Batch(**{item.name: _map(lambda value: value.to(device), getattr(self, item.name)) for item in fields(self)})

    @staticmethod
    def concatenate(batches: list["Batch"]) -> "Batch":
        """Join batches along ``B``."""
        return Batch(**{item.name: _join([getattr(batch, item.name) for batch in batches]) for item in fields(Batch)})


def _map(function: Callable[[Tensor], Tensor], value: Tensor | Mapping[str, Tensor] | None) -> Any:
    if isinstance(value, Mapping):
        return {key: function(entry) for key, entry in value.items()}
    return None if value is None else function(value)


def _join(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Mapping):
        return {key: torch.cat([value[key] for value in values]) for key in first}
    return None if first is None else torch.cat(values)
