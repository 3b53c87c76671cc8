"""How large episodes may become, compared with what there is room for, before anything is collected."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..replay.jpeg import QUALITY, encode_jpeg
from ..replay.part_message import MAX_FRAMES
from .outbox import Outbox

# Of an image's pixels, what is left of them as JPEG: a sixth for a usual camera, a fifth for a noisy one.
EXPECTED_SHARE = 0.2
# Of the time between two frames, for encoding the worst images.
MOST_ENCODING_SHARE = 0.8
_TRIES = 3


@dataclass(frozen=True)
class EpisodeSize:
    """Of the longest episode.

    Attributes:
        shapes: camera key -> ``(C, H, W)``.
        fps: control rate.
        frames: of the longest episode; None: nobody knows.
        in_real_time: images come whether they can be encoded or not.
    """

    shapes: Mapping[str, Sequence[int]]
    fps: int
    frames: int | None
    in_real_time: bool

    @property
    def frame_bytes(self) -> int:
        """Of the images of one frame, encoded."""
        return round(EXPECTED_SHARE * sum(math.prod(shape) for shape in self.shapes.values()))

    def check(self, most_frames: int, outbox: Outbox) -> None:
        """Say what an episode takes, and tell the outbox.

        Raises:
            ValueError: the learner would refuse it, there is no room for it, or this machine cannot encode the images; with what to set.
        """
        most = min(most_frames, MAX_FRAMES)
        if self.frames is not None and self.frames > most:
            raise ValueError(
                f"An episode may have {self.frames} frames ({self._seconds(self.frames)}), and the learner takes at most {most}. Set "
                f"--episode_time_s={math.floor(most / self.fps)} or less; or at the learner a larger --policy.buffer_capacity, and "
                "--policy.online.use_videos=true, where pictures are the limit."
            )
        if not self.shapes:
            return
        self._check_speed()
        cameras = f"{len(self.shapes)} camera{'s' if len(self.shapes) > 1 else ''}"
        if self.frames is None:
            logging.info(f"Images of {cameras}: about {_in_words(60 * self.fps * self.frame_bytes)} a minute as JPEG (quality {QUALITY}).")
            return
        needed = self.frames * self.frame_bytes
        outbox.expect(needed)
        wanted = outbox.needed_bytes
        text = (
            f"An episode of at most {self._seconds(self.frames)} with {cameras} takes up to {_in_words(needed)} as JPEG (quality {QUALITY})"
        )
        if wanted > outbox.limit_bytes:
            seconds = math.floor(self.frames / self.fps * max(0.0, outbox.limit_bytes / wanted))
            raise ValueError(
                f"{text}; --spool_limit_gb={outbox.limit_bytes / 1e9:g} allows less. Set --spool_limit_gb={math.ceil(wanted / 1e9)} "
                f"(the disk has {outbox.free_bytes / 1e9:.0f} GB left), or --episode_time_s={seconds}."
            )
        if wanted > outbox.free_bytes:
            raise ValueError(
                f"{text}; the disk of {outbox.directory} has {outbox.free_bytes / 1e9:.1f} GB left. Free some, choose another --spool_dir, or a "
                "shorter --episode_time_s."
            )
        logging.info(f"{text}; --spool_limit_gb={outbox.limit_bytes / 1e9:g} holds {outbox.limit_bytes // max(1, wanted)} of them.")

    def _seconds(self, frames: int) -> str:
        seconds = frames / self.fps
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"

    def _check_speed(self) -> None:
        """Noise is the worst that a camera can show."""
        took_s = 0.0
        for shape in self.shapes.values():
            noise = torch.randint(0, 256, tuple(shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
            took_s += min(_seconds_to_encode(noise) for _ in range(_TRIES))
        if self.in_real_time and took_s * self.fps > MOST_ENCODING_SHARE:
            raise ValueError(
                f"To encode the images of one frame takes this machine up to {1000 * took_s:.0f} ms, and at {self.fps} Hz the next one comes after "
                f"{1000 / self.fps:.0f} ms. Record demonstrations with smaller images or at a lower rate, or use a faster machine."
            )


def _in_words(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"


def _seconds_to_encode(image: torch.Tensor) -> float:
    started_s = time.perf_counter()
    encode_jpeg(image)
    return time.perf_counter() - started_s
