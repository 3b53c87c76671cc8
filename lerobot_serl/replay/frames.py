"""A recorded episode as rows of a LeRobotDataset."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION

from .labels import DECIDED_BY, DONE, INTERVENTION, REWARD, SUCCESS, TERMINATED, TRUNCATED
from .recording import Recording

NO_TASK = "no task given"


def frames_of(recording: Recording, features: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What ``LeRobotDataset.add_frame`` takes, one frame after the other.

    Args:
        features: of the dataset; of the labels it gets those that are among them.
    """
    for index in range(len(recording)):
        last = index == len(recording) - 1
        flags = {
            SUCCESS: last and recording.success,
            DONE: last and (recording.terminated or recording.truncated),
            TERMINATED: last and recording.terminated,
            TRUNCATED: last and recording.truncated,
            INTERVENTION: bool(recording.intervention[index]),
        }
        labels = {
            REWARD: np.array([recording.reward[index].item()], dtype=np.float32),
            DECIDED_BY: np.array([recording.decided_by.number if last else 0], dtype=np.int64),
            **{key: np.array([value]) for key, value in flags.items()},
        }
        yield {
            **{key: _laid_out(value[index].numpy(), features[key]) for key, value in recording.observation.items()},
            ACTION: recording.action[index].numpy(),
            **{key: value for key, value in labels.items() if key in features},
            "task": recording.task or NO_TASK,
        }


def _laid_out(value: np.ndarray, feature: Mapping[str, Any]) -> np.ndarray:
    """Images lie channel last in a LeRobotDataset."""
    channel_last = value.ndim == 3 and tuple(value.shape) != tuple(feature["shape"])
    return value.transpose(1, 2, 0) if channel_last else value
