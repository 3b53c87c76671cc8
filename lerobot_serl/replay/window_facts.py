"""What a window is follows from where it starts: computed once for each frame, when its episode comes in, and looked up at every draw."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..sac import window_return
from .transition import Episode


class WindowFacts(NamedTuple):
    """Of the windows that start at each of ``T`` frames; that of a last frame which only serves to bootstrap from is never asked for.

    Attributes:
        length: ``(T,)`` int64, steps.
        jump: ``(T,)`` int64, frames from its start to the observation after it; 0 where the episode terminates inside.
        reward: ``(T,)`` float32, discounted, inside the window.
        discount: ``(T,)`` float32 of the value after it, 0 where there is none.
    """

    length: Tensor
    jump: Tensor
    reward: Tensor
    discount: Tensor


def window_facts(episode: Episode, n_step: int, discount: float) -> WindowFacts:
    """Of an episode's windows of up to ``n_step`` steps."""
    frame = torch.arange(len(episode), device=episode.reward.device)
    remaining = (episode.steps - frame).clamp_min(1)
    length = remaining.clamp_max(n_step)
    goes_on = (length < remaining) if episode.terminated else torch.ones_like(frame, dtype=torch.bool)
    # Steps beyond the window repeat its last frame: read, then masked.
    rewarded = frame.unsqueeze(-1) + torch.minimum(torch.arange(n_step, device=frame.device), length.unsqueeze(-1) - 1)
    reward, factor = window_return(episode.reward[rewarded], length, discount)
    return WindowFacts(length, length * goes_on, reward, factor * goes_on)
