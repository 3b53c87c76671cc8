"""Which entries of an action are grippers, and at which two positions the demonstrations hold each of them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lerobot.utils.constants import ACTION

from ..key_names import Kind, customary_kind, is_gripper
from ..replay.demonstration_stats import entry_names
from .configuration_serl_sac import SerlSacConfig
from .validation import require

if TYPE_CHECKING:
    from lerobot.datasets import LeRobotDataset

    from .agent import Agent

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


def name_grippers(config: SerlSacConfig, features: Mapping[str, Mapping[str, Any]]) -> None:
    """Fill in which entries of the action are grippers, unless they are edited as all others.

    Args:
        features: of the dataset.

    Raises:
        ValueError: they are not found, or are others than the checkpoint's.
    """
    if config.gripper == "edit":
        return
    size = features[ACTION]["shape"][0]
    names = entry_names(features[ACTION], size) or tuple(f"action[{entry}]" for entry in range(size))
    found, known = find_grippers(names, config.grasp.names), config.grasp.entries
    require(
        known in ((), found),
        "policy.grasp.names",
        config.grasp.names,
        f"the entries {known} of the action, as in the checkpoint; found {found}",
    )
    config.grasp.entries, config.grasp.names = found, tuple(names[entry] for entry in found)


def set_positions(agent: "Agent", dataset: "LeRobotDataset") -> None:
    """Tell the grasp critics at which two positions the demonstrations hold each gripper, in action units.

    Raises:
        ValueError: a gripper does not have two.
    """
    if agent.grasp_critic is None or agent.grasp_target is None:
        return
    entries, names = agent.config.grasp.entries, agent.config.grasp.names or ()
    actions = np.stack(list(dataset.hf_dataset.select_columns([ACTION]).with_format("numpy")[:][ACTION]))
    found = require_two_positions(actions[:, list(entries)], names)
    for place, (entry, name, positions) in enumerate(zip(entries, names, found, strict=True)):
        raw = torch.tensor([positions.low, positions.high]).to(agent.box.middle)
        ends = (raw - agent.box.middle[entry]) / agent.box.half_width[entry]
        for critic in (agent.grasp_critic, agent.grasp_target):
            critic.positions[:, place] = ends.clamp(-1.0, 1.0)
        logging.info(
            f"gripper=discrete: '{name}' is as the base policy commands, or at {positions.low:.4g} or {positions.high:.4g} "
            f"({positions.share:.0%} of the demonstrations' frames)"
        )


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
