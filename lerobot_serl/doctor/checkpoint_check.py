"""What the files of a LeRobot checkpoint hold, of a policy or a reward model, and what LeRobot's own loader would run of them.

Nothing of it is run here: processor files are read as data, weights as numbers.
"""

import importlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lerobot.policies  # makes LeRobot's types of policies known
import lerobot.rewards  # noqa: F401 - and those of reward models
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError
from lerobot.configs import PreTrainedConfig
from lerobot.processor import ProcessorStep

from ..checkpoint.act_weights import holds_old_statistics
from ..checkpoint.files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles
from ..checkpoint.oldest_config import is_oldest
from ..checkpoint.processor_files import LOADS_MODELS, POSTPROCESSOR, PREPROCESSOR, SavedStep, origin_of, read_steps
from ..lerobot_names import RewardModelConfig, register_third_party_plugins
from ..message_header import TensorClaim
from .finding import MOST_NAMED, CannotCheckError, Finding, note, ok, problem

PATTERNS = ["*.json", "*.safetensors"]
TRAIN_CONFIG = "train_config.json"
_NAMES_A_MODEL = re.compile(r"(model_name|model_id|model_path|model_name_or_path|vlm_name|tokenizer_name|processor_name)$")
_EXPECTED = re.compile(r".*\.(json|safetensors|md|txt)|LICENSE.*|\.gitattributes|\.gitignore|\.cache")
_HOSTILE = re.compile(r".*\.(py|pyc|so|sh|pkl|pickle|bin|pt|pth|ckpt|npy|npz|joblib|msgpack|onnx|h5)", re.IGNORECASE)


def fetch(repository: str, revision: str | None) -> tuple[Path, list[Finding]]:
    """Download JSON and safetensors files of a repository's top directory; where they lie now, and what else the repository holds.

    Raises:
        CannotCheckError: no such repository or revision, or the Hub cannot be reached.
    """
    try:
        directory = Path(snapshot_download(repository, revision=revision, allow_patterns=PATTERNS, ignore_patterns=["*/*"]))
        names = HfApi().list_repo_files(repository, revision=directory.name)
    except (OSError, HFValidationError) as error:
        words = next(iter(str(error).splitlines()), "")
        raise CannotCheckError(
            f"{repository} does not exist here, nor could it be had from the Hub: {type(error).__name__}: {words}"
        ) from error
    where = f"{repository} at commit {directory.name} lies in {directory}: use that directory, so that what is used is what was checked"
    return directory, [note(where), *_further_files([name for name in names if "/" not in name])]


def examine_checkpoint(directory: Path) -> tuple[str | None, list[Finding]]:
    """The type that ``config.json`` names, and what there is to say of the files of a checkpoint.

    Args:
        directory: that holds ``config.json``.
    """
    register_third_party_plugins()
    files = CheckpointFiles(str(directory), directory, "checkpoint", "Copy the checkpoint again, from somebody you trust.")
    kind, findings = _configuration(files)
    findings += _old_statistics() if kind == "act" and _has_old_statistics(files) else _processors(files, kind)
    findings += _weights(files)
    findings += _further_files([path.name + ("/" if path.is_dir() else "") for path in sorted(directory.iterdir())])
    return kind, findings


def _configuration(files: CheckpointFiles) -> tuple[str | None, list[Finding]]:
    try:
        document = files.json(CONFIG)
    except CheckpointError as error:
        return None, [problem(str(error))]
    kind = "act" if is_oldest(document) else document.get("type")
    policies, rewards = PreTrainedConfig.get_known_choices(), RewardModelConfig.get_known_choices()
    if not isinstance(kind, str) or kind not in {**policies, **rewards}:
        return None, [problem(f"{CONFIG} names the type {str(kind)[:100]!r}, which neither LeRobot nor an installed plugin has")]
    findings = [ok(f"{CONFIG}: a {'policy' if kind in policies else 'reward model'} of type '{kind}'")]
    if document.get("use_peft"):
        findings.append(note(f"{CONFIG} says use_peft: LeRobot loads, besides, whatever checkpoint adapter_config.json names"))
    for name, value in document.items():
        if _NAMES_A_MODEL.search(name) and value:
            findings.append(note(f"{CONFIG} names another model, which is not looked at here: {name}={str(value)[:200]!r}. {_CODE}"))
    try:
        files.json(TRAIN_CONFIG)
    except CheckpointError as error:
        if files.find(TRAIN_CONFIG) is not None:
            findings.append(note(str(error)))
    return kind, findings


_CODE = "LeRobot loads it too, in some types with the Python code that lies beside it"


def _has_old_statistics(files: CheckpointFiles) -> bool:
    try:
        return holds_old_statistics(files)
    except CheckpointError:  # the weights are looked at below
        return False


def _old_statistics() -> list[Finding]:
    words = f"{WEIGHTS} holds the normalisation statistics, as LeRobot before 0.4 wrote them"
    return [ok(f"{words}; --policy.act_path takes them from there, LeRobot's own loader of today does not")]


def _processors(files: CheckpointFiles, kind: str | None) -> Iterator[Finding]:
    assert files.directory is not None
    _register_steps(kind)
    unregistered = {f"{step.__module__}.{step.__name__}" for step in _subclasses(ProcessorStep) if step.__module__.startswith("lerobot.")}
    usual = [PREPROCESSOR, POSTPROCESSOR] if kind in PreTrainedConfig.get_known_choices() else []
    names = {*usual, *(path.name for path in files.directory.glob("*processor.json"))}
    for name in sorted(names, reverse=True):  # what comes before the policy first
        try:
            steps = read_steps(files, name, unregistered)
        except CheckpointError as error:
            yield problem(str(error))
            continue
        if steps is None:
            words = "LeRobot loads no policy without it, and before 0.4 there was none: migrate with its migrate_policy_normalization"
            yield problem(f"{name} is missing: {words}") if name == PREPROCESSOR else note(f"{name} is missing")
            continue
        stated = sum(bool(step.state) for step in steps)
        yield ok(f"{name}: LeRobot runs {', '.join(step.name for step in steps) or 'nothing'}; state files: {stated}")
        for step in steps:
            yield from _about(name, step)


def _about(name: str, step: SavedStep) -> Iterator[Finding]:
    origin = origin_of(step.name)
    if origin is not None and origin.partition(".")[0] != "lerobot":
        yield note(f"{name}: '{step.name}' is not LeRobot's: an installed plugin has registered it, {origin}")
    if step.name in LOADS_MODELS:
        texts = {key: value[:200] for key, value in step.config.items() if isinstance(value, str)}
        yield note(f"{name}: '{step.name}' loads a model by name, which is not looked at here: {texts}. {_CODE}")


def _register_steps(kind: str | None) -> None:
    """LeRobot's steps of this policy type; they are registered when its own module is imported."""
    for choices in (PreTrainedConfig.get_known_choices(), RewardModelConfig.get_known_choices()):
        if kind in choices:
            try:
                importlib.import_module(choices[kind].__module__.replace("configuration_", "processor_"))
            except ImportError as error:  # an optional dependency of LeRobot, or no such module
                logging.info(f"Steps of '{kind}' are not known: {error}")


def _subclasses(kind: type) -> Iterator[type]:
    """Those that are imported already. LeRobot writes the dotted name of a step of its own that it has not registered, such as Identity."""
    subclasses: list[type] = kind.__subclasses__()
    for subclass in subclasses:
        yield subclass
        yield from _subclasses(subclass)


def _weights(files: CheckpointFiles) -> Iterator[Finding]:
    assert files.directory is not None
    others = sorted(path.name for path in files.directory.glob("*.safetensors") if "_step_" not in path.name)
    for name in others or [WEIGHTS]:
        try:
            yield ok(f"{name}: {_summary(files.check_tensors(name))}, every number finite")
        except CheckpointError as error:
            yield problem(str(error))


def _summary(claims: dict[str, TensorClaim]) -> str:
    sizes: dict[Any, int] = {}
    for claim in claims.values():
        n_numbers = 1
        for size in claim.shape:
            n_numbers *= size
        sizes[claim.dtype] = sizes.get(claim.dtype, 0) + n_numbers
    words = ", ".join(f"{count} numbers in {str(dtype).removeprefix('torch.')}" for dtype, count in sizes.items())
    return f"{len(claims)} tensors, {words or 'no numbers'}"


def _further_files(names: list[str]) -> Iterator[Finding]:
    hostile = [name for name in names if _HOSTILE.fullmatch(name)]
    others = [name for name in names if name not in hostile and not _EXPECTED.fullmatch(name.rstrip("/"))]
    if hostile:
        yield note(f"{_listed(hostile)}: LeRobot loads no such file of a checkpoint; do not run or unpickle it")
    if others:
        yield note(f"{_listed(others)}: not part of a LeRobot checkpoint")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"
