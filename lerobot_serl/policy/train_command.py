"""What ``lerobot-train`` is asked for that ``serl_sac`` does otherwise, or not at all: said when the policy is made, before anything long."""

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from lerobot.utils.constants import TRAINING_STATE_DIR, TRAINING_STEP

from ..lerobot_names import TrainPipelineConfig
from .validation import require

OTHER_OPTIMIZER = "serl_sac has an AdamW of its own for each network, which --policy.critic.*, actor.*, temperature.* and corrector.* set."
OPTIMIZER_FLAGS = {
    "optimizer": {
        "lr": "each network has its own rate: --policy.critic.lr, actor.lr, temperature.lr and corrector.lr.",
        "weight_decay": "it is the critics': --policy.critic.weight_decay. The other networks have none.",
        "grad_clip_norm": "each network is clipped on its own: --policy.critic.grad_clip_norm, actor.grad_clip_norm and so on.",
    },
    "scheduler": dict.fromkeys(
        ("type", "num_warmup_steps", "num_decay_steps", "peak_lr", "decay_lr"),
        "the actor's rate rises over --policy.startup.ramp_updates; --policy.lr_schedule=cosine takes all rates down.",
    ),
}


def check_train_command(command: TrainPipelineConfig, has_cameras: bool, batch_size: int) -> None:
    """Refuse what cannot be, and say what has no effect.

    Args:
        command: LeRobot's configuration of the run.
        has_cameras: of the policy.
        batch_size: the policy's own.

    Raises:
        ValueError: naming the flag, what was expected and the remedy.
    """
    _refuse_optimizer_flags(sys.argv[1:], command.resume)
    dataset = command.dataset
    require(
        dataset.episodes is None,
        "dataset.episodes", dataset.episodes, "nothing: LeRobot does not tell the policy which episodes it chose",
        "Make a dataset of those episodes with lerobot-edit-dataset --operation.type=split.",
    )  # fmt: skip
    require(
        not dataset.streaming,
        "dataset.streaming", True, "false: reinforcement learning draws from all episodes again and again, and reads them once, from the disk",
        "Remove --dataset.streaming.",
    )  # fmt: skip
    require(
        not command.eval_steps,
        "eval_steps", command.eval_steps, "0: reinforcement learning has no loss on held-out frames", "Remove --eval_steps.",
    )  # fmt: skip
    require(
        command.peft is None,
        "peft", "an adapter", "nothing: ACT is frozen, and the networks that learn are small", "Remove --peft.*.",
    )  # fmt: skip
    require(
        command.sample_weighting is None,
        "sample_weighting", command.sample_weighting, "nothing: the learner draws its own batches", "See --policy.demo_fraction.",
    )  # fmt: skip
    require(
        not command.rename_map,
        "rename_map", command.rename_map, "nothing: the learner reads the dataset by the policy's names",
        "Begin again from ACT, with --policy.act_path and --policy.act_rename_map; a serl_sac checkpoint trains on with the names that it has.",
    )  # fmt: skip
    # accelerate starts several with and without torch.distributed.
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    n_processes = torch.distributed.get_world_size() if several else int(os.environ.get("WORLD_SIZE", "1"))
    require(
        n_processes == 1,
        "WORLD_SIZE", n_processes, "1: serl_sac learns in one process", "Start lerobot-train itself, not accelerate launch with several.",
    )  # fmt: skip
    if dataset.image_transforms.enable and has_cameras:
        logging.warning(
            "--dataset.image_transforms has no effect: the replay memory takes pictures as they were recorded. --policy.features=cnn moves them "
            "by random shifts."
        )
    if command.batch_size > 1:
        logging.warning(
            f"--batch_size={command.batch_size} only costs time: reinforcement learning draws its own batches of --policy.batch_size={batch_size} "
            "from the replay memory. Use --batch_size=1 --num_workers=0."
        )
    if (made := _steps_made(command)) is not None and made >= command.steps:
        logging.warning(f"This run has made its {made:,} steps already, so it ends at once. To go on: --steps=N with N above {made}.")


def _refuse_optimizer_flags(arguments: Sequence[str], resumes: bool) -> None:
    """LeRobot replaces its optimizer and scheduler by the policy's without a word, so that these flags would have no effect.

    Raises:
        ValueError: naming the flag, and the setting that does it.
    """
    names = [argument.partition("=")[0].removeprefix("--") for argument in arguments if argument.startswith("--")]
    path = next((argument.partition("=")[2] for argument in arguments if argument.startswith("--config_path=")), "")
    if not resumes and Path(path).is_file():  # what LeRobot wrote beside a checkpoint names its optimizer, too
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        keys = document if isinstance(document, dict) else {}
        names += [f"{group}.{name}" for group in ("optimizer", "scheduler") if isinstance(keys.get(group), dict) for name in keys[group]]
        names += ["use_policy_training_preset"] if keys.get("use_policy_training_preset") is False else []
    for name in names:
        group, _, setting = name.partition(".")
        if group in OPTIMIZER_FLAGS or (group == "use_policy_training_preset" and not _is_preset(arguments)):
            raise ValueError(f"{name}: {OPTIMIZER_FLAGS.get(group, {}).get(setting, OTHER_OPTIMIZER)} Remove --{name}.")


def _is_preset(arguments: Sequence[str]) -> bool:
    return any(argument.lower() in ("--use_policy_training_preset", "--use_policy_training_preset=true") for argument in arguments)


def _steps_made(command: TrainPipelineConfig) -> int | None:
    """Of the checkpoint that is resumed from."""
    if not command.resume or command.checkpoint_path is None:
        return None
    try:
        step = json.loads((Path(command.checkpoint_path) / TRAINING_STATE_DIR / TRAINING_STEP).read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # LeRobot reads the file next, and says what is wrong with it
    return step if isinstance(step, int) else None
