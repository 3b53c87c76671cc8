"""Whole and half-written checkpoints, cut at every file in turn."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lerobot_serl.policy.checkpoint_files import FILES, LEARNER_STATE, STATE, first_flaw, mark_unfinished, newest_whole, require_whole


def write(checkpoint):
    for name in (*FILES, f"{STATE}/{LEARNER_STATE}"):
        path = checkpoint / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps({"step": 1}))
        else:
            save_file({"weights": torch.zeros(100)}, path)
    return checkpoint


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "cut off", "empty"])
def test_every_flaw_is_found_and_the_one_before_is_named(tmp_path, name, how):
    before, flawed = write(tmp_path / "000002"), write(tmp_path / "000010")
    (tmp_path / "last").symlink_to("000010")
    require_whole(tmp_path / "last")
    path = flawed / name
    content = path.read_bytes()
    path.unlink()
    if how != "missing":
        path.write_bytes(content[: len(content) // 2] if how == "cut off" else b"")
    assert newest_whole(tmp_path) == before
    with pytest.raises(
        ValueError, match=f"not whole: {name} is .*newest whole one is 000002: --config_path={before}/pretrained_model/train"
    ):
        require_whole(tmp_path / "last")


def test_a_checkpoint_of_an_earlier_version_is_named_with_the_way_on(tmp_path):
    checkpoint = write(tmp_path / "000002")
    (checkpoint / STATE / LEARNER_STATE).unlink()
    with pytest.raises(ValueError, match=rf"as in checkpoints of version 0.1.*--policy.path={checkpoint}/pretrained_model$"):
        require_whole(checkpoint)


def test_a_run_without_any_whole_checkpoint_says_so(tmp_path):
    (tmp_path / "000005").mkdir()
    with pytest.raises(ValueError, match="no whole checkpoint: start it anew"):
        require_whole(tmp_path / "000005")


def test_a_checkpoint_written_over_an_older_one_is_not_whole_until_its_end(tmp_path):
    checkpoint = write(tmp_path / "000005")
    mark_unfinished(checkpoint)
    assert first_flaw(checkpoint) == f"{FILES[-1]} is missing"
    mark_unfinished(tmp_path / "000010")
    assert first_flaw(write(checkpoint)) is None
