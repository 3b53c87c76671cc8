"""Between two episodes: the way home, the person's time, and an arm that holds meanwhile."""

import logging
import threading
import time
from itertools import pairwise

import pytest

from lerobot_serl.actor.controls import GO, QUIT, Controls
from lerobot_serl.actor.pace import Pace
from lerobot_serl.actor.reset import AUTO_CROSSING_S, TOLERANCE, Reset
from lerobot_serl.actor.settings import ResetConfig
from lerobot_serl.actor.world import WorldError

PERIOD_S = 0.1


class Arm:
    """Joints that go to their targets, each tick a share `follows` of the way; `stuck` ones stay."""

    def __init__(self, stuck=(), follows=1.0, **positions):
        self.positions, self.stuck, self.follows = dict(positions), stuck, follows
        self.targets, self.holds, self.was_reset = [], 0, 0

    def send(self, action):
        self.targets.append(dict(action))
        for key in action.keys() - set(self.stuck):
            self.positions[key] += self.follows * (action[key] - self.positions[key])

    def read(self):
        return dict(self.positions)

    def hold(self):
        self.holds += 1

    @property
    def measured(self):
        return self.positions

    def go_home(self):
        self.was_reset += 1


def quick_pace():
    """A control rate whose time passes as fast as the test runs."""
    now_s = [0.0]

    def sleep(seconds):
        now_s[0] += seconds

    return Pace(1 / PERIOD_S, lambda: now_s[0], sleep)


def run(arm, settings, pose=None, drive=lambda measured: None, controls=None, pace=None, tolerance=0.01):
    pose = pose or {}
    reset = Reset(
        settings,
        pose,
        dict.fromkeys(pose, tolerance / TOLERANCE),
        drive,
        pace or quick_pace(),
        controls or Controls(),
    )
    reset.run(arm)


def steps(arm, start):
    """Largest move of a target from tick to tick, in units per second, for each joint."""
    targets = [start, *arm.targets]
    return {key: max(abs(b[key] - a[key]) for a, b in pairwise(targets)) / PERIOD_S for key in start}


@pytest.mark.parametrize("distance", [0.011, 0.024, 0.0549, 0.3, 1.0, -0.7])
def test_no_joint_moves_faster_than_the_speed_at_any_tick(distance):
    start = {"elbow": 0.2, "wrist": 0.0}
    arm = Arm(**start)
    run(arm, ResetConfig(mode="pose", speed=0.5), {"elbow": 0.2 + distance, "wrist": 0.005})
    assert max(steps(arm, start).values()) <= 0.5 * (1 + 1e-9)
    assert arm.positions == pytest.approx({"elbow": 0.2 + distance, "wrist": 0.005})


def test_it_takes_no_longer_than_the_speed_asks_for_and_all_joints_arrive_together():
    arm = Arm(elbow=0.0, wrist=0.0)
    run(arm, ResetConfig(mode="pose", speed=0.5), {"elbow": 1.0, "wrist": -0.5})
    assert len(arm.targets) == 20  # 1 rad at 0.5 rad/s, ten ticks a second
    assert arm.targets[9] == pytest.approx({"elbow": 0.5, "wrist": -0.25})


def test_an_arm_that_lags_behind_is_waited_for():
    arm = Arm(elbow=0.0, follows=0.2)
    run(arm, ResetConfig(mode="pose", speed=1.0), {"elbow": 1.0})
    assert arm.positions["elbow"] == pytest.approx(1.0, abs=0.01)
    assert len(arm.targets) > 10


def test_an_arm_at_home_is_there_at_once():
    arm = Arm(elbow=0.5)
    run(arm, ResetConfig(mode="pose"), {"elbow": 0.5})
    assert len(arm.targets) <= 1


def test_a_blocked_arm_is_named_with_joint_and_remedy():
    arm = Arm(stuck=("wrist",), elbow=0.0, wrist=0.0)
    with pytest.raises(
        WorldError, match=r"Reset: 'wrist' stays 0.4 away from its pose 0.4. Is something in the way\?.*--reset.mode=teleop"
    ):
        run(arm, ResetConfig(mode="pose", speed=2.0), {"elbow": 0.4, "wrist": 0.4})


def test_the_robots_own_reset():
    arm = Arm()
    run(arm, ResetConfig(mode="robot"))
    assert arm.was_reset == 1
    assert arm.targets == []


def test_none_does_nothing():
    arm = Arm(elbow=0.0)
    run(arm, ResetConfig(mode="none"))
    assert (arm.was_reset, arm.targets, arm.holds) == (0, [], 0)


def test_the_arm_holds_while_the_person_prepares_the_scene():
    arm, pace = Arm(elbow=0.0), Pace(50)
    began = time.monotonic()
    run(arm, ResetConfig(mode="none", pause_s=0.3), pace=pace)
    assert time.monotonic() - began >= 0.29
    assert arm.holds >= 1
    assert arm.targets == []


@pytest.mark.parametrize("key", ["enter", "q"])
def test_a_key_ends_the_pause(key):
    arm, controls = Arm(elbow=0.0), Controls()
    timer = threading.Timer(0.1, controls.press, [key])
    timer.start()
    began = time.monotonic()
    run(arm, ResetConfig(mode="none", pause_s=60), controls=controls, pace=Pace(50))
    timer.join()
    assert time.monotonic() - began < 30
    assert arm.holds >= 1
    assert not controls.asked(GO)
    assert controls.asked(QUIT) == (key == "q")


def test_an_enter_from_before_does_not_skip_the_pause():
    arm, controls = Arm(elbow=0.0), Controls()
    controls.press("enter")
    began = time.monotonic()
    run(arm, ResetConfig(mode="none", pause_s=0.2), controls=controls, pace=Pace(50))
    assert time.monotonic() - began >= 0.19


def test_a_person_drives_the_arm_back(caplog):
    caplog.set_level(logging.INFO)
    arm, controls, seen = Arm(elbow=1.0), Controls(), []

    def drive(measured):
        seen.append(measured["elbow"])
        if len(seen) == 4:
            controls.press("enter")
        return None if len(seen) == 1 else {"elbow": measured["elbow"] - 0.25}

    run(arm, ResetConfig(mode="teleop", pause_s=60), drive=drive, controls=controls, pace=Pace(50))
    assert seen == [1.0, 1.0, 0.75, 0.5]  # freshly measured at every tick
    assert [target["elbow"] for target in arm.targets] == [0.75, 0.5, 0.25]
    assert arm.holds == 1  # while the person did nothing
    assert "Take over and drive the arm back: 60 s; Enter goes on at once." in caplog.text


def test_a_pose_and_then_a_pause():
    arm = Arm(elbow=0.0)
    run(arm, ResetConfig(mode="pose", speed=5.0, pause_s=0.1), {"elbow": 0.5}, pace=Pace(50))
    assert arm.targets[-1] == {"elbow": 0.5}
    assert arm.holds >= 1


def test_without_a_speed_a_joint_takes_its_time_for_its_range():
    arm = Arm(elbow=0.0, wrist=0.0)
    # A range of 2 for both: half of it takes half of the time.
    run(arm, ResetConfig(mode="pose"), {"elbow": 1.0, "wrist": 0.1}, tolerance=2 * TOLERANCE)
    assert len(arm.targets) == pytest.approx(AUTO_CROSSING_S / 2 / PERIOD_S, abs=1)
    assert max(steps(arm, {"elbow": 0.0, "wrist": 0.0}).values()) <= 2 / AUTO_CROSSING_S + 1e-9
