"""A safetensors file on disk: its header is checked before a tensor is read, and its numbers before they are used."""

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..message_header import MessageError, TensorClaim, read_claims

# Counts batches, in integers, and is not used; frozen batch normalisation has none.
UNUSED = ".num_batches_tracked"


def claims_of(path: Path) -> dict[str, TensorClaim]:
    """What the header says of each tensor.

    Raises:
        MessageError: it is no safetensors file, or cut off.
    """
    with path.open("rb") as stream:
        return read_claims(stream, path.stat().st_size)[1]


def load_finite(path: Path, features: Collection[str] | None = None) -> dict[str, Tensor]:
    """All tensors.

    Args:
        features: where given, only tensors named ``FEATURE.statistic`` are looked at.

    Raises:
        MessageError: see :func:`claims_of`; or a number is NaN or infinite, in float32.
    """
    claims_of(path)
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise MessageError(str(error)) from error
    for name, tensor in tensors.items():
        if features is None or name.rpartition(".")[0] in features:
            _require_finite(name, tensor)
    return tensors


def load_one(path: Path, name: str) -> Tensor:
    """One tensor, whatever numbers it holds.

    Raises:
        MessageError: see :func:`claims_of`; or there is no tensor of that name.
    """
    claims_of(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
    except SafetensorError as error:
        raise MessageError(str(error)) from error
    return tensor


def claims_of_finite(path: Path) -> dict[str, TensorClaim]:
    """As :func:`claims_of`, after a look at every number, one tensor at a time.

    Raises:
        MessageError: as :func:`load_finite`.
    """
    claims = claims_of(path)
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                _require_finite(name, file.get_tensor(name))
    except SafetensorError as error:
        raise MessageError(str(error)) from error
    return claims


def require_fit(claims: Mapping[str, TensorClaim], expected: Mapping[str, Tensor]) -> None:
    """The file has the tensors of a network, each in its shape; floating-point ones may be of another precision.

    Raises:
        MessageError: the first tensor that is missing, left over, of another shape, or of a kind of numbers that the network has not.
    """
    claims = {name: claim for name, claim in claims.items() if name in expected or not name.endswith(UNUSED)}
    for words, names in (("missing", expected.keys() - claims.keys()), ("unexpected", claims.keys() - expected.keys())):
        if names:
            raise MessageError(f"does not fit its own config.json: {words} tensors {sorted(names)[:5]} (saved by another version?)")
    for name, claim in claims.items():
        wanted = expected[name]
        if claim.shape != tuple(wanted.shape):
            raise MessageError(f"tensor '{name}' has the shape {claim.shape}, its config.json describes {tuple(wanted.shape)}")
        if not (claim.dtype.is_floating_point if wanted.is_floating_point() else claim.dtype == wanted.dtype):
            kind = "a floating-point type" if wanted.is_floating_point() else _short(wanted.dtype)
            raise MessageError(f"tensor '{name}' is {_short(claim.dtype)}, expected {kind}")


def _require_finite(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not (finite := tensor.to(torch.float32).isfinite()).all():
        raise MessageError(f"tensor '{name}' holds {int((~finite).sum())} numbers that are NaN or infinite")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
