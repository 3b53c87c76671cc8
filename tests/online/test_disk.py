"""A checkpoint that does not fit is refused before it is begun, with both sizes."""

import shutil
from collections import namedtuple

import pytest
import torch

from lerobot_serl.online.disk import checkpoint_bytes, require_room

Usage = namedtuple("Usage", "total used free")


def test_a_checkpoint_is_its_tensors_and_adams_two_moments():
    frozen, learning = torch.zeros(1000), torch.zeros(500)
    assert checkpoint_bytes([frozen, learning], [learning]) - checkpoint_bytes([], []) == 4 * (1500 + 2 * 500)


def test_a_full_disk_is_named_with_what_is_needed_and_free(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or Usage(0, 0, 3_000_000))
    directory = tmp_path / "run" / "checkpoints" / "000010"
    with pytest.raises(OSError, match=r"a checkpoint needs 3.5 MB, 3.0 MB are free there. No space left on device: free some, or choose"):
        require_room(directory, 3_500_000)
    require_room(directory, 2_900_000)
    assert asked == [tmp_path, tmp_path], "the directory is not there yet"


def test_what_the_real_disk_has_is_enough_for_little(tmp_path):
    require_room(tmp_path, 1)
    with pytest.raises(OSError, match="a checkpoint needs"):
        require_room(tmp_path, 10**18)
