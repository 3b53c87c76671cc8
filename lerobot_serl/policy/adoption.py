"""Taking ACT over into a new policy: its features under the robot's names, its weights, and a box of actions that contains what it does."""

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from lerobot.configs import PolicyFeature
from lerobot.datasets import LeRobotDataset
from lerobot.utils.constants import ACTION
from torch import Tensor

from ..networks.act_base import Statistics
from .act_checkpoint import ActCheckpoint, load_act_checkpoint
from .act_config import execution_note
from .configuration_serl_sac import ActArchitecture, SerlSacConfig
from .owner import Owner
from .step_zero import StepZero, exactly, observe, reason
from .validation import require

if TYPE_CHECKING:
    from .agent import Agent
    from .modeling_serl_sac import SerlSacPolicy

# Of ACT's own statistics: what lies so many standard deviations off is a fault of its data, and no reason for a wider box.
_FARTHEST = 10.0


def adopt_act(config: SerlSacConfig, source: str) -> ActCheckpoint:
    """Take architecture and features over from the checkpoint at ``config.act_path``, after comparing them with those that ``config`` has.

    Args:
        source: of the features in ``config``: a dataset's name, or "the environment".

    Raises:
        FileNotFoundError, ValueError: it is no ACT checkpoint, or does not fit.
    """
    assert config.act_path is not None
    require(
        config.pretrained_path is None,
        "policy.act_path", config.act_path, "nothing when training goes on from a serl_sac checkpoint",
        "The checkpoint already contains ACT: remove --policy.act_path.",
    )  # fmt: skip
    checkpoint = load_act_checkpoint(config.act_path)
    theirs, ours = checkpoint.config.input_features or {}, config.input_features or {}
    names = _names(config.act_rename_map, checkpoint, ours)
    wanted = {names[key]: feature for key, feature in theirs.items()}
    renamed = {outer: key for key, outer in names.items() if outer != key}
    features = {**wanted, **(checkpoint.config.output_features or {})}
    _require_fit(config.act_path, source, features, {**ours, **(config.output_features or {})}, renamed)
    config.input_features, config.output_features = wanted, checkpoint.config.output_features
    config.act_rename_map = renamed
    config.act = ActArchitecture.of(checkpoint.config)
    config.act.feature_modes = checkpoint.feature_modes
    config.act_source, config.act_path = config.act_path, None
    if (note := execution_note(checkpoint.config, config.horizon)) is not None:
        logging.warning(note)
    return checkpoint


def _names(asked: Mapping[str, str], checkpoint: ActCheckpoint, ours: Mapping[str, PolicyFeature]) -> dict[str, str]:
    """ACT's input -> the observation's name: as asked for, else as ACT's processors rename it, else the same."""
    theirs = checkpoint.config.input_features or {}
    unknown = sorted(set(asked.values()) - theirs.keys())
    require(not unknown, "policy.act_rename_map", unknown, f"ACT's names, which are {sorted(theirs)}", "Write the robot's name first.")
    saved = {inner: outer for outer, inner in checkpoint.processors.renames.items() if inner in theirs and (not ours or outer in ours)}
    if used := {inner: outer for inner, outer in saved.items() if inner not in asked.values()}:
        logging.info(f"act_rename_map: ACT's own pre-processor renames {', '.join(f'{outer} to {inner}' for inner, outer in used.items())}")
    return {**{key: key for key in theirs}, **saved, **{inner: outer for outer, inner in asked.items()}}


def _require_fit(
    path: str, source: str, wanted: Mapping[str, PolicyFeature], ours: Mapping[str, PolicyFeature], renamed: Mapping[str, str]
) -> None:
    """``renamed`` gives ACT's name of a feature that ``wanted`` has under another."""
    if not ours:
        return
    wrong = [
        f"'{key}': ACT has {feature.type.value}{tuple(feature.shape)}, the dataset "
        + (f"{ours[key].type.value}{tuple(ours[key].shape)}" if key in ours else "lacks it")
        for key, feature in wanted.items()
        if key not in ours or tuple(ours[key].shape) != tuple(feature.shape)
    ]
    if not wrong:
        return
    likely: dict[str, str] = {}
    for key in (key for key in wanted if key not in ours):
        kind = (wanted[key].type, tuple(wanted[key].shape))
        free = [other for other, has in ours.items() if other not in (*wanted, *likely) and (has.type, tuple(has.shape)) == kind]
        likely |= {other: renamed.get(key, key) for other in free[:1]}
    remedy = "Use the dataset that ACT was trained on, or one with the same features."
    if likely:
        likely = {outer: key for outer, key in renamed.items() if outer in ours} | likely
        remedy += f" If only the names differ, say which is which, the dataset's first: --policy.act_rename_map='{json.dumps(likely)}'"
    raise ValueError(f"policy.act_path={path!r} does not fit {source}: {'; '.join(wrong)}. {remedy}")


def begin_as_act(policy: "SerlSacPolicy", checkpoint: ActCheckpoint, statistics: Statistics, dataset: LeRobotDataset | None) -> None:
    """Give a new policy ACT's weights and normalisation, and the box of actions; measure that it begins as ACT.

    Args:
        policy: whose configuration :func:`adopt_act` has filled in.
        statistics: of the dataset, by its names; empty: ACT's own are taken.
        dataset: None: nothing is measured.

    Raises:
        ValueError: it does not begin as ACT.
    """
    agent, config = policy.agent, policy.config
    agent.act.load_act_weights(checkpoint.weights)
    for key, normalisation in checkpoint.processors.features.items():
        agent.act.set_normalisation(key, normalisation.statistics, normalisation.eps)
    own = {agent.act.sources.get(key, key): dict(feature.statistics) for key, feature in checkpoint.processors.features.items()}
    statistics = statistics or own
    if dataset is None:
        set_box(agent, statistics, _range_of(own[ACTION]))
        return
    policy.to(config.device)
    with exactly():
        owner = Owner.of(checkpoint, str(config.device), "step 0 is measured beside")
        step_zero = observe(agent.act, owner, dataset, config.horizon)
        plan = step_zero.owners
        set_box(agent, statistics, _range_of(own[ACTION]), (plan.amin((0, 1)), plan.amax((0, 1))))
        _require_act(policy, owner, step_zero, dataset)


def set_box(agent: "Agent", statistics: Statistics, *more: tuple[Tensor, Tensor] | None) -> None:
    """The box of actions and the scales of the features.

    Args:
        statistics: feature -> statistic -> tensor.
        more: further ranges of actions, low and high ``(D,)``, that the box has to contain.
    """
    action = statistics.get(ACTION, {})
    require(
        {"min", "max"} <= action.keys(),
        "dataset_stats['action']", sorted(action), "the statistics 'min' and 'max'", "Recompute the dataset's statistics.",
    )  # fmt: skip
    ranges = [(action["min"].flatten().float(), action["max"].flatten().float()), *(span for span in more if span is not None)]
    low = torch.stack([span[0].cpu() for span in ranges]).amin(0)
    high = torch.stack([span[1].cpu() for span in ranges]).amax(0)
    agent.box.set_from_range(low, high, agent.config.action_margin, agent.config.action_range_floor)
    agent.features.set_statistics(statistics)


def _range_of(action: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Of the actions that ACT was trained with, as far as its statistics say."""
    if not {"min", "max"} <= action.keys():
        return None
    low, high = (action[name].flatten() for name in ("min", "max"))
    if {"mean", "std"} <= action.keys():
        mean, reach = action["mean"].flatten(), _FARTHEST * action["std"].flatten()
        low, high = low.maximum(mean - reach), high.minimum(mean + reach)
    return low, high


def _require_act(policy: "SerlSacPolicy", owner: Owner, step_zero: StepZero, dataset: LeRobotDataset) -> None:
    """The policy's own chunks, and what the box leaves of ACT's plans, are those of ACT as its owner runs it."""
    box, config = policy.agent.box, policy.config
    span = 2 * box.half_width.cpu() / (1 + config.action_margin)
    kept = box.unnormalize(box.normalize(step_zero.plan.to(box.middle)).clamp(-1.0, 1.0)).cpu()
    begun = policy.predict_action_chunk({key: value.to(box.middle.device) for key, value in step_zero.first.items()}).cpu()
    off = torch.maximum(step_zero.difference(kept, span), step_zero.difference(begun, span))
    largest, entry = float(off.max()), int(off.argmax())
    names = dataset.features[ACTION].get("names")
    name = f"{entry} ('{names[entry]}')" if isinstance(names, list) and len(names) == len(off) else str(entry)
    place, seen = config.act_source, f"on {len(step_zero.plan)} observations of {dataset.repo_id}"
    if largest <= config.act_tolerance:
        logging.info(
            f"Step 0 is ACT: {seen} serl_sac differs from ACT as its owner runs it by at most {largest:.1e} of an action entry's range."
        )
        return
    why = reason(policy.agent.act, owner, step_zero)
    raise ValueError(
        f"policy.act_path={place!r}: {seen} serl_sac at its beginning differs from ACT as its owner runs it by {largest:.2g} of the range of action "
        f"entry {name}, expected at most {config.act_tolerance:g}: {why}. Save ACT with LeRobot's standard processors; or begin with another policy "
        f"than the owner's: --policy.act_tolerance={largest * 1.1:.2g}"
    )
