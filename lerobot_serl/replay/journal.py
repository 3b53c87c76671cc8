"""Episodes on their way into the LeRobotDataset: one file each, complete and fsync'd before it is acknowledged."""

import os
import threading
from pathlib import Path

SUFFIX = ".episode"


class EpisodeJournal:
    """A directory of episode messages, in the order in which they came.

    LeRobot 0.6.1 loses every episode of a dataset whose writer is killed, and appending takes its time; an episode is durable as soon as its
    file is here.

    Args:
        directory: created when the first episode arrives.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()

    def write(self, uuid: str, data: bytes) -> None:
        """Keep a message; on return it survives SIGKILL and power loss."""
        with self._lock:
            self.directory.mkdir(parents=True, exist_ok=True)
            numbers = [int(path.name.partition("-")[0]) for path in self.pending()]
            path = self.directory / f"{max(numbers, default=0) + 1:08d}-{_safe(uuid)}{SUFFIX}"
            temporary = path.with_suffix(".part")
            with temporary.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            descriptor = os.open(self.directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def pending(self) -> list[Path]:
        """Files of the episodes that are not in the dataset yet, oldest first."""
        return sorted(self.directory.glob(f"*{SUFFIX}")) if self.directory.is_dir() else []

    def uuids(self) -> set[str]:
        """UUIDs of the pending episodes."""
        return {path.name.removesuffix(SUFFIX).partition("-")[2] for path in self.pending()}


def _safe(uuid: str) -> str:
    """Names of files come from the network: ASCII letters, digits and dashes only."""
    return "".join(character for character in uuid if character.isascii() and (character.isalnum() or character == "-"))[:64]
