"""Settings: what is refused, and with which words; and that a checkpoint's file gives them back."""

import json

import draccus
import pytest
from draccus.utils import DecodingError
from lerobot.configs import PreTrainedConfig

from lerobot_serl import SerlSacConfig


def parse(*flags):
    return draccus.parse(SerlSacConfig, None, args=["--device=cpu", "--push_to_hub=false", *flags])


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--horizon=0", r"policy.horizon=0: expected a number greater than 0"),
        ("--horizon=101", r"policy.horizon=101: expected at most ACT's chunk_size, 100. Lower --policy.horizon"),
        ("--discount=1.5", r"policy.discount=1.5: expected a number between 0 and 1"),
        ("--demo_fraction=1.0", r"policy.demo_fraction=1.0: expected a number from 0 to below 1"),
        ("--utd=0", r"policy.utd=0"),
        ("--features=pixels", r"policy.features='pixels': expected one of auto, state, act, both, cnn"),
        ("--value_range=[1,0]", r"policy.value_range=\(1.0, 0.0\): expected two numbers, the smaller first"),
        ("--actor.mode=finetune", r"policy.actor.mode='finetune': expected 'edit'"),
        ("--actor.init_std=2", r"policy.actor.init_std=2.0: expected between min_std 0.05 and max_std 0.6"),
        ("--actor.explore=-1", r"policy.actor.explore=-1.0: expected a probability"),
        ("--critic.subset=9", r"policy.critic.subset=9: expected 1 to members, 4"),
        ("--critic.hidden_sizes=[]", r"policy.critic.hidden_sizes"),
        ("--critic.activation=gelu", r"policy.critic.activation='gelu': expected relu, silu or tanh"),
        ("--temperature.init=0", r"policy.temperature.init=0.0: expected a number greater than 0"),
        ("--startup.scale_fraction=0", r"policy.startup.scale_fraction=0.0"),
        ("--guard.max_bad_updates=0", r"policy.guard.max_bad_updates=0: expected a whole number of at least 1"),
        ("--guard.window=9", r"policy.guard.window=9: expected at least 10 episodes"),
        ("--guard.margin=1", r"policy.guard.margin=1.0: expected a share from 0 to below 1"),
        ("--online.host=''", r"policy.online.host='': expected an address"),
        ("--online.certificate=me.pem", r"policy.online.certificate='me.pem': expected a file beside certificate_key, None. Give both"),
        ("--online.port=70000", r"policy.online.port=70000: expected a port number"),
        ("--online.root=/data", r"policy.online.root='/data': expected policy.online.repo_id beside it"),
        ("--utd=inf", r"policy.utd=inf: expected a number greater than 0"),
        ("--critic.lr=nan", r"policy.critic.lr=nan: expected a number greater than 0"),
        ("--actor.anchor=inf", r"policy.actor.anchor=inf: expected a number of at least 0"),
        ("--actor.edit_scale=[]", r"policy.actor.edit_scale=\(\): expected numbers from above 0 to 2, or nothing"),
        ("--temperature.target_entropy=nan", r"policy.temperature.target_entropy=nan: expected a finite number, or nothing"),
        ("--schema_version=2", r"policy.schema_version=2: expected 1. Upgrade"),
    ],
)
def test_unusable_values_are_refused_with_name_expectation_and_remedy(flag, words):
    with pytest.raises(DecodingError, match=words):  # of which LeRobot shows the text, and nothing else
        parse(flag)


def test_a_checkpoint_gives_the_settings_back(tmp_path):
    config = parse("--horizon=7", "--critic.members=3", "--online.repo_id=me/x", "--act.dim_model=64", "--value_range=[0,1]")
    config.save_pretrained(tmp_path)
    assert PreTrainedConfig.from_pretrained(tmp_path) == config


def test_a_saved_configuration_is_not_in_progress(tmp_path):
    """config.json starts a new run (--policy.path=); only train_config.json goes on counting (--resume=true)."""
    config = parse()
    config.in_progress = True
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["in_progress"] is False
    assert draccus.encode(config)["in_progress"] is True


def test_it_is_offline_unless_a_dataset_for_the_episodes_is_named():
    assert not parse().online.enabled
    assert parse("--online.repo_id=me/x").online.enabled
