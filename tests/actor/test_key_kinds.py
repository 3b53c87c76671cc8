"""What an action's keys mean: by declaration, by flag, by the names that LeRobot's robots and published plugins have."""

import pytest
from lerobot.robots.earthrover_mini_plus import robot_earthrover_mini_plus as earthrover
from lerobot.robots.reachy2 import robot_reachy2 as reachy2
from lerobot.robots.unitree_g1.g1_utils import REMOTE_AXES

from lerobot_serl.actor.key_kinds import KeyKinds
from lerobot_serl.actor.settings import RobotKeysConfig
from lerobot_serl.key_names import Kind, is_gripper

P, G, V, D = Kind.POSITION, Kind.GRIPPER, Kind.VELOCITY, Kind.DISPLACEMENT


class Declared:
    """A robot that says what its keys are."""

    name = "declared"

    def __init__(self, features=(), serl=None, units=None, configured=None):
        self.action_features = features if isinstance(features, dict) else dict.fromkeys(features, float)
        if serl is not None:
            self.serl = serl
        if units is not None:
            self.action_units = units
        self.config = type("Config", (), {} if configured is None else {"serl": configured})()


def kinds_of(keys, measured=(), robot=None, **flags):
    kinds = KeyKinds(robot or Declared(keys), list(keys), measured, RobotKeysConfig(**flags))
    return {key: kinds[key] for key in keys}


CUSTOMARY = [
    # LeRobot's own robots
    ({"shoulder_pan.pos": P, "gripper.pos": G, "left_gripper.pos": G}, "all"),
    ({"arm_elbow_flex.pos": P, "arm_gripper.pos": G, "x.vel": V, "y.vel": V, "theta.vel": V}, "all"),
    (dict.fromkeys(reachy2.REACHY2_VEL, V) | dict.fromkeys([*reachy2.REACHY2_NECK_JOINTS, *reachy2.REACHY2_ANTENNAS_JOINTS], P), "all"),
    ({earthrover.ACTION_LINEAR_VEL: V, earthrover.ACTION_ANGULAR_VEL: V}, ""),
    (dict.fromkeys(REMOTE_AXES, V) | {"kLeftShoulderPitch.q": P}, "all"),
    ({"joint_1.pos": P, "joint_1.vel": V, "joint_1.torque": P}, "all"),
    ({"thumb_cmc.pos": P, "shoulder_pitch.pos": P}, "all"),
    # LeRobot's kinematic processors: ee.wx is part of an orientation
    ({"ee.x": P, "ee.y": P, "ee.z": P, "ee.wx": P, "ee.wy": P, "ee.wz": P, "ee.gripper_pos": G}, ""),
    ({"delta_x": D, "delta_y": D, "delta_z": D, "gripper": G}, ""),
    ({"ee.gripper_vel": V}, "all"),
    # ours
    ({"ee_dx.vel": D, "ee_drz.vel": D, "gripper.pos": G}, ""),
    ({"delta_x.pos": D, "delta_y.pos": D, "delta_z.pos": D, "gripper.pos": G}, ""),
    # plugins
    ({"Joint_1.pos": P, "Gripper.pos": G}, "all"),
    ({"joint_1.pos": P, "joint_1.vel": V, "gripper.value": G}, ""),
    ({"base.vx": V, "base.vy": V, "base.wz": V, "joint_1.pos": P}, ""),
    ({"base_vx": V, "base_vy": V, "base_omega": V}, ""),
    ({"base.v": V, "base.w": V}, "all"),
    ({"base.vX": V, "base.vTheta": V, "v_x": V}, ""),
    ({"linear_x.vel": V, "angular_z.vel": V}, ""),
    ({"linear.x": V, "linear.y": V, "angular.z": V}, ""),
    ({"base.linear": V, "base.angular": V}, ""),
    ({"cmd_vel.linear.x": V, "cmd_vel.angular.z": V}, ""),
    ({"left_wheel_speed": V, "wheelRpm": V, "yaw_rate": V, "theta_dot": V, "joint_1.dq": V}, ""),
    ({"delta_roll": D, "delta_pitch": D, "gripper_delta": D, "deltaX": D}, "all but gripper_delta"),
    # what only looks like one of them
    ({"velcro.pos": P, "delta_1.pos": P, "linear_rail.pos": P, "speed_dial.pos": P}, "all"),
    ({"max_speed": P, "velocity_limit": P, "kp": P, "kd": P, "enabled": P}, ""),
    ({"lift.linear": P, "head.yaw": P, "ee.rx": P, "tool.z": P, "dx_cam.pos": P}, "all"),
]


@pytest.mark.parametrize(("expected", "measured"), CUSTOMARY)
def test_customary_names(expected, measured):
    measured = {"all": list(expected), "": [], "all but gripper_delta": [key for key in expected if key != "gripper_delta"]}[measured]
    assert kinds_of(expected, measured) == expected


def test_other_devices_keys_are_told_by_their_names():
    kinds = KeyKinds(Declared(["a.pos"]), ["a.pos"], [])
    assert [kinds[key] for key in ("delta_x", "gripper", "x.vel")] == [D, G, V]


@pytest.mark.parametrize("key", ["gripper", "Gripper.pos", "left_GRIPPER", "rightGripper.pos", "ee.gripper_pos", "arm.gripper.joint"])
def test_grippers_are_found_in_any_case_at_any_place(key):
    assert is_gripper(key)
    assert kinds_of([key])[key] is G


def test_a_flag_says_it_where_names_do_not_and_takes_patterns():
    keys = ["base.x", "base.y", "jaw", "tilt", "nudge", "arm.speed"]
    flags = dict(velocities=["base.*"], grippers=["jaw"], positions=["tilt", "arm.speed"], displacements=["nudge"])
    assert list(kinds_of(keys, keys, **flags).values()) == [V, V, G, P, D, P]


@pytest.mark.parametrize("where", ["serl", "configured"])
def test_a_robot_declares_in_its_class_or_in_its_configuration(where):
    keys = ["a", "b", "c", "x.vel"]
    said = {"velocities": ["a"], "displacements": ["b"], "grippers": ["c", "not.mounted"], "positions": ["x.*"]}
    assert list(kinds_of(keys, robot=Declared(keys, **{where: said})).values()) == [V, D, G, P]


@pytest.mark.parametrize("unit", ["m/s", "rad / s", "deg/s", "rpm", "m s^-1", "metres per second"])
def test_units_count(unit):
    assert kinds_of(["a", "b"], robot=Declared({"a": {"dtype": "float32", "unit": unit}, "b": {"units": "m"}})) == {"a": V, "b": P}
    assert kinds_of(["a", "b"], robot=Declared(["a", "b"], units={"a": unit, "b": "deg"})) == {"a": V, "b": P}


@pytest.mark.parametrize("unit", ["m", "deg", "m/s^2", "counts", "percent"])
def test_other_units_are_no_velocities(unit):
    assert kinds_of(["a"], robot=Declared({"a": {"unit": unit}})) == {"a": P}


@pytest.mark.parametrize(
    ("robot", "flags", "message"),
    [
        (Declared(["a"]), dict(velocities=["b"]), r"--robot_keys.velocities names 'b', expected some of \['a'\]"),
        (Declared(["a"]), dict(velocities=["a"], positions=["a"]), "--robot_keys.velocities names 'a', which positions names too"),
        (Declared(["a"], serl={"positions": ["a"]}), dict(velocities=["a"]), "'a', which declared declares among its positions"),
        (Declared(["a"], serl=["a"]), {}, r"declared: serl is \['a'\], expected a mapping from positions, grippers"),
        (Declared(["a"], configured={"speeds": ["a"]}), {}, r"declared's configuration: serl\['speeds'\]: expected one of positions"),
        (Declared(["a"], serl={"velocities": "a"}), {}, r"declared: serl\['velocities'\] is 'a', expected a list of keys"),
        (Declared(["left_wheel"]), {}, r"'left_wheel' moves a base, .* Say --robot_keys.velocities='\[\"left_wheel\"\]'"),
    ],
)
def test_what_can_not_be_is_refused(robot, flags, message):
    with pytest.raises(ValueError, match=message):
        kinds_of(list(robot.action_features), robot=robot, **flags)


def test_a_wheel_that_somebody_vouches_for_is_taken():
    assert kinds_of(["left_wheel", "wheel.pos"], positions=["left_wheel"]) == {"left_wheel": P, "wheel.pos": P}
