"""Statistics of one episode, by LeRobot's own functions, for an episode that has none."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lerobot.datasets import get_feature_stats
from PIL import Image

from ..lerobot_names import DEFAULT_VIDEO_PATH, auto_downsample_height_width, compute_episode_stats, decode_video_frames, sample_indices
from ..replay.json_file import UnreadableError
from ..replay.table_file import numbers_of, open_table, read_columns
from .dataset_episode import DatasetEpisode, numeric_features
from .description import Description
from .meta_tables import stats_of

Stats = dict[str, dict[str, Any]]
# Bounds the memory: the decoder keeps all frames between the first and the last.
_FRAMES_AT_ONCE = 16


def stats_for(root: Path, description: Description, episode: DatasetEpisode) -> Stats:
    """What the episode's line holds, else computed from its numbers and from samples of its pictures.

    Statistics of depth cameras are not computed: their scale is not known here.

    Raises:
        UnreadableError: the data file, or a video, changed since it was checked.
    """
    if episode.row is not None and (recorded := stats_of(episode.row)):
        return recorded
    features = description.info.features
    shapes = numeric_features(features)
    table = read_columns(open_table(episode.path), list(shapes)).slice(episode.first_row, episode.length)
    stats: Stats = compute_episode_stats({key: numbers_of(table[key], shape) for key, shape in shapes.items()}, features)
    for key, kind in description.cameras.items():
        if not description.is_depth(key):
            wanted = sample_indices(episode.length)
            pictures = (
                _from_data(episode, key, wanted) if kind == "image" else _from_video(root, key, episode, wanted, description.info.fps)
            )
            stats[key] = _picture_stats(pictures)
    return stats


def common(every: Sequence[Stats]) -> list[Stats]:
    """Only what all episodes have: LeRobot's table of episodes has the same columns in each line."""
    names = set.intersection(*({(key, name) for key, named in stats.items() for name in named} for stats in every)) if every else set()
    return [{key: kept for key, named in stats.items() if (kept := _of(named, key, names))} for stats in every]


def _of(named: Mapping[str, Any], key: str, names: set[tuple[str, str]]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if (key, name) in names}


def _from_data(episode: DatasetEpisode, key: str, wanted: Sequence[int]) -> list[np.ndarray]:
    rows = {episode.first_row + index for index in wanted}
    pictures, row = [], 0
    try:
        for batch in open_table(episode.path).iter_batches(_FRAMES_AT_ONCE, columns=[key], use_threads=False):
            for index in range(batch.num_rows):
                if row + index in rows:
                    with Image.open(io.BytesIO(batch.column(0)[index].as_py()["bytes"])) as picture:
                        pictures.append(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
            row += batch.num_rows
            if row >= episode.first_row + episode.length:
                break
    except (pa.ArrowException, OSError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableError(f"has damaged pictures of {key}: {error}") from error
    return pictures


def _from_video(root: Path, key: str, episode: DatasetEpisode, wanted: Sequence[int], fps: int) -> list[np.ndarray]:
    span = episode.spans[key]
    path = root / DEFAULT_VIDEO_PATH.format(video_key=key, chunk_index=span.chunk, file_index=span.file)
    pictures: list[np.ndarray] = []
    for start in range(0, len(wanted), _FRAMES_AT_ONCE):
        times = [span.from_s + index / fps for index in wanted[start : start + _FRAMES_AT_ONCE]]
        pictures += list(decode_video_frames(path, times, 0.5 / fps, backend="pyav", return_uint8=True).numpy())
    return pictures


def _picture_stats(pictures: Sequence[np.ndarray]) -> dict[str, Any]:
    """As LeRobot keeps them: one value for each channel, in [0, 1]."""
    array = np.stack([auto_downsample_height_width(picture) for picture in pictures])
    stats = get_feature_stats(array, axis=(0, 2, 3), keepdims=True)
    return {name: value if name == "count" else np.squeeze(value / 255.0, axis=0) for name, value in stats.items()}
