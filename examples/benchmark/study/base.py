"""What all methods start from: demonstrations, and an ACT trained on them by stock `lerobot-train`."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

from lerobot_serl.actor.env_world import EnvWorld
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

from .practice import DEMONSTRATION_SEED, SELECTION_SEED, deterministic, evaluate
from .results import write_json
from .tasks import Task

REPO_ID = "local/demonstrations"
SELECTION_EPISODES = 50
MARKER = "base.json"


@dataclass(frozen=True)
class Base:
    """Demonstrations and ACT of one seed.

    Attributes:
        task: they are of.
        demonstrations: root of a LeRobotDataset.
        act: directory of the ACT checkpoint.
        tried: share of successes by ACT's training steps, in the order in which checkpoints were tried; `act` is the last one.
    """

    task: Task
    demonstrations: Path
    act: Path
    tried: dict[str, float]

    @property
    def start(self) -> dict[str, str | int]:
        """Settings of a `serl_sac` policy that begins as the base policy."""
        return {self.task.path_setting: str(self.act), "horizon": self.task.horizon}

    @property
    def meta(self) -> LeRobotDatasetMetadata:
        """Of the demonstrations."""
        return LeRobotDatasetMetadata(REPO_ID, root=self.demonstrations)

    def world(self, policy_inputs: dict, action_dim: int, seed: int) -> EnvWorld:
        """The task's world; its first episode has this seed."""
        return EnvWorld(self.task.env(), policy_inputs, action_dim, seed)


def load_base(root: Path, task: Task) -> Base | None:
    """What :func:`make_base` made, if it came to its end."""
    marker = root / MARKER
    if not marker.is_file():
        return None
    document = json.loads(marker.read_text(encoding="utf-8"))
    return Base(task, root / "demonstrations", root / document["act"], document["tried"])


def make_base(root: Path, task: Task, seed: int) -> Base:
    """Record, train and choose; goes on where an earlier attempt stopped.

    Raises:
        RuntimeError: no checkpoint succeeds as often as the task wants.
    """
    demonstrations, run = root / "demonstrations", root / "act_run"
    if not (root / "recorded").is_file():
        shutil.rmtree(demonstrations, ignore_errors=True)
        task.record(demonstrations, task.demonstrations, DEMONSTRATION_SEED * (seed + 1))
        (root / "recorded").touch()
    if not (root / "trained").is_file():
        shutil.rmtree(run, ignore_errors=True)
        train_act(demonstrations, run, task, max(task.act_steps), seed, root / "train_act.log", save_freq=math.gcd(*task.act_steps))
        (root / "trained").touch()
    tried: dict[str, float] = {}
    for steps in task.act_steps:
        act = run / "checkpoints" / f"{steps:06d}" / "pretrained_model"
        base = Base(task, demonstrations, act, tried)
        policy = frozen_policy(act, task.horizon, task.path_setting)
        world = base.world(policy.config.input_features or {}, policy.agent.action_dim, SELECTION_SEED + SELECTION_EPISODES * seed)
        episodes = evaluate(world, deterministic(policy), SELECTION_EPISODES)
        tried[str(steps)] = share = sum(episode.success for episode in episodes) / len(episodes)
        print(f"{task.base_type} after {steps} steps: {share:.0%} of {len(episodes)}", flush=True)
        if task.takes(steps, share):
            write_json(root / MARKER, {"act": str(act.relative_to(root)), "seed": seed, "tried": tried})
            return base
    raise RuntimeError(f"ACT of {root} succeeds in {tried}, wanted shares within {task.act_range}")


def frozen_policy(act: Path, horizon: int, setting: str = "act_path") -> SerlSacPolicy:
    """The base policy as it is, executed in chunks; ``setting`` is the one that takes it."""
    start: dict[str, Any] = {setting: str(act), "horizon": horizon}
    return SerlSacPolicy(SerlSacConfig(device="cpu", push_to_hub=False, **start)).eval()


def train_act(demonstrations: Path, run: Path, task: Task, steps: int, seed: int, log: Path, save_freq: int) -> None:
    """Train the base policy with stock `lerobot-train`.

    Raises:
        RuntimeError: it failed.
    """
    flags = (
        f"--policy.type={task.base_type}", "--policy.device=cpu", "--policy.push_to_hub=false", "--policy.pretrained_backbone_weights=null",
        *task.act_flags, f"--dataset.repo_id={REPO_ID}", f"--dataset.root={demonstrations}", f"--output_dir={run}", f"--steps={steps}",
        f"--seed={1000 + seed}", f"--save_freq={save_freq}", "--log_freq=100", "--env_eval_freq=0",
    )  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as file:
        code = subprocess.run(
            [sys.executable, "-m", "lerobot.scripts.lerobot_train", *flags], stdout=file, stderr=subprocess.STDOUT, env=environment
        ).returncode
    if code:
        raise RuntimeError(f"lerobot-train failed with exit code {code}; its output is in {log}")
