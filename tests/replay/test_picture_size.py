"""Pictures that are reduced before the replay memory keeps them: their shape, their numbers, and that they are read when they are asked for."""

import pytest
import torch

from lerobot_serl.replay.lazy_frames import LazyFrames
from lerobot_serl.replay.picture_size import reduced, reduced_frames, reduced_shape


@pytest.mark.parametrize(
    ("shape", "longest_px", "expected"),
    [
        ((3, 480, 640), 64, (3, 48, 64)),
        ((3, 640, 480), 64, (3, 64, 48)),
        ((1, 720, 1280), 128, (1, 72, 128)),
        ((3, 720, 1280), 64, (3, 36, 64)),
        ((3, 96, 96), 64, (3, 64, 64)),
        ((3, 48, 64), 128, (3, 48, 64)),
        ((3, 90, 1280), 64, (3, 32, 455)),  # no side shorter than the convolutions need
        ((3, 20, 300), 64, (3, 20, 300)),  # never larger
        ((3, 480, 640), None, (3, 480, 640)),
    ],
)
def test_proportions_stay_and_nothing_grows(shape, longest_px, expected):
    assert reduced_shape(shape, longest_px, shortest_px=32) == expected


def test_bytes_and_floats_give_the_same_bytes():
    images = torch.randint(0, 256, (5, 3, 60, 80), dtype=torch.uint8)
    small = reduced(images, (3, 30, 40))
    assert small.shape == (5, 3, 30, 40)
    assert small.dtype == torch.uint8
    assert abs(float(small.float().mean() - images.float().mean())) < 0.3
    assert torch.equal(small, reduced(images.float() / 255.0, (3, 30, 40)))
    assert torch.equal(small[2], reduced(images[2], (3, 30, 40)))
    assert torch.equal(small.unflatten(0, (1, 5)), reduced(images.unflatten(0, (1, 5)), (3, 30, 40)))


def test_fine_stripes_become_grey_and_no_coarse_stripes():
    stripes = torch.zeros(1, 3, 120, 120, dtype=torch.uint8)
    stripes[..., ::2] = 255
    small = reduced(stripes, (3, 40, 40)).float()
    # Every third column alone would be black or white.
    assert (small[..., 2:-2] - 127.5).abs().max() < 45
    assert abs(float(small.mean()) - 127.5) < 2
    assert torch.equal(
        reduced(torch.full((2, 3, 120, 120), 255, dtype=torch.uint8), (3, 40, 40)), torch.full((2, 3, 40, 40), 255, dtype=torch.uint8)
    )


def test_what_is_small_already_is_not_touched():
    images = torch.rand(2, 3, 40, 40)
    assert reduced(images, (3, 40, 40)) is images


def test_frames_are_read_and_reduced_when_they_are_asked_for():
    read = []

    def numbered(frames):
        """Pixels are the frame's number."""
        read.extend(frames)
        return torch.stack([torch.full((3, 64, 80), frame, dtype=torch.uint8) for frame in frames])

    frames = reduced_frames(LazyFrames(numbered, (3, 64, 80), 0, 20), (3, 32, 40))
    assert (len(frames), frames.shape, frames.dtype) == (20, (20, 3, 32, 40), torch.uint8)
    part = frames.narrow(0, 5, 10)
    assert read == []
    assert torch.equal(part[2:4], torch.tensor([7, 8], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 32, 40))
    assert torch.equal(part[0], torch.full((3, 32, 40), 5, dtype=torch.uint8))
    assert read == [7, 8, 5]
    whole = torch.randint(0, 256, (6, 3, 64, 80), dtype=torch.uint8)
    assert torch.equal(reduced_frames(whole, (3, 32, 40)).narrow(0, 1, 4)[:], reduced(whole, (3, 32, 40))[1:5])
