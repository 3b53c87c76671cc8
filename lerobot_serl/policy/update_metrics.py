"""What an update says of values and edits beside its losses: for people, nothing is learnt from it."""

import torch
from torch import Tensor

from ..replay.batch import Batch

# Groups of `policy_delay` updates, of which one is measured. It costs a twentieth of an update, and averages hardly need every one.
MEASURE_EVERY = 4
Metrics = dict[str, Tensor]


def of_critics(q: Tensor, batch: Batch) -> Metrics:
    """Of values ``(E, B)`` of the executed chunks; name -> () tensor."""
    values, demo = q.mean(0), batch.is_demo
    return {
        "q_data": values.mean(),
        "q_demo": _mean_where(values, demo),
        "q_online": _mean_where(values, ~demo),
        "q_std": q.std(0, correction=0).mean(),
        "reward_share": (batch.reward > 0).float().mean(),
    }


@torch.no_grad()
def of_actor(q: Tensor, mean_edit: Tensor, edit: Tensor, std: Tensor, log_prob: Tensor) -> Metrics:
    """How far edits reach, and how they are spread.

    Args:
        q: ``(E, B)`` of edited chunks.
        mean_edit: ``(B, M * D)`` in (-1, 1).
        edit: ``(B, h, D)`` the same along the chunk, in action units.
        std: ``(B, M * D)`` before the squashing.
        log_prob: ``(B,)`` of a sampled edit, for each of its numbers.

    Returns:
        name -> () tensor.
    """
    return {
        "q_edit": q.mean(),
        "edit_rms": edit.square().mean().sqrt(),
        "edit_saturation": (mean_edit.abs() > 0.9).float().mean(),
        "sigma": std.mean(),
        "entropy": -log_prob.mean(),
    }


def _mean_where(values: Tensor, where: Tensor) -> Tensor:
    """NaN, which no row shows, where there is none."""
    return (values * where).sum() / where.sum()
