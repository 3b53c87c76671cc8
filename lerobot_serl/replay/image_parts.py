"""The parts of one episode in a file, from which they are read one at a time: no memory ever holds all images of a long episode."""

import hashlib
import os
import struct
import threading
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from .journal import DamagedFileError, make_directory, sync
from .part_message import Part, trusted_part

# Before each part: bytes of its message, its frames, and the SHA-256 of both numbers and the message.
_NUMBERS = struct.Struct("<QQ")
_DIGEST_BYTES = hashlib.sha256().digest_size


class ImageParts:
    """Parts of an episode, in order. The file may be deleted while they are read.

    Args:
        path: of the file.
        is_new: it is made anew, with the first part; otherwise it is there, and only read.

    Raises:
        DamagedFileError: it is missing, or shorter than it was.
    """

    def __init__(self, path: Path, is_new: bool = False) -> None:
        self.path = path
        self._places: list[tuple[int, int, int]] = []  # where a part's message begins, its bytes, its frames
        self._starts = [0]  # of each part, and of the next one, in frames
        self._end = 0
        self._unwritten: list[tuple[int, tuple[bytes, ...]]] = []
        self._newest: tuple[int, Part] | None = None
        self._lock = threading.Lock()  # one thread may save while another sends
        self._descriptor = -1
        if not is_new:
            try:
                self._descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError as error:
                raise DamagedFileError(f"the images {path.name} are missing") from error
            self._find()

    def __len__(self) -> int:
        return len(self._places) + len(self._unwritten)

    @property
    def frames(self) -> int:
        """Of all parts."""
        return self._starts[-1]

    @property
    def n_bytes(self) -> int:
        """Of the file, and of what is in memory alone."""
        return self._end + self.unwritten_bytes

    @property
    def unwritten_bytes(self) -> int:
        """Of parts that are in memory alone."""
        return sum(_size(pieces) for _, pieces in self._unwritten)

    def append(self, frames: int, *pieces: bytes) -> None:
        """Add a part, its message whole or in pieces; on return it survives SIGKILL and power loss.

        Raises:
            OSError: disk full or not writable. The part is in memory alone; :meth:`save` tries again.
        """
        self._unwritten.append((frames, pieces))
        self._starts.append(self.frames + frames)
        self.save()

    def save(self) -> None:
        """Write what is in memory alone.

        Raises:
            OSError: as :meth:`append`.
        """
        if self._unwritten and self._descriptor < 0:
            make_directory(self.path.parent)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            sync(self.path.parent)
        while self._unwritten:
            frames, pieces = self._unwritten[0]
            size = _size(pieces)
            numbers = _NUMBERS.pack(size, frames)
            start = self._end + len(numbers) + _DIGEST_BYTES
            try:
                _write(self._descriptor, self._end, numbers + _digest(numbers, *pieces), *pieces)
                os.fsync(self._descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._descriptor, self._end)
                raise
            with self._lock:
                self._places.append((start, size, frames))
                self._end = start + size
                del self._unwritten[0]

    def read(self, index: int) -> bytes:
        """Message of a part.

        Raises:
            DamagedFileError: some of its bits have changed.
        """
        with self._lock:
            if index >= len(self._places):
                return b"".join(self._unwritten[index - len(self._places)][1])
        start, size, frames = self._places[index]
        data = _read(self._descriptor, size, start)
        digest = _read(self._descriptor, _DIGEST_BYTES, start - _DIGEST_BYTES)
        if _digest(_NUMBERS.pack(size, frames), data) != digest:
            raise DamagedFileError(f"part {index} of {self.path.name} does not have the checksum that it was written with")
        return data

    def check(self) -> None:
        """Raise DamagedFileError if bits of any part have changed."""
        for index in range(len(self)):
            self.read(index)

    def image(self, key: str, frame: int) -> bytes:
        """One camera's encoded image; quick where frames are asked for in order.

        Raises:
            DamagedFileError: as :meth:`read`.
        """
        index = bisect_right(self._starts, frame) - 1
        if self._newest is None or self._newest[0] != index:
            self._newest = (index, trusted_part(self.read(index)))
        return self._newest[1].images[key][frame - self._starts[index]]

    def close(self) -> None:
        """Give the file up; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _find(self) -> None:
        """Where each part lies."""
        size = os.fstat(self._descriptor).st_size
        while self._end < size:
            head = _read(self._descriptor, _NUMBERS.size, self._end)
            n_bytes, frames = _NUMBERS.unpack(head)
            start = self._end + _NUMBERS.size + _DIGEST_BYTES
            if start + n_bytes > size:
                raise DamagedFileError(f"{self.path.name} ends in the middle of a part, or is no file of images")
            self._places.append((start, n_bytes, frames))
            self._starts.append(self.frames + frames)
            self._end = start + n_bytes


def _size(pieces: Sequence[bytes]) -> int:
    return sum(map(len, pieces))


def _digest(*pieces: bytes) -> bytes:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _write(descriptor: int, place: int, *pieces: bytes) -> None:
    for piece in pieces:
        left = memoryview(piece)
        while left:
            written = os.pwrite(descriptor, left, place)
            left, place = left[written:], place + written


def _read(descriptor: int, size: int, place: int) -> bytes:
    data = os.pread(descriptor, size, place)
    if len(data) < size:
        raise DamagedFileError(f"{size} bytes of images were expected, {len(data)} are there")
    return data
