"""An episode's camera images, encoded in a thread of their own while the episode goes on, and on disk part by part."""

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

from torch import Tensor

from ..replay.encoded_frames import EncodedFrames
from ..replay.image_parts import ImageParts
from ..replay.jpeg import encode_jpeg
from ..replay.part_message import PART_BYTES, Part, encode_part
from .sight import Sight
from .world import EpisodeSpoilt

# Raw images that wait to be encoded, and encoded ones that could not be written.
MOST_WAITING_BYTES, MOST_UNWRITTEN_BYTES = 512 * 1024 * 1024, 1024 * 1024 * 1024


class Film:
    """Takes the images of one episode, frame by frame.

    Args:
        uuid: of the episode.
        parts: empty; where its images go.
        shapes: camera key -> ``(C, H, W)``.
        may_wait: a simulation waits for the thread where it is slow. A robot must not: its episode is dropped.
    """

    def __init__(self, uuid: str, parts: ImageParts, shapes: Mapping[str, Sequence[int]], may_wait: bool) -> None:
        self.uuid, self.parts = uuid, parts
        self._shapes, self._may_wait = dict(shapes), may_wait
        self._waiting: deque[list[Tensor]] = deque()
        self._encoded: dict[str, list[bytes]] = {key: [] for key in shapes}
        self._encoded_bytes = self._frame_bytes = 0
        self._ended = self._dropped = False
        self._failure: Exception | None = None
        self._sight = Sight(shapes)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="film", daemon=True)
        self._thread.start()

    def add(self, images: Mapping[str, Tensor]) -> None:
        """The next frame. The images are not copied: nobody may change them.

        Raises:
            EpisodeSpoilt: images cannot be encoded, or not as fast as they come.
        """
        frame = [images[key] for key in self._shapes]
        with self._changed:
            self._frame_bytes = sum(image.numel() for image in frame)
            while self._may_wait and self._is_behind and self._failure is None:
                self._changed.wait()
            self._check()
            self._waiting.append(frame)
            self._changed.notify_all()

    def finish(self) -> dict[str, EncodedFrames]:
        """The images of all frames, when they are encoded, and on disk if it can be written.

        Raises:
            EpisodeSpoilt: they cannot be encoded.
        """
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        self._check_failure()
        for complaint in self._sight.complaints():
            logging.warning(f"Camera {complaint} The episode is learnt from all the same; look at --display_data=true.")
        return {key: EncodedFrames(self.parts, key, shape) for key, shape in self._shapes.items()}

    def drop(self) -> None:
        """The episode is not wanted: its file goes."""
        with self._changed:
            self._ended = self._dropped = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()
        self.parts.close()
        with suppress(OSError):  # the next start tries again
            self.parts.path.unlink()

    @property
    def _is_behind(self) -> bool:
        return len(self._waiting) * self._frame_bytes > MOST_WAITING_BYTES

    def _check_failure(self) -> None:
        if self._failure is not None:
            raise EpisodeSpoilt(f"The camera images cannot be encoded: {self._failure}") from self._failure

    def _check(self) -> None:
        self._check_failure()
        if self._is_behind:
            raise EpisodeSpoilt(
                f"Camera images come faster than this machine encodes them: {len(self._waiting)} frames wait. "
                "Use smaller images, or give the actor process more of the processor."
            )
        if self.parts.unwritten_bytes > MOST_UNWRITTEN_BYTES:
            raise EpisodeSpoilt(
                f"{self.parts.path.parent} cannot be written, and {self.parts.unwritten_bytes / 1e9:.1f} GB of images are in memory alone. "
                "Free some space, or choose another --spool_dir."
            )

    def _run(self) -> None:
        try:
            while (frame := self._next()) is not None:
                for key, image in zip(self._shapes, frame, strict=True):
                    self._sight.add(key, image)
                    encoded = encode_jpeg(image)
                    self._encoded[key].append(encoded)
                    self._encoded_bytes += len(encoded)
                if self._encoded_bytes > PART_BYTES:
                    self._close_part()
            if self._encoded_bytes and not self._dropped:
                self._close_part()
        except Exception as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _next(self) -> list[Tensor] | None:
        """A frame to encode; None after the last one."""
        with self._changed:
            while not self._waiting and not self._ended:
                self._changed.wait()
            self._changed.notify_all()  # there is room
            return self._waiting.popleft() if self._waiting else None

    def _close_part(self) -> None:
        part = Part(self.uuid, len(self.parts), self._encoded)
        try:
            self.parts.append(part.frames, *encode_part(part))
        except OSError as error:
            logging.debug(f"A part is in memory alone: {error}")  # whoever keeps the episode tries again, and says so
        self._encoded, self._encoded_bytes = {key: [] for key in self._shapes}, 0
