"""Modes, watchdog, epochs, faults and recoveries with a scripted arm and a clock that the test turns; then the real threads."""

import dataclasses
import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest

from lerobot_serl.franka import gripper_thread, kinematics
from lerobot_serl.franka.arm_owner import SETTLE_S, ArmOwner
from lerobot_serl.franka.controller import TICK_S, ArmController, ArmRefused, ControllerSettings, StaleState
from lerobot_serl.franka.controller_settings import READY_RAD, changed_impedance
from lerobot_serl.franka.driver import USER_STOP, ArmFault, ArmState, Impedance
from lerobot_serl.setting_error import SettingError

READY = np.array(READY_RAD)


class ScriptedArm:
    """Follows joint references at once; the test makes it fail."""

    model = "fr3"

    def __init__(self):
        self.q = READY.copy()
        self.tracking = ""
        self.calls = []
        self.targets = []
        self.errors = ()
        self.broken = ""  # text of the ArmFault that every call raises
        self.follows = True
        self.move_goal = None

    def check(self):
        if self.broken:
            raise ArmFault(self.broken)

    def read(self):
        self.check()
        return ArmState(
            q_rad=self.q.copy(),
            dq_rad_s=np.arange(7.0),
            pose=kinematics.tool_pose(self.q),
            jacobian=kinematics.jacobian(self.q),
            wrench=np.zeros(6),
            tau_ext_nm=np.zeros(7),
            in_control=bool(self.tracking) and not self.errors,
            errors=self.errors,
            time_s=time.monotonic(),
        )

    def start_joint_tracking(self, impedance):
        self.start("joint", impedance)

    def start_pose_tracking(self, impedance):
        self.start("pose", impedance)

    def start(self, mode, impedance):
        self.check()
        assert not self.tracking, "a tracker runs already"
        self.calls.append((mode, impedance))
        self.tracking = mode

    def set_joint_target(self, q_rad, dq_rad_s):
        self.check()
        assert self.tracking == "joint"
        self.targets.append((q_rad, dq_rad_s))
        if self.follows:
            self.q = q_rad

    def set_pose_target(self, pose, twist):
        self.check()
        assert self.tracking == "pose"
        self.targets.append((pose, twist))

    def stop_tracking(self):
        if self.tracking:
            self.calls.append(("stop", None))
        self.tracking = ""

    def move_joints(self, q_rad, speed_fraction):
        self.check()
        assert not self.tracking
        self.calls.append(("move", speed_fraction))
        self.tracking, self.move_goal = "move", q_rad

    def recover(self):
        self.calls.append(("recover", None))
        self.broken, self.errors = "", ()

    def set_load(self, mass_kg, centre_m, inertia_kg_m2):
        self.calls.append(("load", mass_kg))

    def close(self):
        self.calls.append(("close", None))

    def done(self, name):
        return [call for call, _ in self.calls].count(name)


class Rig:
    """An owner, its arm, and the clock of both."""

    def __init__(self, **changes):
        self.now = 100.0
        self.arm = ScriptedArm()
        self.owner = ArmOwner(self.arm, ControllerSettings(**changes), lambda: self.now)
        self.owner.tick()

    def run(self, seconds, tick_s=TICK_S):
        for _ in range(round(seconds / tick_s)):
            self.now += tick_s
            self.owner.tick()

    def track(self, mode="joint"):
        self.owner.track(mode)
        self.run(TICK_S)

    def joint(self, q, epoch=None):
        return self.owner.command("joint", q, 0.033, epoch)


def test_nothing_moves_before_a_command():
    rig = Rig()
    rig.run(1.0)
    assert rig.owner.mode == "idle"
    assert rig.arm.calls == []


def test_a_command_without_its_tracker_is_not_taken():
    rig = Rig()
    assert rig.joint(READY) is None
    rig.track("pose")
    assert rig.joint(READY) is None


def test_joint_commands_reach_the_arm_with_feed_forward():
    rig = Rig()
    rig.track()
    goal = rig.joint(READY + 0.02)
    np.testing.assert_allclose(goal, READY + 0.02)
    rig.run(0.02)
    assert (rig.arm.targets[-1][1] > 0.05).all()
    rig.run(0.2)
    np.testing.assert_allclose(rig.arm.q, READY + 0.02, atol=1e-6)
    assert rig.owner.clamps == 0


def test_clamped_commands_are_counted_and_returned():
    rig = Rig()
    rig.track()
    goal = rig.joint(READY + 3.0 * np.eye(7)[6])
    assert goal[6] == pytest.approx(READY[6] + 0.1)
    assert rig.owner.clamps == 1


def test_pose_commands_reach_the_arm():
    rig = Rig()
    rig.track("pose")
    wanted = kinematics.pose7_of_matrix(kinematics.tool_pose(READY)) + 0.01 * np.eye(7)[0]
    np.testing.assert_allclose(rig.owner.command("pose", wanted, 0.05, None), wanted, atol=1e-9)
    rig.run(0.02)
    pose, twist = rig.arm.targets[-1]
    assert 0 < pose[0, 3] - kinematics.tool_pose(READY)[0, 3] < 0.01
    assert twist[0] > 0


def test_the_watchdog_freezes_then_stops():
    rig = Rig(watchdog_s=0.3, watchdog_stop_s=2.0)
    rig.track()
    for _ in range(10):  # towards a goal that is far enough to be still under way when the commands end
        rig.joint(rig.arm.q + 0.1)
        rig.run(0.03)
    speed = rig.arm.targets[-1][1].max()
    assert speed > 0.3
    rig.owner.command("joint", rig.arm.q + 0.1, 1.0, None)
    rig.run(0.28)
    assert rig.arm.targets[-1][1].max() > 0.05
    rig.run(0.2)
    frozen = rig.arm.q.copy()
    assert np.abs(rig.arm.targets[-1][1]).max() < 1e-6
    rig.run(1.4)
    np.testing.assert_allclose(rig.arm.q, frozen, atol=1e-9)
    assert rig.owner.mode == "joint"
    rig.run(0.3)
    assert rig.owner.mode == "idle"
    assert rig.arm.tracking == ""
    rig.track()
    assert rig.joint(READY) is not None


def test_a_stream_keeps_the_watchdog_quiet():
    rig = Rig()
    rig.track()
    for _ in range(40):
        rig.joint(READY)
        rig.run(0.1)
    assert rig.owner.mode == "joint"
    assert rig.arm.done("stop") == 0


def test_a_reflex_recovers_by_itself_into_a_new_epoch():
    rig = Rig()
    rig.track()
    rig.joint(READY + 0.05, epoch=0)
    rig.run(0.03)
    rig.arm.errors = ("joint_reflex",)
    rig.run(TICK_S)
    assert rig.owner.mode == "fault"
    assert "joint_reflex" in rig.owner.fault
    with pytest.raises(ArmRefused, match="joint_reflex"):
        rig.joint(READY)
    rig.run(SETTLE_S + 3 * TICK_S)
    assert (rig.owner.mode, rig.owner.epoch, rig.owner.fault) == ("joint", 1, "")
    held = rig.arm.q.copy()
    rig.run(0.2)
    np.testing.assert_allclose(rig.arm.q, held, atol=1e-9)  # the old goal is forgotten
    with pytest.raises(ArmRefused, match="for epoch 0, the arm is in epoch 1"):
        rig.joint(READY, epoch=0)
    assert rig.joint(READY, epoch=1) is not None
    assert rig.joint(READY) is not None


def test_recoveries_are_limited_per_minute():
    rig = Rig(max_recoveries_per_min=2, watchdog_stop_s=60.0)
    rig.track()
    for recoveries in (1, 2, 2):
        rig.arm.errors = ("joint_reflex",)
        rig.run(0.2)
        assert rig.arm.done("recover") == recoveries
    assert rig.owner.mode == "fault"
    assert "no more automatic recoveries" in rig.owner.fault
    rig.run(120.0, 0.2)  # neither does it try again when the minute is over: a person looks first
    assert rig.owner.mode == "fault"
    rig.owner.clear_errors()
    rig.run(0.2)
    assert (rig.owner.mode, rig.owner.epoch) == ("idle", 3)


def test_recoveries_of_the_last_minute_only_count():
    rig = Rig(max_recoveries_per_min=1, watchdog_stop_s=60.0)
    for recoveries in (1, 2):
        rig.track()
        rig.arm.errors = ("joint_reflex",)
        rig.run(0.2)
        assert rig.arm.done("recover") == recoveries
        assert rig.owner.mode == "joint"
        rig.run(61.0, 0.1)


@pytest.mark.parametrize("errors", [(USER_STOP,), ("joint_reflex", USER_STOP)])
def test_a_pressed_stop_button_is_left_to_people(errors):
    rig = Rig()
    rig.track()
    rig.arm.errors = errors
    rig.run(5.0)
    assert rig.arm.done("recover") == 0
    rig.arm.errors = ()  # released
    rig.run(5.0)
    assert rig.owner.mode == "fault"
    assert USER_STOP in rig.owner.fault


def test_a_stop_button_pressed_after_another_fault_is_left_to_people_too():
    rig = Rig()
    rig.track()
    rig.arm.broken = "cable"
    rig.run(0.1)
    rig.arm.broken, rig.arm.errors = "", (USER_STOP,)
    rig.run(1.0)
    rig.arm.errors = ()  # released
    rig.run(1.0)
    assert (rig.owner.mode, rig.arm.done("recover")) == ("fault", 0)


def test_a_fault_during_the_recovery_does_not_forget_what_the_arm_did():
    rig = Rig()
    rig.track()
    rig.arm.errors = ("joint_reflex",)
    rig.run(TICK_S)
    rig.arm.broken = "cable"
    rig.run(TICK_S)
    assert rig.owner.fault == "cable"
    rig.arm.broken = ""
    rig.run(1.0)
    assert (rig.owner.mode, rig.owner.fault) == ("joint", "")


def test_whoever_clears_a_fault_gives_the_automatic_recoveries_back():
    rig = Rig(max_recoveries_per_min=1, watchdog_stop_s=60.0)
    rig.track()
    for mode in ("joint", "fault"):
        rig.arm.errors = ("joint_reflex",)
        rig.run(0.2)
        assert rig.owner.mode == mode
    rig.owner.clear_errors()
    rig.run(0.2)
    rig.track()
    rig.arm.errors = ("joint_reflex",)
    rig.run(0.2)
    assert rig.owner.mode == "joint"


def test_without_auto_recovery_a_fault_stays():
    rig = Rig(auto_recover=False)
    rig.track()
    rig.arm.errors = ("joint_reflex",)
    rig.run(5.0)
    assert rig.arm.done("recover") == 0
    assert rig.owner.mode == "fault"


def test_stopping_in_a_fault_ends_the_recovery():
    rig = Rig()
    rig.track()
    rig.arm.errors = ("joint_reflex",)
    rig.run(TICK_S)
    rig.owner.stop()
    rig.run(1.0)
    assert rig.owner.mode != "joint"
    rig = Rig()
    rig.track()
    rig.arm.broken = "cable"
    rig.run(0.1)
    rig.owner.stop()
    rig.arm.broken = ""
    rig.run(1.0)
    assert (rig.owner.mode, rig.arm.done("recover")) == ("fault", 0)


def test_a_tracker_that_ends_by_itself_is_a_fault():
    rig = Rig(auto_recover=False)
    rig.track()
    rig.arm.tracking = ""
    rig.run(TICK_S)
    assert "stopped following" in rig.owner.fault


def test_a_lost_connection_makes_the_state_stale_and_clear_errors_restores_it():
    rig = Rig()
    rig.track()
    rig.arm.broken = "cable"
    rig.run(0.5)
    assert (rig.owner.mode, rig.owner.fault) == ("fault", "cable")
    assert rig.now - rig.owner.read_s > 0.4
    rig.owner.clear_errors()
    assert rig.owner.recovering
    rig.run(0.2)
    assert (rig.owner.mode, rig.owner.epoch) == ("idle", 1)


def test_an_unexpected_error_stops_the_arm():
    rig = Rig()
    rig.track()
    rig.arm.set_joint_target = lambda q, dq: 1 / 0
    rig.run(TICK_S)
    assert "ZeroDivisionError" in rig.owner.fault
    assert rig.arm.tracking == ""


def test_commands_on_a_stale_state_are_refused():
    rig = Rig()
    rig.track()
    rig.now += 1.0
    with pytest.raises(StaleState, match=r"1\.0\d s old"):
        rig.joint(READY)


def test_a_move_ends_when_the_arm_is_there():
    rig = Rig()
    rig.track("pose")
    goal = READY + 0.3
    end = rig.owner.move(goal)
    assert ("move", 0.15) in rig.arm.calls
    rig.run(0.1)
    assert rig.owner.mode == "moving"
    with pytest.raises(ArmRefused, match="moving to another posture"):
        rig.joint(READY)
    with pytest.raises(ArmRefused, match="moving"):
        rig.owner.track("joint")
    rig.arm.q, rig.arm.tracking = goal, ""
    rig.run(TICK_S)
    assert end.result(timeout=0) is None
    assert rig.owner.mode == "idle"


def test_a_move_that_ends_elsewhere_is_a_fault():
    rig = Rig()
    end = rig.owner.move(READY + 0.3)
    rig.arm.tracking = ""
    rig.run(TICK_S)
    with pytest.raises(ArmFault, match=r"ended 0\.300 rad before its goal"):
        end.result(timeout=0)


def test_a_move_can_be_stopped():
    rig = Rig()
    end = rig.owner.move(READY + 0.3)
    rig.owner.stop()
    with pytest.raises(ArmRefused, match="stopped"):
        end.result(timeout=0)
    assert rig.owner.mode == "idle"


def test_a_move_outside_the_limits_is_refused():
    rig = Rig()
    with pytest.raises(ValueError, match="expected between"):
        rig.owner.move(READY - 1.1 * np.eye(7)[5])  # legal on a FER, not on an FR3


@pytest.mark.parametrize("limit", ["low", "high"])
def test_a_move_ends_its_margin_before_a_joints_limit(limit):
    rig, goal = Rig(), READY.copy()
    margin, inwards = ControllerSettings().joint_limit_margin_rad, 1 if limit == "low" else -1
    end = getattr(rig.owner.limits, f"{limit}_rad")[6]  # the wrist: the tool stays where it is
    goal[6] = end + inwards * 0.9 * margin
    with pytest.raises(ValueError, match="expected between"):
        rig.owner.move(goal)
    goal[6] = end + inwards * 1.1 * margin
    rig.owner.move(goal)
    assert rig.owner.mode == "moving"


def test_a_move_heeds_the_cap_on_joint_speeds():
    for cap_rad_s, fraction in ((0.1, 0.1 / 5.26), (0.4, 0.4 / 5.26), (5.0, 0.15)):
        rig = Rig(max_joint_velocity_rad_s=cap_rad_s)
        rig.owner.move(READY + 0.1)
        assert rig.arm.calls[-1] == ("move", pytest.approx(fraction))


LOW = np.array([0.0, 0.7, 0.0, -2.0, 0.0, 2.7, 0.785])  # the end effector at z = -0.001 m


def test_a_move_out_of_the_workspace_is_refused():
    rig = Rig()
    with pytest.raises(ValueError, match=r"bring the end effector to .*-0\.0008\] m, expected between .*--controller.workspace_min_m"):
        rig.owner.move(LOW)
    assert (rig.owner.mode, rig.arm.done("move")) == ("idle", 0)


def test_an_arm_outside_the_workspace_may_only_move_closer():
    rig = Rig()
    rig.arm.q = LOW - 0.02 * np.eye(7)[1]
    rig.run(TICK_S)
    with pytest.raises(ValueError, match="bring the end effector"):
        rig.owner.move(LOW)
    rig.owner.move(LOW - 0.03 * np.eye(7)[1])
    assert rig.owner.mode == "moving"


def test_a_move_that_cannot_begin_ends_at_once():
    rig = Rig()
    rig.track()

    def jam():
        raise ArmFault("it does not come to rest")

    rig.arm.stop_tracking = jam
    with pytest.raises(ArmFault, match="does not come to rest"):
        rig.owner.move(READY + 0.1).result(timeout=0)
    assert rig.owner.mode == "fault"


def test_only_the_move_that_is_meant_is_stopped():
    rig = Rig()
    first = rig.owner.move(READY + 0.1)
    rig.owner.stop()
    second = rig.owner.move(READY + 0.1)
    rig.owner.stop_move(first, ArmRefused("nobody waits"))
    assert (rig.owner.mode, second.done()) == ("moving", False)
    rig.owner.stop_move(second, ArmRefused("nobody waits"))
    assert rig.owner.mode == "idle"
    with pytest.raises(ArmRefused, match="nobody waits"):
        second.result(timeout=0)


def test_impedance_changes_restart_the_tracker():
    rig = Rig()
    rig.track("pose")
    rig.owner.update_impedance(translational_stiffness_n_m=500.0)
    assert [name for name, _ in rig.arm.calls] == ["pose", "stop", "pose"]
    assert rig.arm.calls[-1][1].translational_stiffness_n_m == 500.0
    assert rig.owner.mode == "pose"


def slowly(rig, name):
    """Make a method of the arm take longer than a state may be old."""
    call = getattr(rig.arm, name)

    def slow(*args):
        rig.now += 0.5
        call(*args)

    setattr(rig.arm, name, slow)


@pytest.mark.parametrize("what", ["track", "move", "update_impedance"])
def test_what_follows_slow_work_of_the_arms_own_thread_is_not_refused(what):
    rig = Rig(watchdog_stop_s=0.3)
    rig.track("pose")
    slowly(rig, "stop_tracking")
    if what == "update_impedance":
        rig.owner.update_impedance(translational_stiffness_n_m=500.0)
        assert rig.owner.mode == "pose"
        return
    while rig.owner.mode != "idle":
        rig.run(TICK_S)
    if what == "track":
        rig.owner.track("joint")
    else:
        rig.owner.move(READY + 0.1)
    assert rig.owner.mode == {"track": "joint", "move": "moving"}[what]


def test_impedance_that_the_arm_does_not_take_is_not_kept():
    settings = ControllerSettings()
    owner = ArmOwner(arm := ScriptedArm(), settings, lambda: 0.0)
    owner.tick()
    owner.track("pose")
    stop = arm.stop_tracking

    def stop_and_break():
        stop()
        arm.broken = "cable"

    arm.stop_tracking = stop_and_break
    with pytest.raises(ArmFault, match="cable"):
        owner.update_impedance(translational_stiffness_n_m=500.0)
    assert settings.impedance.translational_stiffness_n_m == 1000.0


@pytest.mark.parametrize("name", ["recover", "stop_tracking", "start"])
def test_slow_work_inside_a_tick_is_known_until_the_arm_is_read_again(name):
    rig = Rig()
    rig.track()
    busy = []
    call = getattr(rig.arm, name)
    setattr(rig.arm, name, lambda *args: (busy.append(rig.owner.busy), call(*args)))
    rig.arm.errors = ("joint_reflex",)
    rig.run(0.2)
    assert busy == [True] * len(busy) != []
    assert (rig.owner.mode, rig.owner.busy) == ("joint", False)
    rig.arm.errors, rig.arm.broken = (), "cable"
    rig.arm.recover = rig.arm.check
    rig.run(0.2)
    assert not rig.owner.busy  # an arm that is lost keeps nobody waiting


def test_clips_never_become_larger_than_the_server_was_started_with(caplog):
    rig = Rig(impedance=Impedance(translational_clip_m=0.01))
    rig.track("pose")
    for asked_m, used_m in ((0.1, 0.01), (0.004, 0.004), (0.01, 0.01), (0.02, 0.01)):
        rig.owner.update_impedance(translational_clip_m=asked_m, rotational_clip_rad=0.3)
        used = rig.arm.calls[-1][1]
        assert (used.translational_clip_m, used.rotational_clip_rad) == (used_m, 0.1)
    assert "translational_clip_m stays at 0.01, which the server was started with; a client asked for 0.1" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"translational_stiffness_n_m": 3001.0},
        {"translational_stiffness_n_m": float("nan")},
        {"translational_clip_m": -0.1},
        {"rotational_clip_rad": "wide"},
        {"joint_stiffness_nm_rad": [1.0] * 6},
        {"joint_stiffness_nm_rad": 5.0},
        {"joint_stiffness_nm_rad": [1.0] * 6 + [float("inf")]},
        {"stiffness": 5.0},
    ],
)
def test_bad_impedance_is_refused(changes):
    with pytest.raises(ValueError, match=r"expected|could not convert"):
        changed_impedance(Impedance(), changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_joint_velocity_rad_s": 0.0},
        {"max_step_rad": float("nan")},
        {"watchdog_s": 3.0},
        {"workspace_min_m": [0.8, -0.4, 0.0]},
        {"workspace_max_m": [0.8, 0.4]},
        {"home_rad": [0.0] * 6 + [float("inf")]},
        {"impedance": Impedance(translational_clip_m=1.0)},
    ],
)
def test_bad_settings_are_refused(changes):
    with pytest.raises(SettingError, match="expected"):
        ControllerSettings(**changes)


def test_home_has_to_fit_the_arm():
    home = [*READY_RAD[:5], 0.3, READY_RAD[6]]
    with pytest.raises(ValueError, match="joint 6 of home_rad of a fr3"):
        ArmOwner(ScriptedArm(), ControllerSettings(home_rad=home), time.monotonic)


class ScriptedGripper:
    """Takes a while to move, and remembers."""

    def __init__(self):
        self.max_width_m = 0.08
        self.calls = []
        self.may_finish = threading.Event()
        self.may_finish.set()
        self.fault = ""
        self.fails = False  # a motion ends early, as at an object
        self.width = 0.08

    def note(self, *call):
        self.calls.append(call)
        assert self.may_finish.wait(10)
        if self.fault:
            raise ArmFault(self.fault)

    def width_m(self):
        return self.width

    def move(self, width_m, speed_m_s):
        self.note("move", round(width_m, 4))
        self.width = self.width if self.fails else width_m
        return not self.fails

    def grasp(self, speed_m_s, force_n):
        self.note("grasp", force_n)
        self.width = self.width if self.fails else 0.02
        return not self.fails

    def homing(self):
        self.fault = ""
        self.note("homing")

    def close(self):
        self.calls.append(("close",))


def eventually(condition, what, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


@pytest.fixture
def rigs():
    """Makes started controllers, and closes them."""
    made = []

    def make(arm=None, gripper=None, **changes):
        # The machine may be busy: a late tick is no stale state here.
        controller = ArmController(arm or ScriptedArm(), gripper, ControllerSettings(state_timeout_s=2.0, **changes))
        made.append(controller)
        controller.start()
        return controller

    yield make
    for controller in made:
        controller.close()


def test_commands_start_the_right_tracker_and_switch(rigs):
    arm = ScriptedArm()
    controller = rigs(arm)
    assert controller.snapshot().mode == "idle"
    np.testing.assert_allclose(controller.command_joints(READY + 0.01, 0.05), READY + 0.01)
    assert controller.snapshot().mode == "joint"
    controller.command_pose(kinematics.pose7_of_matrix(controller.snapshot().state.pose), 0.05)
    assert controller.snapshot().mode == "pose"
    assert [name for name, _ in arm.calls] == ["joint", "stop", "pose"]
    controller.stop_impedance()
    assert controller.snapshot().mode == "idle"
    controller.start_impedance()
    assert controller.snapshot().mode == "pose"


def test_snapshot_has_the_tool_velocity(rigs):
    snapshot = rigs().snapshot()
    np.testing.assert_allclose(snapshot.velocity, kinematics.jacobian(READY) @ np.arange(7.0))
    assert (snapshot.gripper_width_m, snapshot.max_width_m, snapshot.epoch) == (None, 0.0, 0)


def test_the_arm_moves_while_threads_command_it(rigs):
    arm = ScriptedArm()
    controller = rigs(arm)
    stop, failures = threading.Event(), []

    def look():
        while not stop.is_set():
            try:
                assert np.isfinite(controller.snapshot().state.q_rad).all()
            except Exception as error:
                failures.append(error)
            time.sleep(0.001)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    goal = READY + 0.1
    for _ in range(100):
        controller.command_joints(goal, 0.05, epoch=0)
        time.sleep(0.01)
    eventually(lambda: np.allclose(arm.q, goal, atol=1e-6), "the arm does not arrive")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_clear_errors_and_reset_wait_for_the_end(rigs):
    arm = ScriptedArm()
    controller = rigs(arm, auto_recover=False)
    controller.clear_errors()
    assert arm.done("recover") == 0
    arm.errors = ("joint_reflex",)
    eventually(lambda: controller.snapshot().mode == "fault", "no fault")
    with pytest.raises(ArmRefused):
        controller.reset_joints()
    controller.clear_errors()
    assert (controller.snapshot().mode, controller.snapshot().epoch) == ("idle", 1)

    def arrive():
        eventually(lambda: arm.tracking == "move", "no motion")
        arm.q, arm.tracking = arm.move_goal, ""

    thread = threading.Thread(target=arrive)
    thread.start()
    controller.reset_joints(READY + 0.2)
    thread.join()
    np.testing.assert_allclose(controller.snapshot().state.q_rad, READY + 0.2)


def test_a_long_job_does_not_make_the_state_stale():
    arm = ScriptedArm()
    slow = arm.start

    def start_slowly(mode, impedance):
        time.sleep(0.6)
        slow(mode, impedance)

    arm.start = start_slowly
    controller = ArmController(arm, None, dataclasses.replace(ControllerSettings(), state_timeout_s=0.3))
    controller.start()
    try:
        thread = threading.Thread(target=controller.start_impedance)
        thread.start()
        time.sleep(0.45)
        controller.snapshot()
        thread.join()
    finally:
        controller.close()


def test_a_controller_that_cannot_read_does_not_start():
    arm = ScriptedArm()
    arm.broken = "no cable"
    controller = ArmController(arm, None, ControllerSettings())
    with pytest.raises(ArmFault, match="no cable"):
        controller.start()
    controller.close()
    assert arm.done("close") == 1


def test_closing_twice_ends_tracking_once_and_refuses_the_rest(rigs):
    arm = ScriptedArm()
    controller = rigs(arm, ScriptedGripper())
    controller.start_impedance("joint")
    controller.close()
    controller.close()
    assert (arm.done("stop"), arm.done("close"), arm.tracking) == (1, 1, "")
    with pytest.raises(StaleState, match="not running"):
        controller.start_impedance()


def test_what_is_asked_while_the_controller_closes_is_answered(rigs):
    controller = rigs(ScriptedArm(), ScriptedGripper())
    late, closed = Future(), controller._owner.close
    controller._owner.close = lambda: (closed(), controller._jobs.put((lambda: None, late)))
    controller.close()
    with pytest.raises(StaleState, match="was closed"):
        late.result(timeout=5.0)


def test_the_newest_gripper_command_wins(rigs):
    gripper = ScriptedGripper()
    controller = rigs(gripper=gripper)
    gripper.may_finish.clear()
    controller.command_gripper(0.06)
    eventually(lambda: gripper.calls, "no motion")
    for width in (0.05, 0.04, 0.07):
        controller.command_gripper(width)
    gripper.may_finish.set()
    eventually(lambda: len(gripper.calls) == 2, "the newest command is lost")
    assert gripper.calls == [("move", 0.06), ("move", 0.07)]
    eventually(lambda: controller.snapshot().gripper_width_m == 0.07, "the width is not read")


def test_gripper_hysteresis(rigs):
    gripper = ScriptedGripper()
    controller = rigs(gripper=gripper)
    done = []

    def command(width, call=None):
        done.extend([call] if call else [])
        controller.command_gripper(width)
        eventually(lambda: controller._gripper._target_m is None and not controller._gripper._busy, "gripper hangs")
        assert gripper.calls == done

    command(0.06, ("move", 0.06))
    command(0.062)
    command(0.0, ("grasp", 30.0))
    command(0.003)
    command(0.015)  # a policy that wavers does not drop the object
    command(0.04, ("move", 0.04))
    command(0.015, ("move", 0.015))
    command(0.005, ("grasp", 30.0))


def test_a_broken_gripper_needs_homing_and_does_not_stop_the_arm(rigs):
    gripper = ScriptedGripper()
    controller = rigs(gripper=gripper)
    gripper.fault = "jammed"
    controller.command_gripper(0.05)
    eventually(lambda: controller.snapshot().gripper_fault == "jammed", "no gripper fault")
    with pytest.raises(ArmRefused, match="jammed; home it"):
        controller.command_gripper(0.05)
    assert controller.command_joints(READY, 0.05) is not None
    controller.home_gripper()
    controller.command_gripper(0.03)
    eventually(lambda: gripper.calls[-1] == ("move", 0.03), "no motion after homing")


@pytest.mark.parametrize(("width", "call"), [(0.08, ("move", 0.08)), (0.0, ("grasp", 30.0))])
def test_a_gripper_motion_that_failed_is_repeated_but_not_at_the_rate_of_the_commands(rigs, monkeypatch, width, call):
    monkeypatch.setattr(gripper_thread, "RETRY_S", 0.3)
    gripper = ScriptedGripper()
    controller = rigs(gripper=gripper)
    gripper.fails = True
    begin_s = time.monotonic()
    while len(gripper.calls) < 3 and time.monotonic() < begin_s + 5:
        controller.command_gripper(width)
        time.sleep(0.01)
    assert time.monotonic() - begin_s >= 0.6
    eventually(lambda: not controller._gripper._busy, "gripper hangs")
    gripper.fails = False
    controller.command_gripper(width)  # too early: kept until its time has come, though nothing else comes
    eventually(lambda: len(gripper.calls) == 4, "the command that came too early is lost")
    for _ in range(50):
        controller.command_gripper(width)
        time.sleep(0.01)
    assert gripper.calls == [call] * 4


def test_after_a_failed_closing_the_gripper_can_be_opened(rigs, monkeypatch):
    monkeypatch.setattr(gripper_thread, "RETRY_S", 0.1)
    gripper = ScriptedGripper()
    controller = rigs(gripper=gripper)
    for fails, width in ((False, 0.08), (True, 0.0), (False, 0.08)):
        gripper.fails = fails
        n_calls = len(gripper.calls)
        controller.command_gripper(width)
        eventually(lambda n_calls=n_calls: len(gripper.calls) > n_calls and not controller._gripper._busy, "gripper hangs")
    assert gripper.calls == [("move", 0.08), ("grasp", 30.0), ("move", 0.08)]


@pytest.mark.parametrize("width", [-0.01, float("nan"), float("inf"), 2.0])
def test_bad_widths_are_refused(rigs, width):
    with pytest.raises(ValueError, match="gripper width"):
        rigs(gripper=ScriptedGripper()).command_gripper(width)


def test_without_a_gripper_it_says_so(rigs):
    with pytest.raises(ValueError, match="no gripper"):
        rigs().command_gripper(0.05)
