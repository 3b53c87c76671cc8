"""Encoded images of some frames of an episode as a message: a part. An episode's parts travel one by one, before the episode's own message."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature

from ..transport import MAX_MESSAGE_BYTES, Claims, Header, MessageError, decode, pieces
from .journal import UUID
from .jpeg import check_jpeg, largest_jpeg_bytes

KIND = "images"
# A part is closed when its images exceed so many bytes.
PART_BYTES = 4 * 1024 * 1024
MARGIN_BYTES = 256 * 1024
# Frames of an episode: more than an hour at 100 Hz.
MAX_FRAMES = 400_000
_ENCODED, _LENGTHS = "encoded/", "lengths/"


@dataclass(frozen=True, eq=False)
class Part:
    """``images``: camera key -> encoded images of the same frames, in order; ``index`` counts the parts of an episode from 0."""

    uuid: str
    index: int
    images: Mapping[str, Sequence[bytes]]

    @property
    def frames(self) -> int:
        """How many."""
        return len(next(iter(self.images.values())))


def encode_part(part: Part) -> list[bytes]:
    """Message of a part, in pieces."""
    vectors: dict[str, tuple[str, Sequence[bytes]]] = {}
    for key, images in part.images.items():
        vectors[_LENGTHS + key] = ("I32", [len(image).to_bytes(4, "little") for image in images])
    for key, images in part.images.items():
        vectors[_ENCODED + key] = ("U8", images)
    return pieces({"kind": KIND, "uuid": part.uuid, "part": part.index}, vectors)


def largest_part_bytes(inputs: Mapping[str, PolicyFeature]) -> int:
    """Size that no part exceeds: the images that close it may be as large as images can be."""
    images = sum(largest_jpeg_bytes(shape) for shape in image_shapes(inputs).values())
    return min(MAX_MESSAGE_BYTES, PART_BYTES + images + MARGIN_BYTES)


def image_shapes(inputs: Mapping[str, PolicyFeature]) -> dict[str, tuple[int, ...]]:
    """``(C, H, W)`` of the policy's cameras."""
    return {key: tuple(feature.shape) for key, feature in inputs.items() if feature.type is FeatureType.VISUAL}


def decode_part(data: bytes, inputs: Mapping[str, PolicyFeature]) -> Part:
    """The inverse of :func:`encode_part`; each image is known to be one of the policy's size, which can be decoded.

    Raises:
        MessageError: naming what is wrong.
    """
    shapes = image_shapes(inputs)
    if len(data) > (limit := largest_part_bytes(inputs)):
        raise MessageError(f"a part of {len(data)} bytes, expected at most {limit}")
    part = _part(data, lambda header, claims: _check(header, claims, list(shapes)))
    for key, images in part.images.items():
        for number, image in enumerate(images):
            try:
                check_jpeg(image, shapes[key])
            except MessageError as error:
                raise MessageError(f"'{key}', image {number} of part {part.index}: {error}") from error
    return part


def trusted_part(data: bytes) -> Part:
    """The same, of a message that this process, or the one that wrote its file, has checked."""
    return _part(data, lambda header, claims: None)


def _part(data: bytes, check: Callable[[Header, Claims], None]) -> Part:
    header, tensors = decode(data, check)
    keys = [name.removeprefix(_LENGTHS) for name in tensors if name.startswith(_LENGTHS)]
    images = {key: _cut(key, tensors[_ENCODED + key].numpy().tobytes(), tensors[_LENGTHS + key].tolist()) for key in keys}
    return Part(header["uuid"], header["part"], images)


def _cut(key: str, encoded: bytes, lengths: Sequence[int]) -> list[bytes]:
    if min(lengths) < 1 or sum(lengths) != len(encoded):
        raise MessageError(f"the images of '{key}' have {len(encoded)} bytes, their lengths do not fit")
    return [encoded[start:stop] for start, stop in pairwise(accumulate(lengths, initial=0))]


def _check(header: Mapping[str, Any], claims: Claims, keys: Sequence[str]) -> None:
    """Everything that can be said of a part without its images."""
    uuid, index = header.get("uuid"), header.get("part")
    if not isinstance(uuid, str) or not UUID.fullmatch(uuid):
        raise MessageError(f"header field 'uuid' is {repr(uuid)[:80]}, expected 1 to 64 letters, digits and dashes")
    if type(index) is not int or not 0 <= index < MAX_FRAMES:
        raise MessageError(f"header field 'part' is {repr(index)[:80]}, expected 0 to {MAX_FRAMES - 1}")
    expected = {prefix + key for key in keys for prefix in (_ENCODED, _LENGTHS)}
    if not keys or claims.keys() != expected:
        named = sorted(expected ^ claims.keys())
        raise MessageError(f"a part with {sorted(claims)[:8]}, expected images of {keys or 'no camera'}: {named[:4]}")
    frames = {claims[_LENGTHS + key].shape for key in keys}
    if len(frames) != 1 or not 1 <= math.prod(shape := frames.pop()) <= MAX_FRAMES or len(shape) != 1:
        raise MessageError(f"a part needs the same number of images of each camera, 1 to {MAX_FRAMES}")
    for name, claim in claims.items():
        dtype = torch.int32 if name.startswith(_LENGTHS) else torch.uint8
        if claim.dtype != dtype or len(claim.shape) != 1:
            raise MessageError(f"'{name}' is ({claim.shape}, {claim.dtype}), expected one dimension of {dtype}")
