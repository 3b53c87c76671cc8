"""Filtered behaviour cloning: let ACT practise, keep the episodes that succeeded, train ACT anew on them and the demonstrations.

What an owner would do with LeRobot alone. Three rounds; each trains from the beginning, longer than the base policy was, on everything so far.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import ACTION

from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.episode import Episode

from ..base import REPO_ID, frozen_policy, train_act
from ..plan import QUICK_ACT_STEPS
from ..practice import SEEDS_OF_A_RUN, TRAINING_SEED, deterministic, rollout_of
from ..run import Run

ROUNDS, QUICK_ROUNDS = 3, 2
LEAST_TRAINING_STEPS = 3000


def filtered_bc(run: Run) -> None:
    """Practice and training, in rounds."""
    policy = frozen_policy(run.base.act, run.base.task.horizon)
    inputs, action_dim = policy.config.input_features or {}, policy.agent.action_dim
    run.evaluate(deterministic(policy), inputs, action_dim, 0)
    reader = EpisodeReader(LeRobotDataset(REPO_ID, root=run.base.demonstrations), list(inputs))
    kept = [reader.read(index) for index in range(len(reader))]
    world = run.base.world(inputs, action_dim, TRAINING_SEED + SEEDS_OF_A_RUN * run.seed)
    step, rounds = 0, QUICK_ROUNDS if run.plan.quick else ROUNDS
    for number in range(1, rounds + 1):
        rollout = rollout_of(world, deterministic(policy))
        while step < run.plan.env_steps * number / rounds:
            recording = rollout.run_episode()
            assert recording is not None
            step += len(recording)
            run.logbook.training.append(run.logbook.row(recording, step, len(run.logbook.training)))
            if recording.success:
                kept.append(recording)
        directory = run.directory / f"round{number}"
        steps = QUICK_ACT_STEPS if run.plan.quick else max(LEAST_TRAINING_STEPS, *run.base.task.act_steps)
        shutil.rmtree(directory, ignore_errors=True)
        write_dataset(directory / "dataset", run.base.meta, kept)
        log = run.directory / f"train_act_{number}.log"
        train_act(directory / "dataset", directory / "act", run.base.task, steps, run.seed, log, save_freq=steps)
        policy = frozen_policy(directory / "act" / "checkpoints" / "last" / "pretrained_model", run.base.task.horizon)
        run.evaluate(deterministic(policy), inputs, action_dim, step)
    world.close()


def write_dataset(root: Path, meta: LeRobotDatasetMetadata, recordings: Iterable[Episode]) -> None:
    """The episodes' observations and actions as a LeRobotDataset."""
    features = {key: feature for key, feature in meta.features.items() if key.startswith("observation.") or key == ACTION}
    dataset = LeRobotDataset.create(REPO_ID, meta.fps, features, root=root, robot_type=meta.robot_type)
    for recording in recordings:
        for index in range(len(recording)):
            observation = {key: value[index].numpy() for key, value in recording.observation.items()}
            dataset.add_frame({**observation, ACTION: recording.action[index].to(torch.float32).numpy(), "task": recording.task or "task"})
        dataset.save_episode()
    dataset.finalize()
