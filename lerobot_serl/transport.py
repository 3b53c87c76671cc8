"""Messages between learner and actor processes: one safetensors document with a JSON header, in chunks over LeRobot's gRPC service.

Nothing is ever unpickled. A message is refused when it is larger than its limit, when it is not a safetensors document, or when its header
is not JSON; :data:`PROTOCOL` travels in the metadata of every call, so that two versions never talk past each other.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

PROTOCOL = 1
# Metadata of calls: protocol version; run and version of the weights that an actor process has; whether the learner may hold an
# acknowledgement back; the acknowledgement itself.
PROTOCOL_KEY, RUN_KEY, VERSION_KEY = "serl-protocol", "serl-run", "serl-version"
THROTTLE_KEY, RECEIPT_KEY = "serl-throttle", "serl-receipt"
HEADER_KEY = "serl"
MAX_MESSAGE_BYTES = 1 << 30
CHUNK_BYTES = 2 * 1024 * 1024
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 32 * 1024 * 1024


class MessageError(ValueError):
    """A message is not what the protocol says."""


def encode(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """One message: JSON-able ``header`` and named tensors."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(contiguous, metadata={HEADER_KEY: json.dumps(header, allow_nan=False)})


def decode(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The inverse of :func:`encode`.

    Raises:
        MessageError: not a message of this protocol.
    """
    try:
        size = int.from_bytes(data[:_LENGTH_BYTES], "little")
        if len(data) < _LENGTH_BYTES or size > min(_MAX_HEADER_BYTES, len(data) - _LENGTH_BYTES):
            raise MessageError(f"message of {len(data)} bytes with a header of {size} bytes: not a safetensors document")
        document = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + size])
        header = json.loads(document["__metadata__"][HEADER_KEY])
        if not isinstance(header, dict):
            raise MessageError(f"header is {type(header).__name__}, expected an object")
        return header, safetensors.torch.load(data)
    except MessageError:
        raise
    except (KeyError, TypeError, ValueError, SafetensorError, RecursionError) as error:
        raise MessageError(f"not a message of this protocol: {type(error).__name__}: {error}") from error


def split(data: bytes, message_type: Any) -> Iterator[Any]:
    """Cut a message into gRPC messages of LeRobot's service (``transfer_state`` and ``data``)."""
    from lerobot.transport.utils import TransferState

    count = max(1, -(-len(data) // CHUNK_BYTES))
    for index in range(count):
        last, first = index == count - 1, index == 0
        state = TransferState.TRANSFER_END if last else TransferState.TRANSFER_BEGIN if first else TransferState.TRANSFER_MIDDLE
        yield message_type(transfer_state=state, data=data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])


def join(parts: Iterable[Any], limit_bytes: int = MAX_MESSAGE_BYTES) -> Iterator[bytes]:
    """Messages out of gRPC messages.

    Raises:
        MessageError: a message exceeds ``limit_bytes``, or the stream ends in the middle of one.
    """
    from lerobot.transport.utils import TransferState

    pieces: list[bytes] = []
    size = 0
    for part in parts:
        if part.transfer_state == TransferState.TRANSFER_BEGIN:
            pieces, size = [], 0
        size += len(part.data)
        if size > limit_bytes:
            raise MessageError(f"message larger than {limit_bytes} bytes")
        pieces.append(part.data)
        if part.transfer_state == TransferState.TRANSFER_END:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        raise MessageError("stream ended in the middle of a message")
