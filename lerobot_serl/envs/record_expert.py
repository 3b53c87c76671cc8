"""Record demonstrations of the scripted expert as a LeRobotDataset."""

import logging
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import ACTION, DONE, HF_LEROBOT_HOME, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE, REWARD
from numpy.typing import NDArray
from tqdm import tqdm

from lerobot_serl.envs.config_franka_sim import (
    ACTION_NAMES,
    ENVIRONMENT_STATE_NAMES,
    STATE_NAMES,
    FrankaSimEnv,
)
from lerobot_serl.envs.expert_franka_sim import ScriptedExpert
from lerobot_serl.envs.franka_sim import FrankaSimGym, Observation

SUCCESS = "next.success"
MAX_ATTEMPTS_PER_EPISODE = 10

logger = logging.getLogger(__name__)
Frame = dict[str, Any]


@dataclass(frozen=True)
class RecordingSummary:
    """What a recording came to."""

    root: Path
    n_episodes: int
    n_frames: int
    n_attempts: int


def dataset_features(config: FrankaSimEnv, use_videos: bool) -> dict[str, dict[str, Any]]:
    """Return the LeRobotDataset features of an environment: its observations, its action, and `next.*` labels.

    Args:
        config: the environment.
        use_videos: store images as video instead of one file per image.
    """
    features: dict[str, dict[str, Any]] = {
        OBS_STATE: {"dtype": "float32", "shape": (len(STATE_NAMES),), "names": list(STATE_NAMES)},
    }
    if config.obs_type == "state":
        names = list(ENVIRONMENT_STATE_NAMES)
        features[OBS_ENV_STATE] = {"dtype": "float32", "shape": (len(names),), "names": names}
    else:
        for camera in config.cameras:
            features[f"{OBS_IMAGES}.{camera}"] = {
                "dtype": "video" if use_videos else "image",
                "shape": (config.observation_height, config.observation_width, 3),
                "names": ["height", "width", "channels"],
            }
    action_names = list(ACTION_NAMES[config.control_mode])
    features[ACTION] = {"dtype": "float32", "shape": (len(action_names),), "names": action_names}
    features[REWARD] = {"dtype": "float32", "shape": (1,), "names": None}
    features[SUCCESS] = {"dtype": "bool", "shape": (1,), "names": None}
    features[DONE] = {"dtype": "bool", "shape": (1,), "names": None}
    return features


def record_expert(
    config: FrankaSimEnv,
    repo_id: str,
    root: str | Path | None = None,
    n_episodes: int = 20,
    seed: int = 0,
    noise_std: float = 0.0,
    use_videos: bool = True,
) -> RecordingSummary:
    """Record `n_episodes` successful expert episodes; Ctrl-C keeps the episodes that are complete.

    Args:
        config: the environment.
        repo_id: name of the dataset, `user/name`.
        root: folder to create; None means LeRobot's own place for `repo_id`.
        n_episodes: successful episodes to record; failed attempts are dropped.
        seed: attempt `i` resets the environment with `seed + i`; also seeds the expert's noise.
        noise_std: the expert's noise, see `ScriptedExpert`.
        use_videos: store images as video instead of one file per image.

    Raises:
        FileExistsError: the folder exists already.
        ValueError: n_episodes is below 1, or noise_std is not allowed.
        RuntimeError: the expert succeeds in fewer than one of `MAX_ATTEMPTS_PER_EPISODE` attempts.
    """
    if n_episodes < 1:
        raise ValueError(f"n_episodes is {n_episodes}, expected at least 1")
    path = Path(root) if root is not None else HF_LEROBOT_HOME / repo_id
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another --root, or remove that folder to record it anew")
    env = FrankaSimGym(**config.gym_kwargs, task=config.task)
    try:
        expert = ScriptedExpert(config.control_mode, config.fps, noise_std, seed)
        dataset = LeRobotDataset.create(repo_id, config.fps, dataset_features(config, use_videos), root=path, robot_type=config.type)
        try:
            n_attempts = _record_episodes(dataset, env, expert, n_episodes, seed)
        finally:
            dataset.finalize()
            if dataset.num_episodes == 0:
                shutil.rmtree(path)
                logger.warning("no episode was completed; removed %s", path)
    finally:
        env.close()
    return RecordingSummary(path, dataset.num_episodes, dataset.num_frames, n_attempts)


def _record_episodes(dataset: LeRobotDataset, env: FrankaSimGym, expert: ScriptedExpert, n_episodes: int, seed: int) -> int:
    """Save successful episodes until there are `n_episodes` or the user interrupts; return the number of attempts."""
    n_attempts = 0
    with _interrupt_flag() as interrupted, tqdm(total=n_episodes, unit="episode", desc="Recording") as progress:
        while dataset.num_episodes < n_episodes and not interrupted:
            if n_attempts >= MAX_ATTEMPTS_PER_EPISODE * n_episodes:
                raise RuntimeError(
                    f"the expert solved {dataset.num_episodes} of {n_attempts} episodes; lower --noise_std or raise --env.episode_length"
                )
            frames = _roll_out(env, expert, seed + n_attempts)
            n_attempts += 1
            if interrupted or not frames[-1][SUCCESS][0]:
                continue
            for frame in frames:
                dataset.add_frame(frame)
            dataset.save_episode()
            progress.update()
    return n_attempts


def _roll_out(env: FrankaSimGym, expert: ScriptedExpert, seed: int) -> list[Frame]:
    """Play one episode; return one dataset frame per step: observation, executed action and what came of it."""
    frames: list[Frame] = []
    observation, _ = env.reset(seed=seed)
    done = False
    while not done:
        action = expert.act(env.privileged_observation())
        next_observation, reward, terminated, truncated, info = env.step(action)
        done = terminated or truncated
        frames.append(
            {
                **_observation_frame(observation),
                ACTION: info["executed_action"],
                REWARD: _label(reward, "float32"),
                SUCCESS: _label(info["is_success"], "bool"),
                DONE: _label(done, "bool"),
                "task": env.task_description,
            }
        )
        observation = next_observation
    return frames


def _label(value: float, dtype: str) -> NDArray[Any]:
    """Return a (1,) array, the shape that LeRobotDataset wants for a single number."""
    return np.array([value], dtype=dtype)


def _observation_frame(observation: Observation) -> Frame:
    """Return the observation under LeRobot's names."""
    frame = {OBS_STATE: observation["agent_pos"]}
    if "environment_state" in observation:
        frame[OBS_ENV_STATE] = observation["environment_state"]
    for camera, image in observation.get("pixels", {}).items():
        frame[f"{OBS_IMAGES}.{camera}"] = image
    return frame


class _Flag:
    """False until set."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def __bool__(self) -> bool:
        return self._is_set


@contextmanager
def _interrupt_flag() -> Iterator[_Flag]:
    """Turn the first Ctrl-C into a flag, so that it cannot tear a file that is being written; a second one raises.

    Outside the main thread signals are left alone.
    """
    flag = _Flag()
    try:
        previous = signal.getsignal(signal.SIGINT)

        def on_interrupt(*_: Any) -> None:
            flag.set()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            logger.warning("interrupted: finishing with the complete episodes")

        signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:
        yield flag
        return
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
