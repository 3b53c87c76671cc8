"""Opening a LeRobotDataset so that damage ends in a sentence: which file, what is wrong with it, and what can be done."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from lerobot.datasets import CODEBASE_VERSION, LeRobotDataset
from lerobot.utils.constants import HF_LEROBOT_HUB_CACHE

from ..lerobot_names import DEFAULT_DATA_PATH, DEFAULT_TASKS_PATH, DEFAULT_VIDEO_PATH
from .inventory import dataset_of
from .json_file import UnreadableError, read_json
from .table_file import open_table, read_columns

_PLACE = ("chunk_index", "file_index")


class DamagedDatasetError(ValueError):
    """A dataset cannot be read; the message names the file, the remedy and the doctor's command."""

    def __init__(self, directory: Path, text: str) -> None:
        root = dataset_of(directory) or directory
        super().__init__(
            f"The dataset in {root} cannot be read: {text}. lerobot-serl-doctor {root} tells what is wrong with it, and with --repair puts right "
            "what its files allow, keeping the broken ones."
        )


def open_dataset(repo_id: str, root: Path) -> LeRobotDataset:
    """A LeRobotDataset, for reading.

    Raises:
        DamagedDatasetError: it cannot be opened.
    """
    with explained(root):
        return LeRobotDataset(repo_id, root=root)


def delete_episodes_command(repo_id: str, root: Path, numbers: str) -> str:
    """What leaves episodes out of a dataset, in its own place; LeRobot keeps the old one beside it as NAME_old.

    Args:
        root: LeRobot writes to its cache unless it is told twice.
        numbers: of the episodes, with commas between them.
    """
    # A copy of the Hub's is not edited: without --root, LeRobot puts the edited dataset where it looks first.
    from_hub, quoted = root.resolve().is_relative_to(HF_LEROBOT_HUB_CACHE.resolve()), shlex.quote(str(root))
    place = "" if from_hub else f" --root={quoted} --new_root={quoted}"
    return f'lerobot-edit-dataset --repo_id={repo_id}{place} --operation.type=delete_episodes --operation.episode_indices="[{numbers}]"'


@contextmanager
def explained(root: Path, needed: Sequence[Path] = ()) -> Iterator[None]:
    """Around calls that read a dataset: whatever LeRobot and the libraries below it raise becomes a sentence.

    Args:
        root: of the dataset.
        needed: files to name if none is found to be damaged.

    Raises:
        DamagedDatasetError: with the first damaged file, else with what LeRobot said.
    """
    try:
        yield
    except Exception as error:
        flaw = first_flaw(root, thorough=True)
        if flaw is None:
            names = f" ({', '.join(str(path.relative_to(root)) for path in needed)})" if needed else ""
            flaw = f"{error or type(error).__name__}{names}".rstrip(".")
        raise DamagedDatasetError(root, flaw) from error


def require_whole(root: Path) -> None:
    """Raise before LeRobot looks for missing files on the Hub, and puts older ones in their place.

    Raises:
        DamagedDatasetError: a file that every dataset of a learner has, or that another one names, is missing, or does not open.
    """
    if flaw := first_flaw(root):
        raise DamagedDatasetError(root, flaw)


def first_flaw(root: Path, thorough: bool = False) -> str | None:
    """Name of the first damaged file of a dataset, and what is wrong with it; None if none is found.

    Args:
        thorough: read the data files whole, and open the videos.
    """
    try:
        info = _info(root)
        if str(info.get("codebase_version")).split(".")[0] != CODEBASE_VERSION.split(".")[0]:
            return None  # LeRobot says how it is converted
        with _named("meta/stats.json"):
            if not isinstance(read_json(root / "meta" / "stats.json"), dict):
                raise UnreadableError("holds no statistics")
        with _named(DEFAULT_TASKS_PATH):
            read_columns(open_table(root / DEFAULT_TASKS_PATH))
        for name in _files(root, info):
            with _named(name):
                _check_file(root / name, thorough)
    except UnreadableError as error:
        return str(error)
    return None


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except UnreadableError as error:
        raise UnreadableError(f"{name} {error}") from error


def _info(root: Path) -> dict[str, Any]:
    with _named("meta/info.json"):
        info = read_json(root / "meta" / "info.json")
        if not isinstance(info, dict) or not isinstance(info.get("features"), dict) or not isinstance(info.get("total_episodes"), int):
            raise UnreadableError("does not say what the features are, and how many episodes there are")
        if not all(isinstance(feature, dict) for feature in info["features"].values()):
            raise UnreadableError("does not say what the features are")
    return info


def _files(root: Path, info: dict[str, Any]) -> list[str]:
    """Data files and videos that ``meta/episodes`` names, each once, in order, and the data files that LeRobot opens unasked."""
    videos = [key for key, feature in info["features"].items() if feature.get("dtype") == "video"]
    layouts = {"data": info.get("data_path") or DEFAULT_DATA_PATH}
    layouts |= {f"videos/{key}": (info.get("video_path") or DEFAULT_VIDEO_PATH) for key in videos}
    columns = [f"{kind}/{part}" for kind in layouts for part in _PLACE]
    names: dict[str, None] = {}
    episodes = 0
    for path in sorted((root / "meta" / "episodes").glob("*/*.parquet")):
        with _named(str(path.relative_to(root))):
            table = open_table(path)
            if missing := set(columns) - set(table.schema_arrow.names):
                raise UnreadableError(f"lacks the columns {', '.join(sorted(missing))}")
            rows = read_columns(table, columns).to_pylist()
        episodes += len(rows)
        for row in rows:
            for kind, layout in layouts.items():
                chunk, file = (row[f"{kind}/{part}"] for part in _PLACE)
                names[layout.format(video_key=kind.removeprefix("videos/"), chunk_index=chunk, file_index=file)] = None
    if episodes != info["total_episodes"]:
        raise UnreadableError(f"meta/episodes has lines of {episodes} episodes, and meta/info.json counts {info['total_episodes']}")
    there = [str(path.relative_to(root)) for path in sorted((root / "data").glob("*/*.parquet"))]
    return [*names, *(name for name in there if name not in names)]


def _check_file(path: Path, thorough: bool) -> None:
    if path.suffix == ".parquet":
        table = open_table(path)
        if thorough:
            read_columns(table)
    elif not path.is_file():
        raise UnreadableError("is missing")
    elif path.stat().st_size == 0:
        raise UnreadableError("is empty")
    elif thorough:
        try:
            with av.open(str(path)) as container:
                next(container.decode(video=0))
        except (av.FFmpegError, StopIteration, IndexError, OSError, ValueError) as error:
            raise UnreadableError(f"cannot be decoded ({error or 'it has no picture'})") from error
