"""Video files of a dataset: how many frames each really has, and where in them an episode lies."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from ..lerobot_names import decode_video_frames, get_video_duration_in_s
from ..replay.json_file import UnreadableError
from .dataset_episode import DatasetEpisode, Span, place_of
from .progress_bar import bar

_TOLERANCE_FRAMES = 0.5
Place = tuple[int, int]


@dataclass(frozen=True)
class Video:
    """Attributes:
    frames: 0 if it cannot be decoded.
    problem: why not.
    """

    path: Path
    frames: int
    problem: str = ""


class Videos:
    """The video files of one camera.

    Args:
        directory: ``videos/<key>`` of the dataset.
        fps: of the dataset.
    """

    def __init__(self, key: str, directory: Path, fps: int, is_depth: bool) -> None:
        self.key, self._fps = key, fps
        self.videos: dict[Place, Video] = {}
        for path in bar(f"Probing {key}", "videos", sorted(directory.glob("chunk-*/file-*.mp4"))):
            try:
                self.videos[place_of(path)] = _probe(path, fps, is_depth)
            except UnreadableError:
                continue  # LeRobot does not look at it either
        self._reached: dict[Place, int] = {}
        self._present: Place | None = None
        self._guessed: dict[Place, list[DatasetEpisode]] = {}

    def locate(self, episodes: Iterable[DatasetEpisode], rows: Mapping[int, Mapping[str, Any]]) -> None:
        """Give every episode its span, or a fault: from its line in ``meta/episodes``, else by counting frames as LeRobot wrote them."""
        lost = [DatasetEpisode(n, Path(), 0, 0, 0, int(row.get("length") or 0), 0, [], row=row) for n, row in rows.items()]
        present = {episode.number: episode for episode in episodes if episode.row is not None}
        queue = [*episodes, *(episode for episode in lost if episode.number not in present)]
        previous, known = -1, True
        for episode in sorted(queue, key=lambda episode: episode.number):
            if episode.row is not None:
                known = self._take_from_row(episode)
            else:
                known = known and episode.number == previous + 1 and self._count(episode)
                if not known:
                    episode.faults.append(f"where it lies in the videos of {self.key} cannot be told")
            previous = episode.number
        self._check_guesses()

    def unused(self, episodes: Iterable[DatasetEpisode]) -> list[Path]:
        """Files that none of these episodes needs."""
        used = {(span.chunk, span.file) for episode in episodes if (span := episode.spans.get(self.key))}
        return [video.path for place, video in self.videos.items() if place not in used]

    def _take_from_row(self, episode: DatasetEpisode) -> bool:
        assert episode.row is not None
        span = _span(episode.row, self.key)
        if span is None:
            episode.faults.append(f"its line in meta/episodes does not say where its video of {self.key} is")
            return False
        place = (span.chunk, span.file)
        self._present = place
        end = span.from_s * self._fps + episode.length
        self._reached[place] = max(self._reached.get(place, 0), round(end))
        video = self.videos.get(place)
        if video is None or video.problem:
            episode.faults.append(f"its video of {self.key}, file {span.file}, {'is missing' if video is None else video.problem}")
        elif span.from_s < 0 or end > video.frames + _TOLERANCE_FRAMES:
            episode.faults.append(f"its video of {self.key} ends after {video.frames} frames, and it needs frame {round(end)}")
        else:
            episode.spans[self.key] = span
        return True

    def _count(self, episode: DatasetEpisode) -> bool:
        """LeRobot puts episodes one behind the other, and begins a file when the last one is full or was closed."""
        for place in sorted(self.videos):
            video, reached = self.videos[place], self._reached.get(place, 0)
            if self._present is not None and place < self._present:
                continue
            if video.problem:
                return False
            if reached + episode.length <= video.frames:
                episode.spans[self.key] = Span(*place, reached / self._fps, (reached + episode.length) / self._fps)
                self._reached[place], self._present = reached + episode.length, place
                self._guessed.setdefault(place, []).append(episode)
                return True
            if reached != video.frames:
                return False
        return False

    def _check_guesses(self) -> None:
        for place, episodes in self._guessed.items():
            if self._reached[place] != self.videos[place].frames:
                for episode in episodes:
                    episode.spans.pop(self.key, None)
                    episode.faults.append(
                        f"the video {self.videos[place].path.name} of {self.key} has {self.videos[place].frames} frames and its episodes "
                        f"{self._reached[place]}: which belong together cannot be told"
                    )


def _span(row: Mapping[str, Any], key: str) -> Span | None:
    chunk, file, start, end = (row.get(f"videos/{key}/{name}") for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp"))
    whole = isinstance(chunk, int) and isinstance(file, int)
    if not whole or not all(isinstance(value, int | float) and math.isfinite(value) for value in (start, end)):
        return None
    return Span(int(chunk), int(file), float(start), float(end))  # type: ignore[arg-type]


def _probe(path: Path, fps: int, is_depth: bool) -> Video:
    """Reads the header and decodes the last frame; frames in between are not looked at."""
    try:
        with av.open(str(path)) as container:
            frames = container.streams.video[0].frames
        frames = frames or round(get_video_duration_in_s(path) * fps)
        if frames > 0:
            decode_video_frames(path, [(frames - 1) / fps], 0.5 / fps, backend="pyav", return_uint8=True, is_depth=is_depth)
    except Exception as error:  # the decoders raise whatever they like at damaged files
        return Video(path, 0, f"cannot be decoded ({(str(error).splitlines() or [type(error).__name__])[0][:80]})")
    return Video(path, frames, "" if frames > 0 else "has no frames")
