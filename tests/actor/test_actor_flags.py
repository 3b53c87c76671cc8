"""Flags of the actor process that are checked before anything starts."""

import re

import pytest
from lerobot.teleoperators import TeleoperatorConfig
from small_robots import TwoArmsConfig

from lerobot_serl.actor.settings import ResetConfig, RewardConfig, SafetyConfig, TakeoverConfig
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.scripts import lerobot_serl_actor as script
from lerobot_serl.scripts.lerobot_serl_actor import ActorProcessConfig, machine_name
from lerobot_serl.setting_error import SettingError


def config(**flags):
    return ActorProcessConfig(learner="127.0.0.1:1", env=FrankaSimEnv(), **flags)


@pytest.mark.parametrize("name", ["a", "left-arm_2.lab", "x" * 64, "_", "1"])
def test_a_name_is_letters_digits_and_a_few_signs(name):
    assert config(name=name).name == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "..", ".hidden", "é", "a\n"])
def test_another_name_is_refused(name):
    with pytest.raises(SettingError, match=re.escape(f"--name={name!r}: expected 1 to 64")):
        config(name=name)


@pytest.mark.parametrize("host", ["lab-pc.example.org", "Pc", "my machine!", "..", "é" * 100, ""])
def test_the_machines_name_always_makes_one(monkeypatch, host):
    monkeypatch.setattr(script.socket, "gethostname", lambda: host)
    assert config().name == machine_name()


@pytest.mark.parametrize(
    "flags",
    [
        {"max_disconnected_s": -1.0},
        {"max_disconnected_s": float("nan")},
        {"spool_limit_gb": 0.05},
        {"fps": 0},
        {"fps": -10},
        {"device": "gpu"},
        {"device": "cuda:99"},
        {"device": ""},
    ],
)
def test_numbers_have_limits(flags):
    ((flag, value),) = flags.items()
    with pytest.raises(SettingError, match=f"--{flag}={value}: expected"):
        config(**flags)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"reward": RewardConfig(path="somewhere/a_model")}, "--reward.path"),
        ({"reward": RewardConfig(function="module:function")}, "--reward.function"),
        ({"reward": RewardConfig(threshold=0.7, veto_s=2.0)}, "--reward.threshold, --reward.veto_s"),
        ({"reset": ResetConfig(mode="none", pause_s=10)}, "--reset.mode, --reset.pause_s"),
        ({"safety": SafetyConfig(enabled=False)}, "--safety.enabled"),
        ({"safety": SafetyConfig(low={"a": 0.0})}, "--safety.low"),
    ],
)
def test_a_flag_that_an_environment_would_ignore_is_refused(flags, named):
    with pytest.raises(SettingError, match=f"^{named}: only robots obey that, and here is --env.type. Leave it out."):
        config(**flags)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"reward": RewardConfig(success_key="succeed")}, "--reward.success_key"),
        ({"takeover": TakeoverConfig(keys={"a": "b"}, gripper_positions=[0, 1])}, "--takeover.keys, --takeover.gripper_positions"),
    ],
)
def test_a_flag_that_a_robot_would_ignore_is_refused(flags, named):
    with pytest.raises(SettingError, match=f"^{named}: only environments obey that, and here is --robot.type. Leave it out."):
        ActorProcessConfig(learner="127.0.0.1:1", robot=TwoArmsConfig(), teleop=TeleoperatorConfig(), **flags)


def test_flags_of_takeovers_take_a_teleoperator():
    with pytest.raises(SettingError, match=r"^--takeover.motion_threshold: takes a teleoperator to take over with, --teleop.type="):
        config(takeover=TakeoverConfig(motion_threshold=0.1))
    config(takeover=TakeoverConfig(motion_threshold=0.1), teleop=TeleoperatorConfig())


@pytest.mark.parametrize(
    "flags", [{"task": "lift"}, {"fps": 10}, {"episode_time_s": 3.0}, {"rename_map": {"a": "b"}}, {"reward": RewardConfig(source="keys")}]
)
def test_flags_that_an_environment_obeys_are_taken(flags):
    config(**flags)


@pytest.mark.parametrize("learner", ["", "localhost", ":50051", "host:", "host:port", "host:0", "host:65536", "host:-1", "host:٣"])
def test_where_the_learner_is_takes_host_and_port(learner):
    with pytest.raises(SettingError, match=re.escape(f"--learner={learner!r}: expected HOST:PORT")):
        ActorProcessConfig(learner=learner, env=FrankaSimEnv())
