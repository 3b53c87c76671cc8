"""Copies of the trained networks that learning can go back to. The optimizers' momentum is that of the way down, and is dropped instead."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..policy.agent import Agent


@dataclass(frozen=True, eq=False)
class Kept:
    """A copy of the trained networks.

    Attributes:
        tensors: on the CPU, named as in the agent.
        learnt_updates: updates that the weights had seen.
    """

    tensors: Mapping[str, Tensor]
    learnt_updates: int


def keep(agent: Agent, learnt_updates: int) -> Kept:
    """Copy the trained networks."""
    return Kept({name: value.detach().cpu().clone() for name, value in agent.networks.restored().items()}, learnt_updates)


@torch.no_grad()
def restore(agent: Agent, kept: Kept) -> None:
    """Put a copy back, in place: optimizer and server hold the same tensors.

    Raises:
        ValueError: the copy is of other networks; nothing was changed.
    """
    check(agent, kept.tensors)
    for name, target in agent.networks.restored().items():
        target.copy_(kept.tensors[name])


def check(agent: Agent, tensors: Mapping[str, Tensor]) -> None:
    """Raise unless the tensors are a copy of this agent's trained networks.

    Raises:
        ValueError: with the first name that differs.
    """
    expected = {name: tuple(value.shape) for name, value in agent.networks.restored().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(f"kept weights: {name} has shape {found.get(name, 'none')}, expected {expected.get(name, 'none')}")
