"""What an agent would execute, and whose choice it is."""

from dataclasses import dataclass

from torch import Tensor

BASE, MEAN, SAMPLE = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Proposal:
    """A chunk to execute.

    Attributes:
        chunk: ``(B, h, D)`` in action units.
        choice: ``(B,)`` 0 the reference, 1 the mean edit, 2 a sampled edit.
    """

    chunk: Tensor
    choice: Tensor
