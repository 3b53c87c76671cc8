"""Small robots and teleoperators in memory, behind LeRobot's own interfaces."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lerobot.robots import Robot, RobotConfig
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.teleoperators.utils import TeleopEvents

from lerobot_serl.robots.uncalibrated import Uncalibrated
from lerobot_serl.teleoperators.events import intervention_events

KEYS = ("left_elbow.pos", "left_gripper.pos", "right_elbow.pos", "right_gripper.pos")
CAMERA, IMAGE_SHAPE = "front", (6, 5, 3)


@dataclass(kw_only=True)
class TwoArmsConfig(RobotConfig):
    """See `TwoArms`."""

    lockstep: bool = False


class TwoArms(Uncalibrated, Robot):
    """A left and a right arm of one joint and one gripper each, and a camera. It clips its targets to -1..1 and says so.

    Attributes:
        positions: reached at once by whatever is sent, except the `stuck` ones.
        sent: every action, as it came.
        calls: what was called, in order.
        on_observe, on_send: called before; for faults.
        answer: of an executed action; for faults.
    """

    config_class = TwoArmsConfig
    name = "two_arms"

    def __init__(self, config: TwoArmsConfig | None = None, **positions: float) -> None:
        super().__init__(config or TwoArmsConfig())
        self.config = config or TwoArmsConfig()
        self.positions = {**dict.fromkeys(KEYS, 0.0), **positions}
        self.sent: list[dict[str, float]] = []
        self.calls: list[str] = []
        self.stuck: set[str] = set()
        self.connected = False
        self.on_observe = self.on_send = lambda: None
        self.answer = lambda executed: executed
        self.image = np.arange(90, dtype=np.uint8).reshape(IMAGE_SHAPE)

    @property
    def observation_features(self) -> dict[str, Any]:
        return {**dict.fromkeys(KEYS, float), CAMERA: IMAGE_SHAPE}

    @property
    def action_features(self) -> dict[str, type]:
        return dict.fromkeys(KEYS, float)

    @property
    def is_connected(self) -> bool:
        return self.connected

    def connect(self, calibrate: bool = True) -> None:
        self.connected = True
        self.calls.append("connect")

    def disconnect(self) -> None:
        self.connected = False
        self.calls.append("disconnect")

    def get_observation(self) -> dict[str, Any]:
        self.calls.append("observe")
        self.on_observe()
        return {**self.positions, CAMERA: self.image}

    def send_action(self, action: Mapping[str, Any]) -> Any:
        self.calls.append("send")
        self.on_send()
        self.sent.append(dict(action))
        executed = {key: float(np.clip(action[key], -1.0, 1.0)) for key in KEYS}
        self.positions |= {key: value for key, value in executed.items() if key not in self.stuck}
        return self.answer(executed)


@dataclass(kw_only=True)
class TwoArmsThatKnowConfig(TwoArmsConfig):
    """See `TwoArmsThatKnow`."""


class TwoArmsThatKnow(TwoArms):
    """Knows that it has not succeeded, so that nobody has to say so."""

    config_class = TwoArmsThatKnowConfig
    success = False


class Leader(Uncalibrated, Teleoperator):
    """Gives `values`; without events and without motors.

    Attributes:
        failure: raised by `get_action`.
    """

    config_class = TeleoperatorConfig
    name = "leader"

    def __init__(self, **values: float) -> None:
        super().__init__(TeleoperatorConfig())
        self.values = dict(values)
        self.failure: Exception | None = None
        self.asked = 0

    @property
    def action_features(self) -> dict[str, Any]:
        return dict.fromkeys(self.values, float)

    @property
    def feedback_features(self) -> dict[str, Any]:
        return {}

    @property
    def is_connected(self) -> bool:
        return True

    def connect(self, calibrate: bool = True) -> None:
        pass

    def disconnect(self) -> None:
        pass

    def get_action(self) -> dict[str, float]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return dict(self.values)

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        raise AssertionError("this leader has no motors")


class LeaderWithEvents(Leader):
    """Also says when it takes over; `events` holds what else it says."""

    takes_over = False
    events: Mapping[TeleopEvents, bool] = {}

    def get_teleop_events(self) -> dict[Any, bool]:
        return {**intervention_events(self.takes_over), **self.events}


@dataclass(kw_only=True)
class SmallHandConfig(TeleoperatorConfig):
    """See `SmallHand`."""

    keys: list[str] = field(default_factory=lambda: list(reversed(KEYS)))


class SmallHand(LeaderWithEvents):
    """Takes over from the beginning; each number is a tenth of its place among the robot's."""

    config_class = SmallHandConfig
    name = "small_hand"
    takes_over = True

    def __init__(self, config: SmallHandConfig) -> None:
        super().__init__(**{key: (1 + KEYS.index(key)) / 10 for key in config.keys})


class DrivenLeader(Leader):
    """A leader with motors: follows feedback, as long as it has torque and nobody holds it.

    Attributes:
        log: "on", "off" and the feedback that it got.
    """

    def __init__(self, **values: float) -> None:
        super().__init__(**values)
        self.log: list[Any] = []
        self.is_held = False

    @property
    def feedback_features(self) -> dict[str, Any]:
        return dict.fromkeys(self.values, float)

    def enable_torque(self) -> None:
        self.log.append("on")

    def disable_torque(self) -> None:
        self.log.append("off")

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        self.log.append(dict(feedback))
        if not self.is_held:
            self.values |= feedback


def slow(seconds: float) -> None:
    """Take this long, as a camera that does not come."""
    time.sleep(seconds)
