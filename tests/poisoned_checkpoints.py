"""Checkpoints whose processor files would make LeRobot's own loader run something, and a witness of what was opened or started."""

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

STARTS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "os.startfile",
    "socket.connect",
)
_watching: list[list[tuple[str, str]]] = []


def poison(directory: Path, marker: Path, file: str = "policy_preprocessor.json", **entry: object) -> None:
    """Put a step in front that writes ``marker`` when LeRobot's loader imports and calls it, or the ``entry``."""
    path = directory / file
    document = json.loads(path.read_text())
    step = entry or {"class": "subprocess.run", "config": {"args": ["touch", str(marker)]}}
    path.write_text(json.dumps({**document, "steps": [step, *document["steps"]]}))


def edit_step(directory: Path, index: int, file: str = "policy_preprocessor.json", **changes: object) -> None:
    path = directory / file
    document = json.loads(path.read_text())
    document["steps"][index].update(changes)
    path.write_text(json.dumps(document))


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and (event in ("open", "import") or event in STARTS):
        _watching[-1].append((event, os.fsdecode(arguments[0]) if isinstance(arguments[0], bytes) else str(arguments[0])))


@contextmanager
def witnessed():
    """What Python opens, imports and starts while the ``with`` block runs: pairs of audit event and path or name."""
    if not hasattr(sys, "_serl_witness"):
        sys.addaudithook(_hook)  # it cannot be taken away again
        sys._serl_witness = True
    seen: list[tuple[str, str]] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)
