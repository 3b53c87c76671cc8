"""Camera images as JPEG, on their way from the robot to the learner.

Quality 95 without colour subsampling: about 1 ms and a sixth of the bytes for 640x480 pixels. Lossless formats take 30 to 100 ms there, which no
control loop with two cameras leaves time for (docs/robots.md has the table). What comes in is looked at before memory is taken for it: only the
segments that our own encoder writes, one scan, and the size that the policy expects.
"""

import io
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..transport import MessageError

QUALITY = 95
COLOURS = 3
# JPEG counts pixels in 16 bits.
LONGEST_SIDE_PX = 65_500
# Beyond the bytes of the pixels themselves, which noise may need: tables and heads.
MARGIN_BYTES = 64 * 1024
_SETTINGS = (cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_START, _END, _FRAME, _SCAN = b"\xff\xd8", b"\xff\xd9", 0xC0, 0xDA
# JFIF, quantisation tables, one baseline frame, Huffman tables, restart interval, scan.
_SEGMENTS = (0xE0, 0xDB, _FRAME, 0xC4, 0xDD, _SCAN)


def largest_jpeg_bytes(shape: Sequence[int]) -> int:
    """Size that no encoded image of this shape exceeds."""
    channels, height, width = shape
    return channels * height * width + MARGIN_BYTES


def encode_jpeg(image: Tensor) -> bytes:
    """An image, uint8 ``(C, H, W)``; of other than three colours, the channels lie one below the other in grey.

    Raises:
        ValueError: JPEG has no room for so many pixels.
    """
    channels, height, width = image.shape
    tall, _, _ = _layout(image.shape)
    if max(tall, width) > LONGEST_SIDE_PX:
        raise ValueError(f"an image of {width}x{height} pixels with {channels} channels, expected at most {LONGEST_SIDE_PX} pixels a side")
    if channels == COLOURS:
        pixels = cv2.cvtColor(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2BGR)
    else:
        pixels = np.ascontiguousarray(image.numpy()).reshape(tall, width)
    _, encoded = cv2.imencode(".jpg", pixels, _SETTINGS)
    return encoded.tobytes()


def decode_jpeg(data: bytes, shape: Sequence[int], scale: int = 1) -> np.ndarray:
    """The inverse of :func:`encode_jpeg`, but for what quality 95 leaves out: ``(H, W, C)``.

    Args:
        scale: 8: decode an eighth of the pixels each way, which is quicker, and only shows whether it can be decoded.

    Raises:
        MessageError: it is no such image, or of another shape.
    """
    _check_segments(data, shape)
    tall, width, mode = _layout(shape)
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if scale > 1:
                image.draft(mode, (max(1, width // scale), max(1, tall // scale)))
            pixels = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise MessageError(f"an image cannot be decoded: {error}") from error
    if scale > 1 or shape[0] == COLOURS:
        return pixels
    return pixels.reshape(tuple(shape)).transpose(1, 2, 0)


def check_jpeg(data: bytes, shape: Sequence[int]) -> None:
    """Raise MessageError where :func:`decode_jpeg` would."""
    decode_jpeg(data, shape, scale=8)


def decode_jpegs(encoded: Sequence[bytes], shape: Sequence[int]) -> Tensor:
    """Images of one camera, uint8 ``(N, C, H, W)``."""
    pixels = np.empty((len(encoded), *shape), dtype=np.uint8)
    for target, data in zip(pixels, encoded, strict=True):
        target[:] = decode_jpeg(data, shape).transpose(2, 0, 1)
    return torch.from_numpy(pixels)


def _layout(shape: Sequence[int]) -> tuple[int, int, str]:
    """Height and width in the file, and the name of its colours."""
    channels, height, width = shape
    return (height, width, "RGB") if channels == COLOURS else (channels * height, width, "L")


def _check_segments(data: bytes, shape: Sequence[int]) -> None:
    """What stands before the picture's own bytes."""
    if len(data) > (limit := largest_jpeg_bytes(shape)):
        raise MessageError(f"an image of {len(data)} bytes, expected at most {limit}")
    if not (data.startswith(_START) and data.endswith(_END)):
        raise MessageError(f"an image of {len(data)} bytes is no JPEG, or only a piece of one")
    place, seen = 2, None
    while True:
        marker, size = data[place : place + 2], int.from_bytes(data[place + 2 : place + 4], "big")
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] not in _SEGMENTS or size < 2:
            raise MessageError(f"an image has the segment {marker.hex() or 'none'}, expected those of a plain baseline JPEG")
        if marker[1] == _FRAME:
            if seen is not None:
                raise MessageError("an image has two frames, expected one")
            seen = data[place + 4 : place + 10]
        place += 2 + size
        if marker[1] == _SCAN:
            break
    if data.count(bytes((0xFF, _SCAN))) != 1:
        raise MessageError("an image has several scans, expected one")
    tall, width, mode = _layout(shape)
    wanted = bytes((8, *tall.to_bytes(2, "big"), *width.to_bytes(2, "big"), len(mode)))
    if seen != wanted:
        height_px, width_px = (int.from_bytes((seen or b"")[i : i + 2], "big") for i in (1, 3))
        raise MessageError(f"an image of {width_px}x{height_px} pixels, expected {width}x{tall} in {mode}, 8 bits")
