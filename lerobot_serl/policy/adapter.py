"""A PEFT adapter on ACT, merged into the weights that it was trained on. Tensors only: the package peft is not needed, and not used."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..checkpoint.act_weights import ActWeights, plain_name
from ..checkpoint.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, WEIGHTS, CheckpointFiles, MissingFileError
from ..checkpoint.place import directory_of, may_be_hub_id
from ..message_header import TensorClaim

_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
# PyTorch's attention takes the weight of this module and never calls it, so what LoRA adds there has no effect, in training neither.
_NEVER_CALLED = "attn.out_proj"
_OFF: tuple[object, ...] = (None, False, 0, "", [], {})
# Settings of LoRA under which the merged weight is another than W + B A * scale, or the weights underneath are not the base's.
_CHANGE_THE_SUM = (
    "use_dora", "use_qalora", "fan_in_fan_out", "lora_bias", "rank_pattern", "alpha_pattern", "layer_replication", "target_parameters",
    "trainable_token_indices", "alora_invocation_tokens", "arrow_config", "use_bdlora", "megatron_config", "loftq_config",
)  # fmt: skip
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal")
_MERGE = (
    "Merge it where it was trained: model.merge_and_unload().save_pretrained(DIR) of the package peft, and the processors' files beside it."
)


def is_adapter(files: CheckpointFiles, use_peft: bool) -> bool:
    """Whether the checkpoint is an adapter, to be applied to the weights of another one."""
    if files.find(ADAPTER_CONFIG) is not None:
        return use_peft or files.find(WEIGHTS) is None
    if use_peft:
        logging.warning(
            f"{files.place}: config.json says use_peft, and there is no {ADAPTER_CONFIG}: {WEIGHTS} is taken as merged already."
        )
    return False


class AdaptedWeights:
    """The weights of ACT with a LoRA adapter merged into them.

    Args:
        files: of the adapter.

    Raises:
        CheckpointError, FileNotFoundError: it is another kind of adapter than plain LoRA; a file is damaged; or the base checkpoint, which the
            adapter names, is not to be had.
    """

    def __init__(self, files: CheckpointFiles) -> None:
        self.files = files
        settings = files.json(ADAPTER_CONFIG)
        self._rank, self._scale = _rank_and_scale(files, settings)
        self._base = _base(files, settings)
        self.claims: dict[str, TensorClaim] = self._base.claims
        self._names = {_base_name(name): name for name in files.claims(ADAPTER_WEIGHTS)}
        self._require_fit(files.claims(ADAPTER_WEIGHTS))

    def tensors(self) -> dict[str, Tensor]:
        """``W + B A * scale`` where the adapter has A and B, its own tensor where it has one, the base's elsewhere.

        Raises:
            CheckpointError: a number is NaN or infinite.
        """
        tensors, own = self._base.tensors(), self.files.tensors(ADAPTER_WEIGHTS)
        for plain, name in self._names.items():
            if plain.endswith((_UP, f"{_NEVER_CALLED}{_DOWN}")):
                continue
            if not plain.endswith(_DOWN):
                tensors[plain] = own[name]
                continue
            target = plain.removesuffix(_DOWN)
            down, up = own[name].float().flatten(1), own[self._names[f"{target}{_UP}"]].float().flatten(1)
            weight = tensors[f"{target}.weight"].float()
            tensors[f"{target}.weight"] = weight + (up @ down).reshape(weight.shape) * self._scale
        return tensors

    def _require_fit(self, claims: Mapping[str, TensorClaim]) -> None:
        """Each tensor belongs to one of the base's, in a shape that can be merged."""
        for plain, name in self._names.items():
            shape = claims[name].shape
            target = f"{plain.removesuffix(_DOWN).removesuffix(_UP)}.weight" if plain.endswith((_DOWN, _UP)) else plain
            of_base = self.claims[target].shape if target in self.claims else None
            if of_base is None:
                fits = False
            elif plain.endswith(_DOWN):
                fits = shape == (self._rank, *of_base[1:]) and plain.replace(_DOWN, _UP) in self._names
            elif plain.endswith(_UP):
                fits = math.prod(shape) == of_base[0] * self._rank and shape[:2] == (of_base[0], self._rank)
                fits = fits and plain.replace(_UP, _DOWN) in self._names
            else:
                fits = shape == of_base
            if not fits or not claims[name].dtype.is_floating_point:
                words = f"the base has {'no such tensor' if of_base is None else of_base}"
                raise self.files.error(ADAPTER_WEIGHTS, f"'{name}' of shape {shape} cannot be merged into '{target}': {words}", _MERGE)


def _base_name(name: str) -> str:
    plain = plain_name(name.removeprefix(_PREFIX))
    return ".".join(part for part in plain.split(".") if part != "base_layer")


def _rank_and_scale(files: CheckpointFiles, settings: Mapping[str, Any]) -> tuple[int, float]:
    kind, rank, alpha = settings.get("peft_type"), settings.get("r", 8), settings.get("lora_alpha", 8)  # 8 are PEFT's defaults
    changing = [f"{name}={str(settings[name])[:60]!r}" for name in _CHANGE_THE_SUM if settings.get(name) not in _OFF]
    if settings.get("init_lora_weights", True) not in _PLAIN_STARTS:
        changing.append(f"init_lora_weights={str(settings['init_lora_weights'])[:60]!r}")
    if settings.get("bias", "none") != "none":
        changing.append(f"bias={str(settings['bias'])[:60]!r}")
    if kind != "LORA" or changing:
        what = f"an adapter of type {str(kind)[:60]!r}" if kind != "LORA" else f"LoRA with {', '.join(changing)}"
        raise files.error(ADAPTER_CONFIG, f"{what}, expected plain LoRA, which is merged here", _MERGE)
    if type(rank) is not int or rank < 1 or type(alpha) not in (int, float):
        raise files.error(ADAPTER_CONFIG, f"r={str(rank)[:60]!r} and lora_alpha={str(alpha)[:60]!r}, expected numbers")
    return rank, alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _base(files: CheckpointFiles, settings: Mapping[str, Any]) -> ActWeights:
    """The weights that the adapter was trained on: of a local directory, or of a Hub repository, which is then downloaded."""
    name, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(name, str) or not isinstance(revision, str | None) or not name:
        raise files.error(ADAPTER_CONFIG, f"names no base checkpoint (base_model_name_or_path={str(name)[:60]!r})", _MERGE)
    directory = directory_of(name)
    words = f"its base checkpoint {name[:200]!r}, which {ADAPTER_CONFIG} names, "
    if directory is None and not may_be_hub_id(name):
        raise files.error(ADAPTER_CONFIG, f"{words}is not here", f"Put it there, or write into {ADAPTER_CONFIG} where it is. {_MERGE}")
    logging.info(f"{files.place}: {words}is read {'from the Hub' if directory is None else 'here'}, and the adapter merged into it.")
    base = CheckpointFiles(name, directory, f"{files.flag}={files.place!r}: base_model_name_or_path", files.remedy, {"revision": revision})
    try:
        return ActWeights(base)
    except OSError as error:
        missing = isinstance(error, MissingFileError)
        flaw = f"no {WEIGHTS} there" if missing else f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        raise files.error(ADAPTER_CONFIG, f"{words}is neither here nor to be had from the Hub ({flaw})", _MERGE) from error
