"""How the arm of an environment stands still while it waits for a plan: what LeRobot's own take, declarations, flags, names, or nobody knows."""

import os
import subprocess
import sys

import numpy as np
import pytest
from counter_env import CounterEnv, CounterGym
from edited_act import save_edited_act, with_small_camera
from lerobot.envs.configs import AlohaEnv, LiberoEnv, PushtEnv
from lerobot.envs.configs import MetaworldEnv as LerobotsMetaworld
from opengl import opengl_platform

from lerobot_serl.actor.env_keys import EnvKeys
from lerobot_serl.actor.evaluation import EvaluationSettings, evaluate
from lerobot_serl.actor.planning import Planning
from lerobot_serl.actor.robot_setup import RobotSettings
from lerobot_serl.actor.settings import DeployedPolicyConfig, RobotKeysConfig

LAST = [-0.75, 0.25]
STANDING = """
import sys
import numpy as np
from lerobot.envs.configs import MetaworldEnv
from lerobot_serl.actor.env_world import EnvWorld

world = EnvWorld(MetaworldEnv(task="push-v3"), None, None, seed=0)
world.reset()
for _ in range(10):
    world.step(np.array([0.5, -0.5, 0.5, 1.0], np.float32))
executed, hands = [], []
for _ in range(30):
    result = world.stay()
    executed.append(result.executed.tolist())
    hands.append(result.observation["observation.state"].numpy())
assert executed == [[0.0, 0.0, 0.0, 1.0]] * 30, executed
came_to_rest = np.stack(hands[10:])
assert np.ptp(came_to_rest[:, :3], axis=0).max() < 0.01, came_to_rest  # metres; the last action again would be 0.1
assert np.ptp(came_to_rest[:, 3]) < 0.02  # of the gripper's opening, which is 0 to 1
"""


def still(config, size, names=(), env=None, **flags):
    last = np.arange(1, size + 1, dtype=np.float32)
    keys = EnvKeys(config, env, "--env.type=x", size, names, RobotKeysConfig(**flags))
    keys.require_clear("--plan_delay_s=1")
    return [
        int(value) if value == 0 else "last" if value == before else value for value, before in zip(keys.still(last), last, strict=True)
    ]


@pytest.mark.parametrize("names", [(), ("x", "y", "z", "gripper")])
def test_metaworlds_actions_are_displacements_whatever_their_names(names):
    assert still(LerobotsMetaworld(), 4, names) == [0, 0, 0, "last"]


@pytest.mark.parametrize(("mode", "tool"), [("relative", 0), ("absolute", "last")])
def test_liberos_depend_on_its_control_mode(mode, tool):
    assert still(LiberoEnv(control_mode=mode), 7) == [tool] * 6 + ["last"]


def test_alohas_and_pushts_are_places():
    assert still(AlohaEnv(), 14) == ["last"] * 14
    assert still(PushtEnv(), 2) == ["last"] * 2


def test_an_environment_declares_them_itself():
    declared = CounterEnv()
    declared.serl = {"displacements": ["1"]}

    class Env:
        serl = {"velocities": ["0"]}  # noqa: RUF012

    assert still(declared, 2) == ["last", 0]
    assert still(CounterEnv(), 2, env=Env()) == [0, "last"]


def test_flags_name_entries_by_their_names_or_numbers():
    assert still(CounterEnv(), 2, displacements=["0", "1"]) == [0, 0]
    assert still(CounterEnv(), 2, positions=["*"]) == ["last", "last"]
    assert still(CounterEnv(), 2, ("a", "b"), velocities=["b"]) == ["last", 0]
    with pytest.raises(ValueError, match=r"--robot_keys.velocities names 'c', expected some of \['0', '1'\]"):
        still(CounterEnv(), 2, velocities=["c"])


@pytest.mark.parametrize("names", [(), ("a",), ("a", "a")])
def test_where_nobody_says_it_that_is_refused_when_the_arm_will_wait(names):
    with pytest.raises(
        ValueError, match=r"--env.type=x: with --plan_delay_s=1 the arm waits for plans, and nothing says how it stands still"
    ):
        still(CounterEnv(), 2, names)


def test_otherwise_it_is_said_once_when_it_happens(caplog):
    keys = EnvKeys(CounterEnv(), None, "--env.type=x", 2, (), RobotKeysConfig())
    for _ in range(2):
        assert keys.still(np.array(LAST)).tolist() == LAST
    assert caplog.text.count("If that is a displacement, it goes on") == 1


def wait(checkpoint, results, **flags):
    """An evaluation in which the arm waits for its second plan."""
    robot, policy, planning = (
        RobotSettings(robot_keys=RobotKeysConfig(**flags)),
        DeployedPolicyConfig(str(checkpoint)),
        Planning("in_loop", 0.1),
    )
    where = {"env": CounterEnv(truncate_at=16), "robot_config": None, "teleop_config": None, "results": results / "eval_info.json"}
    evaluate(EvaluationSettings(**where, seed=7, robot=robot, policy=policy, n_episodes=1, planning=planning))


def test_the_command_refuses_before_it_moves_and_obeys_the_flag(tmp_path, monkeypatch):
    config = with_small_camera("observation.image", 2, chunk_size=10, n_action_steps=10)
    checkpoint, sent = save_edited_act(tmp_path, config, horizon=5).serl, []
    step = CounterGym.step
    monkeypatch.setattr(CounterGym, "step", lambda env, action: (sent.append(action.tolist()), step(env, action))[1])
    with pytest.raises(ValueError, match=r"with --plan_delay_s=0.1 the arm waits for plans.*--robot_keys.displacements="):
        wait(checkpoint, tmp_path)
    assert sent == []
    (tmp_path / "there").mkdir()
    wait(checkpoint, tmp_path / "there", displacements=["0"], grippers=["1"])
    assert sent[10:13] == [[0.0, sent[9][1]]] * 3
    assert sent[9][0] != 0.0


@pytest.mark.slow
def test_metaworld_through_lerobots_own_environment_stands_still():
    pytest.importorskip("metaworld")
    environment = {**os.environ, "MUJOCO_GL": opengl_platform()}
    command = [sys.executable, "-c", STANDING]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
