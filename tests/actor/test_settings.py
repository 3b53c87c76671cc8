"""Flags of the robot side: defaults hold, and what makes no sense is refused by the flag's name."""

import math

import pytest

from lerobot_serl.actor.settings import ResetConfig, RewardConfig, SafetyConfig, TakeoverConfig
from lerobot_serl.setting_error import SettingError

BOX = dict(kinematics="m:f", workspace_low_m=[0.0, 0.0, 0.0], workspace_high_m=[1.0, 1.0, 1.0])


def test_defaults_are_valid_and_limits_are_on():
    assert SafetyConfig().enabled
    assert (RewardConfig().source, ResetConfig().mode, TakeoverConfig().key) == ("auto", "auto", "space")


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        (RewardConfig, dict(source="dense"), r"--reward.source=dense: expected one of auto, success"),
        (RewardConfig, dict(source="model"), r"--reward.path=None: expected a directory or Hub id"),
        (RewardConfig, dict(source="function"), r"--reward.function=None: expected MODULE:FUNCTION"),
        (RewardConfig, dict(path="a", function="b:c"), r"either --reward.path or --reward.function, not both"),
        (
            RewardConfig,
            dict(source="keys", path="a"),
            r"--reward.path=a: expected nothing beside --reward.source=keys, or --reward.source=model",
        ),
        (RewardConfig, dict(source="robot", function="b:c"), r"--reward.function=b:c: expected nothing beside --reward.source=robot"),
        (RewardConfig, dict(threshold=math.nan), r"--reward.threshold=nan: expected a finite number"),
        (RewardConfig, dict(consecutive=0), r"--reward.consecutive=0: expected at least 1"),
        (RewardConfig, dict(veto_s=-1), r"--reward.veto_s=-1: expected 0 to 60 seconds"),
        (RewardConfig, dict(veto_s=61), r"--reward.veto_s=61"),
        (ResetConfig, dict(mode="home"), r"--reset.mode=home: expected one of auto, robot, pose, teleop, none"),
        (ResetConfig, dict(speed=0), r"--reset.speed=0: expected more than 0"),
        (ResetConfig, dict(speed=math.inf), r"--reset.speed=inf"),
        (ResetConfig, dict(pause_s=-0.1), r"--reset.pause_s=-0.1: expected 0 to 3600 seconds"),
        (ResetConfig, dict(pause_s=math.nan), r"--reset.pause_s=nan"),
        (ResetConfig, dict(pose={"a": math.nan}), r"--reset.pose=.*: expected finite numbers"),
        (ResetConfig, dict(mode="teleop"), r"--reset.pause_s=0.0: expected more than 0 with --reset.mode=teleop"),
        (SafetyConfig, dict(range_margin=-0.1), r"--safety.range_margin=-0.1: expected 0 to 10"),
        (SafetyConfig, dict(step_margin=0.9), r"--safety.step_margin=0.9: expected 1 to 100"),
        (SafetyConfig, dict(max_observation_age_s=0), r"--safety.max_observation_age_s=0: expected more than 0"),
        (SafetyConfig, dict(low={"a": math.nan}), r"--safety.low=.*: expected finite numbers"),
        (SafetyConfig, dict(high={"a": math.inf}), r"--safety.high=.*: expected finite numbers"),
        (SafetyConfig, dict(low={"a": 1.0}, high={"a": 1.0}), r"--safety.low=.*: expected a below safety.high's 1.0"),
        (SafetyConfig, dict(workspace_low_m=[0.0] * 3, workspace_high_m=[1.0] * 3), r"--safety.kinematics=None: expected MODULE:FUNCTION"),
        (SafetyConfig, dict(kinematics="m:f"), r"--safety.workspace_low_m=\[\]: expected three numbers"),
        (SafetyConfig, BOX | dict(workspace_low_m=[0.0, 2.0, 0.0]), r"--safety.workspace_low_m="),
        (SafetyConfig, BOX | dict(workspace_high_m=[1.0, math.nan, 1.0]), r"--safety.workspace_low_m="),
        (SafetyConfig, BOX | dict(workspace_high_m=[1.0, 1.0]), r"--safety.workspace_low_m="),
        (TakeoverConfig, dict(key=""), r"--takeover.key=: expected a key"),
        (TakeoverConfig, dict(motion_threshold=-1), r"--takeover.motion_threshold=-1: expected at least 0"),
        (TakeoverConfig, dict(release_after_s=0), r"--takeover.release_after_s=0: expected more than 0, at most 60"),
        (TakeoverConfig, dict(speed=0), r"--takeover.speed=0: expected more than 0"),
        (TakeoverConfig, dict(speed=math.inf), r"--takeover.speed=inf"),
        (TakeoverConfig, dict(handover_s=11), r"--takeover.handover_s=11: expected 0 to 10 seconds"),
        (TakeoverConfig, dict(max_difference=0), r"--takeover.max_difference=0: expected more than 0"),
        (TakeoverConfig, dict(max_difference=math.nan), r"--takeover.max_difference=nan"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(config, changes, said):
    with pytest.raises(SettingError, match=said):
        config(**changes)


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (RewardConfig, dict(source="model", path="a")),
        (RewardConfig, dict(source="function", function="m:f", veto_s=60)),
        (ResetConfig, dict(mode="teleop", pause_s=10)),
        (SafetyConfig, BOX),
        (SafetyConfig, dict(low={"a": -1.0}, high={"a": 1.0, "b": 0.0})),
        (TakeoverConfig, dict(handover_s=0)),
    ],
)
def test_what_makes_sense_is_taken(config, changes):
    config(**changes)
