"""Parts of episodes whose end has not come yet, each in the journal before it is acknowledged."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping

from lerobot.configs import PolicyFeature

from ..replay.image_parts import ImageParts
from ..replay.journal import EpisodeJournal
from ..replay.part_message import KIND, Part, decode_part
from ..transport import MessageError, read_header
from .server import Busy, EpisodeReceipt

# Episodes that come in at the same time. One more, and that of which nothing has come for longest has to be sent again.
MAX_UNFINISHED = 24


def check_length(frames: int, most: int) -> None:
    """Raise MessageError where an episode, or what is here of it, is too long."""
    if frames > most:
        raise MessageError(
            f"episode of {frames} steps, expected at most {most}: that is --policy.buffer_capacity, or with --policy.online.use_videos=false what "
            "LeRobot can store as pictures. Raise the one, set the other, or end episodes sooner (--episode_time_s)"
        )


class ArrivingParts:
    """What of which episode is here. Of an earlier process nothing is kept: the actor processes send it again.

    Args:
        journal: of which this is the only user.
        most_frames: of an episode.
    """

    def __init__(self, journal: EpisodeJournal, most_frames: int) -> None:
        self._journal, self._most_frames = journal, most_frames
        self._episodes: OrderedDict[str, ImageParts] = OrderedDict()
        self._lock = threading.Lock()
        journal.remove_unfinished()

    def take(self, data: bytes, inputs: Mapping[str, PolicyFeature]) -> EpisodeReceipt | None:
        """The receipt for a part; None if the message is none.

        Raises:
            MessageError, OSError: as :meth:`add`, or the part is no good.
        """
        if read_header(data)[0].get("kind") != KIND:
            return None
        part = decode_part(data, inputs)
        return EpisodeReceipt(part.uuid, frames=0, is_new=False, parts=self.add(part, data))

    def add(self, part: Part, data: bytes) -> int:
        """Keep the next part of an episode; returns how many are here. One that is here is not kept twice, one that is early is not kept.

        Raises:
            MessageError: the episode is too long.
            OSError: disk full or not writable; the part is not kept.
        """
        with self._lock:
            parts = self._episodes.get(part.uuid)
            if part.index != (0 if parts is None else len(parts)):
                return 0 if parts is None else len(parts)
            check_length(part.frames + (0 if parts is None else parts.frames), self._most_frames)
            if parts is None:
                parts = self._begin(part.uuid)
            try:
                parts.append(part.frames, data)
            except OSError:
                self._drop(part.uuid)
                raise
            self._episodes.move_to_end(part.uuid)
            return len(parts)

    def find(self, uuid: str, n_parts: int) -> ImageParts:
        """Those of an episode that come before its own message.

        Raises:
            Busy: they are not here; the actor process sends them again.
        """
        parts = self._episodes.get(uuid)
        if parts is None or len(parts) < n_parts:
            raise Busy(f"{n_parts} parts of episode {uuid} come before its end, and {0 if parts is None else len(parts)} are here")
        return parts

    def finished(self, uuid: str) -> None:
        """The episode is in the journal, and its parts stay there."""
        with self._lock:
            self._episodes.pop(uuid, None)

    def refused(self, uuid: str) -> None:
        """The episode is no good: its parts go."""
        with self._lock:
            self._drop(uuid)

    def _begin(self, uuid: str) -> ImageParts:
        if len(self._episodes) >= MAX_UNFINISHED:
            oldest = next(iter(self._episodes))
            logging.warning(f"More than {MAX_UNFINISHED} episodes come in at once: the parts of {oldest} have to be sent again.")
            self._drop(oldest)
        self._episodes[uuid] = parts = ImageParts(self._journal.images(uuid), is_new=True)
        return parts

    def _drop(self, uuid: str) -> None:
        if self._episodes.pop(uuid, None) is not None:
            self._journal.images(uuid).unlink(missing_ok=True)
