"""A part of an episode as a message: the round trip, and a refusal by name of everything else."""

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from pictures import KEYS, SHAPE
from small_data import INPUTS
from test_image_parts import images
from test_jpeg import BAD as BAD_IMAGES

from lerobot_serl.replay.part_message import MAX_FRAMES, Part, decode_part, encode_part, largest_part_bytes
from lerobot_serl.transport import MessageError, decode, encode

CAMERAS = {**INPUTS, **dict.fromkeys(KEYS, PolicyFeature(type=FeatureType.VISUAL, shape=SHAPE))}
FRONT, WRIST = KEYS
GOOD = Part("u-1", 3, {key: images(2, camera) for camera, key in enumerate(KEYS)})


def message(part):
    return b"".join(encode_part(part))


def test_decoding_inverts_encoding():
    back = decode_part(message(GOOD), CAMERAS)
    assert (back.uuid, back.index, back.frames) == ("u-1", 3, 2)
    assert {key: list(value) for key, value in back.images.items()} == {key: list(value) for key, value in GOOD.images.items()}
    assert len(message(GOOD)) < largest_part_bytes(CAMERAS)


def changed(header=None, tensors=None):
    original_header, original = decode(message(GOOD))
    merged = {k: v for k, v in (original | (tensors or {})).items() if v is not None}
    return encode({k: v for k, v in (original_header | (header or {})).items() if v is not None}, merged)


def lengths(*values, dtype=torch.int32):
    return {f"lengths/{FRONT}": torch.tensor(values, dtype=dtype)}


A, B = (len(image) for image in GOOD.images[FRONT])
BAD = {
    "no uuid": ({"uuid": None}, {}, "header field 'uuid' is None"),
    "uuid is a path": ({"uuid": "../x"}, {}, "header field 'uuid' is '../x'"),
    "index missing": ({"part": None}, {}, "header field 'part' is None"),
    "index is a word": ({"part": "1"}, {}, "header field 'part' is '1'"),
    "index is a truth": ({"part": True}, {}, "header field 'part' is True"),
    "index below 0": ({"part": -1}, {}, "header field 'part' is -1"),
    "index too large": ({"part": MAX_FRAMES}, {}, f"expected 0 to {MAX_FRAMES - 1}"),
    "a camera missing": ({}, {f"encoded/{WRIST}": None, f"lengths/{WRIST}": None}, "a part with"),
    "lengths missing": ({}, {f"lengths/{WRIST}": None}, "a part with"),
    "a foreign camera": (
        {},
        {"encoded/x": torch.zeros(1, dtype=torch.uint8), "lengths/x": torch.ones(1, dtype=torch.int32)},
        "a part with",
    ),
    "a foreign tensor": ({}, {"action": torch.zeros(1)}, "a part with"),
    "no frames": ({}, {f"lengths/{key}": torch.zeros(0, dtype=torch.int32) for key in KEYS}, "same number of images"),
    "cameras of other lengths": ({}, lengths(A + B), "same number of images of each camera"),
    "lengths in two dimensions": ({}, {f"lengths/{key}": torch.ones(1, 2, dtype=torch.int32) for key in KEYS}, "same number of images"),
    "lengths of another kind": ({}, lengths(A, B, dtype=torch.int64), "expected one dimension of torch.int32"),
    "encoded of another kind": ({}, {f"encoded/{FRONT}": torch.zeros(A + B)}, "expected one dimension of torch.uint8"),
    "lengths too long": ({}, lengths(A, B + 1), "their lengths do not fit"),
    "lengths too short": ({}, lengths(A, B - 1), "their lengths do not fit"),
    "a negative length": ({}, lengths(A + B + 1, -1), "their lengths do not fit"),
    "an empty image": ({}, lengths(A + B, 0), "their lengths do not fit"),
    "a border elsewhere": ({}, lengths(A - 1, B + 1), f"'{FRONT}', image 0 of part 3: an image of"),
}


@pytest.mark.parametrize(("header", "tensors", "named"), BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_refused_by_name(header, tensors, named):
    with pytest.raises(MessageError, match=named):
        decode_part(changed(header, tensors), CAMERAS)


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_each_image_is_looked_at(name):
    data, _ = BAD_IMAGES[name]
    part = Part("u", 0, {FRONT: [GOOD.images[FRONT][0], data], WRIST: GOOD.images[WRIST]})
    expected = "lengths do not fit" if not data else f"'{FRONT}', image 1 of part 0: "
    with pytest.raises(MessageError, match=expected):
        decode_part(message(part), CAMERAS)


def test_a_policy_without_cameras_takes_no_part():
    with pytest.raises(MessageError, match="expected images of no camera"):
        decode_part(message(GOOD), INPUTS)


def test_a_part_is_bounded():
    with pytest.raises(MessageError, match=r"a part of .* bytes, expected at most"):
        decode_part(bytes(largest_part_bytes(CAMERAS) + 1), CAMERAS)
