"""The tables in ``meta/``: a line for each episode, and the words of the tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..lerobot_names import DEFAULT_TASKS_PATH, unflatten_dict
from ..replay.json_file import UnreadableError
from ..replay.table_file import numbers_of, open_table, read_columns
from .dataset_episode import DatasetEpisode
from .finding import Finding, problem

STATS = "stats/"
MOST_TASKS = 100_000
# Of the largest value: the mean of thousands of numbers of 32 bit depends on the order of the sum.
_RELATIVE = 2e-5


class EpisodeRows:
    """Lines of ``meta/episodes``, by episode number.

    Attributes:
        rows: of every file that can be read.
        order: their numbers, as LeRobot meets them.
        findings: about the files.
    """

    def __init__(self, root: Path) -> None:
        self.rows: dict[int, Mapping[str, Any]] = {}
        self.order: list[int] = []
        self.findings: list[Finding] = []
        for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
            try:
                for row in read_columns(open_table(path)).to_pylist():
                    self._add(row)
            except UnreadableError as error:
                self.findings.append(problem(f"{path.relative_to(root)} {error}", "makes its lines anew from the data files"))

    def _add(self, row: Mapping[str, Any]) -> None:
        number = row.get("episode_index")
        if not isinstance(number, int) or not isinstance(row.get("length"), int):
            raise UnreadableError("has lines without episode_index or length")
        self.rows.setdefault(number, row)
        self.order.append(number)

    def give_to(self, episodes: Sequence[DatasetEpisode]) -> list[int]:
        """Give every episode the line that fits it; returns the numbers of those whose line says something else."""
        wrong = []
        for episode in episodes:
            row = self.rows.get(episode.number)
            if row is None:
                continue
            if (row["length"], row.get("data/chunk_index"), row.get("data/file_index")) != (episode.length, episode.chunk, episode.file):
                wrong.append(episode.number)
                continue
            episode.row = row
            if changed := [key for key, summary in episode.summary.items() if not _agrees(stats_of(row).get(key), summary)]:
                episode.faults.append(f"its {', '.join(changed)} are not the numbers that were recorded (the statistics say others)")
        return wrong


def stats_of(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Statistics in a line: feature -> name -> value."""
    flat = {key.removeprefix(STATS): value for key, value in row.items() if key.startswith(STATS) and value is not None}
    return {key: {name: np.asarray(value) for name, value in named.items()} for key, named in unflatten_dict(flat).items()}


def _agrees(recorded: Mapping[str, Any] | None, summary: tuple[np.ndarray, np.ndarray, np.ndarray]) -> bool:
    if recorded is None or not {"min", "max", "mean"} <= recorded.keys():
        return True
    low, high, mean = (np.asarray(value, np.float64).ravel() for value in summary)
    with np.errstate(all="ignore"):
        scale = np.maximum(np.abs(low), np.abs(high))
        for said, found in zip(("min", "max", "mean"), (low, high, mean), strict=True):
            try:
                value = np.asarray(recorded[said], np.float64).ravel()
            except (ValueError, TypeError):
                return False
            if value.shape != found.shape:  # LeRobot sums matrices up in another way
                return True
            same = (np.abs(value - found) <= _RELATIVE * scale + 1e-9) | ~np.isfinite(found)
            if not bool(same.all()):
                return False
    return True


def read_tasks(root: Path) -> list[str]:
    """Words of the tasks, by their index.

    Raises:
        UnreadableError: the file is missing or damaged.
    """
    path = root / DEFAULT_TASKS_PATH
    if not path.is_file():
        raise UnreadableError("is missing")
    table = read_columns(open_table(path))
    if "task_index" not in table.column_names:
        raise UnreadableError("does not say the tasks' numbers")
    indices = numbers_of(table["task_index"], (1,)).tolist()
    others = [name for name in table.column_names if name != "task_index"]
    words = [str(word) for word in table[others[0]].to_pylist()] if len(others) == 1 else []
    if len(words) != len(indices):
        raise UnreadableError("does not say the tasks' words")
    if indices != list(range(len(indices))) or len(set(words)) != len(words):
        raise UnreadableError("does not number the tasks from 0 without a gap")
    return words


def tasks_from_rows(episodes: Sequence[DatasetEpisode]) -> list[str]:
    """Words of the tasks as the lines of the episodes give them; a task whose words are lost gets a number instead."""
    highest = min(max((task for episode in episodes for task in episode.tasks), default=-1), MOST_TASKS - 1)
    words = {task: f"task {task} (its words are lost)" for task in range(highest + 1)}
    for episode in episodes:
        said = (episode.row or {}).get("tasks")
        if (
            len(episode.tasks) == 1
            and isinstance(said, list)
            and len(said) == 1
            and episode.tasks[0] in words
            and str(said[0]) not in words.values()
        ):
            words[episode.tasks[0]] = str(said[0])
    return list(words.values())
