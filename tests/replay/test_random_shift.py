"""Random shift of stored images."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lerobot_serl.replay.random_shift import PAD_PX, _gathered, _move, shifted


def by_index(image, down, right):
    """The definition, one index at a time."""
    _, height, width = image.shape
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    return image[:, rows][:, :, columns]


@given(st.integers(5, 12), st.integers(5, 12), st.integers(-4, 4), st.integers(-4, 4), st.integers(0, 2**31))
def test_an_image_moves_as_its_indices_say(height, width, down, right, seed):
    image = np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)
    moved = np.empty_like(image)
    _move(image, moved, down, right)
    assert np.array_equal(moved, by_index(image, down, right))


@given(st.integers(5, 12), st.integers(5, 12), st.integers(0, 2**31))
def test_a_device_moves_images_as_the_host_does(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (7, 3, height, width), dtype=torch.uint8, generator=generator)
    index = torch.randint(7, (20,), generator=generator)
    moves = torch.randint(-PAD_PX, PAD_PX + 1, (20, 2), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(_gathered(images, index, moves), shifted(images, index, torch.Generator().manual_seed(seed)))


def test_every_image_has_a_shift_of_its_own_and_all_shifts_occur():
    ramp = torch.arange(20 * 20, dtype=torch.int32).view(1, 1, 20, 20)
    moved = shifted(ramp, torch.zeros(2000, dtype=torch.int64), torch.Generator().manual_seed(0))
    places = {divmod(int(value), 20) for value in moved[:, 0, 10, 10]}
    assert places == {(10 + dy, 10 + dx) for dy in range(-PAD_PX, PAD_PX + 1) for dx in range(-PAD_PX, PAD_PX + 1)}


def test_the_right_images_come_and_the_memory_is_not_touched():
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).repeat(1, 3, 8, 8)
    before = images.clone()
    moved = shifted(images, torch.tensor([3, 0, 3]), torch.Generator().manual_seed(1))
    assert moved.dtype == torch.uint8
    assert moved.flatten(1).float().mean(1).tolist() == [3, 0, 3]
    moved.zero_()
    assert torch.equal(images, before)


def test_the_generator_decides():
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    index = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    one, again, other = (shifted(images, index, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
