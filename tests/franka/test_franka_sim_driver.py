"""The simulated arm behind the driver interface: what a newcomer tries first has to move, grasp and stop."""

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("gym_hil")

from lerobot_serl.franka import kinematics
from lerobot_serl.franka.arm_owner import ArmOwner
from lerobot_serl.franka.controller_settings import READY_RAD, ControllerSettings
from lerobot_serl.franka.driver import Impedance
from lerobot_serl.franka.sim_driver import MAX_BEHIND_S, MAX_WIDTH_M, SimArm, SimGripper, SimWorld

READY = np.array(READY_RAD)


class Clock:
    """Time that passes when the test says so."""

    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


class Rig:
    """A world with an arm, and the world's clock."""

    def __init__(self):
        self.clock = Clock()
        self.world = SimWorld(self.clock)
        self.arm = SimArm(self.world)

    def run(self, seconds, each=lambda: None):
        for _ in range(round(seconds / 0.02)):
            each()
            self.clock.now += 0.02
            state = self.arm.read()
        return state


@pytest.fixture
def rig():
    return Rig()


def test_kinematics_agree_with_the_scene(rig):
    state = rig.run(0.1)
    np.testing.assert_allclose(state.pose[:3, 3], rig.world.scene.tcp_position_m, atol=1e-3)
    assert not state.in_control


def test_time_passes_only_with_the_clock_and_a_pause_is_not_made_up_for(rig):
    rig.arm.read()
    before = rig.world.scene.data.time
    rig.arm.read()
    assert rig.world.scene.data.time == before
    rig.clock.now += 60.0
    rig.arm.read()
    assert 0 < rig.world.scene.data.time - before <= MAX_BEHIND_S + 1e-6


def test_joint_targets_are_followed(rig):
    start = rig.arm.read().q_rad
    rig.arm.start_joint_tracking(Impedance())
    assert rig.arm.read().in_control
    rig.arm.set_joint_target(start + 0.05, np.zeros(7))
    state = rig.run(1.0)
    np.testing.assert_allclose(state.q_rad, start + 0.05, atol=0.005)
    rig.arm.stop_tracking()
    assert not rig.arm.read().in_control


def test_pose_targets_are_followed(rig):
    wanted = rig.arm.read().pose
    wanted[:3, 3] += [0.03, 0.02, 0.01]
    wanted[:3, :3] = kinematics.matrix_of_rotvec([0, 0, 0.1]) @ wanted[:3, :3]
    rig.arm.start_pose_tracking(Impedance())
    state = rig.run(1.0, lambda: rig.arm.set_pose_target(wanted, np.zeros(6)))
    np.testing.assert_allclose(state.pose, wanted, atol=0.003)


def test_a_slow_motion_arrives_and_ends(rig):
    rig.arm.move_joints(READY, 0.3)
    assert rig.run(0.1).in_control
    state = rig.run(4.0)
    assert not state.in_control
    np.testing.assert_allclose(state.q_rad, READY, atol=0.02)


def test_a_slow_motion_can_be_stopped(rig):
    start = rig.arm.read().q_rad
    rig.arm.move_joints(start + 0.5, 0.05)
    rig.run(0.5)
    rig.arm.stop_tracking()
    held = rig.run(0.5).q_rad
    np.testing.assert_allclose(rig.run(0.5).q_rad, held, atol=1e-3)
    assert np.abs(held - start).max() < 0.4


def test_a_reset_of_the_owner_is_no_faster_than_its_cap(rig):
    owner = ArmOwner(rig.arm, ControllerSettings(max_joint_velocity_rad_s=0.1), rig.clock)
    owner.tick()
    end = owner.move(READY - 0.2 * np.eye(7)[5])
    fastest_rad_s = 0.0
    while not end.done():
        rig.clock.now += 0.01
        owner.tick()
        fastest_rad_s = max(fastest_rad_s, float(np.abs(owner.state.dq_rad_s).max()))
    end.result()
    assert 0.03 < fastest_rad_s < 0.1


def test_the_gripper_closes_and_opens():
    world = SimWorld()
    gripper = SimGripper(world)
    assert gripper.width_m() == pytest.approx(MAX_WIDTH_M, abs=0.005)
    gripper.grasp(0.1, 30.0)
    assert gripper.width_m() < 0.01
    gripper.move(0.05, 0.1)
    assert gripper.width_m() == pytest.approx(0.05, abs=0.01)
    gripper.homing()
    assert gripper.width_m() == pytest.approx(MAX_WIDTH_M, abs=0.01)
    gripper.close()
