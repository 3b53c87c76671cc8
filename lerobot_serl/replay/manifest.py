"""Which episodes an online dataset holds: one line each in ``meta/serl_episodes.jsonl``, part of every version of the dataset.

It makes sending and completing an episode twice harmless, whatever was killed in between, and keeps what the actor process reported.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .episode import Episode

MANIFEST = Path("meta") / "serl_episodes.jsonl"
UUID = "uuid"


def manifest_entries(dataset: Path) -> list[dict[str, Any]]:
    """What is noted of each episode in the dataset; empty where no learner wrote it.

    Raises:
        ValueError: the file is damaged; its line is named.
    """
    if not (dataset / MANIFEST).is_file():
        return []
    entries = []
    for number, line in enumerate((dataset / MANIFEST).read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            entries.append({**entry, UUID: str(entry[UUID])})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{dataset / MANIFEST}, line {number}: not an episode's entry: {error}") from error
    return entries


def manifest_uuids(dataset: Path) -> list[str]:
    """UUIDs of the episodes in the dataset; otherwise as :func:`manifest_entries`."""
    return [entry[UUID] for entry in manifest_entries(dataset)]


def known_uuids(dataset: Path | None) -> set[str]:
    """:func:`manifest_uuids` as a set; empty where there is no dataset.

    Raises:
        ValueError: the file is damaged; its line is named.
    """
    return set() if dataset is None else set(manifest_uuids(dataset))


def add_to_manifest(dataset: Path, episodes: Iterable[tuple[str, Episode]]) -> None:
    """Append entries; the caller makes them durable together with the episodes."""
    with (dataset / MANIFEST).open("a", encoding="utf-8") as lines:
        for uuid, episode in episodes:
            entry: Mapping[str, float | int | str] = {**episode.info, UUID: uuid}
            lines.write(json.dumps(entry) + "\n")
