"""What a learner says of its weights, read with distrust: types and ranges first, then every tensor's name, shape, dtype and numbers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..finite import not_finite
from ..transport import POLICY, WEIGHTS, MessageError, Phase, TensorClaim
from ..words import printable

MOST_NAMED = 3
_RUN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class WeightsHeader:
    """What both kinds of message say, the whole policy's and newer weights'.

    Attributes:
        kind: ``POLICY`` or ``WEIGHTS``.
        run: of the learner, one for each start.
        version: of the weights, counted from 1 in each run.
        phase: of learning.
        updates, env_steps: how far learning is.
    """

    kind: str
    run: str
    version: int
    phase: Phase
    updates: int
    env_steps: int

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> "WeightsHeader":
        """Read it.

        Raises:
            MessageError: a field is missing, or is not what it should be.
        """
        kind, run, phase = header.get("kind"), header.get("run"), header.get("phase")
        if kind not in (POLICY, WEIGHTS):
            raise MessageError(f"the learner sent {shown(kind)}, expected a message of kind '{POLICY}' or '{WEIGHTS}'")
        if not isinstance(run, str) or not _RUN.fullmatch(run):
            raise MessageError(f"the learner sent weights of run {shown(run)}, expected 1 to 64 letters, digits and '_.-'")
        if not isinstance(phase, str) or phase not in list(Phase):
            raise MessageError(f"the learner is in the phase {shown(phase)}, expected one of {', '.join(Phase)}")
        counts = [whole_number(header, name, least) for name, least in (("version", 1), ("updates", 0), ("env_steps", 0))]
        return cls(kind, run, counts[0], Phase(phase), *counts[1:])

    def __str__(self) -> str:
        return f"weights {self.version}, phase {self.phase}, {self.updates} updates"


def whole_number(header: Mapping[str, Any], name: str, least: int, most: int = 2**63 - 1) -> int:
    """A field that has to be one.

    Raises:
        MessageError: it is something else, or out of range.
    """
    value = header.get(name)
    if type(value) is not int or not least <= value <= most:
        raise MessageError(f"the learner's '{name}' is {shown(value)}, expected a whole number from {least} to {most}")
    return value


def shown(value: Any) -> str:
    """A few words on anything that came."""
    return printable(repr(value), 80)


def claims_of(tensors: Mapping[str, Tensor]) -> dict[str, TensorClaim]:
    """Shapes and dtypes."""
    return {name: TensorClaim(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, TensorClaim], whole: bool) -> None:
    """Raise unless the tensors are those expected, or with ``whole=False`` some of them, and all their numbers are finite.

    Raises:
        MessageError: naming the first that are not.
    """
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise MessageError(f"the learner sent unknown weights {unknown[:MOST_NAMED]}")
    if whole and (missing := sorted(expected.keys() - tensors.keys())):
        raise MessageError(f"the learner's policy lacks {missing[:MOST_NAMED]}")
    for name, claim in claims_of(tensors).items():
        if claim != expected[name]:
            raise MessageError(
                f"the learner's weights do not fit the policy: '{name}' is {claim.dtype}{list(claim.shape)}, "
                f"expected {expected[name].dtype}{list(expected[name].shape)}"
            )
    if (bad := not_finite(tensors)) is not None:
        raise MessageError(f"the learner's weights '{bad}' contain NaN or infinite numbers")
