"""Settings that went: files, messages and command lines of earlier versions that still name them."""

import json
import logging
import subprocess
import sys

import draccus
import pytest
from draccus.utils import DecodingError
from lerobot.configs import PreTrainedConfig
from lerobot.configs.train import TrainPipelineConfig
from small_policy import small_config

from lerobot_serl.networks.action_normalizer import RANGE_FLOOR
from lerobot_serl.online.feature_cache import BATCH_FRAMES
from lerobot_serl.online.success_watch import DEPLOYED_WINDOW
from lerobot_serl.online.update_guard import MOST_BAD_UPDATES
from lerobot_serl.policy.agent import SAMPLED_CANDIDATES
from lerobot_serl.policy.parts import ActorConfig, CorrectorConfig, GraspConfig, TemperatureConfig
from lerobot_serl.policy.removed_settings import REMOVED, without_removed_flags

OTHER = {
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: value + 1,
    str: str.upper,
    type(None): lambda value: "x",
}


def with_setting(document, name, value):
    """A configuration that names a setting."""
    group, _, field = name.rpartition(".")
    return {**document, group: {**document[group], field: value}} if group else {**document, field: value}


@pytest.fixture
def checkpoint(tmp_path):
    """Its directory, and what its config.json says."""
    small_config(horizon=3).save_pretrained(tmp_path)
    return tmp_path, json.loads((tmp_path / "config.json").read_text())


def load(directory, document):
    (directory / "config.json").write_text(json.dumps(document))
    return PreTrainedConfig.from_pretrained(directory)


def test_a_checkpoint_that_names_all_of_them_loads_with_one_line(checkpoint, caplog):
    directory, document = checkpoint
    caplog.set_level(logging.INFO)
    wanted = load(directory, document)
    assert "settings no more" not in caplog.text
    for name, value in REMOVED.items():
        document = with_setting(document, name, value)
    assert load(directory, document) == wanted
    assert [record.getMessage() for record in caplog.records if "settings no more" in record.getMessage()] == [
        f"Left out, as they are settings no more and had the values that hold now: {', '.join(f'policy.{name}' for name in REMOVED)}."
    ]


@pytest.mark.parametrize("name", REMOVED)
def test_another_value_is_refused_in_a_sentence(checkpoint, name):
    directory, document = checkpoint
    value = OTHER[type(REMOVED[name])](REMOVED[name])
    with pytest.raises(DecodingError) as refused:
        load(directory, with_setting(document, name, value))
    assert (
        str(refused.value)
        .strip()
        .endswith(
            f"policy.{name}={value!r}: expected {REMOVED[name]!r}: this setting is gone, and that is what holds. Leave it out, in a checkpoint of "
            "config.json."
        )
    )


def test_a_resumed_run_s_file_loads_too(checkpoint, tmp_path):
    _, document = checkpoint
    train = {"dataset": {"repo_id": "a/b"}, "policy": with_setting(document, "actor.mode", "edit")}
    (tmp_path / "train_config.json").write_text(json.dumps(train))
    config = draccus.parse(TrainPipelineConfig, tmp_path / "train_config.json", args=["--policy.horizon=4"])
    assert config.policy.horizon == 4


def test_what_never_was_a_setting_is_refused_as_before(checkpoint):
    directory, document = checkpoint
    with pytest.raises(DecodingError, match="`modus` are not valid"):
        load(directory, with_setting(document, "actor.modus", "edit"))


def test_flags_are_left_out_with_their_values(caplog):
    caplog.set_level(logging.INFO)
    typed = ["--policy.actor.mode=edit", "--policy.horizon=5", "--policy.guard.max_bad_updates", "10", "--seed", "3", "--actor.mode=x"]
    assert without_removed_flags(typed) == ["--policy.horizon=5", "--seed", "3", "--actor.mode=x"]
    assert "had the values that hold now: policy.actor.mode, policy.guard.max_bad_updates." in caplog.text
    with pytest.raises(ValueError, match=r"policy.actor.sampled_candidates=8: expected 4: this setting is gone"):
        without_removed_flags(["--policy.actor.sampled_candidates", "8"])


@pytest.mark.parametrize(("typed", "code"), [("edit", 0), ("finetune", 1)])
def test_commands_get_the_flags_without_them(typed, code):
    command = "import sys, lerobot_policy_serl_sac; print(sys.argv[1:])"
    arguments = [f"--policy.actor.mode={typed}", "--policy.type=serl_sac"]
    done = subprocess.run([sys.executable, "-c", command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    if code:
        assert done.stderr.strip().splitlines()[-1].startswith("policy.actor.mode='finetune': expected 'edit': this setting is gone")
    else:
        assert done.stdout.strip() == "['--policy.type=serl_sac']"


def test_the_values_that_hold_are_those_of_the_code():
    groups = {"corrector": CorrectorConfig, "grasp": GraspConfig, "actor": ActorConfig, "temperature": TemperatureConfig}
    here = {
        "action_range_floor": RANGE_FLOOR,
        "annotation_batch_size": BATCH_FRAMES,
        "actor.sampled_candidates": SAMPLED_CANDIDATES,
        "guard.deployed_window": DEPLOYED_WINDOW,
        "guard.max_bad_updates": MOST_BAD_UPDATES,
    }
    for name in REMOVED:
        group, _, field = name.partition(".")
        if group in groups and hasattr(groups[group], field):
            here[name] = getattr(groups[group], field)
    assert {name: REMOVED[name] for name in here} == here
    assert REMOVED.keys() - here.keys() == {"act.pretrained_backbone_weights", "actor.mode", "grasp.backup"}
