"""What a window is follows from where it starts: computed once for each frame, when its episode comes in, and looked up at every draw."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..sac import window_return


class WindowColumns(NamedTuple):
    """Of the windows that start at each of ``T`` frames; that of a last frame which only serves to bootstrap from is never asked for.

    Attributes:
        length: ``(T,)`` int64, steps.
        inside: ``(T,)`` int64, steps of the window's chunk that were executed: fewer than ``h`` at the end of an episode or of a plan.
        jump: ``(T,)`` int64, frames from its start to the observation after it; 0 where the episode terminates inside.
        reward: ``(T,)`` float32, discounted, inside the window.
        discount: ``(T,)`` float32 of the value after it, 0 where there is none.
    """

    length: Tensor
    inside: Tensor
    jump: Tensor
    reward: Tensor
    discount: Tensor


def window_columns(
    steps: int, terminated: bool, rewards: Tensor, span: Tensor | None, horizon: int, n_step: int, discount: float
) -> WindowColumns:
    """Of an episode's windows of up to ``n_step`` steps.

    Args:
        steps: transitions of the episode.
        terminated: whether nothing follows the last of them.
        rewards: ``(T,)``.
        span: ``(T,)`` int64, steps that a decision at a frame is carried out; None: ``horizon`` everywhere.
    """
    frame = torch.arange(len(rewards), device=rewards.device)
    remaining = (steps - frame).clamp_min(1)
    span = torch.full_like(frame, horizon) if span is None else span.to(frame)
    # A decision about the last steps of a plan is carried out for fewer than h of them.
    length = torch.minimum(remaining, span + n_step - horizon)
    goes_on = (length < remaining) if terminated else torch.ones_like(frame, dtype=torch.bool)
    # Steps beyond the window repeat its last frame: read, then masked.
    rewarded = frame.unsqueeze(-1) + torch.minimum(torch.arange(n_step, device=frame.device), length.unsqueeze(-1) - 1)
    reward, factor = window_return(rewards[rewarded], length, discount)
    return WindowColumns(length, torch.minimum(length, span), length * goes_on, reward, factor * goes_on)
