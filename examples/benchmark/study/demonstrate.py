"""Demonstrations of a scripted expert in an environment with state observations, as a LeRobotDataset."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, REWARD

SUCCESS = "next.success"
# Makes the expert of one attempt, whose seed it gets; the expert gives an action whenever it is asked.
NewExpert = Callable[[int], Callable[[], np.ndarray]]


def record_solved(
    env: gym.Env, config: EnvConfig, new_expert: NewExpert, names: Mapping[str, Sequence[str]], repo_id: str, root: Path,
    demonstrations: int, seed: int,
) -> None:  # fmt: skip
    """Attempts with the seeds ``seed, seed + 1, ...``; those that end with success are recorded, until there are enough.

    Args:
        env: its ``info`` holds ``is_success`` and ``executed_action``, its observations are vectors.
        config: of the environment.
        new_expert: see :data:`NewExpert`.
        names: of the entries of the action and of each observation, by their keys in the dataset.
        demonstrations: how many.
    """
    keys = {key: name for key, name in config.features_map.items() if name in names and name != ACTION}
    features = {name: {"dtype": "float32", "shape": (len(entries),), "names": list(entries)} for name, entries in names.items()}
    features |= {REWARD: {"dtype": "float32", "shape": (1,), "names": None}, SUCCESS: {"dtype": "bool", "shape": (1,), "names": None}}
    dataset = LeRobotDataset.create(repo_id, config.fps, features, root=root)
    attempt = seed
    while dataset.num_episodes < demonstrations:
        observation, info = env.reset(seed=attempt)
        expert, frames, done = new_expert(attempt), [], False
        attempt += 1
        while not done:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Meta-World: that the expert's numbers exceed the action space
                action = expert()
            seen = {name: observation[key] for key, name in keys.items()}
            observation, reward, terminated, truncated, info = env.step(action)
            done = terminated or truncated
            frame = {REWARD: np.array([reward], np.float32), SUCCESS: np.array([info["is_success"]]), "task": str(config.task)}
            frames.append(seen | frame | {ACTION: info["executed_action"]})
        if info["is_success"]:
            for frame in frames:
                dataset.add_frame(frame)
            dataset.save_episode()
    dataset.finalize()
    env.close()
