"""A robot of any keys, the statistics of demonstrations for it, and its world."""

from dataclasses import dataclass, field, replace
from typing import Any

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.robots import Robot, RobotConfig

from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.robot_setup import PolicyNeeds, RobotSettings, make_robot_world
from lerobot_serl.actor.settings import ResetConfig
from lerobot_serl.replay.demonstration_stats import DemonstrationStats
from lerobot_serl.robots.uncalibrated import Uncalibrated

FPS = 200


@dataclass(kw_only=True)
class FreeConfig(RobotConfig):
    """See `Free`."""

    lockstep: bool = False
    max_relative_target: Any = None
    serl: dict[str, list[str]] = field(default_factory=dict)


class Free(Uncalibrated, Robot):
    """A robot of any keys that needs all of them at once. Its positions come to rest `sag` below what it was told."""

    config_class = FreeConfig
    name = "free"

    def __init__(self, keys, measured, sag=0.0, config=None, **values):
        super().__init__(config or FreeConfig())
        self.config = config or FreeConfig()
        self.keys, self.measured, self.sag = tuple(keys), tuple(measured), sag
        self.values = {**dict.fromkeys(measured, 0.0), **values}
        self.sent, self.calls = [], []
        self.on_send = self.on_observe = lambda: None
        self.answer = lambda executed: executed

    observation_features = property(lambda self: dict.fromkeys(self.measured, float))
    action_features = property(lambda self: dict.fromkeys(self.keys, float))
    is_connected = property(lambda self: True)

    def connect(self, calibrate=True):
        pass

    def disconnect(self):
        self.calls.append("disconnect")

    def get_observation(self):
        self.on_observe()
        return dict(self.values)

    def send_action(self, action):
        executed = {key: float(action[key]) for key in self.keys}
        self.sent.append(executed)
        self.on_send()
        self.values |= {key: value - self.sag for key, value in executed.items() if key in self.measured}
        return self.answer(dict(executed))


def stats_of(keys, low, high, **changes):
    """Of demonstrations of 20 steps that name their actions."""
    size = len(keys)
    demo_stats = DemonstrationStats(tuple(keys), (), tuple(low), tuple(high), (None,) * size, (None,) * size, 20, 20)
    return replace(demo_stats, **changes)


def make_free_world(robot, demo_stats, new_takeover=None, **settings):
    """Without a reset, unless `settings` of the robot have one; with the takeover, if there is one."""
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (len(robot.measured),))}
    settings = {"reset": ResetConfig(mode="none"), **settings}
    needs = PolicyNeeds(inputs, len(robot.keys), FPS, demo_stats)
    made = make_robot_world(robot, RobotSettings(**settings), needs, Controls(), new_takeover, None)
    return made[0] if new_takeover is None else made
