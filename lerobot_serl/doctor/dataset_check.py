"""Everything that is wrong with the files of one LeRobotDataset, and which of its episodes can be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from lerobot.utils.constants import DEFAULT_FEATURES

from ..replay.json_file import UnreadableError, read_json
from ..replay.manifest import MANIFEST, known_uuids
from ..replay.table_file import open_table
from .dataset_episode import DatasetEpisode, numeric_features, read_episodes
from .description import Description, read_description
from .finding import Finding, has_problems, named, note, ok, problem
from .label_notes import label_notes
from .meta_tables import EpisodeRows, read_tasks, tasks_from_rows
from .outliers import find_outliers
from .progress_bar import bar
from .videos import Videos

MOST_FAULTS = 20
_LEAVE_OUT = "leaves the file in the broken copy"


@dataclass
class DatasetCheck:
    """Attributes:
    root: the dataset's directory.
    description: None if nothing tells what the data mean; then nothing can be repaired.
    tasks: words, by task index.
    kept: episodes that can be trusted, in order.
    left_out: the others.
    videos: camera -> its videos.
    """

    root: Path
    findings: list[Finding] = field(default_factory=list)
    description: Description | None = None
    tasks: list[str] = field(default_factory=list)
    kept: list[DatasetEpisode] = field(default_factory=list)
    left_out: list[DatasetEpisode] = field(default_factory=list)
    videos: Mapping[str, Videos] = field(default_factory=dict)

    @property
    def repairable(self) -> bool:
        """There is something wrong, and a repair would leave a dataset that opens."""
        return bool(self.kept) and any(finding.repair for finding in self.findings)

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not has_problems(self.findings)

    @property
    def frames(self) -> int:
        """Of the episodes that can be trusted."""
        return sum(episode.length for episode in self.kept)


def examine(root: Path) -> DatasetCheck:
    """Read a dataset; nothing is changed.

    Raises:
        CannotCheckError: it is of a format that is not known here.
    """
    found = DatasetCheck(root)
    try:
        found.description = read_description(root)
    except UnreadableError as error:
        found.findings.append(problem(f"meta/info.json is missing, empty or damaged: the dataset {error}"))
        _say_what_survives(found)
        return found
    if found.description.lost:
        remedy = "makes it anew from the data; the names of the joints and the type of the robot are lost"
        found.findings.append(problem(f"meta/info.json {found.description.lost}", remedy))
    episodes = _read_data(found, found.description)
    find_outliers(episodes)
    rows = EpisodeRows(root)
    found.findings += rows.findings
    if wrong := rows.give_to(episodes):
        found.findings.append(problem(f"meta/episodes does not fit the data of {named(wrong)}", "makes these lines anew from the data"))
    found.videos = _watch(found, found.description, episodes, rows)
    _check_tasks(found, episodes)
    found.kept = [episode for episode in episodes if not episode.faults]
    found.left_out = [episode for episode in episodes if episode.faults]
    _report_faults(found)
    _check_order(found, found.description, rows)
    _check_stats(found, found.description)
    _check_manifest(found)
    if not found.kept:
        _say_what_survives(found)
        found.findings = [replace(finding, repair="") for finding in found.findings]
        return found
    found.findings += [note(text) for text in [*_unused_videos(found), *_left_pictures(found)]]
    if found.sound:
        found.findings.append(ok(f"{len(found.kept)} episodes, {found.frames} frames: every one is there and fits its neighbours"))
        found.findings += label_notes(root, found.description.info.features)
    return found


def _read_data(found: DatasetCheck, description: Description) -> list[DatasetEpisode]:
    paths = sorted((found.root / "data").glob("*/*.parquet"))
    episodes: list[DatasetEpisode] = []
    images = sum(kind == "image" for kind in description.cameras.values())
    with bar("Reading data", "rows", total=_rows(paths) * max(1, images)) as progress:
        for path in paths:
            try:
                episodes += read_episodes(path, description.info.features, description.info.fps, progress.update)
            except UnreadableError as error:
                found.findings.append(problem(f"{path.relative_to(found.root)} {error}", _LEAVE_OUT))
    return episodes


def _rows(paths: list[Path]) -> int:
    total = 0
    for path in paths:
        try:
            total += open_table(path).metadata.num_rows
        except UnreadableError:
            continue
    return total


def _watch(found: DatasetCheck, description: Description, episodes: list[DatasetEpisode], rows: EpisodeRows) -> dict[str, Videos]:
    videos = {}
    for key in description.video_keys:
        watched = Videos(key, found.root / "videos" / key, description.info.fps, description.is_depth(key))
        watched.locate(episodes, rows.rows)
        videos[key] = watched
        for video in watched.videos.values():
            if video.problem:
                found.findings.append(problem(f"{video.path.relative_to(found.root)} {video.problem}", _LEAVE_OUT))
    return videos


def _check_tasks(found: DatasetCheck, episodes: list[DatasetEpisode]) -> None:
    try:
        found.tasks = read_tasks(found.root)
    except UnreadableError as error:
        found.tasks = tasks_from_rows(episodes)
        found.findings.append(problem(f"meta/tasks.parquet {error}", "writes it anew with the words that meta/episodes holds"))
    for episode in episodes:
        if beyond := [task for task in episode.tasks if not 0 <= task < len(found.tasks)]:
            episode.faults.append(f"its task {beyond[0]} is not in meta/tasks.parquet")


def _report_faults(found: DatasetCheck) -> None:
    for episode in found.left_out[:MOST_FAULTS]:
        found.findings.append(problem(f"episode {episode.number}: {'; '.join(episode.faults)}", "leaves it out"))
    if more := found.left_out[MOST_FAULTS:]:
        found.findings.append(problem(f"{named([episode.number for episode in more])} cannot be trusted either", "leaves them out"))


def _check_order(found: DatasetCheck, description: Description, rows: EpisodeRows) -> None:
    """Of all that is there: numbers, positions and counts."""
    info, kept = description.info, found.kept
    everything = sorted([*kept, *found.left_out], key=lambda episode: (episode.path, episode.first_row))
    numbers = [episode.number for episode in everything]
    if numbers != list(range(len(numbers))):
        missing = sorted(set(range(max(numbers, default=-1) + 1)) - set(numbers))
        text = f"the data do not hold {named(missing)}" if missing else f"the data hold {named(numbers)} in another order, or twice"
        found.findings.append(problem(text, "numbers the episodes that are left from 0"))
    position = 0
    for episode in everything:
        if episode.first_index != position:
            text = f"the frames of episode {episode.number} count from {episode.first_index}, expected {position}"
            found.findings.append(problem(text, "counts them anew"))
            break
        position += episode.length
    counts = (len(everything), sum(episode.length for episode in everything))
    if not description.lost and (info.total_episodes, info.total_frames) != counts:
        text = f"meta/info.json counts {info.total_episodes} episodes and {info.total_frames} frames, the data hold {counts[0]} and {counts[1]}"
        found.findings.append(problem(text, "counts them anew"))
    if not description.lost and info.total_tasks != len(found.tasks):
        text = f"meta/info.json counts {info.total_tasks} tasks, there are {len(found.tasks)}"
        found.findings.append(problem(text, "counts them anew"))
    _check_rows(found, everything, rows)


def _check_rows(found: DatasetCheck, everything: list[DatasetEpisode], rows: EpisodeRows) -> None:
    if without := [episode.number for episode in everything if episode.number not in rows.rows]:
        found.findings.append(problem(f"meta/episodes has no line for {named(without)}", "makes it from the data"))
    if extra := sorted(set(rows.order) - {episode.number for episode in everything}):
        found.findings.append(problem(f"meta/episodes has a line for {named(extra)}, of which there are no data", "drops it"))
    if rows.order != sorted(set(rows.order)):
        found.findings.append(problem("the lines of meta/episodes are not in order, or some are there twice", "writes them anew"))
    wrong, position = [], 0
    for episode in everything:
        ends = (position, position + episode.length)
        if episode.row and (episode.row.get("dataset_from_index"), episode.row.get("dataset_to_index")) != ends:
            wrong.append(episode.number)
        position = ends[1]
    if wrong:
        found.findings.append(problem(f"meta/episodes gives other first and last frames to {named(wrong)}", "counts them anew"))


def _check_stats(found: DatasetCheck, description: Description) -> None:
    try:
        stats = read_json(found.root / "meta" / "stats.json")
        wanted = [key for key in numeric_features(description.info.features) if key not in DEFAULT_FEATURES]
        missing = [key for key in wanted if not isinstance(stats, dict) or not isinstance(stats.get(key), dict)]
        if missing:
            raise UnreadableError(f"has no statistics of {', '.join(missing)}")
    except UnreadableError as error:
        found.findings.append(problem(f"meta/stats.json {error}", "makes it anew"))


def _check_manifest(found: DatasetCheck) -> None:
    try:
        known = known_uuids(found.root)
    except (ValueError, OSError) as error:
        text = f"{error}. A learner that does not know an episode adds it again if it is sent again"
        found.findings.append(problem(text, f"keeps the lines of {MANIFEST} that can be read"))
        return
    if len(known) > len(found.kept) + len(found.left_out):
        found.findings.append(problem(f"{MANIFEST} names {len(known)} episodes, more than there are", "keeps it as it is"))


def _say_what_survives(found: DatasetCheck) -> None:
    found.findings.append(
        problem("no episode is left whole: the numbers (actions, states, rewards) that were not closed into a file are lost")
    )
    videos = sorted((found.root / "videos").rglob("*.mp4"))
    said = [f"survives: {path.relative_to(found.root)} ({path.stat().st_size} bytes of video)" for path in videos[:MOST_FAULTS]]
    said += _left_pictures(found)
    found.findings += [note(text) for text in said or ["no videos or pictures are left either"]]


def _left_pictures(found: DatasetCheck) -> list[str]:
    """LeRobot's recorder deletes them when an episode is saved."""
    folders = sorted({path.parent for pattern in ("*.png", "*.tiff") for path in (found.root / "images").rglob(pattern)})
    return [f"survives: {path.relative_to(found.root)} ({sum(1 for _ in path.iterdir())} pictures)" for path in folders[:MOST_FAULTS]]


def _unused_videos(found: DatasetCheck) -> list[str]:
    paths = [path for videos in found.videos.values() for path in videos.unused(found.kept)]
    return [f"survives: {path.relative_to(found.root)}, a video of episodes whose numbers are lost" for path in paths[:MOST_FAULTS]]
