"""Messages between learner and actor processes: one safetensors document with a JSON header, in chunks over LeRobot's gRPC service.

The SHA-256 of a message travels behind it: what was changed on the way is asked for again, and is not taken for a bad message. (HTTP/2 without
TLS notices a changed frame, not changed data in it.) Nothing is ever unpickled. A message is refused when it is larger than its limit, and when
its header (message_header.py) is not what it should be; only then are tensors allocated. :data:`PROTOCOL` travels in the metadata of every call,
so that two versions never talk past each other.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from .message_header import DTYPES, HEADER_KEY, LENGTH_BYTES, MessageError, TensorClaim, read_header

# Of 3, episodes came whole, with images as tensors.
PROTOCOL, OLDER_PROTOCOLS = 4, (3,)
# Metadata of calls: protocol version; name of the actor process, and the id of its life; run and version of the weights that it has;
# whether the learner may hold an acknowledgement back; the acknowledgement itself.
PROTOCOL_KEY, ACTOR_KEY, SESSION_KEY, RUN_KEY, VERSION_KEY = "serl-protocol", "serl-actor", "serl-session", "serl-run", "serl-version"
THROTTLE_KEY, RECEIPT_KEY = "serl-throttle", "serl-receipt"
# Kinds of message with weights: everything that acting needs, and what has changed since.
POLICY, WEIGHTS = "policy", "weights"
# Details of the status CANCELLED when the learner ends; any other CANCELLED is a call that was ended for being slow, or by its caller.
FINISHED = "the learner has finished"
# Details of the status UNAVAILABLE when the learner was stopped by SIGTERM, as a restart does.
STOPPED = "the learner was stopped, and may be started again"
# Not sent: in the learner's log while no episode comes, where lerobot-serl-run looks for it.
WAITS_FOR_THE_ROBOT = "Waiting for the robot"
MAX_MESSAGE_BYTES = 1 << 30
# Of a message's parts: a slow network moves one every few seconds; and the most that a part from elsewhere may have.
CHUNK_BYTES, LARGEST_PART_BYTES = 256 * 1024, 4 * 1024 * 1024
DIGEST_BYTES = 32

Header = dict[str, Any]
Claims = Mapping[str, TensorClaim]


class Phase(StrEnum):
    """Start-up phases of learning, in order; weights travel with the one that they come from."""

    COLLECT = "collect"
    CRITIC = "critic"
    ACTOR = "actor"


class DamagedMessage(MessageError):  # noqa: N818
    """A message is not what was sent: ask for it again."""


def encode(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """One message: JSON-able ``header`` and named tensors."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(contiguous, metadata={HEADER_KEY: json.dumps(header, allow_nan=False)})


def pieces(header: Mapping[str, Any], vectors: Mapping[str, tuple[str, Sequence[bytes]]]) -> list[bytes]:
    """The same message of tensors with one dimension, each given as name of its dtype and pieces of its bytes, of which none is copied.

    To put a message of several MB together by copying holds Python's other threads up, and with them a control loop.
    """
    document: dict[str, Any] = {"__metadata__": {HEADER_KEY: json.dumps(header, allow_nan=False)}}
    place = 0
    for name, (dtype, parts) in vectors.items():
        size = sum(map(len, parts))
        document[name] = {"dtype": dtype, "shape": [size // DTYPES[dtype].itemsize], "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    return [len(text).to_bytes(LENGTH_BYTES, "little") + text, *(part for _, parts in vectors.values() for part in parts)]


def decode(data: bytes, check: Callable[[Header, Claims], None] | None = None) -> tuple[Header, dict[str, Tensor]]:
    """The inverse of :func:`encode`.

    Args:
        check: is handed the header and each tensor's claimed shape and dtype before any tensor is decoded, and raises what it refuses.

    Raises:
        MessageError: not a message of this protocol.
    """
    header, claims = read_header(data)
    if check is not None:
        check(header, claims)
    try:
        return header, safetensors.torch.load(data)
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise MessageError(f"not a message of this protocol: {type(error).__name__}: {error}") from error


def split(data: bytes, message_type: Any) -> Iterator[Any]:
    """Cut a message and its digest into gRPC messages of LeRobot's service (``transfer_state`` and ``data``)."""
    from .lerobot_names import TransferState

    digest = hashlib.sha256(data).digest()
    count = max(1, -(-len(data) // CHUNK_BYTES))
    for index in range(count):
        last, first = index == count - 1, index == 0
        state = TransferState.TRANSFER_END if last else TransferState.TRANSFER_BEGIN if first else TransferState.TRANSFER_MIDDLE
        chunk = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        yield message_type(transfer_state=state, data=chunk + digest if last else chunk)


def join(parts: Iterable[Any], limit_bytes: int = MAX_MESSAGE_BYTES) -> Iterator[bytes]:
    """Messages out of gRPC messages.

    Raises:
        DamagedMessage: the digest is another one, a part is empty, or the stream ends in the middle of a message.
        MessageError: a message exceeds ``limit_bytes``.
    """
    from .lerobot_names import TransferState

    pieces: list[bytes] = []
    size = 0
    for part in parts:
        if part.transfer_state == TransferState.TRANSFER_BEGIN:
            pieces, size = [], 0
        is_last = part.transfer_state == TransferState.TRANSFER_END
        size += len(part.data) - DIGEST_BYTES * is_last
        if len(part.data) < (DIGEST_BYTES if is_last else 1):
            raise DamagedMessage(f"a part of {len(part.data)} bytes; it was damaged on the way")
        if size > limit_bytes:
            raise MessageError(f"message larger than {limit_bytes} bytes")
        if is_last:
            data, digest = b"".join([*pieces, part.data[:-DIGEST_BYTES]]), part.data[-DIGEST_BYTES:]
            if hashlib.sha256(data).digest() != digest:
                raise DamagedMessage(f"a message of {len(data)} bytes does not have the checksum that it was sent with")
            yield data
            pieces, size = [], 0
        else:
            pieces.append(part.data)
    if pieces:
        raise DamagedMessage("stream ended in the middle of a message")
