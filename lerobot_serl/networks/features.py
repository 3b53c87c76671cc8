"""What actor and critics see of an observation: normalised state vectors and, with cameras, pooled features of frozen ACT."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Statistics = Mapping[str, Mapping[str, Tensor]]


class ObservationFeatures(nn.Module):
    """``z(s)``: one vector per observation, without trainable parameters, so that it is computed once per recorded frame.

    Args:
        state_sizes: key -> size of the state vectors to use.
        pooled_sizes: of the groups of ACT's pooled features, each layer-normalised on its own; empty to leave them out.
        oldest: age of the base policy's plans, in steps, that counts as 1, where decisions are made about plans of different ages; None: where not.
    """

    def __init__(self, state_sizes: Mapping[str, int], pooled_sizes: Sequence[int], oldest: int | None = None) -> None:
        super().__init__()
        self.state_keys = list(state_sizes)
        self.pooled_sizes = list(pooled_sizes)
        self.oldest = oldest
        total = sum(state_sizes.values())
        self.register_buffer("mean", torch.zeros(total))
        self.register_buffer("std", torch.ones(total))

    mean: Tensor
    std: Tensor

    @property
    def size(self) -> int:
        """``F``."""
        return self.mean.numel() + sum(self.pooled_sizes) + (self.oldest is not None)

    def set_statistics(self, statistics: Statistics, floor: float = 1e-2) -> None:
        """Take mean and standard deviation of the state vectors from dataset statistics.

        Args:
            floor: smallest standard deviation, as a fraction of the largest of the same key; a dimension that hardly moved in the
                demonstrations must not explode when the robot moves it.

        Raises:
            ValueError: mean or std of a used key is missing.
        """
        means, stds = [], []
        for key in self.state_keys:
            if not {"mean", "std"} <= statistics.get(key, {}).keys():
                raise ValueError(f"Dataset statistics 'mean' and 'std' of '{key}' are missing; recompute the dataset's statistics.")
            std = torch.as_tensor(statistics[key]["std"]).float().flatten()
            means.append(torch.as_tensor(statistics[key]["mean"]).float().flatten())
            stds.append(std.clamp_min(max(floor * std.max().item(), 1e-6)))
        if means:
            self.mean.copy_(torch.cat(means))
            self.std.copy_(torch.cat(stds))

    def forward(self, observation: Mapping[str, Tensor], pooled: Tensor, age: Tensor | int = 0) -> Tensor:
        """Raw observation ``(B, ...)``, ACT's pooled features ``(B, sum(pooled_sizes))`` and the plan's age ``(B,)`` -> ``(B, F)``."""
        parts = []
        if self.state_keys:
            states = torch.cat([observation[key].flatten(1) for key in self.state_keys], dim=-1)
            # Clamped: far outside the demonstrations the value of a feature should not grow without limit.
            parts.append(((states - self.mean) / self.std).clamp(-10.0, 10.0))
        if self.pooled_sizes:
            parts.extend(F.layer_norm(group, group.shape[-1:]) for group in pooled.split(self.pooled_sizes, dim=-1))
        if self.oldest is not None:
            rows = len(next(iter(observation.values())))
            parts.append((torch.as_tensor(age, device=self.mean.device) / self.oldest).to(self.mean).expand(rows).unsqueeze(-1))
        return torch.cat(parts, dim=-1)
