"""Episodes as the data files hold them, each checked by itself: what of it can be trusted, and why not the rest."""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.utils.constants import DEFAULT_FEATURES
from PIL import Image

from ..replay.json_file import UnreadableError
from ..replay.table_file import numbers_of, open_table, read_columns

FILE_NAME = re.compile(r"chunk-(\d{3,6})/file-(\d{3,6})\.(?:parquet|mp4)")
NUMERIC = re.compile(r"(?:u?int|float)(?:8|16|32|64)|bool")
_TIMESTAMP_TOLERANCE = 0.1  # of a frame; LeRobot stores float32
_IMAGES_AT_ONCE = 32
_COUNTERS = ("index", "episode_index", "frame_index", "task_index")
MOST_EPISODES = 10_000_000
Features = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Span:
    """An episode's place in the videos of one camera."""

    chunk: int
    file: int
    from_s: float
    to_s: float


@dataclass(eq=False)
class DatasetEpisode:
    """One run of rows with the same ``episode_index``.

    Attributes:
        number: its ``episode_index``.
        path, chunk, file: of its data file.
        first_row: in that file.
        first_index: of the whole dataset, as the data claim.
        tasks: task indices, each once.
        summary: feature -> its smallest, largest and mean values.
        row: its line in ``meta/episodes``, where that fits the data.
        spans: camera -> place in its videos.
        faults: why it cannot be used; empty if it can.
    """

    number: int
    path: Path
    chunk: int
    file: int
    first_row: int
    length: int
    first_index: int
    tasks: list[int]
    summary: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)
    row: Mapping[str, Any] | None = None
    spans: dict[str, Span] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def place_of(path: Path) -> tuple[int, int]:
    """Chunk and file number in a path of LeRobot's layout.

    Raises:
        UnreadableError: it has another name.
    """
    match = FILE_NAME.fullmatch(f"{path.parent.name}/{path.name}")
    if match is None:
        raise UnreadableError("has a name that LeRobot does not give")
    return int(match.group(1)), int(match.group(2))


def numeric_features(features: Features) -> dict[str, tuple[int, ...]]:
    """Features that are numbers, with their shapes."""
    return {key: tuple(ft["shape"]) for key, ft in features.items() if NUMERIC.fullmatch(str(ft["dtype"]))}


def read_episodes(path: Path, features: Features, fps: int, advance: Callable[[int], object]) -> list[DatasetEpisode]:
    """Episodes of a data file, images included.

    Args:
        advance: told how many rows were checked since the last call.

    Raises:
        UnreadableError: nothing in the file can be trusted.
    """
    chunk, file = place_of(path)
    table = open_table(path)
    expected = {key for key, ft in features.items() if ft["dtype"] != "video"}
    if found := expected.symmetric_difference(table.schema_arrow.names):
        raise UnreadableError(f"does not have the columns that info.json names; they differ in {', '.join(sorted(found)[:5])}")
    shapes = numeric_features(features)
    columns = read_columns(table, list(shapes))
    numbers = {key: numbers_of(columns[key], shape) for key, shape in shapes.items()}
    if wrong := [key for key in _COUNTERS if numbers[key].dtype.kind != "i" or numbers[key].ndim != 1]:
        raise UnreadableError(f"does not count {wrong[0]} in whole numbers")
    if rows_beyond := int(np.count_nonzero(np.abs(numbers["episode_index"]) > MOST_EPISODES)):
        raise UnreadableError(f"has {rows_beyond} rows whose episode_index is beyond {MOST_EPISODES}")
    edges = np.flatnonzero(np.diff(numbers["episode_index"])) + 1
    rows = len(numbers["episode_index"])
    bounds = [(int(a), int(b)) for a, b in zip([0, *edges], [*edges, rows], strict=True)] if rows else []
    episodes = [_episode(path, chunk, file, {key: value[a:b] for key, value in numbers.items()}, a, fps) for a, b in bounds]
    images = [key for key, ft in features.items() if ft["dtype"] == "image"]
    _check_images(table, images, episodes, advance)
    return episodes


def _episode(path: Path, chunk: int, file: int, numbers: Mapping[str, np.ndarray], first_row: int, fps: int) -> DatasetEpisode:
    length = len(numbers["index"])
    tasks = [int(task) for task in dict.fromkeys(numbers["task_index"].tolist())]
    episode = DatasetEpisode(int(numbers["episode_index"][0]), path, chunk, file, first_row, length, int(numbers["index"][0]), tasks)
    steps = np.arange(length)
    if not np.array_equal(numbers["frame_index"], steps):
        episode.faults.append("its frame_index does not count from 0 without a gap")
    if not np.array_equal(numbers["index"], episode.first_index + steps):
        episode.faults.append("its index does not count without a gap")
    if not bool(np.all(np.abs(numbers["timestamp"] * fps - steps) <= _TIMESTAMP_TOLERANCE + 1e-6 * steps)):
        episode.faults.append(f"its timestamps are not those of {fps} frames per second")
    for key, value in numbers.items():
        if key not in DEFAULT_FEATURES:
            with np.errstate(all="ignore"):
                episode.summary[key] = (value.min(axis=0), value.max(axis=0), value.mean(axis=0, dtype=np.float64))
    return episode


def _check_images(table: pq.ParquetFile, keys: list[str], episodes: list[DatasetEpisode], advance: Callable[[int], object]) -> None:
    """Every picture by its checksums; PNG has one for each part."""
    for key in keys:
        for episode, row, problem in _bad_images(table, key, episodes, advance):
            fault = f"its picture {row - episode.first_row} of {key} is damaged ({problem})"
            if not any(key in said for said in episode.faults):
                episode.faults.append(fault)
    if not keys:
        advance(table.metadata.num_rows)


def _bad_images(
    table: pq.ParquetFile, key: str, episodes: list[DatasetEpisode], advance: Callable[[int], object]
) -> list[tuple[DatasetEpisode, int, str]]:
    bad: list[tuple[DatasetEpisode, int, str]] = []
    row = 0
    try:
        for batch in table.iter_batches(_IMAGES_AT_ONCE, columns=[key], use_threads=False):
            for value in batch.column(0).to_pylist():
                if said := _picture_problem(value):
                    bad.append((_at(episodes, row), row, said))
                row += 1
            advance(batch.num_rows)
    except (pa.ArrowException, OSError, ValueError) as error:  # the episodes behind it in the file cannot be read either
        bad += [(episode, max(row, episode.first_row), str(error)[:80]) for episode in episodes if episode.first_row + episode.length > row]
    return bad


def _at(episodes: list[DatasetEpisode], row: int) -> DatasetEpisode:
    return next(episode for episode in episodes if episode.first_row <= row < episode.first_row + episode.length)


def _picture_problem(value: Any) -> str:
    data = value.get("bytes") if isinstance(value, dict) else None
    if not data:
        return "it is not inside the file"
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)[:80]
    return ""
