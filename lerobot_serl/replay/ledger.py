"""Which episodes an online dataset holds: one line each in ``meta/serl_episodes.jsonl``, part of every version of the dataset.

It makes sending and completing an episode twice harmless, whatever was killed in between, and keeps what the actor process reported.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from .recording import Recording

LEDGER = Path("meta") / "serl_episodes.jsonl"
UUID = "uuid"


def known_uuids(dataset: Path | None) -> set[str]:
    """UUIDs of the episodes in the dataset; empty where there is none, or one that no learner wrote.

    Raises:
        ValueError: the file is damaged; its line is named.
    """
    if dataset is None or not (dataset / LEDGER).is_file():
        return set()
    uuids = set()
    with (dataset / LEDGER).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                uuids.add(str(json.loads(line)[UUID]))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{dataset / LEDGER}, line {number}: not an episode's entry: {error}") from error
    return uuids


def add_to_ledger(dataset: Path, episodes: Iterable[tuple[str, Recording]]) -> None:
    """Append entries; the caller makes them durable together with the episodes."""
    with (dataset / LEDGER).open("a", encoding="utf-8") as lines:
        for uuid, recording in episodes:
            entry: Mapping[str, float | int | str] = {**recording.info, UUID: uuid}
            lines.write(json.dumps(entry) + "\n")
