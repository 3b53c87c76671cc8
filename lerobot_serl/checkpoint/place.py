"""Where the model of a checkpoint lies, in whatever place of a training run a person points at."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .files import ADAPTER_WEIGHTS, CONFIG, WEIGHTS

MODEL, CHECKPOINTS, LAST, TRAINING_STATE = "pretrained_model", "checkpoints", "last", "training_state"
_MOST_NAMED = 3
_MOST_LOOKED_AT = 1000
_EXPECTED = "Expected a LeRobot ACT checkpoint, for example outputs/train/act/checkpoints/last/pretrained_model."
_FILES = (".json", ".safetensors")


@dataclass(frozen=True)
class Located:
    """A model's directory.

    Attributes:
        directory: holds ``config.json``, weights, or both.
        words: what was chosen, where the person who pointed there did not choose; empty if nothing was.
    """

    directory: Path
    words: str = ""


def locate(place: str | Path) -> Located | None:
    """The model at a directory of a model, a checkpoint, a run or its ``checkpoints``, or at one of the model's files; None: there is none.

    A run without ``checkpoints/last`` gives its newest checkpoint.
    """
    root = _expanded(place)
    if os.path.lexists(root) and not os.path.isdir(root):
        return Located(root.parent) if root.suffix in _FILES and _holds_model(root.parent) else None
    for candidate in (root, root / MODEL, root / LAST / MODEL, root / CHECKPOINTS / LAST / MODEL):
        if _holds_model(candidate):
            return Located(candidate)
    beside = root.parent / MODEL
    if root.name == TRAINING_STATE and _holds_model(beside):
        return Located(beside, f"{root} holds no model: {beside} beside it is taken")
    for checkpoints in (root / CHECKPOINTS, root):
        models = [directory / MODEL for directory in _numbered(checkpoints) if _holds_model(directory / MODEL)]
        if models:
            whole = [model for model in models if _holds_weights(model)]
            newest = (whole or models)[0]
            return Located(newest, f"{checkpoints} has no '{LAST}': its newest checkpoint is taken, {newest}")
    return None


def directory_of(place: str | Path) -> Path | None:
    """As :func:`locate`, the directory alone."""
    located = locate(place)
    return None if located is None else located.directory


def may_be_hub_id(place: str | Path) -> bool:
    """``owner/name``, and nothing of that name is here."""
    text = str(place)
    return text.count("/") == 1 and not text.startswith((".", "/", "~")) and not text.endswith(("/", *_FILES)) and not os.path.exists(text)


def way_on(place: str | Path) -> str:
    """What would work in the place of a path that holds no model, a sentence."""
    text, root = str(place), _expanded(place)
    if "://" in text:
        return f"That is an address: give the Hub id, such as '{'/'.join(text.rstrip('/').split('/')[3:5]) or 'you/act'}'."
    if not os.path.exists(root):
        above = next((directory for directory in root.parents if os.path.exists(directory)), Path())
        near = None if above in (Path(), Path("/")) else locate(above)
        return f"{root} does not exist. {_EXPECTED}" if near is None else f"{root} does not exist, but {near.directory} does."
    models = list(_models_below(root)) or list(_models_below(root / "snapshots"))  # of the Hub's cache
    if models:
        return f"Below it are {', '.join(str(model) for model in models)}: choose one."
    return _EXPECTED


def _expanded(place: str | Path) -> Path:
    try:
        return Path(place).expanduser()
    except RuntimeError:  # a user whom nobody knows
        return Path(place)


def _holds_model(directory: Path) -> bool:
    return any(os.path.lexists(directory / name) for name in (CONFIG, WEIGHTS))


def _holds_weights(model: Path) -> bool:
    return os.path.lexists(model / CONFIG) and any(os.path.lexists(model / name) for name in (WEIGHTS, ADAPTER_WEIGHTS))


def _numbered(checkpoints: Path) -> list[Path]:
    """Directories named by their training step, newest first."""
    found = [path for path in _children(checkpoints) if path.name.isdecimal() and path.name.isascii()]
    return sorted(found, key=lambda path: (len(path.name.lstrip("0")), path.name.lstrip("0")), reverse=True)


def _models_below(root: Path) -> Iterator[Path]:
    found = (located.directory for path in sorted(_children(root)) if (located := locate(path)) is not None)
    for _, directory in zip(range(_MOST_NAMED), found, strict=False):
        yield directory


def _children(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for _, entry in zip(range(_MOST_LOOKED_AT), entries, strict=False) if entry.is_dir()]
    except (OSError, ValueError):  # no directory, one that may not be read, or no name of any
        return []
