"""The governors keep every promise under any sequence of commands, and still follow a normal one."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl.franka import kinematics
from lerobot_serl.franka.arm_limits import limits_of
from lerobot_serl.franka.controller_settings import READY_RAD, ControllerSettings
from lerobot_serl.franka.governor import BULGE_M, MAX_TICK_S, Box, JointGovernor
from lerobot_serl.franka.pose_governor import PoseGovernor

DT_S = 0.01
SETTINGS = ControllerSettings()
READY = np.array(READY_RAD)
LOW_M, HIGH_M = np.array(SETTINGS.workspace_min_m), np.array(SETTINGS.workspace_max_m)


def joint_governor(q=READY, model="fr3", **changes):
    return JointGovernor(limits_of(model), dataclasses.replace(SETTINGS, **changes), q, kinematics.HAND, 0.0)


def pose_governor(q=READY, **changes):
    return PoseGovernor(limits_of("fr3"), dataclasses.replace(SETTINGS, **changes), kinematics.tool_pose(q), 0.0)


class Arm:
    """Follows a joint reference with a delay, as a real one does; a blocked arm does not follow at all."""

    def __init__(self, q, follows=0.4):
        self.q, self.follows = np.array(q, dtype=float), follows

    def step(self, reference):
        self.q = self.q + self.follows * (reference - self.q)


# A stream: (kind of target, its size, ticks until the next command, length of those ticks, whether the stream pauses)
targets = st.lists(st.floats(-1, 1), min_size=7, max_size=7)
commands = st.lists(
    st.tuples(targets, st.sampled_from([0.02, 0.2, 3.0]), st.integers(1, 12), st.sampled_from([0.0, 0.004, 0.01, 0.025, 0.5])),
    min_size=1,
    max_size=12,
)


def run_joints(governor, arm, stream, relative):
    """Yield (seconds of this tick, reference before, velocity before, reference, velocity, measured) for every tick."""
    now = 0.0
    for direction, size, ticks, tick_s in stream:
        wanted = np.array(direction) * size + (governor.q_rad if relative else READY)
        goal, changed = governor.command(wanted, 0.033, now)
        assert changed == (not np.allclose(goal, wanted, rtol=0, atol=1e-9))
        for _ in range(ticks):
            now += tick_s
            before, velocity_before = governor.q_rad.copy(), governor.dq_rad_s.copy()
            measured = arm.q.copy()
            q, dq = governor.tick(measured, now)
            yield min(tick_s, MAX_TICK_S), before, velocity_before, q, dq, measured
            arm.step(q)


@given(commands, st.booleans(), st.sampled_from(["fer", "fr3"]), st.sampled_from([0.0, 0.1, 0.4, 1.0]))
@settings(max_examples=40, deadline=None)
def test_joint_references_are_finite_slow_and_close_to_the_arm(stream, relative, model, follows):
    limits = limits_of(model)
    governor, arm = joint_governor(model=model), Arm(READY, follows)
    cap = np.minimum(limits.velocity_rad_s, SETTINGS.max_joint_velocity_rad_s)
    slope = np.minimum(limits.acceleration_rad_s2, SETTINGS.max_joint_acceleration_rad_s2)
    for dt, before, velocity_before, q, dq, measured in run_joints(governor, arm, stream, relative):
        assert np.isfinite(q).all()
        assert np.isfinite(dq).all()
        assert (np.abs(dq) <= cap + 1e-9).all()
        assert (np.abs(q - measured) <= SETTINGS.joint_clip_rad + 1e-9).all()
        assert (np.abs(q - before) <= cap * dt + 1e-9).all()
        assert (q >= limits.low_rad + SETTINGS.joint_limit_margin_rad - 1e-9).all()
        assert (q <= limits.high_rad - SETTINGS.joint_limit_margin_rad + 1e-9).all()
        free = np.abs(q - measured) < SETTINGS.joint_clip_rad - 1e-9  # the clip may stop a joint at once
        assert (np.abs(dq - velocity_before)[free] <= (slope * dt)[free] + 1e-9).all()
        np.testing.assert_allclose((q - before)[free], (dq * dt)[free], atol=1e-9)


@given(commands, st.booleans(), st.tuples(*[st.floats(0.25, 0.7), st.floats(-0.4, 0.4), st.floats(0.05, 0.6)]))
@settings(max_examples=40, deadline=None)
def test_the_tool_stays_in_the_workspace_in_joint_mode(stream, relative, corner):
    """With a box around the start that is small enough to be hit all the time."""
    start = kinematics.tool_pose(READY)[:3, 3]
    low, high = np.minimum(corner, start) - 0.01, np.maximum(corner, start) + 0.01
    governor = joint_governor(workspace_min_m=low.tolist(), workspace_max_m=high.tolist())
    box = Box(low, high)
    for *_, q, _, _ in run_joints(governor, Arm(READY, 1.0), stream, relative):
        assert box.contains(kinematics.tool_pose(governor.goal_rad)[:3, 3], BULGE_M + 1e-6)
        assert box.contains(kinematics.tool_pose(q)[:3, 3], BULGE_M + 1e-6)


@given(commands, st.sampled_from([0.0, 0.2, 1.0]))
@settings(max_examples=40, deadline=None)
def test_pose_references_keep_speed_box_and_clip(stream, follows):
    governor = pose_governor(workspace_min_m=[0.25, -0.05, 0.4], workspace_max_m=[0.35, 0.05, 0.55])
    box = Box(np.array([0.25, -0.05, 0.4]), np.array([0.35, 0.05, 0.55]))
    jacobian = kinematics.jacobian(READY)
    measured, now = governor.pose.copy(), 0.0
    for direction, size, ticks, tick_s in stream:
        quaternion = np.array([1.0, 0.0, 0.0, 0.0]) + np.array(direction[3:]) * min(size, 0.9)
        wanted = np.concatenate([governor.pose[:3, 3] + np.array(direction[:3]) * size, quaternion / np.linalg.norm(quaternion)])
        goal, _ = governor.command(wanted, 0.033, now)
        assert box.contains(goal[:3])
        for _ in range(ticks):
            now += tick_s
            dt = min(tick_s, MAX_TICK_S)
            before, velocity, rotation = governor.pose.copy(), governor.velocity_m_s, governor.rotation_rad_s
            pose, _ = governor.tick(measured, READY, jacobian, now)
            assert np.isfinite(pose).all()
            np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
            assert box.contains(pose[:3, 3], 1e-6)
            assert np.linalg.norm(governor.velocity_m_s) <= SETTINGS.max_tool_speed_m_s + 1e-9
            assert np.linalg.norm(governor.rotation_rad_s) <= SETTINGS.max_tool_rotation_rad_s + 1e-9
            lead = pose[:3, 3] - measured[:3, 3]
            turn = kinematics.rotvec_of_matrix(pose[:3, :3] @ measured[:3, :3].T)
            assert np.linalg.norm(lead) <= SETTINGS.impedance.translational_clip_m + 1e-9
            assert np.linalg.norm(turn) <= SETTINGS.impedance.rotational_clip_rad + 1e-7
            assert np.linalg.norm(pose[:3, 3] - before[:3, 3]) <= SETTINGS.max_tool_speed_m_s * dt + 1e-9
            if governor.velocity_m_s.any():  # else the clip may have stopped it at once
                assert np.linalg.norm(governor.velocity_m_s - velocity) <= SETTINGS.max_tool_acceleration_m_s2 * dt + 1e-9
            if governor.rotation_rad_s.any():
                change = np.linalg.norm(governor.rotation_rad_s - rotation)
                assert change <= SETTINGS.max_tool_rotation_acceleration_rad_s2 * dt + 1e-9
            measured[:3, 3] += follows * lead
            measured[:3, :3] = kinematics.matrix_of_rotvec(follows * turn) @ measured[:3, :3]


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_time_may_stand_still_or_run_backwards(steps):
    governor = joint_governor()
    governor.command(READY + 0.1, 0.1, 0.0)
    now = latest = 0.0
    for step in steps:
        now += step
        before = governor.q_rad
        q, _ = governor.tick(before, now)
        assert (np.abs(q - before) <= SETTINGS.max_joint_velocity_rad_s * min(max(now - latest, 0), MAX_TICK_S) + 1e-9).all()
        latest = max(latest, now)


def follow_sine(amplitude_rad, frequency_hz, hz=30):
    """Return the RMS distance in rad of the reference from a sine on joint 1 sent at `hz`."""
    governor, errors, next_command = joint_governor(), [], 0.0
    for tick in range(400):
        now = tick * DT_S
        if now >= next_command:
            wanted = READY.copy()
            wanted[0] += amplitude_rad * math.sin(2 * math.pi * frequency_hz * now)
            governor.command(wanted, 1 / hz, now)
            next_command += 1 / hz
        q, _ = governor.tick(governor.q_rad, now)
        errors.append(q[0] - READY[0] - amplitude_rad * math.sin(2 * math.pi * frequency_hz * now))
    return float(np.sqrt(np.mean(np.square(errors))))


def test_a_stream_is_followed_one_period_late():
    late = 0.2 * 2 * math.pi * 0.25 / math.sqrt(2) / 30  # RMS of speed times one period
    assert follow_sine(0.2, 0.25) < 1.5 * late


def test_the_reference_arrives_without_overshoot_and_stays():
    governor = joint_governor()
    goal, changed = governor.command(READY + 0.05, 0.1, 0.0)
    assert not changed
    path = np.array([governor.tick(governor.q_rad, tick * DT_S)[0] for tick in range(100)])
    assert (path <= goal + 1e-9).all()
    assert (np.diff(path, axis=0) >= -1e-9).all()
    np.testing.assert_allclose(path[-1], goal, atol=1e-6)
    np.testing.assert_allclose(governor.dq_rad_s, 0, atol=1e-6)


def test_a_far_goal_is_cut_to_one_step():
    governor = joint_governor()
    goal, changed = governor.command(READY + 2.0 * np.eye(7)[6], 0.1, 0.0)
    assert changed
    np.testing.assert_allclose(goal - READY, [0, 0, 0, 0, 0, 0, SETTINGS.max_step_rad], atol=1e-9)


def test_freezing_brakes_and_holds():
    governor = joint_governor()
    now = 0.0
    for _ in range(20):
        governor.command(governor.q_rad + 0.1, 0.033, now)
        now += DT_S
        governor.tick(governor.q_rad, now)
    assert governor.dq_rad_s.max() > 0.3
    governor.freeze()
    path = [governor.q_rad]
    for _ in range(50):
        now += DT_S
        q, _ = governor.tick(governor.q_rad, now)
        path.append(q)
    assert (np.diff(path, axis=0) >= -1e-9).all()  # braked, not called back to where the freeze found it
    np.testing.assert_allclose(governor.dq_rad_s, 0, atol=1e-6)
    np.testing.assert_allclose(governor.tick(q, now + DT_S)[0], q, atol=1e-6)


def test_the_reference_waits_for_an_arm_that_is_held_fast():
    """And says that it stands: a velocity beside a reference that does not move would be pushed with."""
    joints, pose = joint_governor(), pose_governor()
    start = pose.pose.copy()
    away = 0.02 * np.eye(7)[1]
    for tick in range(1, 60):
        if tick % 3 == 1:
            joints.command(READY + 0.2, 0.033, tick * DT_S)
            pose.command(kinematics.pose7_of_matrix(pose.pose) + away, 0.033, tick * DT_S)
        q, dq = joints.tick(READY, tick * DT_S)
        reference, velocity = pose.tick(start, READY, kinematics.jacobian(READY), tick * DT_S)
    np.testing.assert_allclose(q - READY, SETTINGS.joint_clip_rad)
    np.testing.assert_allclose(dq, 0, atol=1e-9)
    clip_m = SETTINGS.impedance.translational_clip_m
    np.testing.assert_allclose(reference[:3, 3] - start[:3, 3], [0, clip_m, 0], atol=1e-9)
    np.testing.assert_allclose(velocity, 0, atol=1e-9)


def test_an_arm_outside_the_workspace_may_come_back_but_not_go_further():
    q = READY.copy()
    q[1] -= 0.7  # leans back, behind the near wall of the workspace
    start = kinematics.tool_pose(q)[:3, 3]
    assert start[0] < LOW_M[0]
    governor, now = joint_governor(q), 0.0
    for sign in (-1, 1):
        for _ in range(40):
            governor.command(governor.q_rad + sign * 0.1 * np.eye(7)[1], 0.033, now)
            for _ in range(3):
                now += DT_S
                governor.tick(governor.q_rad, now)
        x = kinematics.tool_pose(governor.q_rad)[0, 3]
        assert x >= start[0] - 2 * BULGE_M if sign < 0 else x > LOW_M[0]


def test_the_tool_slides_along_a_wall():
    """A goal behind the wall moves the tool parallel to it instead of stopping it."""
    governor, now = joint_governor(workspace_max_m=[0.75, 0.45, 0.49]), 0.0  # the ready posture is at 0.487
    start = kinematics.tool_pose(READY)[:3, 3]
    for _ in range(60):
        # turns about the base and lifts at once
        governor.command(governor.q_rad + 0.02 * (np.eye(7)[0] + np.eye(7)[3]), 0.033, now)
        for _ in range(3):
            now += DT_S
            governor.tick(governor.q_rad, now)
    end = kinematics.tool_pose(governor.q_rad)[:3, 3]
    assert end[2] <= 0.49 + BULGE_M
    assert end[1] - start[1] > 0.15


def test_pose_goal_is_reached_and_only_then_reported_as_changed():
    governor = pose_governor()
    jacobian = kinematics.jacobian(READY)
    wanted = kinematics.pose7_of_matrix(governor.pose)
    wanted[:3] += [0.01, 0.01, -0.01]
    goal, changed = governor.command(wanted, 0.1, 0.0)
    assert not changed
    np.testing.assert_allclose(goal, wanted, atol=1e-9)
    for tick in range(1, 60):
        governor.tick(governor.pose, READY, jacobian, tick * DT_S)
    np.testing.assert_allclose(kinematics.pose7_of_matrix(governor.pose), wanted, atol=1e-6)


def test_a_pose_stream_that_turns_away_from_a_wall_does_not_swing_through_it():
    start = kinematics.tool_pose(READY)[:3, 3]
    wall_m = start[0] + 0.03
    governor = pose_governor(workspace_max_m=[wall_m, 0.45, 0.7], max_step_m=0.2)
    jacobian, furthest_m = kinematics.jacobian(READY), 0.0
    wanted = kinematics.pose7_of_matrix(governor.pose)
    for tick in range(1, 100):
        # At full speed towards the wall, then along it.
        wanted[:3] = [wall_m, start[1] + (0.15 if tick > 10 else 0.0), start[2]]
        governor.command(wanted, 0.05, tick * DT_S)
        governor.tick(governor.pose, READY, jacobian, tick * DT_S)
        furthest_m = max(furthest_m, governor.pose[0, 3])
    assert furthest_m <= wall_m + 1e-9
    assert governor.pose[1, 3] > start[1] + 0.05


def test_pose_steps_and_turns_are_cut():
    governor = pose_governor()
    far = governor.pose.copy()
    far[:3, 3] += [0.2, 0, 0]
    far[:3, :3] = kinematics.matrix_of_rotvec([0, 0, 1.0]) @ far[:3, :3]
    goal7, changed = governor.command(-kinematics.pose7_of_matrix(far) * [-1, -1, -1, 1, 1, 1, 1], 0.1, 0.0)
    assert changed
    goal = kinematics.matrix_of_pose7(goal7)
    np.testing.assert_allclose(goal[:3, 3] - governor.pose[:3, 3], [SETTINGS.max_step_m, 0, 0], atol=1e-9)
    turn = kinematics.rotvec_of_matrix(goal[:3, :3] @ governor.pose[:3, :3].T)
    np.testing.assert_allclose(turn, [0, 0, SETTINGS.max_step_rotation_rad], atol=1e-7)


@pytest.mark.parametrize("stretched", [True, False])
def test_pose_motion_that_pushes_a_joint_past_its_limit_stops(stretched):
    q, limits = READY.copy(), limits_of("fr3")
    q[3] = limits.high_rad[3] - 0.01 if stretched else limits.low_rad[3] + 0.01  # the elbow, inside the margin
    jacobian = kinematics.jacobian(q)
    outward = jacobian[:, 3] / np.linalg.norm(jacobian[:, 3]) * (1 if stretched else -1)
    for sign, moves in ((1, False), (-1, True)):
        governor = pose_governor(q, workspace_min_m=[-1, -1, -1], workspace_max_m=[1, 1, 2])
        wanted = governor.pose.copy()
        wanted[:3, 3] += sign * 0.02 * outward[:3]
        wanted[:3, :3] = kinematics.matrix_of_rotvec(sign * 0.02 * outward[3:]) @ wanted[:3, :3]
        governor.command(kinematics.pose7_of_matrix(wanted), 0.1, 0.0)
        start = governor.pose.copy()
        for tick in range(1, 20):
            governor.tick(governor.pose, q, jacobian, tick * DT_S)
        assert (np.linalg.norm(governor.pose - start) > 1e-3) == moves


def test_a_turn_that_comes_to_a_joints_limit_is_braked_at_once():
    q, jacobian = READY.copy(), kinematics.jacobian(READY)
    axis, governor = jacobian[3:, 6], pose_governor()
    q[6] = limits_of("fr3").high_rad[6] - 0.01  # from the fourth tick on
    speeds = []
    for tick in range(1, 60):
        if tick % 3 == 1:
            wanted = governor.pose.copy()
            wanted[:3, :3] = kinematics.matrix_of_rotvec(0.15 * axis) @ wanted[:3, :3]
            governor.command(kinematics.pose7_of_matrix(wanted), 0.033, tick * DT_S)
        _, velocity = governor.tick(governor.pose, q if tick > 4 else READY, jacobian, tick * DT_S)
        speeds.append(float(velocity[3:] @ axis))
    slower = SETTINGS.max_tool_rotation_acceleration_rad_s2 * DT_S
    assert speeds[3] > 2 * slower
    np.testing.assert_allclose(speeds[4:], np.maximum(speeds[3] - slower * np.arange(1, len(speeds) - 3), 0.0), atol=1e-9)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.0] * 6, r"shape \(6,\), expected 7 numbers"),
        ([[0.0] * 7], r"shape \(1, 7\)"),
        ([0.0] * 6 + [math.nan], "expected finite"),
        ([0.0] * 6 + [math.inf], "expected finite"),
        (["a"] * 7, "expected 7 numbers"),
        (None, r"expected (7|finite) numbers|shape"),
    ],
)
def test_bad_vectors_are_refused_and_change_nothing(values, text):
    for governor in (joint_governor(), pose_governor()):
        with pytest.raises(ValueError, match=text):
            governor.command(values, 0.1, 0.0)
    governor = joint_governor()
    with pytest.raises(ValueError, match=text):
        governor.command(values, 0.1, 0.0)
    np.testing.assert_array_equal(governor.goal_rad, READY)


@pytest.mark.parametrize("period_s", [0, -1, math.nan, math.inf, 60, None, "x"])
def test_bad_periods_are_refused(period_s):
    with pytest.raises(ValueError, match="period_s is"):
        joint_governor().command(READY, period_s, 0.0)


@pytest.mark.parametrize("quaternion", [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0.5]])
def test_quaternions_that_are_none_are_refused(quaternion):
    with pytest.raises(ValueError, match="quaternion"):
        pose_governor().command([0.4, 0, 0.4, *quaternion], 0.1, 0.0)


@pytest.mark.parametrize("model", ["fer", "fr3"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_joint_ends_its_margin_before_its_limit_at_no_more_than_the_arms_own_speed(model, sign):
    """The wrist, which turns without moving the tool: nothing but its own limits stops it."""
    limits = limits_of(model)
    governor, wanted = joint_governor(model=model, max_joint_velocity_rad_s=5.0, max_step_rad=0.5), READY.copy()
    wanted[6] = sign * 10.0
    fastest = 0.0
    for tick in range(3000):
        if tick % 3 == 0:
            governor.command(wanted, 0.03, tick * DT_S)
        q, dq = governor.tick(governor.q_rad, tick * DT_S)
        fastest = max(fastest, abs(dq[6]))
    margin = SETTINGS.joint_limit_margin_rad
    assert q[6] == pytest.approx(limits.high_rad[6] - margin if sign > 0 else limits.low_rad[6] + margin, abs=1e-6)
    assert 2.0 < fastest <= limits.velocity_rad_s[6] + 1e-9
