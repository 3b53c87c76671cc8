"""A sound dataset from what a check trusts: files that are good are linked, the others written anew, all numbers counted anew."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from lerobot.datasets import LeRobotDatasetMetadata

from ..lerobot_names import DEFAULT_DATA_PATH, DEFAULT_VIDEO_PATH, write_table_one_row_group_per_episode
from ..replay.journal import sync
from ..replay.manifest import MANIFEST, UUID
from ..replay.table_file import open_table, read_columns
from ..replay.versions import link_or_copy
from .dataset_check import DatasetCheck
from .dataset_episode import DatasetEpisode
from .description import Description
from .meta_tables import STATS
from .progress_bar import bar
from .statistics import common, stats_for

_LEROBOTS_META = ("info.json", "stats.json", "tasks.parquet")
_COUNTED = {"episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index"}


def rebuild(found: DatasetCheck, target: Path) -> None:
    """Write a repaired dataset.

    Args:
        target: a directory that does not exist yet.

    Raises:
        UnreadableError: a file changed since the check.
        OSError: the disk is full or cannot be written.
    """
    assert found.description is not None
    assert found.kept
    meta = _create(found, found.description, target)
    _place_data(found.kept, target)
    _place_videos(found.root, found.kept, target)
    meta.save_episode_tasks(found.tasks)
    every = common([stats_for(found.root, found.description, episode) for episode in bar("Statistics", "episodes", found.kept)])
    extra = _extra_columns(found.kept)
    position = 0
    for number, (episode, stats) in enumerate(bar("Writing meta", "episodes", list(zip(found.kept, every, strict=True)))):
        place: dict[str, Any] = {"data/chunk_index": episode.chunk, "data/file_index": episode.file}
        place |= {"dataset_from_index": position, "dataset_to_index": position + episode.length}
        for key, span in episode.spans.items():
            place |= {f"videos/{key}/chunk_index": span.chunk, f"videos/{key}/file_index": span.file}
            place |= {f"videos/{key}/from_timestamp": span.from_s, f"videos/{key}/to_timestamp": span.to_s}
        place |= {name: (episode.row or {})[name] for name in extra}
        meta.save_episode(number, episode.length, [found.tasks[task] for task in episode.tasks], stats, place)
        position += episode.length
    meta.finalize()
    _place_the_rest(found, target)


def _create(found: DatasetCheck, description: Description, target: Path) -> LeRobotDatasetMetadata:
    info = description.info
    meta = LeRobotDatasetMetadata.create(
        repo_id=f"local/{found.root.name}",
        fps=info.fps,
        features=info.features,
        robot_type=info.robot_type,
        root=target,
        use_videos=bool(description.video_keys),
        chunks_size=info.chunks_size,
        data_files_size_in_mb=info.data_files_size_in_mb,
        video_files_size_in_mb=info.video_files_size_in_mb,
    )
    meta.info.tools = info.tools
    return meta


def _place_data(kept: Sequence[DatasetEpisode], target: Path) -> None:
    """Link a file of which every row stays as it is; write the rows that stay of any other."""
    number = position = 0
    files = [list(group) for _, group in groupby(kept, key=lambda episode: episode.path)]
    for episodes in bar("Writing data", "files", files):
        new = target / DEFAULT_DATA_PATH.format(chunk_index=episodes[0].chunk, file_index=episodes[0].file)
        new.parent.mkdir(parents=True, exist_ok=True)
        table = open_table(episodes[0].path)
        same = sum(episode.length for episode in episodes) == table.metadata.num_rows
        starts = np.cumsum([position, *(episode.length for episode in episodes)]).tolist()
        if same and all((e.number, e.first_index) == (number + i, starts[i]) for i, e in enumerate(episodes)):
            link_or_copy(str(episodes[0].path.resolve()), str(new))
        else:
            rows = read_columns(table)
            parts = [_renumbered(rows, episode, number + i, starts[i]) for i, episode in enumerate(episodes)]
            write_table_one_row_group_per_episode(pa.concat_tables(parts), new)
        number, position = number + len(episodes), starts[-1]


def _renumbered(rows: pa.Table, episode: DatasetEpisode, number: int, position: int) -> pa.Table:
    part = rows.slice(episode.first_row, episode.length)
    values = {"episode_index": np.full(episode.length, number), "index": np.arange(position, position + episode.length)}
    for name, value in values.items():
        place = part.schema.get_field_index(name)
        part = part.set_column(place, part.schema.field(place), pa.array(value, part.schema.field(place).type))
    return part


def _place_videos(root: Path, kept: Sequence[DatasetEpisode], target: Path) -> None:
    wanted = {
        DEFAULT_VIDEO_PATH.format(video_key=key, chunk_index=span.chunk, file_index=span.file)
        for episode in kept
        for key, span in episode.spans.items()
    }
    for name in bar("Placing videos", "files", sorted(wanted)):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(str((root / name).resolve()), str(target / name))


def _extra_columns(kept: Sequence[DatasetEpisode]) -> list[str]:
    """What other tools have added to the lines of the episodes, where every line has it."""
    if any(episode.row is None for episode in kept):
        return []
    names: set[str] = set.intersection(*({name for name in episode.row or {}} for episode in kept))
    return sorted(name for name in names - _COUNTED if not name.startswith((STATS, "data/", "videos/", "meta/")))


def _place_the_rest(found: DatasetCheck, target: Path) -> None:
    """Files that LeRobot does not write again: the card, our manifest, other tools' files in ``meta/``."""
    for path in [*found.root.iterdir(), *(found.root / "meta").iterdir()]:
        name = path.relative_to(found.root)
        if path.is_file() and name != MANIFEST and not (name.parent.name == "meta" and name.name in _LEROBOTS_META):
            link_or_copy(str(path.resolve()), str(target / name))
    if (found.root / MANIFEST).is_file():
        lines = _manifest_lines(found)
        (target / MANIFEST).write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def _manifest_lines(found: DatasetCheck) -> list[Mapping[str, Any]]:
    """Entries of the episodes that are kept. Those of lost ones go, so that they are taken if they are sent again."""
    lines: list[Mapping[str, Any] | None] = []
    for text in (found.root / MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        lines.append(line if isinstance(line, dict) and UUID in line else None)
    assert found.description is not None
    total = found.description.info.total_episodes or len(found.kept) + len(found.left_out)
    # Episodes from before there was a manifest come first.
    first = total - len(lines)
    numbers = {episode.number for episode in found.kept}
    return [line for index, line in enumerate(lines, first) if line is not None and (first < 0 or index in numbers)]


def sync_tree(directory: Path) -> None:
    """Make every file and name below a directory durable."""
    for path in [*directory.rglob("*"), directory]:
        sync(path)
