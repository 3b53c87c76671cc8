"""One configuration file for learner and actor, turned into the flags of their commands."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..presets import missing_preset

SECTIONS = ("train", "actor")
EVERY_ADDRESS = "0.0.0.0"
# The dataloader's batch is only the step clock of the learner.
# The actor starts together with the learner, which reads the demonstrations first.
START_PATIENCE_S = "600"
TRAIN_DEFAULTS = {"batch_size": 1, "num_workers": 0}


class RecipeError(ValueError):
    """The configuration file or an override is not usable."""


@dataclass(frozen=True)
class Recipe:
    """What to run.

    Attributes:
        output_dir: LeRobot's run directory; must not exist, unless the run is resumed.
        learner_flags: of ``lerobot-train``.
        actor_flags: of ``lerobot-serl-actor``.
        address: ``host:port`` of the learner.
    """

    output_dir: Path
    learner_flags: tuple[str, ...]
    actor_flags: tuple[str, ...]
    address: str


def load_recipe(path: Path, overrides: Sequence[str]) -> Recipe:
    """Read a YAML file with ``output_dir``, ``train`` (flags of ``lerobot-train``) and ``actor`` (flags of ``lerobot-serl-actor``).

    Args:
        overrides: ``--output_dir=DIR``, ``--train.KEY=VALUE``, ``--actor.KEY=VALUE``.

    Raises:
        RecipeError: naming what is wrong and what was expected.
    """
    if not path.is_file():
        raise RecipeError(missing_preset(str(path), "train") or f"--config_path={path}: no such file.")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(document, dict) or not set(document) <= {"output_dir", *SECTIONS}:
        keys = sorted(document) if isinstance(document, dict) else type(document).__name__
        raise RecipeError(
            f"{path}: found {keys}, expected output_dir, {' and '.join(SECTIONS)}. A preset of lerobot-train goes into train, as config_path."
        )
    for section in SECTIONS:
        if not isinstance(document.get(section) or {}, Mapping):
            raise RecipeError(f"{path}: the section '{section}' is {document[section]!r}, expected keys with values.")
    flags = {section: dict(_flatten(document.get(section) or {})) for section in SECTIONS}
    output_dir = document.get("output_dir")
    for override in overrides:
        name, separator, value = override.removeprefix("--").partition("=")
        section, _, key = name.partition(".")
        if name == "output_dir" and separator:
            output_dir = value
        elif override.startswith("--") and separator and section in SECTIONS and key:
            flags[section][key] = value
        else:
            raise RecipeError(f"{override!r}: expected --output_dir=DIR, --train.KEY=VALUE or --actor.KEY=VALUE.")
    if not output_dir:
        raise RecipeError(f"{path}: output_dir is missing. Add it, or give --output_dir=DIR.")
    return _compose(path, Path(output_dir), flags["train"], flags["actor"])


def _compose(path: Path, output_dir: Path, train: dict[str, str], actor: dict[str, str]) -> Recipe:
    if not train.get("policy.online.repo_id") and train.get("resume") != "true":
        raise RecipeError(f"{path}: train.policy.online.repo_id is missing: the name of the dataset for the robot's episodes.")
    if not actor:
        raise RecipeError(f"{path}: the section 'actor' is empty; expected at least env.type.")
    if output_dir.exists() and train.get("resume") != "true":
        raise RecipeError(
            f"output_dir={str(output_dir)!r} exists already. Choose another --output_dir, or go on with that run: "
            f"--train.resume=true --train.config_path={output_dir}/checkpoints/last/pretrained_model/train_config.json"
        )
    host = train.get("policy.online.host", "127.0.0.1")
    port = train.get("policy.online.port", "0")
    if port == "0":
        port = str(_free_port(host))
    train |= {"output_dir": str(output_dir), "policy.online.port": port, "policy.metrics_dir": str(output_dir)}
    train = {name: str(value) for name, value in TRAIN_DEFAULTS.items()} | train
    address = f"{'127.0.0.1' if host == EVERY_ADDRESS else host}:{port}"
    # Runs on one machine have an outbox each, so that nobody has to find names for their actors; lerobot-train makes output_dir itself.
    defaults = {"learner": address, "spool_dir": str(output_dir.with_name(f"{output_dir.name}_spool")), "patience_s": START_PATIENCE_S}
    defaults |= {name: train[f"policy.online.{name}"] for name in ("token_file", "certificate") if train.get(f"policy.online.{name}")}
    return Recipe(output_dir, _as_flags(train), _as_flags(defaults | actor), address)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _as_flags(values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"--{name}={value}" for name, value in values.items())


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
