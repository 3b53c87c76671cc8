"""Two simulated arms as one LeRobot robot, and the two-armed scripted expert."""

import itertools
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config
from lerobot.teleoperators.utils import TeleopEvents
from lerobot.utils.errors import DeviceNotConnectedError

from lerobot_serl.robots.bi_franka_sim_robot import BiFrankaSimRobot
from lerobot_serl.robots.config_bi_franka_sim_robot import BiFrankaSimRobotConfig
from lerobot_serl.robots.config_franka_sim_robot import FrankaSimRobotConfig
from lerobot_serl.robots.franka_sim_robot import FrankaSimRobot
from lerobot_serl.teleoperators.bi_franka_sim_expert import BiFrankaSimExpert
from lerobot_serl.teleoperators.config_bi_franka_sim_expert import BiFrankaSimExpertConfig

serial = itertools.count()  # a robot of an earlier test may still be alive


@pytest.fixture
def pair(tmp_path):
    """``pair(robot settings, **expert settings)``: robot and expert, both connected; disconnected in the end."""
    made = []

    def make(settings=None, **expert_settings):
        robot = BiFrankaSimRobot(BiFrankaSimRobotConfig(id=f"bi{next(serial)}", calibration_dir=tmp_path, **(settings or {})))
        teleop = BiFrankaSimExpert(BiFrankaSimExpertConfig(robot_id=robot.id, calibration_dir=tmp_path, **expert_settings))
        made.extend([robot, teleop])
        teleop.connect()
        robot.connect()
        return robot, teleop

    yield make
    for device in made:
        device.disconnect()


def blocks(robot):
    seen = robot.privileged_observation()
    return seen["left_environment_state"], seen["right_environment_state"]


def test_lerobot_makes_both_from_the_type_name(tmp_path):
    robot = make_robot_from_config(RobotConfig.get_choice_class("bi_franka_sim")(id="duo", calibration_dir=tmp_path))
    teleop = make_teleoperator_from_config(TeleoperatorConfig.get_choice_class("bi_franka_sim_expert")(robot_id="duo"))
    assert isinstance(robot, BiFrankaSimRobot)
    assert isinstance(teleop, BiFrankaSimExpert)
    assert (robot.config.type, teleop.config.type) == ("bi_franka_sim", "bi_franka_sim_expert")
    assert list(teleop.action_features) == list(robot.action_features)
    assert not robot.is_connected
    with pytest.raises(DeviceNotConnectedError):
        robot.get_observation()
    with pytest.raises(DeviceNotConnectedError):
        teleop.get_action()


def test_keys_are_those_of_one_arm_twice_cameras_included(tmp_path):
    settings = {"calibration_dir": tmp_path, "cameras": True, "image_height_px": 48, "image_width_px": 64, "expose_block": True}
    one = FrankaSimRobot(FrankaSimRobotConfig(**settings))
    two = BiFrankaSimRobot(BiFrankaSimRobotConfig(**settings))
    for features in ("observation_features", "action_features", "cameras"):
        single = getattr(one, features)
        assert getattr(two, features) == {f"{side}_{key}": value for side in ("left", "right") for key, value in single.items()}
    assert two.cameras["right_wrist"] == (48, 64, 3)


def test_each_arm_does_what_it_is_told_and_nothing_else(pair):
    robot, _ = pair()
    start = robot.get_observation()
    assert list(start) == list(robot.observation_features)
    hold = {key: start[key] for key in robot.action_features}
    executed = robot.send_action({**hold, "right_joint_1.pos": 0.1, "extra": 1.0})
    assert list(executed) == list(robot.action_features)
    after = robot.get_observation()
    assert after["right_joint_1.pos"] == pytest.approx(0.1, abs=0.03)
    assert after["left_joint_1.pos"] == pytest.approx(start["left_joint_1.pos"], abs=0.005)


def test_an_action_that_one_arm_refuses_moves_neither(pair):
    robot, _ = pair()
    before = robot.get_observation()
    action = {key: before[key] for key in robot.action_features} | {"left_joint_1.pos": 0.2}
    with pytest.raises(ValueError, match=r"right arm, whose keys begin with 'right_': .*'joint_3.pos' is nan"):
        robot.send_action(action | {"right_joint_3.pos": float("nan")})
    with pytest.raises(ValueError, match=r"right arm.*lacks \['gripper.pos'\]"):
        robot.send_action({key: value for key, value in action.items() if key != "right_gripper.pos"})
    assert robot.get_observation() == before


@pytest.mark.parametrize("mode", ["joint", "ee_delta"])
def test_the_experts_lift_both_cubes(pair, mode):
    robot, teleop = pair({"control_mode": mode})
    left, right = blocks(robot)
    assert not np.array_equal(left, right)
    assert teleop.action_features == robot.action_features
    for _ in range(40):
        action = teleop.get_action()
        assert robot.send_action(action) == action
    assert robot.success


def test_one_lifted_cube_is_not_enough(pair):
    robot, teleop = pair()
    start = robot.get_observation()
    for _ in range(40):
        action = teleop.get_action()
        robot.send_action(action | {key: start[key] for key in action if key.startswith("right_")})
    assert robot.arms["left"].success
    assert not robot.success


def test_reset_places_both_cubes_by_seed(pair):
    robot, teleop = pair()
    first = np.stack(blocks(robot))
    for _ in range(4):
        robot.send_action(teleop.get_action())
    assert (robot.n_attempts_begun, robot.attempt_time_s) == (1, 0.4)
    robot.reset()
    assert (robot.n_attempts_begun, robot.attempt_time_s) == (2, 0.0)
    assert not np.isclose(np.stack(blocks(robot)), first)[:, :2].any()
    robot.reset(seed=0)
    np.testing.assert_array_equal(np.stack(blocks(robot)), first)


def test_both_arms_begin_anew_together(pair, caplog):
    after_success, teleop = pair({"reset_after_success_s": 0.5})
    timed, timed_teleop = pair({"reset_after_s": 1.0})
    for _ in range(60):
        after_success.send_action(teleop.get_action())
    assert [(arm.n_lifted, arm.n_attempts) for arm in after_success.arms.values()] == [(2, 2), (2, 2)]
    for _ in range(15):
        timed.send_action(timed_teleop.get_action())
    assert [arm.n_attempts_begun for arm in timed.arms.values()] == [2, 2]
    caplog.set_level(logging.INFO)
    logging.info("Recording episode 1")
    timed.get_observation()
    assert [arm.n_attempts_begun for arm in timed.arms.values()] == [3, 3]


def test_the_experts_take_over_until_both_cubes_are_lifted(pair):
    robot, teleop = pair(takeover_share=1.0, takeover_after_s=1.0)
    start = robot.get_observation()
    hold = {key: start[key] for key in robot.action_features}
    helped = []
    for _ in range(60):
        helped.append(teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION])
        robot.send_action(teleop.get_action() if helped[-1] else hold)
        if robot.success:
            break
    assert robot.success
    assert helped == [False] * 10 + [True] * (len(helped) - 10)
    assert not teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION]


def test_without_a_robot_it_says_so():
    with pytest.raises(LookupError, match=r"no two-armed simulated robot with the id 'absent'.*--robot.type=bi_franka_sim"):
        BiFrankaSimExpert(BiFrankaSimExpertConfig(robot_id="absent")).connect()


@pytest.mark.slow
def test_stock_record_with_two_arms(tmp_path):
    command = [
        sys.executable, "-c",
        "import lerobot_serl.robots.config_bi_franka_sim_robot, lerobot_serl.teleoperators.config_bi_franka_sim_expert;"
        "from lerobot.scripts.lerobot_record import main; main()",
        "--robot.type=bi_franka_sim", f"--robot.calibration_dir={tmp_path}", "--robot.expose_block=true",
        "--teleop.type=bi_franka_sim_expert", f"--teleop.calibration_dir={tmp_path}", "--dataset.repo_id=local/duo",
        "--dataset.no_stamp=true", f"--dataset.root={tmp_path / 'duo'}", "--dataset.single_task=Lift both cubes.", "--dataset.fps=10",
        "--dataset.num_episodes=1", "--dataset.episode_time_s=5", "--dataset.reset_time_s=0", "--dataset.video=false",
        "--dataset.push_to_hub=false", "--play_sounds=false",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    dataset = LeRobotDataset("local/duo", root=tmp_path / "duo")
    assert dataset.meta.features["action"]["names"][:1] == ["left_joint_1.pos"]
    names = dataset.meta.features["observation.state"]["names"]
    state = np.array(dataset.hf_dataset.with_format("numpy")["observation.state"])
    for side in ("left", "right"):
        height_m = state[:, names.index(f"{side}_block_z.pos")]
        assert height_m.max() - height_m[0] > 0.1
