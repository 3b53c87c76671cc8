"""The grasp critic's mathematics: a deep Q-network over what the grippers do during a chunk. Read ``sac.py`` first.

A decision says for each gripper: as the reference policy commands it; or, from some step of the chunk on, one of the
two positions at which the demonstrations hold it. Decision 0 leaves all grippers to the reference policy.

Letters in shapes, beside those of ``sac.py``: ``G`` grippers, ``N`` decisions.

Sources: HIL-SERL's grasp critic (arXiv 2410.21845, ``sac_hybrid_single.py``), DQN (Mnih et al. 2015), double DQN (arXiv
1509.06461), options that last several steps (Sutton, Precup and Singh 1999). Ours: decisions beside a reference policy,
for a chunk at once, and an ensemble in the place of one network.
"""

import torch
from torch import Tensor

# This share of a window's executed steps may differ from a decision's commands: ACT, asked again a step later, may switch
# a step later.
MOST_DIFFERENT = 0.1


def described(executed: Tensor, options: Tensor, middle: Tensor, length: Tensor) -> Tensor:
    """Which decisions a window carried out: those whose commands differ from the executed ones in the fewest steps.

    A command counts as one of two positions, by the side of ``middle`` on which it lies. Several decisions may be the
    same (closing a gripper that the reference policy keeps closed). A window from which all differ in more than
    :data:`MOST_DIFFERENT` of the steps carried out none, and teaches nothing.

    Args:
        executed: ``(B, h, G)`` commands.
        options: ``(B, N, h, G)`` commands under each decision, from the reference policy's chunk at the window's start.
        middle: ``(G,)`` between the two positions.
        length: ``(B,)`` int64, executed steps.

    Returns:
        ``(B, N)`` bool.
    """
    inside = torch.arange(executed.shape[-2], device=length.device) < length.unsqueeze(-1)
    differs = ((executed > middle).unsqueeze(1) != (options > middle)).any(-1) & inside.unsqueeze(1)
    steps = differs.sum(-1)
    return (steps == steps.amin(-1, keepdim=True)) & (steps <= MOST_DIFFERENT * length.unsqueeze(-1))


def changes(executed: Tensor, previous: Tensor, middle: Tensor, length: Tensor, discount: float) -> Tensor:
    """How often the executed commands changed sides: ``C = sum_{k < K} gamma^k sum_g [c_{k,g} differs from c_{k-1,g}]``.

    HIL-SERL's grasp penalty compares a command with the measured gripper; this one compares it with the command before,
    which does not lag.

    Args:
        executed: ``(B, h, G)`` commands.
        previous: ``(B, G)`` commands that were executed before the window; where there are none, the window's first.
        middle, length: as in :func:`described`.

    Returns:
        ``(B,)``.
    """
    side = torch.cat([previous.unsqueeze(1), executed], dim=1) > middle
    step = torch.arange(executed.shape[-2], device=length.device)
    weight = (discount ** step.to(executed.dtype)) * (step < length.unsqueeze(-1))
    return ((side[:, 1:] != side[:, :-1]).sum(-1) * weight).sum(-1)


def grasp_target(reward: Tensor, penalty: Tensor, discount: Tensor, next_q: Tensor, decision: Tensor, highest: float | None) -> Tensor:
    """Target of the grasp critics: ``y = R - p C + gamma^K (1 - terminated) Qbar(s', d')`` (double DQN).

    Args:
        reward: ``(B,)`` discounted reward inside the window.
        penalty: ``(B,)`` ``p C``.
        discount: ``(B,)`` ``gamma^K``, 0 where the episode terminated.
        next_q: ``(E, B, N)`` of the target networks at ``s'``.
        decision: ``(B,)`` int64, ``d'``, which the networks that learn prefer at ``s'``.
        highest: no value lies above; penalties may take it below any range of rewards.

    Returns:
        ``(B,)`` without gradient.
    """
    with torch.no_grad():
        values = next_q.gather(-1, decision.expand(len(next_q), -1).unsqueeze(-1)).squeeze(-1)
        target = reward - penalty + discount * values.mean(0)
        return target if highest is None else target.clamp_max(highest)


def grasp_loss(q: Tensor, target: Tensor, carried_out: Tensor) -> Tensor:
    """Mean of ``(Q_i(s, d) - y)^2`` over networks and carried out decisions ``d`` (DQN); 0 if no window carried one out.

    Args:
        q: ``(E, B, N)``.
        target: ``(B,)``.
        carried_out: ``(B, N)`` bool, of :func:`described`.
    """
    squares = (q - target.unsqueeze(-1)).square().mean(0)
    return torch.where(carried_out, squares, 0.0).sum() / carried_out.sum().clamp_min(1)


def explored(decision: Tensor, count: int, epsilon: float, generator: torch.Generator) -> Tensor:
    """The decision, or with probability ``epsilon`` any of the ``count``, uniformly (DQN's exploration; HIL-SERL has none).

    Args:
        decision: ``(B,)`` int64.
        generator: CPU generator.
    """
    drawn = torch.randint(count, decision.shape, generator=generator)
    at_random = torch.rand(decision.shape, generator=generator) < epsilon
    return torch.where(at_random.to(decision.device), drawn.to(decision.device), decision)
