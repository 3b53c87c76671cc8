"""Random robots with faults at any moment: no command leaves the printed limits, and what nobody knows is never sent as 0."""

import math
from contextlib import suppress
from functools import partial
from random import Random

import numpy as np
import pytest
from free_robot import Free, FreeConfig, stats_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot.configs import FeatureType, PolicyFeature
from small_robots import LeaderWithEvents

from lerobot_serl.actor import reset as reset_module
from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.robot_setup import PolicyNeeds, RobotSettings, make_robot_world
from lerobot_serl.actor.rollout import Rollout
from lerobot_serl.actor.settings import ResetConfig, SafetyConfig, TakeoverConfig
from lerobot_serl.actor.takeover import Takeover
from lerobot_serl.actor.world import WorldError

FPS = 100_000  # time passes as fast as the test runs
KEYS = (
    "a.pos", "b.pos", "Joint_3.pos", "kElbow.q", "tool.z", "ee.wx", "kp", "Gripper.pos", "left_gripper.value", "x.vel", "mobile_base.vx",
    "base_omega", "arm_speed", "delta_x", "ee_dy.vel", "said_speed", "said_place", "in_metres_per_second",
)  # fmt: skip
STOPS = {"x.vel", "mobile_base.vx", "base_omega", "arm_speed", "delta_x", "ee_dy.vel", "said_speed", "in_metres_per_second"}
FAULTS = ("send fails", "send interrupted", "answers nothing", "answers NaN", "no frame", "cable", "reads NaN", "reads less", "interrupted")
EPSILON = 1e-5  # actions travel as float32


class Watched(Free):
    """Checks each command against the limits and against what the world has read. Faults come at the calls of these numbers.

    Attributes:
        limits: printed at the start; None until then, when nothing may be sent.
        is_holding: the world says that it holds still.
        seen: the last observation that was whole.
        asked: key -> targets that came from a policy or a person since the robot last moved by itself.
    """

    action_units = {"in_metres_per_second": "m/s"}  # noqa: RUF012

    def __init__(self, random, keys, measured, faults):
        declared = {"velocities": ["said_speed"], "positions": ["said_place"]}
        super().__init__(keys, measured, config=FreeConfig(serl=declared))
        self.random, self.faults, self.calls_made = random, faults, 0
        self.values = {key: random.uniform(-3, 3) for key in measured}
        self.follows, self.load = random.choice((0.0, 0.5, 1.0)), random.choice((0.0, 0.3))
        self.returns = random.choice(("executed", "executed", "asked", "else"))
        self.limits, self.is_holding, self.seen, self.asked = None, False, {}, {}
        self.arrived = {}

    def fault(self):
        self.calls_made += 1
        return self.faults.get(self.calls_made, "")

    def get_observation(self):
        fault = self.fault()
        if fault == "no frame":
            raise TimeoutError("no frame")
        if fault == "cable":
            raise ConnectionError("cable")
        if fault == "interrupted":
            raise KeyboardInterrupt
        numbers = dict(self.values)
        if fault in ("reads NaN", "reads less") and numbers:
            numbers[self.measured[0]] = math.nan
            if fault == "reads less":
                del numbers[self.measured[0]]
            return numbers
        self.seen = dict(numbers)
        return numbers

    def send_action(self, action):
        self.check(action)
        if not self.is_holding:
            for key, value in action.items():
                self.asked.setdefault(key, []).append(value)
        fault = self.fault()
        if fault == "send fails":
            raise ConnectionError("no status packet")
        if fault == "send interrupted":
            raise KeyboardInterrupt
        self.arrived = dict(action)
        executed = {key: min(max(value, -2.5), 2.5) for key, value in action.items()}
        for key in set(self.measured) & set(action):
            self.values[key] += self.follows * (executed[key] - self.values[key]) - self.load * self.random.random()
        if fault == "answers nothing":
            return None
        if fault == "answers NaN":
            return dict.fromkeys(action, math.nan)
        if self.returns == "else":  # a robot that does as it likes, and says so
            return {key: value + self.random.uniform(-1, 1) for key, value in executed.items()}
        return dict(action) if self.returns == "asked" else executed

    def check(self, action):
        assert self.limits is not None
        assert set(action) == set(self.keys)  # a part of it would be a refusal, or zeros
        for key, low, high, step in zip(self.keys, self.limits.low, self.limits.high, self.limits.step, strict=True):
            value, here = action[key], self.seen.get(key, low)
            assert min(low, here) - EPSILON <= value <= max(high, here) + EPSILON
            assert key not in self.seen or abs(value - here) <= step + EPSILON
            if self.is_holding and key in STOPS:
                assert value == 0.0
            elif self.is_holding and key not in self.seen:
                assert key in self.asked  # somebody has sent it something


class WatchedWithReset(Watched):
    """Also moves by itself, and may be interrupted on its way."""

    def reset(self):
        self.seen, self.asked, self.arrived = {}, {}, {}
        self.values = {key: self.random.uniform(-1, 1) for key in self.measured}
        if self.fault() == "interrupted":
            raise KeyboardInterrupt


robots = st.fixed_dictionaries(
    {
        "keys": st.lists(st.sampled_from(KEYS), min_size=1, max_size=6, unique=True),
        "faults": st.dictionaries(st.integers(1, 25), st.sampled_from(FAULTS), max_size=3),
        "reset": st.sampled_from(("auto", "robot", "pose", "none")),
        "numbers": st.integers(0, 2**32),
    }
)


def watched(robot):
    """One of these robots, the statistics of its demonstrations, and the settings; everything but keys and faults from `numbers`."""
    random = Random(robot["numbers"])
    keys, mode = robot["keys"], robot["reset"]
    measured = [key for key in keys if random.random() < 0.6] + ["battery"] * (random.random() < 0.3)
    kind = WatchedWithReset if mode in ("auto", "robot") else Watched
    ends = [sorted((random.uniform(-2, 2), random.uniform(-2, 2))) for _ in keys]
    demo_stats = stats_of(
        keys, [low for low, _ in ends], [high for _, high in ends],
        action_step=tuple(random.choice((None, 0.0, random.random())) if key in measured else None for key in keys),
        start=tuple(random.choice((None, random.uniform(-1, 1))) for _ in keys),
    )  # fmt: skip
    key = random.choice(keys)
    safety = SafetyConfig(
        range_margin=random.choice((0.0, 0.1)), step_margin=random.choice((1.0, 1.5)), far_start=True,
        high={key: random.uniform(-1, 2)} if random.random() < 0.2 else {},
    )  # fmt: skip
    return (
        kind(random, keys, measured, robot["faults"]),
        demo_stats,
        safety,
        ResetConfig(mode=mode, speed=0.4 * FPS, pause_s=random.choice((0.0, 5 / FPS))),
    )


def begin(robot, demo_stats, safety, reset):
    """World, rollout and leader of a robot that watches what it is told from now on; None if it is refused at the start."""
    random, controls = robot.random, Controls()
    leader = LeaderWithEvents(**{key: random.uniform(-2, 2) for key in robot.keys})
    settings = TakeoverConfig(handover_s=3 / FPS, max_difference=random.choice((None, 9.0)))
    new_takeover = partial(Takeover, leader, controls, settings, 1 / FPS)
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (len(robot.measured),))} if robot.measured else {}
    settings = RobotSettings(safety=safety, reset=reset, episode_time_s=4 / FPS)
    try:
        needs = PolicyNeeds(inputs, len(robot.keys), FPS, demo_stats)
        world, takeover = make_robot_world(robot, settings, needs, controls, new_takeover, None)
    except (ValueError, WorldError, ConnectionError, KeyboardInterrupt):
        return None
    robot.limits, hold = world.limiter.limits, world.hold

    def watched_hold(**arguments):
        robot.is_holding = True
        try:
            hold(**arguments)
        finally:
            robot.is_holding = False

    def act(observation):
        leader.takes_over = random.random() < 0.3
        leader.values |= {key: random.uniform(-3, 3) for key in robot.keys}
        return Chunk(np.array([[random.uniform(-9, 9) for _ in robot.keys] for _ in range(2)], np.float32), 0, 0.0)

    world.hold = watched_hold
    return world, Rollout(world, act, controls=controls, takeover=takeover)


def live(description):
    """A process's life: three episodes, whatever happens in them, and the end. Nothing is sent before the start's checks."""
    robot, demo_stats, safety, reset = watched(description)
    begun = begin(robot, demo_stats, safety, reset)
    if begun is None:
        assert robot.sent == []
        return
    world, rollout = begun
    try:
        for _ in range(3):
            with suppress(WorldError, ConnectionError, KeyboardInterrupt):
                rollout.run_episode()
    finally:
        robot.faults = {}
        world.close()
    stops = [value for key, value in robot.arrived.items() if key in STOPS]
    assert stops == [0.0] * len(stops)  # whatever came before, the last command is to stand still


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """The pose settles within three ticks, or not at all; nothing is logged."""
    monkeypatch.setattr(reset_module, "SETTLE_S", 3 / FPS)
    monkeypatch.setattr("logging.Logger.isEnabledFor", lambda self, level: False)


COMMON = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@settings(max_examples=300, **COMMON)
@given(robot=robots)
def test_random_robots(robot):
    live(robot)


@pytest.mark.slow
@settings(max_examples=10_000, **COMMON)
@given(robot=robots)
def test_ten_thousand_random_robots(robot):
    live(robot)
