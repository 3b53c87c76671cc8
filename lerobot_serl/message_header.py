"""The JSON in front of a safetensors document (message or file), read with distrust: its claims are checked before a tensor is allocated."""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from .words import printable

HEADER_KEY = "serl"
LENGTH_BYTES = 8
MAX_HEADER_BYTES = 1024 * 1024
MAX_NESTING = 16
MAX_TENSORS = 4096
MAX_DIMENSIONS = 8
MAX_NAME_CHARS = 200
MAX_NUMBER_CHARS = 40
MAX_REASON_CHARS = 800
_LARGEST_INTEGER = 2**63
DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "BOOL": torch.bool,
}


class MessageError(ValueError):
    """A message is not what the protocol says. The words, of which the peer may have chosen some, fit a line."""

    def __init__(self, reason: str) -> None:
        super().__init__(printable(reason, MAX_REASON_CHARS))


@dataclass(frozen=True)
class TensorClaim:
    """What the header says of one tensor; that its bytes are there has been checked."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def read_header(data: bytes) -> tuple[dict[str, Any], dict[str, TensorClaim]]:
    """Our JSON header and the tensors' claims of a document, of which nothing else has been decoded.

    Raises:
        MessageError: the header is too large, nested too deep or no strict JSON; a shape, dtype and offsets do not agree; or the tensors
            do not fill the rest of the document exactly, one after the other.
    """
    metadata, claims = read_claims(io.BytesIO(data), len(data))
    if not isinstance(metadata, dict) or metadata.keys() != {HEADER_KEY} or not isinstance(metadata[HEADER_KEY], str):
        raise MessageError(f"the document's metadata are not one text named '{HEADER_KEY}'")
    return strict_json(metadata[HEADER_KEY].encode("utf-8", "strict")), claims


def read_claims(stream: BinaryIO, n_bytes: int) -> tuple[Any, dict[str, TensorClaim]]:
    """Metadata, whatever they are, and the tensors' claims of a safetensors document of ``n_bytes``, of which only the header is read.

    Raises:
        MessageError: as :func:`read_header`.
    """
    start = stream.read(LENGTH_BYTES)
    size = int.from_bytes(start, "little")
    if len(start) < LENGTH_BYTES or size > min(MAX_HEADER_BYTES, n_bytes - LENGTH_BYTES):
        raise MessageError(f"{n_bytes} bytes with a header of {size} bytes: not a safetensors document")
    document = strict_json(stream.read(size))
    metadata = document.pop("__metadata__", None)
    if len(document) > MAX_TENSORS:
        raise MessageError(f"{len(document)} tensors, expected at most {MAX_TENSORS}")
    spans, claims = [], {}
    for name, entry in document.items():
        if len(name) > MAX_NAME_CHARS:
            raise MessageError(f"a tensor's name has {len(name)} characters, expected at most {MAX_NAME_CHARS}")
        claims[name], span = _claim(name, entry)
        spans.append((*span, name))
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            raise MessageError(f"'{name}' begins at byte {first}, expected {end}: tensors overlap or leave gaps")
        end = last
    if end != n_bytes - LENGTH_BYTES - size:
        raise MessageError(f"the tensors take {end} bytes, but {n_bytes - LENGTH_BYTES - size} came")
    return metadata, claims


def strict_json(text: bytes) -> dict[str, Any]:
    """A JSON object without duplicate keys, infinite or huge numbers, broken Unicode, or deep nesting.

    Raises:
        MessageError: it is anything else.
    """
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_bounded_integer,
            parse_float=_finite_float,
        )
    except MessageError:
        raise
    except (ValueError, RecursionError) as error:
        raise MessageError(f"no usable JSON: {type(error).__name__}: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise MessageError(f"JSON {type(value).__name__}, expected an object")
    _check_values(value, MAX_NESTING)
    return value


def _claim(name: str, entry: Any) -> tuple[TensorClaim, tuple[int, int]]:
    """One entry of the document, in itself consistent."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise MessageError(f"'{name}' is not described by dtype, shape and data_offsets alone")
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise MessageError(f"'{name}' has the dtype {str(entry['dtype'])[:40]!r}, expected one of {', '.join(DTYPES)}")
    shape, offsets = _counts(entry["shape"]), _counts(entry["data_offsets"])
    if shape is None or len(shape) > MAX_DIMENSIONS:
        raise MessageError(f"'{name}' has no usable shape, expected at most {MAX_DIMENSIONS} counts")
    if offsets is None or len(offsets) != 2:
        raise MessageError(f"'{name}' has no usable data_offsets, expected two counts")
    n_bytes = math.prod(shape) * dtype.itemsize
    if offsets[1] - offsets[0] != n_bytes:
        raise MessageError(f"'{name}' takes {offsets[1] - offsets[0]} bytes, its shape and dtype need {n_bytes}")
    return TensorClaim(shape, dtype), (offsets[0], offsets[1])


def _counts(values: Any) -> tuple[int, ...] | None:
    if isinstance(values, list) and all(type(value) is int and value >= 0 for value in values):
        return tuple(values)
    return None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MessageError("a key stands twice in the same JSON object")
    return found


def _refuse_constant(name: str) -> float:
    raise MessageError(f"{name} is no JSON")


def _bounded_integer(digits: str) -> int:
    value = int(digits) if len(digits) <= MAX_NUMBER_CHARS else _LARGEST_INTEGER
    if not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
        raise MessageError(f"an integer of {len(digits)} digits, expected 64 bits")
    return value


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise MessageError(f"the number {digits[:MAX_NUMBER_CHARS]} is too large")
    return value


def _check_values(value: Mapping[str, Any] | list[Any], depth: int) -> None:
    """No nesting below ``depth``, no text that UTF-8 cannot write: half of a surrogate pair would break every file it comes into."""
    if depth == 0:
        raise MessageError(f"nested deeper than {MAX_NESTING}")
    for part in (*value.keys(), *value.values()) if isinstance(value, Mapping) else value:
        if isinstance(part, str):
            try:
                part.encode()
            except UnicodeEncodeError as error:
                raise MessageError("a text is no Unicode") from error
        elif isinstance(part, dict | list):
            _check_values(part, depth - 1)
