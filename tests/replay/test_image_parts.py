"""The parts of an episode in a file: order, damage, a full disk, and reading what was deleted."""

import resource

import pytest
import torch
from pictures import KEYS, SHAPE, scene

from lerobot_serl.replay.encoded_frames import EncodedFrames
from lerobot_serl.replay.image_parts import ImageParts
from lerobot_serl.replay.journal import DamagedFileError
from lerobot_serl.replay.jpeg import decode_jpegs, encode_jpeg
from lerobot_serl.replay.part_message import Part, encode_part


def images(frames, camera=0):
    return [encode_jpeg(scene(SHAPE, 10 * camera + t)) for t in range(frames)]


def fill(parts, *frames, uuid="u"):
    """So many frames in each part; returns all images of each camera."""
    every = {key: images(sum(frames), camera) for camera, key in enumerate(KEYS)}
    start = 0
    for index, count in enumerate(frames):
        part = Part(uuid, index, {key: every[key][start : start + count] for key in KEYS})
        parts.append(part.frames, *encode_part(part))
        start += count
    return every


@pytest.fixture
def path(tmp_path):
    return tmp_path / "u.images"


def test_frames_are_found_across_parts_also_when_the_file_was_deleted(path):
    every = fill(ImageParts(path, is_new=True), 3, 1, 4)
    parts = ImageParts(path)
    path.unlink()
    assert (len(parts), parts.frames) == (3, 8)
    for key in KEYS:
        frames = EncodedFrames(parts, key, SHAPE)
        assert (len(frames), frames.shape, frames.dtype) == (8, (8, *SHAPE), torch.uint8)
        wanted = decode_jpegs(every[key], SHAPE)
        assert torch.equal(frames[:], wanted)
        assert torch.equal(frames[2:5], wanted[2:5])
        assert torch.equal(frames[-1], wanted[-1])
        middle = frames.narrow(0, 2, 5)
        assert torch.equal(middle[:], wanted[2:7])
        assert torch.equal(middle.narrow(0, 1, 2)[1], wanted[4])
        for start, length in ((4, 2), (-1, 2)):
            with pytest.raises(ValueError, match="frames"):
                middle.narrow(0, start, length)
        with pytest.raises(IndexError):
            middle[5]


@pytest.mark.parametrize("place", [4, 20, 60, -5])
def test_changed_bits_are_noticed(path, place):
    fill(ImageParts(path, is_new=True), 2, 2)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"u\.images|bytes of images"):
        ImageParts(path).check()


def test_a_file_that_is_short_or_gone_is_named(path):
    fill(ImageParts(path, is_new=True), 2, 2)
    content = path.read_bytes()
    for size in (len(content) - 1, len(content) // 2, 5):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedFileError):
            ImageParts(path).check()
    path.unlink()
    with pytest.raises(DamagedFileError, match=r"the images u\.images are missing"):
        ImageParts(path)


def test_what_a_full_disk_did_not_take_is_read_from_memory_and_written_later(path):
    parts = ImageParts(path, is_new=True)
    every = fill(parts, 2)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, limit[1]))
    try:
        late = Part("u", 1, {key: images(2, 5) for key in KEYS})
        with pytest.raises(OSError, match="File too large"):
            parts.append(late.frames, *encode_part(late))
        assert parts.unwritten_bytes == len(b"".join(encode_part(late)))
        assert parts.n_bytes == path.stat().st_size + parts.unwritten_bytes  # nothing half-written is left
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    frames = EncodedFrames(parts, KEYS[0], SHAPE)
    wanted = decode_jpegs([*every[KEYS[0]], *late.images[KEYS[0]]], SHAPE)
    assert torch.equal(frames[:], wanted)
    parts.save()
    assert parts.unwritten_bytes == 0
    assert torch.equal(EncodedFrames(ImageParts(path), KEYS[0], SHAPE)[:], wanted)
