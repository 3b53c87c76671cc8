"""Reading ACT checkpoints, and the errors when there is none."""

import json
import shutil

import pytest
import torch
from act_checkpoints import save_act, small_act_config, statistics_for

from lerobot_serl.policy.act_checkpoint import load_act_checkpoint


def test_architecture_weights_and_statistics_are_read(tmp_path):
    config = small_act_config(0)
    act, _, _ = save_act(tmp_path, config)
    checkpoint = load_act_checkpoint(str(tmp_path))
    assert checkpoint.config.dim_model == 32
    assert set(checkpoint.weights) == set(act.state_dict())
    expected = statistics_for(config)
    torch.testing.assert_close(checkpoint.statistics["action"]["std"].float(), expected["action"]["std"])


@pytest.mark.parametrize("layout", ["pretrained_model", "checkpoints/last/pretrained_model"])
def test_a_run_or_checkpoint_directory_is_accepted(tmp_path, layout):
    save_act(tmp_path / layout, small_act_config(0))
    assert load_act_checkpoint(str(tmp_path)).config.chunk_size == 10


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*no config.json.*Expected a LeRobot ACT checkpoint"):
        load_act_checkpoint(str(tmp_path / "nowhere"))


def test_a_checkpoint_of_another_type_is_named(tmp_path):
    save_act(tmp_path, small_act_config(0))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"type": "tdmpc", "device": "cpu", "push_to_hub": False}))
    with pytest.raises(ValueError, match="is of type 'tdmpc', expected 'act'"):
        load_act_checkpoint(str(tmp_path))
    assert config["type"] == "act"


def test_missing_statistics_are_an_error(tmp_path):
    save_act(tmp_path, small_act_config(0))
    (tmp_path / "policy_preprocessor.json").unlink()
    with pytest.raises(ValueError, match="normalisation statistics missing"):
        load_act_checkpoint(str(tmp_path))


def test_missing_weights_are_an_error(tmp_path):
    save_act(tmp_path, small_act_config(0))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is missing"):
        load_act_checkpoint(str(tmp_path))


def test_the_checkpoint_may_disappear_once_it_is_embedded(tmp_path):
    from lerobot_serl import SerlSacConfig
    from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

    act_config = small_act_config(0)
    save_act(tmp_path / "act", act_config)
    config = SerlSacConfig(act_path=str(tmp_path / "act"), device="cpu", push_to_hub=False)
    SerlSacPolicy(config, dataset_stats=statistics_for(act_config)).save_pretrained(tmp_path / "serl")
    shutil.rmtree(tmp_path / "act")
    assert SerlSacPolicy.from_pretrained(tmp_path / "serl").config.act_source == str(tmp_path / "act")


def test_a_checkpoint_without_any_processors_is_told_how_to_migrate(tmp_path):
    save_act(tmp_path, small_act_config(0))
    for path in tmp_path.glob("policy_*"):
        path.unlink()
    with pytest.raises(ValueError, match="migrate_policy_normalization"):
        load_act_checkpoint(str(tmp_path))
