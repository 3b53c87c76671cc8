"""What actor and corrector have in common: a network from features and a chunk to numbers for each entry of the chunk, zero at first."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import fast_cpu

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "silu": F.silu, "tanh": torch.tanh}


class ChunkMlp(nn.Module):
    """An MLP, a LayerNorm after each hidden layer, with an output layer that starts at zero.

    Args:
        feature_size: ``F``.
        chunk_size: ``h * D``.
        hidden_sizes: width of each hidden layer.
        outputs: numbers that come out.
        activation: name of it.
    """

    def __init__(self, feature_size: int, chunk_size: int, hidden_sizes: Sequence[int], outputs: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        sizes = [feature_size + chunk_size, *hidden_sizes]
        self.linears = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])
        self.norms = nn.ModuleList([nn.LayerNorm(size) for size in hidden_sizes])
        self.head = nn.Linear(sizes[-1], outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._seen: tuple[int, int] | None = None
        self._has_learnt = False
        self._views: fast_cpu.Networks | None = None

    @property
    def has_learnt(self) -> bool:
        """Whether it was ever updated: its output layer starts at exactly zero, which is looked at when weights were put in."""
        version = (self.head.weight._version, self.head.bias._version)
        if version != self._seen:
            self._seen, self._has_learnt = version, bool(self.head.weight.any()) or bool(self.head.bias.any())
        return self._has_learnt

    def learns(self) -> None:
        """An optimizer moves it, which PyTorch's fused ones do without a new version of the weights."""
        if not self._has_learnt:
            self._seen, self._has_learnt = (self.head.weight._version, self.head.bias._version), True

    def outputs(self, features: Tensor, chunk: Tensor) -> Tensor:
        """``features (B, F)``, ``chunk (B, h, D)`` -> ``(B, outputs)``."""
        flat = chunk.flatten(1)
        hidden_layers = cast("Iterable[tuple[nn.Linear, nn.LayerNorm]]", zip(self.linears, self.norms, strict=True))
        if fast_cpu.suits(flat):
            layers = [it for linear, norm in hidden_layers for it in (linear.weight, linear.bias, norm.weight, norm.bias)]
            return fast_cpu.mlp(self._networks([*layers, self.head.weight, self.head.bias]), features, flat)
        hidden = torch.cat([features, flat], dim=-1)
        for linear, norm in hidden_layers:
            hidden = ACTIVATIONS[self.activation](norm(linear(hidden)))
        return self.head(hidden)

    def _networks(self, layers: Sequence[Tensor]) -> fast_cpu.Networks:
        if self._views is None or not self._views.are_of(layers):
            self._views = fast_cpu.Networks(self.activation, layers, turned=True)
        return self._views
