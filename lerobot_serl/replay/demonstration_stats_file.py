"""What the demonstrations say about the robot, beside the policy that learnt from them: limits, start and rate go where the policy goes."""

from dataclasses import dataclass
from pathlib import Path

from ..transport import MessageError
from .demonstration_stats import DemonstrationStats, stats_from_json
from .json_file import write_json

FILE = "demonstrations.json"
FASTEST_FPS = 1000


@dataclass(frozen=True)
class RatedStats:
    """Statistics of demonstrations, and their rate.

    Attributes:
        fps: control rate.
        stats: see there.
    """

    fps: int
    stats: DemonstrationStats

    def write(self, directory: Path) -> None:
        """Into a checkpoint's directory.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        write_json(directory / FILE, {"fps": self.fps, "demonstrations": self.stats.to_json()})

    @classmethod
    def of(cls, document: object) -> "RatedStats":
        """The inverse, of a file that is not trusted.

        Raises:
            MessageError: it is something else; what is wrong, without the file's name.
        """
        if not isinstance(document, dict) or set(document) != {"fps", "demonstrations"}:
            raise MessageError("expected 'fps' and 'demonstrations'")
        fps = document["fps"]
        if type(fps) is not int or not 1 <= fps <= FASTEST_FPS:
            raise MessageError(f"'fps' is {str(fps)[:80]!r}, expected a whole number from 1 to {FASTEST_FPS}")
        try:
            return cls(fps, stats_from_json(document["demonstrations"]))
        except (ValueError, TypeError) as error:
            raise MessageError(str(error)) from error
