"""The simulated Panda as a LeRobot robot: contract, limits, repeatability, resets, real time, and a stock command."""

import logging
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from act_checkpoints import save_act, small_act_config
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.utils.errors import DeviceNotConnectedError
from opengl import opengl_platform

from lerobot_serl import SerlSacConfig
from lerobot_serl.envs.config_franka_sim import ACTION_NAMES, STATE_NAMES
from lerobot_serl.envs.expert_franka_sim import ScriptedExpert
from lerobot_serl.envs.franka_sim import FrankaSimGym
from lerobot_serl.envs.simulated_arm import simulated_arms
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.processor_serl_sac import make_serl_sac_pre_post_processors
from lerobot_serl.robots.config_franka_sim_robot import ACTION_KEYS, BLOCK_KEYS, STATE_KEYS, FrankaSimRobotConfig
from lerobot_serl.robots.franka_sim_robot import MAX_CATCH_UP_S, FrankaSimRobot
from lerobot_serl.setting_error import SettingError

PERIOD_S = 0.1


@pytest.fixture
def connect(tmp_path):
    """``connect(**settings)``: a connected robot; all are disconnected in the end."""
    made = []

    def make(**settings):
        robot = FrankaSimRobot(FrankaSimRobotConfig(calibration_dir=tmp_path, **settings))
        made.append(robot)
        robot.connect()
        return robot

    yield make
    for robot in made:
        robot.disconnect()


def block_of(robot):
    return robot.privileged_observation()["environment_state"]


def home_action(robot, **changes):
    observation = robot.get_observation()
    return {key: observation[key] for key in robot.action_features} | changes


def act_as_expert(robot, steps, expert=None):
    """Observations, and executed actions, of ``steps`` steps."""
    expert = expert or ScriptedExpert(robot.config.control_mode, robot.config.fps)
    history = []
    for _ in range(steps):
        values = expert.act(robot.privileged_observation())
        executed = robot.send_action(dict(zip(robot.action_features, values.tolist(), strict=True)))
        history.append([*robot.get_observation().values(), *executed.values()])
    return np.array(history)


def test_lerobot_makes_it_from_the_type_name():
    config = RobotConfig.get_choice_class("franka_sim")(id="sim")
    assert config.type == "franka_sim"
    robot = make_robot_from_config(config)
    assert isinstance(robot, FrankaSimRobot)
    assert robot.is_calibrated
    assert not robot.is_connected


def test_keys_are_those_of_the_environment_in_the_same_order():
    assert [key.replace("tcp_", "tcp.").removesuffix(".pos").removesuffix(".vel") for key in STATE_KEYS] == [
        name.removesuffix(".pos").removesuffix(".vel") for name in STATE_NAMES
    ]
    assert ACTION_KEYS["joint"] == ACTION_NAMES["joint"]
    assert [key.removesuffix(".pos") for key in ACTION_KEYS["ee_delta"]] == list(ACTION_NAMES["ee_delta"])


@pytest.mark.parametrize("mode", ACTION_KEYS)
@pytest.mark.parametrize("expose_block", [False, True])
def test_observation_has_the_promised_keys_and_only_floats(connect, mode, expose_block):
    robot = connect(control_mode=mode, expose_block=expose_block)
    observation = robot.get_observation()
    assert list(observation) == list(robot.observation_features)
    assert set(robot.observation_features.values()) == {float}
    assert {type(value) for value in observation.values()} == {float}
    assert all(key.endswith((".pos", ".vel")) for key in [*observation, *robot.action_features])  # all that lerobot-rollout accepts
    assert all(key in observation for key in BLOCK_KEYS) == expose_block
    assert robot.cameras == {}


def test_cameras_are_promised_before_connecting(tmp_path):
    robot = FrankaSimRobot(FrankaSimRobotConfig(calibration_dir=tmp_path, cameras=True, image_height_px=48, image_width_px=64))
    shapes = {key: shape for key, shape in robot.observation_features.items() if isinstance(shape, tuple)}
    assert shapes == robot.cameras == {"front": (48, 64, 3), "wrist": (48, 64, 3)}


@pytest.mark.parametrize("mode", ACTION_KEYS)
def test_in_lockstep_it_is_the_environment_to_the_bit(connect, mode):
    robot, env = connect(control_mode=mode, expose_block=True, seed=4), FrankaSimGym(control_mode=mode)
    np.testing.assert_array_equal(env.reset(seed=4)[0]["environment_state"], block_of(robot))
    env.action_space.seed(0)
    for _ in range(15):
        action = 3 * env.action_space.sample()
        observation, _, _, _, info = env.step(action)
        executed = robot.send_action(dict(zip(robot.action_features, action.tolist(), strict=True)))
        np.testing.assert_array_equal(np.float32(list(executed.values())), info["executed_action"])
        seen = np.float32(list(robot.get_observation().values()))
        np.testing.assert_array_equal(seen, np.concatenate([observation["agent_pos"], observation["environment_state"]]))


def test_same_seed_gives_the_same_run_and_looking_changes_nothing(connect):
    first, second = (connect(seed=3, expose_block=True) for _ in range(2))
    for _ in range(5):
        first.get_observation()
    np.testing.assert_array_equal(act_as_expert(first, 10), act_as_expert(second, 10))


def test_executed_action_is_returned_clipped_and_rate_limited(connect):
    robot = connect()
    start = home_action(robot)
    executed = robot.send_action({**start, "joint_1.pos": 2.0, "joint_2.pos": torch.tensor(-9.0), "gripper.pos": 7.0, "block_x.pos": 1.0})
    assert list(executed) == list(robot.action_features)
    assert {type(value) for value in executed.values()} == {float}
    assert executed["joint_1.pos"] == pytest.approx(start["joint_1.pos"] + 0.2, abs=1e-6)
    assert executed["joint_2.pos"] == pytest.approx(start["joint_2.pos"] - 0.2, abs=1e-6)
    assert executed["joint_3.pos"] == pytest.approx(start["joint_3.pos"], abs=1e-6)
    assert executed["gripper.pos"] == 1.0
    assert robot.get_observation()["joint_1.pos"] == pytest.approx(executed["joint_1.pos"], abs=0.05)


def test_what_can_be_executed_is_executed_unchanged(connect):
    robot = connect()
    wanted = {**home_action(robot), "joint_4.pos": 0.0}
    executable = robot.executable_action(wanted)
    assert executable != wanted
    assert robot.send_action(executable) == executable


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_action_that_is_not_finite_is_refused_and_moves_nothing(connect, value):
    robot = connect()
    before = robot.get_observation()
    with pytest.raises(ValueError, match=rf"'joint_3.pos' is {value}"):
        robot.send_action(home_action(robot, **{"joint_3.pos": value}))
    assert robot.get_observation() == before


def test_incomplete_action_is_refused(connect):
    with pytest.raises(ValueError, match=r"lacks \['delta_x.pos', 'delta_y.pos', 'delta_z.pos'\]; robot.control_mode=ee_delta"):
        connect(control_mode="ee_delta").send_action({"joint_1.pos": 0.0, "gripper.pos": 0.0})


def test_connecting_and_disconnecting_twice(connect):
    robot = connect()
    act_as_expert(robot, 2)
    observation = robot.get_observation()
    robot.connect()
    assert robot.get_observation() == observation
    robot.disconnect()
    robot.disconnect()
    assert not robot.is_connected
    assert not [handler for handler in logging.getLogger().handlers if "Announcements" in type(handler).__name__]
    for call in (robot.get_observation, robot.reset, lambda: robot.send_action({}), lambda: robot.success):
        with pytest.raises(DeviceNotConnectedError):
            call()
    robot.connect()
    assert robot.is_connected


def test_reset_places_the_cube_by_seed_and_homes_the_arm(connect):
    robot = connect(expose_block=True)
    home, first_block = robot.get_observation(), block_of(robot)
    act_as_expert(robot, 5)
    robot.reset()
    assert not np.array_equal(block_of(robot), first_block)
    robot.reset(seed=0)
    assert robot.get_observation() == home
    later = connect(seed=1)
    robot.disconnect()
    robot.connect()
    robot.reset()
    np.testing.assert_array_equal(block_of(robot), block_of(later))


def test_success_is_a_lifted_cube_and_attempts_are_counted(connect):
    robot = connect()
    assert not robot.success
    act_as_expert(robot, 30)
    assert robot.success
    robot.reset()
    assert not robot.success
    act_as_expert(robot, 3)
    robot.reset()
    assert (robot.n_attempts, robot.n_lifted) == (2, 1)


def test_an_announced_episode_begins_with_a_fresh_scene(connect, caplog):
    caplog.set_level(logging.INFO)
    robot, other = connect(), connect(reset_with_episodes=False)
    start = robot.get_observation()
    logging.info("Recording episode 0")
    np.testing.assert_array_equal(block_of(robot), block_of(other))  # it had not moved: nothing to do
    for each in (robot, other):
        act_as_expert(each, 5)
    logging.info("Recording episode 1")
    assert robot.get_observation() == start
    assert not np.array_equal(block_of(robot), block_of(connect()))
    assert other.get_observation() != start


def test_the_way_home_of_lerobot_rollout_may_name_more_than_the_action(connect):
    """It interpolates every observation that ends in .pos."""
    robot = connect(expose_block=True)
    home = {key: value for key, value in robot.get_observation().items() if key.endswith(".pos")}
    act_as_expert(robot, 15)
    start = {key: robot.get_observation()[key] for key in home}
    for part in np.linspace(0.0, 1.0, 30):
        robot.send_action({key: start[key] * (1 - part) + home[key] * part for key in home})
    assert robot.get_observation()["joint_2.pos"] == pytest.approx(home["joint_2.pos"], abs=0.02)


def test_it_begins_anew_after_success_or_time(connect):
    lifting, timed = connect(reset_after_success_s=0.5), connect(reset_after_s=1.0)
    first_block = block_of(lifting)
    act_as_expert(lifting, 30)
    assert (lifting.n_attempts, lifting.n_lifted) == (1, 1)
    assert not np.array_equal(block_of(lifting), first_block)
    act_as_expert(timed, 25)
    assert (timed.n_attempts, timed.n_lifted) == (2, 0)


def test_in_real_time_the_clock_moves_the_arm_and_the_last_action_is_held(connect, monkeypatch):
    robot = connect(lockstep=False)
    now_s = robot._simulated_until_s
    monkeypatch.setattr(robot, "_clock", lambda: now_s)
    start = robot.get_observation()
    executed = robot.send_action({**home_action(robot), "joint_1.pos": 1.0})
    assert robot.get_observation() == start
    positions = []
    for _ in range(3):
        now_s += PERIOD_S
        positions.append(robot.get_observation()["joint_1.pos"])
    assert start["joint_1.pos"] < positions[0] <= positions[1]
    assert positions[2] == pytest.approx(executed["joint_1.pos"], abs=0.01)
    simulated_s = robot.scene.data.time
    now_s += 60.0
    robot.get_observation()
    assert robot.scene.data.time - simulated_s == pytest.approx(MAX_CATCH_UP_S, abs=0.03)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"control_mode": "torque"}, r"robot.control_mode is 'torque'.*--robot.control_mode=joint"),
        ({"fps": 0}, "robot.fps is 0"),
        ({"image_width_px": 0}, "robot.image_width_px is 0"),
        ({"reset_after_s": -1.0}, "robot.reset_after_s is -1.0"),
        ({"reset_after_success_s": math.nan}, "robot.reset_after_success_s is nan"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        FrankaSimRobotConfig(**settings)


def test_the_robot_is_found_by_its_id(connect):
    left, right = connect(id="left"), connect(id="right")
    assert simulated_arms.find("right") is right
    with pytest.raises(LookupError, match=r"--teleop.robot_id"):
        simulated_arms.find(None)
    right.disconnect()
    assert simulated_arms.find(None) is left
    with pytest.raises(LookupError, match=r"no simulated robot with the id 'middle'.*--robot.type=franka_sim"):
        simulated_arms.find("middle")


def save_policy(directory):
    """A SERL checkpoint over a small ACT with robot features; its statistics are those of random numbers."""
    act_config = small_act_config(1, state_dim=len(STATE_KEYS), action_dim=8)
    save_act(directory / "act", act_config)
    config = SerlSacConfig(act_path=str(directory / "act"), device="cpu", push_to_hub=False)
    policy = SerlSacPolicy(config)
    for part in (policy, *make_serl_sac_pre_post_processors(config)):
        part.save_pretrained(directory / "serl")
    return directory / "serl"


@pytest.mark.slow
def test_stock_rollout_runs_a_checkpoint_on_it(tmp_path):
    """ACT wants at least one image, so this needs OpenGL."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MUJOCO_GL": opengl_platform()}
    command = [
        sys.executable, "-m", "lerobot.scripts.lerobot_rollout", f"--policy.path={save_policy(tmp_path)}", "--device=cpu",
        "--robot.type=franka_sim", f"--robot.calibration_dir={tmp_path}", "--robot.cameras=true", "--robot.image_height_px=32",
        "--robot.image_width_px=32", "--robot.reset_after_s=1", "--fps=10", "--duration=4", "--task=Pick up the cube and lift it.",
        "--return_to_initial_position=false",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Attempt 1, 1.0 s" in done.stderr
    assert "Rollout finished" in done.stderr
