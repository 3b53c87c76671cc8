"""A recorded episode as rows of a LeRobotDataset."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .episode import Episode
from .frame_columns import FRAME_COLUMNS
from .labels import DECIDED_BY, DONE, SUCCESS, TERMINATED, TRUNCATED

NO_TASK = "no task given"


def frames_of(episode: Episode, features: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What ``LeRobotDataset.add_frame`` takes, one frame after the other.

    Args:
        features: of the dataset; of the labels it gets those that are among them.
    """
    for index in range(len(episode)):
        last = index == len(episode) - 1
        flags = {
            SUCCESS: last and episode.success,
            DONE: last and (episode.terminated or episode.truncated),
            TERMINATED: last and episode.terminated,
            TRUNCATED: last and episode.truncated,
        }
        columns = {
            **{column.key: column.row(getattr(episode, column.name)[index]) for column in FRAME_COLUMNS},
            DECIDED_BY: np.array([episode.decided_by.number if last else 0], dtype=np.int64),
            **{key: np.array([value]) for key, value in flags.items()},
        }
        yield {
            **{key: _laid_out(value[index].numpy(), features[key]) for key, value in episode.observation.items()},
            **{key: value for key, value in columns.items() if key in features},
            "task": episode.task or NO_TASK,
        }


def _laid_out(value: np.ndarray, feature: Mapping[str, Any]) -> np.ndarray:
    """Images lie channel last in a LeRobotDataset."""
    channel_last = value.ndim == 3 and tuple(value.shape) != tuple(feature["shape"])
    return value.transpose(1, 2, 0) if channel_last else value
