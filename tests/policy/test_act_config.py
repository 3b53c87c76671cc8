"""``config.json`` of ACT as every version of LeRobot, and others, write it."""

import dataclasses
import json
import logging

import lerobot
import pytest
import torch
from act_checkpoints import random_observations, save_act, small_act_config, statistics_for
from lerobot.configs import PreTrainedConfig
from odd_checkpoints import edit_config, make_oldest

from lerobot_serl import SerlSacConfig
from lerobot_serl.policy.act_checkpoint import load_act_checkpoint
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy


@pytest.fixture
def act(tmp_path):
    save_act(tmp_path, small_act_config(0))
    return tmp_path


def warnings_in(caplog):
    """Messages of that level and above: other tests may have made loggers talkative."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "version", {"0.4.0": ("use_peft", "pretrained_revision"), "0.5.1": ("pretrained_revision",)}.items(), ids=lambda v: v[0]
)
def test_fields_of_a_later_version_may_be_missing(act, version, caplog):
    whole = PreTrainedConfig.from_pretrained(act)
    edit_config(act, lambda document: [document.pop(name) for name in version[1]])
    with caplog.at_level(logging.WARNING):
        assert load_act_checkpoint(str(act)).config == whole
    assert warnings_in(caplog) == []


# As LeRobot 0.4.0 and 0.5.1 wrote it; 0.6.1 writes the same.
PROCESSORS_OF_0_4 = ("rename_observations_processor", "to_batch_processor", "device_processor", "normalizer_processor")


def test_processors_are_those_of_0_4(act):
    """Were another version to write others, the checkpoints of that one would have to be looked at, too."""
    steps = json.loads((act / "policy_preprocessor.json").read_text())["steps"]
    assert tuple(step["registry_name"] for step in steps) == PROCESSORS_OF_0_4
    assert steps[3]["config"].keys() == {"eps", "features", "norm_map"}
    assert steps[3]["state_file"] == "policy_preprocessor_step_3_normalizer_processor.safetensors"


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "mps", "xpu", None])
def test_the_device_that_act_was_trained_on_does_not_matter(act, device, caplog):
    edit_config(act, lambda document: document.update(device=device))
    with caplog.at_level(logging.WARNING):
        assert load_act_checkpoint(str(act)).config.device == "cpu"
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", [], {}, {"enabled": False, "steps": 3}, {"a": None, "b": {"c": 0}}])
def test_unknown_fields_that_are_off_are_named_and_ignored(act, value, caplog):
    whole = PreTrainedConfig.from_pretrained(act)
    edit_config(act, lambda document: document.update({"rtc_config": value, "a\x1b[2Jb": None}))
    assert load_act_checkpoint(str(act)).config == whole
    (line,) = warnings_in(caplog)
    assert f"LeRobot {lerobot.__version__}, which is installed, does not have; they are off, and ignored: a?[2Jb, rtc_config." in line


@pytest.mark.parametrize("value", [True, 1, 0.5, "on", ["x"], {"enabled": True}, {"a": None, "b": {"c": 1}}])
def test_unknown_fields_that_are_on_are_refused_by_name(act, value):
    edit_config(act, lambda document: document.update(rtc_config=value, compile_model=False))
    words = rf"config.json: not a configuration of LeRobot's ACT .*rtc_config=.*: LeRobot {lerobot.__version__}, which is installed, does not have"
    with pytest.raises(ValueError, match=words) as caught:
        load_act_checkpoint(str(act))
    assert "compile_model" not in str(caught.value)
    assert str(caught.value).endswith(". Update LeRobot, or set to null in config.json what does not change how ACT acts.")


def test_a_policy_made_from_act_is_not_act(act):
    edit_config(act, lambda document: document.update(type="act_smooth", max_delay=4))
    with pytest.raises(ValueError, match=r"is of type 'act_smooth', expected 'act'. A policy made from ACT is not ACT.*--policy.type=act"):
        load_act_checkpoint(str(act))


def test_nor_is_it_where_its_plugin_is_installed(act):
    from lerobot.policies.act.configuration_act import ACTConfig

    @PreTrainedConfig.register_subclass("act_of_a_plugin")
    class Other(ACTConfig):
        pass

    edit_config(act, lambda document: document.update(type="act_of_a_plugin"))
    with pytest.raises(ValueError, match=r"is of type 'act_of_a_plugin', expected 'act'"):
        load_act_checkpoint(str(act))


@pytest.mark.parametrize("kind", [None, ["act"], {"act": 1}, "", "ACT"])
def test_a_type_that_is_none_is_named(act, kind):
    edit_config(act, lambda document: document.update(type=kind))
    with pytest.raises(ValueError, match=r"the checkpoint is of type .*, expected 'act'"):
        load_act_checkpoint(str(act))


def test_without_a_type_the_remedy_is_one_line(act):
    edit_config(act, lambda document: document.pop("type"))
    with pytest.raises(
        ValueError, match=r"""is of type 'None', expected 'act'. If it is LeRobot's ACT, write "type": "act" into its config.json"""
    ):
        load_act_checkpoint(str(act))


def test_the_oldest_configuration_means_the_same(act):
    whole = PreTrainedConfig.from_pretrained(act)
    make_oldest(act)
    config = load_act_checkpoint(str(act)).config
    del whole.normalization_mapping["VISUAL"]  # there is no camera
    assert config == dataclasses.replace(whole, push_to_hub=True)


def test_the_oldest_may_name_inputs_that_act_does_not_look_at(act):
    make_oldest(act)
    edit_config(act, lambda document: document["input_shapes"].update({"observation.velocity": [6]}))
    assert "observation.velocity" not in load_act_checkpoint(str(act)).config.input_features


OLDEST = {
    "no camera": (lambda c: c["input_shapes"].pop("observation.environment_state"), "of LeRobot before 0.1 .*names neither a camera nor"),
    "two modes": (
        lambda c: c["input_shapes"].update({"observation.image": [3, 32, 32], "observation.image2": [3, 32, 32]})
        or c["input_normalization_modes"].update({"observation.image": "mean_std"}),
        "'observation.image2' is normalised as IDENTITY, others of its kind as MEAN_STD",
    ),
    "of another policy": (lambda c: c.update(horizon=16, down_dims=[512]), r"not a configuration of LeRobot's ACT .*down_dims=.*horizon="),
    "a mode that is none": (lambda c: c["input_normalization_modes"].update({"observation.state": "fancy"}), "not a configuration of LeRobot's ACT"),
    "shapes that are none": (lambda c: c["input_shapes"].update({"observation.state": "wide"}), "not a configuration of LeRobot's ACT"),
}  # fmt: skip


@pytest.mark.parametrize("name", OLDEST)
def test_what_cannot_be_translated_is_refused(act, name):
    make_oldest(act)
    change, words = OLDEST[name]
    edit_config(act, change)
    with pytest.raises(ValueError, match=f"^policy.act_path='{act}': config.json: .*{words}"):
        load_act_checkpoint(str(act))


def test_step_0_of_an_old_configuration_is_act(act):
    make_oldest(act)
    config = small_act_config(0)
    policy = SerlSacPolicy(SerlSacConfig(act_path=str(act), device="cpu", push_to_hub=False), dataset_stats=statistics_for(config))
    chunk, _ = policy.agent.act.plan(random_observations(config, 2), 10)
    assert chunk.shape == (2, 10, 4)
    assert torch.isfinite(chunk).all()
