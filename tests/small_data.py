"""Tiny LeRobotDatasets and recordings whose numbers name them. State only unless a test asks for images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_serl.replay.episode import Episode

FPS = 10
STATE, ENV_STATE, ACTION = "observation.state", "observation.environment_state", "action"
SIZES = {STATE: 4, ENV_STATE: 3, ACTION: 2}
INPUTS = {
    STATE: PolicyFeature(type=FeatureType.STATE, shape=(4,)),
    ENV_STATE: PolicyFeature(type=FeatureType.ENV, shape=(3,)),
}

Frame = dict[str, Any]


def vector_features() -> dict[str, dict[str, Any]]:
    """The state vectors and the action that every tiny dataset has."""
    return {
        key: {"dtype": "float32", "shape": (size,), "names": [f"{key.rpartition('.')[2]}_{i}" for i in range(size)]}
        for key, size in SIZES.items()
    }


def frames_of(frames: int, mark: float, **columns: Sequence[Any]) -> list[Frame]:
    """One episode whose numbers name episode, frame and feature: ``100 * mark + t``, plus 0, 0.1 or 0.2.

    Args:
        columns: labels, one value for each frame; ``next_reward`` stands for ``next.reward``.
    """
    episode = []
    for t in range(frames):
        frame: Frame = {key: np.full(size, 100 * mark + t + i / 10, np.float32) for i, (key, size) in enumerate(SIZES.items())}
        for name, values in columns.items():
            key = name.replace("_", ".", 1)
            frame[key] = np.array([values[t]], dtype=np.float32 if key == "next.reward" else bool)
        episode.append(frame)
    return episode


def make_dataset(
    root: Path, episodes: Sequence[Sequence[Frame]], extra_features: dict[str, dict[str, Any]] | None = None
) -> LeRobotDataset:
    """A real LeRobotDataset, reopened from disk."""
    features = vector_features() | (extra_features or {})
    for key in episodes[0][0].keys() - features.keys():
        features[key] = {"dtype": "float32" if key == "next.reward" else "bool", "shape": (1,), "names": None}
    dataset = LeRobotDataset.create("test/tiny", fps=FPS, features=features, root=root, use_videos=False)
    for episode in episodes:
        for frame in episode:
            dataset.add_frame({**frame, "task": "touch the dot"})
        dataset.save_episode()
    dataset.finalize()
    return LeRobotDataset("test/tiny", root=root)


def labelled_episodes() -> list[list[Frame]]:
    """Three of 5, 4 and 6 frames: success, time limit, success."""

    def flags(frames: int, *at: int) -> list[bool]:
        return [t in at for t in range(frames)]

    return [
        frames_of(5, 1, next_reward=flags(5, 4), next_success=flags(5, 4), next_done=flags(5, 4)),
        frames_of(4, 2, next_reward=flags(4), next_success=flags(4), next_done=flags(4, 3)),
        frames_of(6, 3, next_reward=flags(6, 5), next_success=flags(6, 5), next_done=flags(6, 5)),
    ]


def make_recording(frames: int = 5, end: str = "terminated", mark: float = 1.0, success: bool = True, **changes: Any) -> Episode:
    """A recording whose numbers name it; ``end`` is "terminated", "truncated" or "data end"."""
    t = torch.arange(frames, dtype=torch.float32)
    reward = torch.zeros(frames)
    reward[-1] = float(end == "terminated" and success)
    values: dict[str, Any] = {
        "observation": {key: (100 * mark + t).unsqueeze(-1).repeat(1, SIZES[key]) for key in (STATE, ENV_STATE)},
        "action": (t / frames + mark).unsqueeze(-1).repeat(1, SIZES[ACTION]),
        "reward": reward,
        "intervention": t % 2 == 1,
        "terminated": end == "terminated",
        "truncated": end == "truncated",
        "task": "touch the dot",
        "info": {"actor": "test", "policy_version": 7, "edit_rms": 0.25},
        "plan_age": t.long() % 4 - 1,
    } | changes
    return Episode(**({"plan_action": values["action"] - 2.0 * mark} | values))


def assert_same_recording(one: Episode, two: Episode, words: bool = True) -> None:
    """Equal to the bit, dtypes included; ``words``: task and info too."""
    assert one.observation.keys() == two.observation.keys()
    pairs = [(one.observation[key], two.observation[key]) for key in one.observation]
    columns = ("action", "reward", "intervention", "plan_action", "plan_age")
    for a, b in [*pairs, *((getattr(one, name), getattr(two, name)) for name in columns)]:
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert (one.terminated, one.truncated) == (two.terminated, two.truncated)
    if words:
        assert (one.task, dict(one.info)) == (two.task, dict(two.info))
