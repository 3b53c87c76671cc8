"""The tensors of ACT in a checkpoint, by the names that LeRobot's ACT has for them, whatever wrapped it when it was saved."""

from torch import Tensor

from ..message_header import TensorClaim
from .files import WEIGHTS, CheckpointFiles
from .processor_files import POSTPROCESSOR, PREPROCESSOR

# torch.compile, DistributedDataParallel, FSDP and activation checkpointing put a module of this name around another.
_WRAPPERS = frozenset({"_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# LeRobot before July 2024 -> since then.
_RENAMED = {"model.encoder_robot_and_latent_pos_embed.weight": "model.encoder_1d_feature_pos_embed.weight"}
# Modules of LeRobot before 0.4 that hold normalisation statistics.
_STATISTICS = tuple(f"{module}.buffer_" for module in ("normalize_inputs", "normalize_targets", "unnormalize_outputs"))


class ActWeights:
    """What ``model.safetensors`` of a checkpoint holds; its header is read at once, its tensors when they are asked for.

    Args:
        files: of the checkpoint.

    Raises:
        CheckpointError, FileNotFoundError: no such file, or damaged; or two of its tensors are the same one of ACT.
    """

    def __init__(self, files: CheckpointFiles) -> None:
        self.files = files
        self._claims = files.claims(WEIGHTS)
        self._names: dict[str, str] = {}
        for name in self._claims:
            plain = plain_name(name)
            if plain in self._names:
                raise files.error(WEIGHTS, f"'{self._names[plain]}' and '{name}' are both ACT's '{plain}'")
            self._names[plain] = name

    @property
    def claims(self) -> dict[str, TensorClaim]:
        """The network's own tensors."""
        return {plain: self._claims[name] for plain, name in self._names.items() if not plain.startswith(_STATISTICS)}

    @property
    def statistics(self) -> dict[str, TensorClaim]:
        """The normalisation statistics that LeRobot before 0.4 kept here; names as ``normalize_inputs.buffer_observation_state.mean``."""
        return {plain: self._claims[name] for plain, name in self._names.items() if plain.startswith(_STATISTICS)}

    def tensors(self) -> dict[str, Tensor]:
        """The network's own tensors.

        Raises:
            CheckpointError: a number of the file is NaN or infinite.
        """
        tensors = self.files.tensors(WEIGHTS)
        return {plain: tensors[self._names[plain]] for plain in self.claims}

    def statistic(self, name: str) -> Tensor:
        """One of :attr:`statistics`, whatever numbers it holds."""
        return self.files.tensor(WEIGHTS, self._names[name])


def plain_name(name: str) -> str:
    """The name that a tensor has in LeRobot's ACT of today."""
    plain = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
    return _RENAMED.get(plain, plain)


def holds_old_statistics(files: CheckpointFiles) -> bool:
    """Whether the statistics of a checkpoint lie in its weights. Where it has processors, these are what LeRobot runs.

    Raises:
        CheckpointError: the weights are damaged.
    """
    if any(files.find(name) is not None for name in (PREPROCESSOR, POSTPROCESSOR)) or files.find(WEIGHTS) is None:
        return False
    return bool(ActWeights(files).statistics)
