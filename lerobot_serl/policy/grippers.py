"""Which entries of an action are grippers, and at which two positions the demonstrations hold each of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..key_names import Kind, customary_kind, is_gripper
from .validation import require

# This share of a gripper's commands in the demonstrations has to lie at one of its two positions: within a quarter of the
# way to the other. Of commands that are spread evenly half do.
LEAST_SHARE = 0.8


@dataclass(frozen=True)
class TwoPositions:
    """Of a gripper, in raw units.

    Attributes:
        low, high: medians of the two groups into which its commands fall.
        share: of the commands, that lie at one of the two.
        has_third: half as many commands as in the smaller group lie far outside of both, as where a command means close, stay or open.
    """

    low: float
    high: float
    share: float
    has_third: bool


def find_grippers(names: Sequence[str], wanted: Sequence[str] | None) -> tuple[int, ...]:
    """Entries of the action that are grippers: those that are named, else those with "gripper" in their name.

    Args:
        names: of the action's entries.
        wanted: ``policy.grasp.names``.

    Raises:
        ValueError: a name that no entry has, none was found, or nothing else is left of the action.
    """
    unknown = [name for name in wanted or () if name not in names]
    require(not unknown, "policy.grasp.names", unknown, f"names of the action's entries, which are {list(names)}")
    found = tuple(index for index, name in enumerate(names) if (name in wanted if wanted else is_gripper(name)))
    require(
        len(found) > 0, "policy.grasp.names", wanted, f"the gripper's name: none of the action's entries, {list(names)}, has 'gripper' in its name",
        "Name it, or set --policy.gripper=edit.",
    )  # fmt: skip
    require(
        len(found) < len(names), "policy.grasp.names", wanted, "an entry of the action that is no gripper", "Set --policy.gripper=edit."
    )
    return found


def two_positions(commands: np.ndarray) -> TwoPositions:
    """The two positions of ``(N,)`` commands: medians of the two groups whose means differ most (Otsu 1979)."""
    ordered = np.sort(commands.astype(np.float64))
    below = np.arange(1, len(ordered))
    total = np.cumsum(ordered)
    apart = (total[-1] - total[:-1]) / (len(ordered) - below) - total[:-1] / below
    cut = int(np.argmax(below * (len(ordered) - below) * apart**2)) + 1 if len(ordered) > 1 else 1
    low, high = float(np.median(ordered[:cut])), float(np.median(ordered[cut:] if cut < len(ordered) else ordered))
    near = np.minimum(np.abs(ordered - low), np.abs(ordered - high)) <= (high - low) / 4
    outside = (ordered < low - (high - low) / 2) | (ordered > high + (high - low) / 2)
    return TwoPositions(low, high, float(near.mean()), bool(outside.sum() >= min(cut, len(ordered) - cut) / 2))


def require_two_positions(commands: np.ndarray, names: Sequence[str]) -> list[TwoPositions]:
    """Of each gripper, for ``policy.gripper=discrete``.

    Args:
        commands: ``(N, G)`` of the demonstrations.
        names: of the grippers.

    Raises:
        ValueError: a gripper moves by velocities or displacements, never moved, or is commanded to other places than two.
    """
    remedy = "Set --policy.gripper=edit, which edits it as any other entry, or base, which leaves it to the base policy."
    found = []
    for name, column in zip(names, commands.T, strict=True):
        setting = f"policy.gripper='discrete': expected a gripper with two positions, but '{name}'"
        kind = customary_kind(name)
        if kind.stops_at_zero:
            raise ValueError(
                f"{setting} is {'a velocity' if kind is Kind.VELOCITY else 'a displacement'} by its name: 0 leaves it where it is. {remedy}"
            )
        positions = two_positions(column)
        if positions.low == positions.high:
            raise ValueError(f"{setting} is always {positions.low:g} in the demonstrations. {remedy}")
        if positions.share < LEAST_SHARE:
            raise ValueError(
                f"{setting} is at one of two ({positions.low:.3g} and {positions.high:.3g}) in {positions.share:.0%} of the demonstrations' frames, "
                f"expected {LEAST_SHARE:.0%}: its width is controlled. {remedy}"
            )
        if positions.has_third:
            raise ValueError(
                f"{setting} has a third beside {positions.low:.3g} and {positions.high:.3g}: commands go from {column.min():.3g} to "
                f"{column.max():.3g}. {remedy}"
            )
        found.append(positions)
    return found
