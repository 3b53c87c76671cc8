"""The scripted expert as a LeRobot teleoperator, and stock lerobot-record with it."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.processor.hil_processor import HasTeleopEvents
from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config
from lerobot.teleoperators.utils import TeleopEvents
from lerobot.utils.errors import DeviceNotConnectedError

from lerobot_serl.envs.franka_sim import FrankaSimGym
from lerobot_serl.robots.config_franka_sim_robot import ACTION_KEYS, BLOCK_KEYS, FrankaSimRobotConfig
from lerobot_serl.robots.franka_sim_robot import FrankaSimRobot
from lerobot_serl.setting_error import SettingError
from lerobot_serl.teleoperators.config_franka_sim_expert import FrankaSimExpertConfig
from lerobot_serl.teleoperators.franka_sim_expert import HOLD_HEIGHT_M, FrankaSimExpert

EPISODES, EPISODE_S, FPS = 2, 4, 10


@pytest.fixture
def pair(tmp_path):
    """``pair(robot settings, **expert settings)``: robot and expert, both connected; disconnected in the end."""
    made = []

    def make(settings=None, **expert_settings):
        robot = FrankaSimRobot(FrankaSimRobotConfig(id=f"sim{len(made)}", calibration_dir=tmp_path, **(settings or {})))
        teleop = FrankaSimExpert(FrankaSimExpertConfig(robot_id=robot.id, calibration_dir=tmp_path, **expert_settings))
        made.extend([robot, teleop])
        teleop.connect()  # LeRobot connects the teleoperator first
        robot.connect()
        return robot, teleop

    yield make
    for device in made:
        device.disconnect()


def test_lerobot_makes_it_from_the_type_name():
    config = TeleoperatorConfig.get_choice_class("franka_sim_expert")(id="expert")
    assert config.type == "franka_sim_expert"
    teleop = make_teleoperator_from_config(config)
    assert isinstance(teleop, FrankaSimExpert)
    assert teleop.is_calibrated
    assert teleop.feedback_features == {"gripper.pos": float}
    assert list(teleop.action_features) == list(FrankaSimRobot(FrankaSimRobotConfig()).action_features)


def test_without_a_robot_it_says_so():
    gc.collect()
    with pytest.raises(LookupError, match=r"no simulated robot with the id 'absent'.*--robot.type=franka_sim"):
        FrankaSimExpert(FrankaSimExpertConfig(robot_id="absent")).connect()


@pytest.mark.parametrize("settings", [{"control_mode": "joint"}, {"control_mode": "ee_delta"}, {"fps": 30}])
def test_it_lifts_the_cube_and_holds_it(pair, settings):
    robot, teleop = pair(settings)
    assert teleop.action_features == robot.action_features
    for step in range(8 * robot.config.fps):
        action = teleop.get_action()
        assert list(action) == list(robot.action_features)
        assert {type(value) for value in action.values()} == {float}
        assert robot.send_action(action) == action  # what is recorded is what is carried out
        assert step < 4 * robot.config.fps or robot.success
    assert HOLD_HEIGHT_M - 0.03 < robot.scene.tcp_position_m[2] < HOLD_HEIGHT_M + 0.05


def test_noise_depends_on_its_seed_alone(pair):
    def first_action(**settings):
        return pair(**settings)[1].get_action()

    plain, noisy, same, other = (first_action(**s) for s in ({}, {"noise_std": 0.3}, {"noise_std": 0.3}, {"noise_std": 0.3, "seed": 1}))
    assert noisy == same
    assert len({tuple(action.values()) for action in (plain, noisy, other)}) == 3


def test_connecting_and_disconnecting_twice(pair):
    robot, teleop = pair()
    teleop.connect()
    assert teleop.is_connected
    robot.disconnect()
    with pytest.raises(DeviceNotConnectedError):
        teleop.get_action()
    teleop.disconnect()
    teleop.disconnect()
    assert not teleop.is_connected
    with pytest.raises(DeviceNotConnectedError, match="FrankaSimExpert"):
        teleop.get_action()


def hold(robot):
    """An action that keeps the arm where it is."""
    return {key: robot.get_observation()[key] for key in robot.action_features}


def test_by_default_it_never_takes_over(pair):
    robot, teleop = pair()
    assert isinstance(teleop, HasTeleopEvents)
    for _ in range(40):
        assert not any(teleop.get_teleop_events().values())
        robot.send_action(hold(robot))


def test_it_takes_over_from_an_arm_that_does_nothing_and_lets_go_when_the_cube_is_lifted(pair):
    robot, teleop = pair(takeover_share=1.0, takeover_after_s=1.5)
    for attempt in range(2):
        action, helped = hold(robot), []
        while not robot.success:
            events = teleop.get_teleop_events()
            assert events.keys() == {e for e in TeleopEvents if e is not TeleopEvents.FAILURE}
            helped.append(events.pop(TeleopEvents.IS_INTERVENTION))
            assert not any(events.values())
            robot.send_action(teleop.get_action() if helped[-1] else action)
        assert helped == [False] * 15 + [True] * (len(helped) - 15)
        assert not teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION]
        robot.reset()
        assert robot.n_attempts_begun == attempt + 2


def test_an_arm_that_succeeds_in_time_is_left_alone(pair):
    robot, teleop = pair(takeover_share=1.0, takeover_after_s=3.5)
    for _ in range(60):
        assert not teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION]
        robot.send_action(teleop.get_action())
    assert robot.success


@pytest.mark.parametrize(("beside_m", "helps"), [(0.02, True), (0.04, False)])
def test_it_takes_over_where_the_hand_comes_down_beside_the_cube(pair, beside_m, helps):
    robot, teleop = pair({"control_mode": "ee_delta"}, takeover_share=1.0, takeover_after_s=0.5, takeover_beside_m=beside_m)

    def offset_m():
        return robot.scene.block_position_m + np.array([0.03, 0.0, 0.02]) - robot.scene.tcp_position_m

    saw = []
    for _ in range(40):  # comes down 3 cm beside the cube, from 15 cm above
        wanted_m = offset_m()
        if np.abs(wanted_m[:2]).max() > 0.004:
            wanted_m[2] += 0.13
        steps = np.clip(wanted_m / 0.025, -1, 1)
        is_due = teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION]
        saw.append((is_due, robot.scene.tcp_position_m[2] < 0.1))
        robot.send_action(dict(zip(ACTION_KEYS["ee_delta"], [*steps.tolist(), 0.0], strict=True)))
    assert saw[-1] == (helps, True)
    first_low = [low for _, low in saw].index(True)
    assert not any(due for due, _ in saw[:first_low])
    assert all(due == helps for due, _ in saw[first_low:])


@pytest.mark.parametrize("mode", ["joint", "ee_delta"])
def test_it_works_at_the_environment_too(mode):
    gc.collect()
    env = FrankaSimGym(control_mode=mode)
    teleop = FrankaSimExpert(FrankaSimExpertConfig(takeover_share=1.0, takeover_after_s=1.0))
    teleop.connect()
    helped, finished = [], False
    env.reset(seed=1)
    wait = np.array([0, 0, 0, 0] if mode == "ee_delta" else [*env.scene.joint_positions_rad, 0], dtype=np.float32)
    while not finished:
        helped.append(teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION])
        action = teleop.get_action()
        assert tuple(action) == ACTION_KEYS[mode] == tuple(teleop.action_features)
        values = np.array(list(action.values()), dtype=np.float32) if helped[-1] else wait
        _, reward, terminated, truncated, info = env.step(values)
        np.testing.assert_array_equal(info["executed_action"], values)  # the expert gives what can be carried out
        finished = terminated or truncated
    assert (reward, helped[:11]) == (1.0, [False] * 10 + [True])
    env.reset(seed=2)
    assert env.n_attempts_begun == 2
    assert not teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION]
    env.close()
    assert not env.is_connected


@pytest.mark.parametrize(
    "settings",
    [
        {"noise_std": -0.1},
        {"noise_std": float("nan")},
        {"seed": -1},
        {"takeover_share": 1.5},
        {"takeover_after_s": -1.0},
        {"takeover_beside_m": -0.01},
        {"takeover_for_s": float("inf")},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(SettingError, match=f"teleop.{next(iter(settings))}"):
        FrankaSimExpertConfig(**settings)


@pytest.mark.slow
def test_stock_record_gives_episodes_that_begin_at_home_and_lift_the_cube(tmp_path):
    command = [
        sys.executable, "-m", "lerobot.scripts.lerobot_record", "--robot.type=franka_sim", f"--robot.fps={FPS}",
        "--robot.expose_block=true", f"--robot.calibration_dir={tmp_path}", "--teleop.type=franka_sim_expert",
        f"--teleop.calibration_dir={tmp_path}", "--dataset.repo_id=local/demos", "--dataset.no_stamp=true",
        f"--dataset.root={tmp_path / 'demos'}", "--dataset.single_task=Pick up the cube and lift it.", f"--dataset.fps={FPS}",
        f"--dataset.num_episodes={EPISODES}", f"--dataset.episode_time_s={EPISODE_S}", "--dataset.reset_time_s=1",
        "--dataset.video=false", "--dataset.push_to_hub=false", "--play_sounds=false",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("lifted so far") == EPISODES

    dataset = LeRobotDataset("local/demos", root=tmp_path / "demos")
    names = dataset.meta.features["observation.state"]["names"]
    assert dataset.num_episodes == EPISODES
    columns = {key: np.array(dataset.hf_dataset.with_format("numpy")[key]) for key in ("episode_index", "observation.state", "action")}
    starts = []
    for episode in range(EPISODES):
        state = columns["observation.state"][columns["episode_index"] == episode]
        block_m = state[:, [names.index(key) for key in BLOCK_KEYS]]
        assert block_m[-1, 2] - block_m[0, 2] > 0.1
        assert np.abs(np.diff(block_m, axis=0)).max() < 0.05  # nothing is reset inside an episode
        starts.append(state[0])
    home = [i for i, name in enumerate(names) if name not in BLOCK_KEYS]
    np.testing.assert_array_equal(starts[0][home], starts[1][home])
    assert not np.array_equal(starts[0], starts[1])
    executed = columns["action"][1:] - columns["observation.state"][1:, [names.index(f"joint_{i}.pos") for i in range(1, 8)] + [14]]
    assert np.abs(executed[:, :7]).max() <= 0.2 + 1e-5
