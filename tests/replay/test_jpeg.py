"""Camera images as JPEG: what comes back, and a refusal by name of everything that our own encoder does not write."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import SHAPE, scene
from PIL import Image

from lerobot_serl.message_header import MessageError
from lerobot_serl.replay.jpeg import LONGEST_SIDE_PX, check_jpeg, decode_jpegs, encode_jpeg, largest_jpeg_bytes


def saved(image, form, **settings):
    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(stream, form, **settings)
    return stream.getvalue()


GOOD = encode_jpeg(scene(SHAPE))
FRAME = GOOD.index(b"\xff\xc0")


def changed(place, with_bytes):
    return GOOD[:place] + with_bytes + GOOD[place + len(with_bytes) :]


def segment(marker, content):
    return bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content


@pytest.mark.parametrize("shape", [SHAPE, (3, 480, 640), (1, 24, 40), (4, 8, 8), (2, 1, 1), (3, 7, 13)])
def test_what_is_decoded_is_what_was_seen(shape):
    images = [scene(shape, seed) for seed in range(2)]
    back = decode_jpegs([encode_jpeg(image) for image in images], shape)
    assert (back.dtype, back.shape) == (torch.uint8, (2, *shape))
    difference = (back.int() - torch.stack(images).int()).abs().float()
    assert difference.mean() < 3
    assert (back[0] != back[1]).any() or shape == (2, 1, 1)


def test_an_image_that_is_not_laid_out_by_channels_is_the_same():
    image = scene(SHAPE)
    assert encode_jpeg(image.permute(1, 2, 0).contiguous().permute(2, 0, 1)) == GOOD


def test_noise_fits_the_limit():
    noise = torch.randint(0, 256, (3, 240, 320), dtype=torch.uint8)
    assert len(encode_jpeg(noise)) < largest_jpeg_bytes(noise.shape)
    check_jpeg(encode_jpeg(noise), noise.shape)


def test_more_pixels_than_jpeg_counts():
    with pytest.raises(ValueError, match=f"70000x1 pixels with 1 channels, expected at most {LONGEST_SIDE_PX}"):
        encode_jpeg(torch.zeros(1, 1, 70_000, dtype=torch.uint8))


BAD = {
    "empty": (b"", "an image of 0 bytes is no JPEG"),
    "truncated": (GOOD[:-40], "only a piece of one"),
    "head alone": (GOOD[:30] + b"\xff\xd9", "has the segment"),
    "text": (b"\xff\xd8" + b"x" * 500 + b"\xff\xd9", "has the segment 7878, expected those of a plain"),
    "PNG": (saved(scene(SHAPE), "PNG"), "is no JPEG"),
    "another size": (encode_jpeg(scene((3, 24, 48))), "an image of 48x24 pixels, expected 40x24 in RGB"),
    "a bomb's size": (changed(FRAME + 5, b"\xff\xf0\xff\xf0"), "an image of 65520x65520 pixels, expected 40x24"),
    "grey": (encode_jpeg(scene((1, 24, 40))), "expected 40x24 in RGB"),
    "12 bits": (changed(FRAME + 4, b"\x0c"), "8 bits"),
    "progressive": (saved(scene(SHAPE), "JPEG", progressive=True), "has the segment ffc2"),
    "two scans": (GOOD[:-2] + GOOD[GOOD.index(b"\xff\xda") :], "several scans"),
    "a scan within a table": (GOOD[:2] + segment(0xE0, b"\xff\xda") + GOOD[2:], "several scans"),
    "two frames": (GOOD[:FRAME] + GOOD[FRAME : FRAME + 19] + GOOD[FRAME:], "two frames"),
    "a frame after the scan": (GOOD[:FRAME] + GOOD[FRAME + 19 :], "expected 40x24"),
    "metadata": (GOOD[:2] + segment(0xE1, b"Exif\0\0" + b"x" * 60) + GOOD[2:], "has the segment ffe1"),
    "a profile": (saved(scene(SHAPE), "JPEG", icc_profile=b"x" * 99), "has the segment ffe2"),
    "no tables": (GOOD[: GOOD.index(b"\xff\xdb")] + GOOD[FRAME:], "cannot be decoded"),
    "too many bytes": (GOOD[:-2] + b"\0" * 70_000 + b"\xff\xd9", "bytes, expected at most"),
}


@pytest.mark.parametrize(("data", "named"), BAD.values(), ids=BAD.keys())
def test_anything_else_is_refused(data, named):
    with pytest.raises(MessageError, match=named):
        check_jpeg(data, SHAPE)
    with pytest.raises(MessageError, match=named):
        decode_jpegs([data], SHAPE)


@settings(max_examples=300, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4))
def test_changed_bytes_are_refused_or_still_an_image(changes):
    data = GOOD
    for place, with_bytes in changes:
        data = data[:place] + with_bytes + data[place + len(with_bytes) :]
    try:
        check_jpeg(data, SHAPE)
    except MessageError:
        return
    assert decode_jpegs([data], SHAPE).shape == (1, *SHAPE)  # what was checked can be decoded
