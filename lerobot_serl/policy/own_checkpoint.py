"""Looking at a ``serl_sac`` checkpoint before LeRobot loads it: LeRobot asks the policy first, and runs the processors' files afterwards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..checkpoint.files import CONFIG, WEIGHTS, CheckpointError, CheckpointFiles
from ..checkpoint.processor_files import POSTPROCESSOR, PREPROCESSOR, require_harmless
from ..checkpoint.tensor_file import require_fit
from ..message_header import MessageError

_FLAG = "policy.path"
# Version 0.1 kept the run's counters among the weights; a new run does not need them.
COUNTERS_OF_0_1 = "progress."
_DOWNLOAD = ("revision", "cache_dir", "force_download", "token", "local_files_only")


def require_harmless_files(place: str | Path, arguments: Mapping[str, Any]) -> None:
    """Raise unless LeRobot may load configuration and processors of the checkpoint.

    Args:
        place: directory or Hub id, as LeRobot takes it.
        arguments: of ``from_pretrained``; those that choose a download are used, and the policy's configuration.

    Raises:
        ValueError: a file is damaged, or names something that is not LeRobot's; file and remedy are named.
        FileNotFoundError: a processor's state file, or the whole checkpoint, is missing.
    """
    download = {name: arguments[name] for name in _DOWNLOAD if name in arguments}
    directory = Path(str(place)) if Path(str(place)).is_dir() else None
    # Of a Hub id lerobot-eval loads the processors from the default branch, whatever the revision of the policy.
    revisions = {download.get("revision"), None} if directory is None else {None}
    for revision in revisions:
        files = CheckpointFiles(str(place), directory, _FLAG, _remedy(place), {**download, "revision": revision})
        try:
            _require_own_type(files, getattr(arguments.get("config"), "gripper", None))
            require_harmless(files, (PREPROCESSOR, POSTPROCESSOR))
        except CheckpointError:
            raise
        except OSError as error:
            raise FileNotFoundError(
                f"{_FLAG}={str(place)!r}: no whole serl_sac checkpoint here or on the Hub ({type(error).__name__}: {error})"
            ) from error


def require_sound_weights(path: str | Path, expected: Mapping[str, Tensor]) -> None:
    """Raise unless the weights are those of this policy, tensor by tensor, and finite.

    Args:
        path: of the weights' file.
        expected: the policy's own tensors.

    Raises:
        ValueError: naming the file and the tensor.
        FileNotFoundError: there is no such file.
    """
    directory = Path(path).parent
    files = CheckpointFiles(str(directory), directory, _FLAG, _remedy(directory))
    claims = {name: claim for name, claim in files.check_tensors(WEIGHTS).items() if not name.startswith(COUNTERS_OF_0_1)}
    try:
        require_fit(claims, expected)
    except MessageError as error:
        raise files.error(WEIGHTS, str(error)) from error


def _remedy(place: str | Path) -> str:
    return f"Copy the checkpoint again, or take an earlier one; `lerobot-serl-doctor {place}` looks at all of its files."


def _require_own_type(files: CheckpointFiles, gripper: str | None) -> None:
    """``gripper``: what ``policy.gripper`` is now; None: as in the file."""
    if files.find(CONFIG) is None:
        return
    document = files.json(CONFIG)
    if (kind := document.get("type")) != "serl_sac":
        raise files.error(CONFIG, f"the checkpoint is of type {str(kind)[:100]!r}, expected 'serl_sac'")
    if gripper is not None and (saved := document.get("gripper", "edit")) != gripper:
        raise files.error(
            CONFIG, f"policy.gripper is {str(saved)[:100]!r}, not {gripper!r}, which has other networks",
            f"Leave out --policy.gripper={gripper}, or begin with it from ACT (--policy.act_path).",
        )  # fmt: skip
