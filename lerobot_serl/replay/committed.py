"""What was committed last, in ``<root>.versions/committed.json``: it outlives the versions, and tells when one of them is gone."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from .json_file import UnreadableError, read_json, write_json
from .manifest import manifest_uuids

NAME = "committed.json"


@dataclass(frozen=True)
class Committed:
    """Attributes:
    version: name of its directory.
    episodes: that it holds.
    ledger: lines of its manifest (the key in the file is of earlier releases).
    """

    version: str
    episodes: int
    ledger: int

    @property
    def number(self) -> int:
        """Versions count upwards."""
        return int(self.version)

    @classmethod
    def of(cls, version: Path) -> Self:
        """Count what a version holds.

        Raises:
            ValueError: its ``info.json`` or manifest is damaged; the file is named.
        """
        path = version / "meta" / "info.json"
        try:
            info = read_json(path)
        except UnreadableError as error:
            raise ValueError(f"{path} {error}") from error
        episodes = info.get("total_episodes") if isinstance(info, dict) else None
        if not isinstance(episodes, int):
            raise ValueError(f"{path} does not say how many episodes there are")
        return cls(version.name, episodes, len(manifest_uuids(version)))

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """As it was written last; None where it never was, as by earlier releases.

        Raises:
            UnreadableError: the file is damaged.
        """
        path = directory / NAME
        return cls(**_checked(read_json(path))) if path.exists() else None

    def write(self, directory: Path) -> None:
        """Durable on return.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        write_json(directory / NAME, asdict(self))


def _checked(raw: Any) -> dict[str, Any]:
    said = raw if isinstance(raw, dict) else {}
    version, counts = said.get("version"), [said.get("episodes"), said.get("ledger")]
    if not (isinstance(version, str) and version.isdecimal()) or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise UnreadableError(f"holds {str(raw)[:100]!r}, expected 'version', 'episodes' and 'ledger'")
    return {key: said[key] for key in ("version", "episodes", "ledger")}
