"""Which windows an update learns from."""

from dataclasses import dataclass
from typing import Protocol

import torch

from .batch import Batch
from .memory import ReplayMemory


class Sampler(Protocol):
    """Draws batches. One that prefers some windows draws indices of its own, and takes them from `ReplayMemory.windows`.

    A batch names its windows (``is_demo`` the memory, ``index`` the transition) and the ``weight`` of each in the critics' loss.
    """

    def sample(self, generator: torch.Generator) -> Batch:
        """The next update's batch; the draw depends on the generator's state and the stored episodes alone."""


@dataclass(frozen=True)
class UniformSampler:
    """Every transition of a memory is as likely as any other; the demonstrations have a share of each batch (RLPD, arXiv 2302.02948).

    Attributes:
        robot: what the robot did. While it is empty, all windows come from the demonstrations.
        demonstrations: what people did.
        batch_size: windows of a batch.
        demo_fraction: the demonstrations' share of it.
    """

    robot: ReplayMemory
    demonstrations: ReplayMemory
    batch_size: int
    demo_fraction: float

    def sample(self, generator: torch.Generator) -> Batch:
        """The robot's windows, then the demonstrations'.

        Raises:
            ValueError: nothing is stored.
        """
        if len(self.robot) == 0:
            return self.demonstrations.sample(self.batch_size, generator, is_demo=True)
        n_demo = round(self.batch_size * self.demo_fraction)
        batches = [self.robot.sample(self.batch_size - n_demo, generator)]
        if n_demo:
            batches.append(self.demonstrations.sample(n_demo, generator, is_demo=True))
        return Batch.concatenate(batches)
