"""The action units of reinforcement learning: a box around the demonstrations, mapped to [-1, 1]."""

import torch
from torch import Tensor, nn

# Half a range below this is none: dividing by it would overflow.
NO_RANGE = 1e-12
# Of the widest range: entries that hardly move keep so much, or noise would decide how far edits reach there.
RANGE_FLOOR = 0.02
# Half a range over the distance of its middle from 0: narrower ones would be rounded by more than a ten-thousandth of themselves.
LEAST_RELATIVE_RANGE = 1e4 * torch.finfo(torch.float32).eps


class ActionNormalizer(nn.Module):
    """Exact affine map between raw actions and [-1, 1].

    ``lo, hi = mid -+ (1 + margin) * half`` with ``half = max((max - min) / 2, floor)``; a margin of 0.2 keeps the demonstrations within
    +-0.83, so that an edit of 0.2 rarely meets the border (ResFiT's scaling). The floor keeps constant dimensions finite, and none is
    narrower than what 32 bits resolve.

    Args:
        action_dim: ``D``.
    """

    def __init__(self, action_dim: int) -> None:
        super().__init__()
        self.register_buffer("middle", torch.zeros(action_dim))
        self.register_buffer("half_width", torch.ones(action_dim))

    middle: Tensor
    half_width: Tensor

    def set_from_range(self, minimum: Tensor, maximum: Tensor, margin: float, floor: float = RANGE_FLOOR) -> None:
        """Take the box from the demonstrations' range.

        Args:
            minimum, maximum: ``(D,)`` raw action range.
            margin: widening, as a fraction of the half range.
            floor: smallest half range, as a fraction of the largest half range of all dimensions.

        Raises:
            ValueError: a bound is not finite, or a minimum exceeds its maximum.
        """
        minimum, maximum = minimum.detach().double().cpu(), maximum.detach().double().cpu()
        if not (minimum.isfinite().all() and maximum.isfinite().all()) or (minimum > maximum).any():
            raise ValueError(
                f"Action range must be finite with min <= max, got min {minimum.tolist()} and max {maximum.tolist()}. "
                "Recompute the dataset's statistics."
            )
        half = (maximum - minimum) / 2
        widest = half.max().item()
        smallest = floor * widest if widest > NO_RANGE else 1.0
        middle = (maximum + minimum) / 2
        self.middle.copy_(middle)
        self.half_width.copy_((1 + margin) * half.clamp_min(smallest).maximum(LEAST_RELATIVE_RANGE * middle.abs()))

    def normalize(self, raw: Tensor) -> Tensor:
        """Raw actions ``(..., D)`` -> action units; not clipped."""
        return (raw - self.middle) / self.half_width

    def unnormalize(self, action: Tensor) -> Tensor:
        """Action units ``(..., D)`` -> raw actions."""
        return action * self.half_width + self.middle
