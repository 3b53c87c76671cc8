"""Images that are read when they are asked for."""

import pytest
import torch

from lerobot_serl.replay.lazy_frames import LastRead, LazyFrames

SHAPE = (3, 2, 2)


def numbered(frames):
    """Images that hold their frame's number."""
    return torch.stack([torch.full(SHAPE, number, dtype=torch.uint8) for number in frames])


@pytest.fixture
def frames():
    return LazyFrames(numbered, SHAPE, 5, 12)


def test_they_are_indexed_as_a_tensor_is(frames):
    whole = numbered(range(5, 12))
    assert (len(frames), frames.shape, frames.dtype) == (7, tuple(whole.shape), whole.dtype)
    for which in (0, 3, -1, slice(None), slice(2, 5), slice(5, 99)):
        assert torch.equal(frames[which], whole[which])


def test_a_part_of_a_part_is_a_tensors(frames):
    part = frames.narrow(0, 1, 5).narrow(0, 2, 2)
    assert torch.equal(part[:], numbered(range(5, 12))[1:6][2:4])
    assert len(frames) == 7
    with pytest.raises(ValueError, match="along dimension 0"):
        part.narrow(0, 1, 2)


def test_cameras_of_the_same_frames_are_read_once_and_others_anew():
    asked = []

    def read(frames):
        asked.append(frames)
        return {"one": numbered(frames), "two": numbered(frames) + 100}

    last = LastRead(read)
    one, two = (LazyFrames(lambda frames, key=key: last(frames)[key], SHAPE, 0, 9) for key in ("one", "two"))
    for which in (slice(0, 3), slice(3, 6), slice(0, 3)):
        assert torch.equal(one[which] + 100, two[which])
        assert torch.equal(one[which], numbered(range(9)[which]))
    assert asked == [range(3), range(3, 6), range(3)]
