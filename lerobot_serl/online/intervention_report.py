"""Whether people's interventions lie within reach of the edits: what lies outside, exploration never tries by itself."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

MIN_FRAMES = 50
LARGE_SHARE = 1 / 3
SLACK = 1e-3


class InterventionReport:
    """Counts, for each entry of the action, how often a person left the bound around ACT's action, and says so when it is often.

    Args:
        reach: ``(D,)`` the bound, in action units; infinite for what edits do not move.
        names: of the action's entries; may be empty.
    """

    def __init__(self, reach: Tensor, names: Sequence[str]) -> None:
        self._reach, self._names = reach.cpu(), list(names)
        self._outside: Tensor | None = None
        self._frames = self._told_at = 0

    def add(self, action: Tensor, base: Tensor, intervention: Tensor) -> None:
        """One episode.

        Args:
            action: ``(T, D)`` executed, action units.
            base: ``(T, h, D)`` ACT's chunk at each frame; its first step is compared.
            intervention: ``(T,)`` bool.
        """
        actions, planned = action[intervention], base[intervention][:, 0]
        if not len(actions):
            return
        outside = ((actions - planned).abs() > self._reach + SLACK).sum(dim=0)
        self._outside = outside if self._outside is None else self._outside + outside
        self._frames += len(actions)
        if self._frames >= max(MIN_FRAMES, 2 * self._told_at) and (text := self.text()):
            self._told_at = self._frames
            logging.warning(text)

    def shares(self) -> dict[str, float]:
        """Entry -> share of the intervention frames in which it left the bound."""
        if self._outside is None:
            return {}
        names = self._names or [f"action[{index}]" for index in range(len(self._outside))]
        values = (self._outside.to(torch.float64) / self._frames).tolist()
        return dict(zip(names, values, strict=True))

    def text(self) -> str:
        """The entries for which the bound is too small, in words; empty when it is large enough everywhere."""
        large = {name: share for name, share in self.shares().items() if share > LARGE_SHARE}
        if not large:
            return ""
        parts = ", ".join(f"{name}: {100 * share:.0f} %" for name, share in sorted(large.items(), key=lambda item: -item[1]))
        return (
            f"The bound of the edits is too small for people's interventions ({parts} of {self._frames} intervention frames lie outside). "
            f"Edits reach {self._described()}; what lies farther off is learnt by imitation alone (--policy.corrector.*). "
            "Raise --policy.actor.edit_scale in the next run if exploration is to reach it too, or retrain ACT with the interventions."
        )

    def _described(self) -> str:
        reach = self._reach[self._reach.isfinite()]
        low, high = float(reach.min()), float(reach.max())
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"
