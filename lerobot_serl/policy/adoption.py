"""Taking a base policy over into a new policy: its features under the robot's names, its weights, and a box of actions that contains what it does."""

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from lerobot.configs import PolicyFeature
from lerobot.datasets import LeRobotDataset
from lerobot.utils.constants import ACTION
from torch import Tensor

from ..base.lerobot import LerobotBase
from ..base.normalized_policy import NormalizedPolicy
from ..base.policy_config import as_document, name_of
from ..base.rehearsal import require_plans
from ..checkpoint.files import CONFIG
from ..checkpoint.oldest_config import is_oldest
from ..networks.features import Statistics
from .act_checkpoint import FLAG as ACT_FLAG
from .act_checkpoint import ActCheckpoint, find_checkpoint, load_act_checkpoint
from .base_settings import ACT, EmbeddedPolicy
from .configuration_serl_sac import ActArchitecture, SerlSacConfig
from .execution_settings import settle_execution
from .owner import Owner
from .policy_checkpoint import PolicyCheckpoint, read_policy_checkpoint, without_training
from .step_zero import StepZero, exactly, observe, reason
from .validation import require

if TYPE_CHECKING:
    from .agent import Agent
    from .modeling_serl_sac import SerlSacPolicy

BASE_FLAG = "policy.base_path"
# Of the base policy's own statistics: what lies so many standard deviations off is a fault of its data, and no reason for a wider box.
_FARTHEST = 10.0


def adopt_base(config: SerlSacConfig, source: str) -> PolicyCheckpoint:
    """Take architecture and features over from the checkpoint at ``act_path`` or ``base_path``, after comparing them with those of ``config``.

    Args:
        source: of the features in ``config``: a dataset's name, or "the environment".

    Raises:
        FileNotFoundError, ValueError: it is no such checkpoint, or does not fit.
    """
    flag, path = (ACT_FLAG, config.act_path) if config.base == ACT else (BASE_FLAG, config.base_path)
    assert path is not None
    require(
        config.pretrained_path is None,
        flag, path, "nothing when training goes on from a serl_sac checkpoint",
        f"The checkpoint already contains {'ACT' if config.base == ACT else 'its base policy'}: remove --{flag}.",
    )  # fmt: skip
    checkpoint = _load(path, flag)
    theirs, ours = checkpoint.config.input_features or {}, config.input_features or {}
    names = _names(config.act_rename_map, checkpoint, ours)
    wanted = {names[key]: feature for key, feature in theirs.items()}
    renamed = {outer: key for key, outer in names.items() if outer != key}
    features = {**wanted, **(checkpoint.config.output_features or {})}
    _require_fit(checkpoint, source, features, {**ours, **(config.output_features or {})}, renamed)
    config.input_features, config.output_features = wanted, checkpoint.config.output_features
    config.act_rename_map = renamed
    if isinstance(checkpoint, ActCheckpoint):
        config.act = ActArchitecture.of(checkpoint.config)
        config.act.feature_modes = checkpoint.feature_modes
    else:
        config.lerobot = EmbeddedPolicy(as_document(checkpoint.config), checkpoint.feature_modes)
    config.act_source = path
    config.act_path = None
    config.base_path = None
    settle_execution(config, checkpoint.config, name_of(checkpoint.config))
    return checkpoint


def _load(path: str, flag: str) -> PolicyCheckpoint:
    """Of ``act_path``, or of ``base_path``, where ACT is a policy like any other."""
    if flag == ACT_FLAG:
        return load_act_checkpoint(path)
    files = find_checkpoint(path, flag)
    document = files.json(CONFIG)
    if is_oldest(document) or document.get("type") == "act":
        act = load_act_checkpoint(path, flag)
        return without_training(PolicyCheckpoint(act.config, act.weights, act.processors, act.files))
    return read_policy_checkpoint(files)


def _names(asked: Mapping[str, str], checkpoint: PolicyCheckpoint, ours: Mapping[str, PolicyFeature]) -> dict[str, str]:
    """The policy's input -> the observation's name: as asked for, else as its processors rename it, else the same."""
    theirs, name = checkpoint.config.input_features or {}, name_of(checkpoint.config)
    unknown = sorted(set(asked.values()) - theirs.keys())
    require(not unknown, "policy.act_rename_map", unknown, f"{name}'s names, which are {sorted(theirs)}", "Write the robot's name first.")
    saved = {inner: outer for outer, inner in checkpoint.processors.renames.items() if inner in theirs and (not ours or outer in ours)}
    if used := {inner: outer for inner, outer in saved.items() if inner not in asked.values()}:
        logging.info(
            f"act_rename_map: {name}'s own pre-processor renames {', '.join(f'{outer} to {inner}' for inner, outer in used.items())}"
        )
    return {**{key: key for key in theirs}, **saved, **{inner: outer for outer, inner in asked.items()}}


def _require_fit(
    checkpoint: PolicyCheckpoint,
    source: str,
    wanted: Mapping[str, PolicyFeature],
    ours: Mapping[str, PolicyFeature],
    renamed: Mapping[str, str],
) -> None:
    """``renamed`` gives the policy's name of a feature that ``wanted`` has under another."""
    if not ours:
        return
    name, files = name_of(checkpoint.config), checkpoint.files
    wrong = [
        f"'{key}': {name} has {feature.type.value}{tuple(feature.shape)}, the dataset "
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
    remedy = f"Use the dataset that {name} was trained on, or one with the same features."
    if likely:
        likely = {outer: key for outer, key in renamed.items() if outer in ours} | likely
        remedy += f" If only the names differ, say which is which, the dataset's first: --policy.act_rename_map='{json.dumps(likely)}'"
    raise ValueError(f"{files.flag}={files.place!r} does not fit {source}: {'; '.join(wrong)}. {remedy}")


def begin_as_base(policy: "SerlSacPolicy", checkpoint: PolicyCheckpoint, statistics: Statistics, dataset: LeRobotDataset | None) -> None:
    """Give a new policy its base policy's weights and normalisation, and the box of actions; measure that it begins as that.

    Args:
        policy: whose configuration :func:`adopt_base` has filled in.
        statistics: of the dataset, by its names; empty: the base policy's own are taken.
        dataset: None: nothing is measured.

    Raises:
        ValueError: it does not begin as its base policy, or that cannot propose chunks.
    """
    agent, config, base = policy.agent, policy.config, proposer(policy.agent)
    base.load_weights(checkpoint.weights)
    for key, normalisation in checkpoint.processors.features.items():
        base.set_normalisation(key, normalisation.statistics, normalisation.eps)
    own = {base.sources.get(key, key): dict(feature.statistics) for key, feature in checkpoint.processors.features.items()}
    if isinstance(base, LerobotBase):
        try:
            require_plans(base)
        except ValueError as error:
            raise checkpoint.files.error(
                CONFIG, f"the policy {error}", "Choose another base policy, such as ACT or Diffusion Policy."
            ) from error
    statistics = statistics or own
    if dataset is None:
        set_box(agent, statistics, _range_of(own[ACTION]))
        return
    policy.to(config.device)
    with exactly():
        owner = Owner.of(checkpoint, str(config.device), "step 0 is measured beside")
        step_zero = observe(base, owner, dataset, config.execution.n_action_steps)
        plan = step_zero.owners
        set_box(agent, statistics, _range_of(own[ACTION]), (plan.amin((0, 1)), plan.amax((0, 1))))
        _require_base(policy, checkpoint, owner, step_zero, dataset)


def proposer(agent: "Agent") -> NormalizedPolicy:
    """The base policy, of an agent that has one."""
    assert isinstance(agent.act, NormalizedPolicy)
    return agent.act


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
    agent.box.set_from_range(low, high, agent.config.action_margin)
    agent.features.set_statistics(statistics)


def _range_of(action: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Of the actions that the base policy was trained with, as far as its statistics say."""
    if not {"min", "max"} <= action.keys():
        return None
    low, high = (action[name].flatten() for name in ("min", "max"))
    if {"mean", "std"} <= action.keys():
        mean, reach = action["mean"].flatten(), _FARTHEST * action["std"].flatten()
        low, high = low.maximum(mean - reach), high.minimum(mean + reach)
    return low, high


def _require_base(
    policy: "SerlSacPolicy", checkpoint: PolicyCheckpoint, owner: Owner, step_zero: StepZero, dataset: LeRobotDataset
) -> None:
    """The policy's own chunks, and what the box leaves of the base policy's plans, are those of that policy as its owner runs it."""
    box, config, files = policy.agent.box, policy.config, checkpoint.files
    span = 2 * box.half_width.cpu() / (1 + config.action_margin)
    kept = box.unnormalize(box.normalize(step_zero.plan.to(box.middle)).clamp(-1.0, 1.0)).cpu()
    begun = policy.chunks({key: value.to(box.middle.device) for key, value in step_zero.first.items()}).cpu()
    off = torch.maximum(step_zero.difference(kept, span), step_zero.difference(begun, span))
    largest, entry = float(off.max()), int(off.argmax())
    names = dataset.features[ACTION].get("names")
    name = f"{entry} ('{names[entry]}')" if isinstance(names, list) and len(names) == len(off) else str(entry)
    called, seen = name_of(checkpoint.config), f"on {len(step_zero.plan)} observations of {dataset.repo_id}"
    if largest <= config.act_tolerance:
        logging.info(
            f"Step 0 is {called}: {seen} serl_sac differs from {called} as its owner runs it by at most {largest:.1e} of an action entry's range."
        )
        return
    why = reason(proposer(policy.agent), owner, step_zero)
    raise ValueError(
        f"{files.flag}={files.place!r}: {seen} serl_sac at its beginning differs from {called} as its owner runs it by {largest:.2g} of "
        f"the range of action entry {name}, expected at most {config.act_tolerance:g}: {why}. Save {called} with LeRobot's standard "
        f"processors; or begin with another policy than the owner's: --policy.act_tolerance={largest * 1.1:.2g}"
    )
