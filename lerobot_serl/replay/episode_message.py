"""An :class:`.Episode` as a message, and back with every claim checked against the policy's features before a tensor is decoded.

Encoded images are not in it: they have travelled before it, in parts (part_message.py), and it says in how many. Earlier releases sent images
as tensors, and are understood.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from torch import Tensor

from ..finite import not_finite
from ..transport import MAX_MESSAGE_BYTES, Claims, MessageError, TensorClaim, decode, encode, read_header
from ..words import printable
from .encoded_frames import EncodedFrames
from .episode import Episode
from .frame_columns import FRAME_COLUMNS
from .image_parts import ImageParts
from .journal import UUID
from .lazy_frames import Frames
from .part_message import MAX_FRAMES, image_shapes

KIND = "episode"
_OBSERVATION, _ACTION = "observation/", "action"
PARTS = "parts"
# Of the header, the gaps between parts, and whatever else is not frames.
MARGIN_BYTES = 256 * 1024
MAX_TEXT_CHARS = 1000
MAX_INFO_ENTRIES = 64
# UUID of an episode, number of its parts -> the parts. Raises where they are not there.
FindParts = Callable[[str, int], ImageParts]


def encode_episode(episode: Episode, uuid: str) -> bytes:
    """Message of one episode; ``uuid`` (1 to 64 letters, digits and dashes) makes sending it twice harmless."""
    header: dict[str, Any] = {
        "kind": KIND,
        "uuid": uuid,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "task": episode.task,
        "info": dict(episode.info),
    }
    tensors = {_OBSERVATION + key: value for key, value in episode.observation.items() if isinstance(value, Tensor)}
    if encoded := [value for value in episode.observation.values() if isinstance(value, EncodedFrames)]:
        header[PARTS] = len(encoded[0].parts)
    tensors |= {column.name: getattr(episode, column.name) for column in FRAME_COLUMNS}
    return encode(header, tensors)


def parts_before(data: bytes) -> int:
    """How many parts travel before an episode's message."""
    return int(read_header(data)[0].get(PARTS, 0))


def largest_message_bytes(inputs: Mapping[str, PolicyFeature], action_dim: int) -> int:
    """Size that no episode of a policy exceeds: `MAX_FRAMES` of its frames, at most `MAX_MESSAGE_BYTES`."""
    claims = _expected(1, inputs, action_dim, encoded=False).values()
    frame_bytes = sum(math.prod(claim.shape) * claim.dtype.itemsize for claim in claims)
    return min(MAX_MESSAGE_BYTES, MAX_FRAMES * frame_bytes + MARGIN_BYTES)


def decode_episode(
    data: bytes, inputs: Mapping[str, PolicyFeature], action_dim: int, find_parts: FindParts | None = None
) -> tuple[str, Episode]:
    """The episode and its UUID.

    Control characters in its words become spaces, and long words are cut; entries of ``info`` that are neither numbers nor words are dropped.

    Args:
        inputs: the policy's input features; each must be there with this shape, images uint8, the rest float32.
        find_parts: where encoded images are; None: nowhere.

    Raises:
        MessageError: naming what is wrong.
    """
    limit = largest_message_bytes(inputs, action_dim)
    if len(data) > limit:
        raise MessageError(f"episode of {len(data)} bytes, expected at most {limit}")
    header, tensors = decode(data, lambda header, claims: _check(header, claims, inputs, action_dim))
    if (bad := not_finite(tensors)) is not None:
        raise MessageError(f"'{bad}' contains NaN or infinite numbers")
    for name, value in tensors.items():
        if value.dtype == torch.bool and bool((value.view(torch.uint8) > 1).any()):
            raise MessageError(f"'{name}' contains bytes that are neither true nor false")
    frames = len(tensors[_ACTION])
    observation: dict[str, Frames] = {key: tensors[_OBSERVATION + key] for key in inputs if _OBSERVATION + key in tensors}
    if n_parts := header.get(PARTS, 0):
        observation |= _encoded(header["uuid"], n_parts, frames, inputs, find_parts)
    columns: dict[str, Any] = {column.name: tensors.get(column.name, column.absent(frames, action_dim)) for column in FRAME_COLUMNS}
    return header["uuid"], Episode(
        observation=observation,
        **columns,
        terminated=header["terminated"],
        truncated=header["truncated"],
        task=_words(header["task"]),
        info={
            _words(key): _words(value) if isinstance(value, str) else value
            for key, value in header["info"].items()
            if isinstance(value, int | float | str)
        },
    )


def _encoded(
    uuid: str, n_parts: int, n_frames: int, inputs: Mapping[str, PolicyFeature], find_parts: FindParts | None
) -> dict[str, EncodedFrames]:
    if find_parts is None:
        raise MessageError(f"the images of episode {uuid} are in {n_parts} parts, and there are none here")
    parts = find_parts(uuid, n_parts)
    if len(parts) != n_parts or parts.frames != n_frames:
        raise MessageError(f"{len(parts)} parts with {parts.frames} images, expected {n_parts} parts with {n_frames}, one for each frame")
    return {key: EncodedFrames(parts, key, shape) for key, shape in image_shapes(inputs).items()}


def _check(header: Mapping[str, Any], claims: Claims, inputs: Mapping[str, PolicyFeature], action_dim: int) -> None:
    """Everything that can be said of an episode without its numbers."""
    if not UUID.fullmatch(uuid := _field(header, "uuid", str)):
        raise MessageError(f"header field 'uuid' is {uuid[:80]!r}, expected 1 to 64 letters, digits and dashes")
    _field(header, "task", str)
    if len(info := _field(header, "info", dict)) > MAX_INFO_ENTRIES:
        raise MessageError(f"header field 'info' has {len(info)} entries, expected at most {MAX_INFO_ENTRIES}")
    action = claims.get(_ACTION)
    frames = action.shape[0] if action is not None and len(action.shape) == 2 else 0
    if not 1 <= frames <= MAX_FRAMES:
        raise MessageError(f"episode of {frames} frames, expected 1 to {MAX_FRAMES}")
    parts = header.get(PARTS, 0)
    if type(parts) is not int or not 0 <= parts <= (frames if image_shapes(inputs) else 0):
        raise MessageError(f"header field '{PARTS}' is {repr(parts)[:80]}, expected at most one for each of {frames} frames with images")
    expected = _expected(frames, inputs, action_dim, encoded=parts > 0)
    may_lack = {column.name for column in FRAME_COLUMNS if column.optional} - claims.keys()
    for name in sorted((expected.keys() | claims.keys()) - may_lack):
        if expected.get(name) != claims.get(name):
            raise MessageError(
                f"'{name}' is {_described(claims.get(name), 'missing')}, expected {_described(expected.get(name), 'absent')}"
            )
    terminated, truncated = _field(header, "terminated", bool), _field(header, "truncated", bool)
    if terminated and truncated:
        raise MessageError("an episode is terminated or truncated, not both")
    if frames == 1 and not terminated:
        raise MessageError("an episode of one frame that did not terminate holds no transition")


def _expected(frames: int, inputs: Mapping[str, PolicyFeature], action_dim: int, encoded: bool) -> dict[str, TensorClaim]:
    expected = {column.name: TensorClaim(column.shape(frames, action_dim), column.dtype) for column in FRAME_COLUMNS}
    for key, feature in inputs.items():
        is_image = feature.type is FeatureType.VISUAL
        if not (is_image and encoded):
            expected[_OBSERVATION + key] = TensorClaim((frames, *feature.shape), torch.uint8 if is_image else torch.float32)
    return expected


def _described(claim: TensorClaim | None, otherwise: str) -> str:
    return otherwise if claim is None else f"({claim.shape}, {claim.dtype})"


def _words(text: str) -> str:
    """Text that can stand in a log, a table and a dataset."""
    return printable(text, MAX_TEXT_CHARS, instead=" ")


def _field(header: Mapping[str, Any], name: str, kind: type) -> Any:
    value = header.get(name)
    if not isinstance(value, kind):
        raise MessageError(f"header field '{name}' is {repr(value)[:80]}, expected {kind.__name__}")
    return value
