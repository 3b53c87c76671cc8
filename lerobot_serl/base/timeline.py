"""With which plan each frame of a recorded episode is looked at: the one that was open there, or one that is made for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..execution import Execution
from ..replay.frame_columns import NO_PLAN

# Golden ratio: successive multiples spread evenly.
_GOLDEN = 0.6180339887498949


def drawn_ages(n_frames: int, n_action_steps: int, number: int) -> Tensor:
    """Ages ``(T,)`` as if plans had been begun at the first frame and at every ``N``-th after an offset, which ``number`` decides."""
    offset = int(n_action_steps * ((number + 1) * _GOLDEN % 1.0))
    frame = torch.arange(n_frames)
    return torch.where(frame < offset, frame, (frame - offset) % n_action_steps)


@dataclass(frozen=True, eq=False)
class Timeline:
    """Of the ``T`` frames of an episode.

    Attributes:
        start: ``(T,)`` int64, the frame for which the plan was made.
        age: ``(T,)`` int64, steps since then.
        span: ``(T,)`` int64, steps that a decision at this frame is carried out.
        carried_out: ``(T, h)`` bool, what the plan says of this step is recorded.
    """

    start: Tensor
    age: Tensor
    span: Tensor
    carried_out: Tensor

    @classmethod
    def of(cls, ages: Tensor, execution: Execution, is_recorded: bool) -> "Timeline":
        """From ages ``(T,)`` int64, that were recorded with the plans' actions, or drawn.

        A frame keeps the plan that was open there, if that goes on for a whole chunk, or if a decision was made there about its last steps. The
        other frames get a plan of their own, as if the last one had been used up there. Without open plans all of them do.
        """
        frame, horizon, steps = torch.arange(len(ages)), execution.horizon, execution.n_action_steps
        ages = ages if execution.is_apart else torch.full_like(ages, NO_PLAN)
        begins = torch.ones_like(frame, dtype=torch.bool)
        begins[1:] = (ages[1:] != ages[:-1] + 1) | (ages[1:] < 0) | (ages[:-1] < 0)
        first = torch.where(begins, frame, 0).cummax(0).values
        left = steps - ages
        decided = (frame - first) % horizon == 0
        kept = (ages >= 0) & (ages <= frame) & ((left >= horizon) | (decided & (left > 0)))
        age = torch.where(kept, ages, 0)
        # The first frame after each that begins something else.
        ends = torch.where(begins, frame, len(ages)).flip(0).cummin(0).values.flip(0)
        end = torch.cat([ends[1:], ends.new_tensor([len(ages)])]) if len(ages) else ends
        span = (steps - age).clamp_max(horizon)
        carried_out = kept.unsqueeze(-1) & (frame.unsqueeze(-1) + _steps(span, horizon) < end.unsqueeze(-1))
        return cls(frame - age, age, span, carried_out & is_recorded)

    def starts(self) -> Tensor:
        """Frames whose plans are needed, in order: not those of which all that counts is recorded, but the first of these, to compare."""
        needed = ~self.carried_out.all(-1)
        recorded = self.carried_out[:, 0].nonzero()[:1, 0]
        return torch.cat([self.start[needed], self.start[recorded]]).unique()

    def slices(self, starts: Tensor, plans: Tensor, recorded: Tensor) -> Tensor:
        """What is edited at each frame, ``(T, h, D)``.

        Args:
            starts: ``(n,)``, from :meth:`starts`.
            plans: ``(n, N, D)`` for these frames.
            recorded: ``(T, D)``, the plans' actions that are recorded.
        """
        step = _steps(self.span, self.carried_out.shape[1])
        row = torch.searchsorted(starts, self.start).clamp_max(max(len(starts) - 1, 0))
        planned = plans[row.unsqueeze(-1), self.age.unsqueeze(-1) + step]
        frame = (torch.arange(len(self.start)).unsqueeze(-1) + step).clamp_max(len(self.start) - 1)
        return torch.where(self.carried_out.unsqueeze(-1), recorded[frame], planned)


def _steps(span: Tensor, horizon: int) -> Tensor:
    """``(T, h)``: beyond the span its last step again."""
    return torch.minimum(torch.arange(horizon), span.unsqueeze(-1) - 1)
