"""At step 0 the policy is ACT as its owner runs it, wherever it runs: lerobot-eval, lerobot-rollout, evaluations of the actor process, the study."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from act_checkpoints import small_act_config
from counter_env import CounterEnv
from edited_act import save_edited_act, with_small_camera
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.scripts import lerobot_eval
from opengl import opengl_platform

from examples.benchmark.study.practice import deterministic
from examples.benchmark.study.practice import evaluate as study_evaluate
from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.env_world import EnvWorld
from lerobot_serl.actor.evaluation import EvaluationSettings, evaluate
from lerobot_serl.actor.evaluation_file import EvaluationFile
from lerobot_serl.actor.rollout import Rollout
from lerobot_serl.actor.settings import DeployedPolicyConfig
from lerobot_serl.base.timeline import NO_PLAN
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.replay.episode import policy_input
from lerobot_serl.robots.franka_sim_robot import STATE_KEYS

pytestmark = pytest.mark.slow
STEPS = 110
# Steps of a plan, of a decision, and temporal ensembling.
WAYS = [(1, 1, None), (10, 10, None), (50, 15, None), (100, 10, None), (1, 1, 0.01)]


def pair(root, way, cameras=0, **changes):
    n_action_steps, horizon, coeff = way
    config = small_act_config(cameras, chunk_size=100, n_action_steps=n_action_steps, temporal_ensemble_coeff=coeff, **changes)
    return save_edited_act(root, config, horizon=horizon)


def assert_equal_actions(pair, ours, theirs):
    """Within 1e-5 of each range, and of actions that differ from each other."""
    ours, theirs = torch.as_tensor(np.asarray(ours)), torch.as_tensor(np.asarray(theirs))
    assert ours.shape == theirs.shape
    assert float(((ours - theirs).abs() / (2 * pair.half_width)).max()) <= 1e-5
    assert float(theirs.std(0).max()) > 1e-3


@pytest.mark.parametrize("way", WAYS)
def test_in_lerobot_eval(tmp_path, monkeypatch, way):
    here = pair(tmp_path, way)
    episodes, rollout, eval_all = {"act": [], "serl": []}, lerobot_eval.rollout, lerobot_eval.eval_policy_all
    # Videos of the episodes would take most of the time.
    monkeypatch.setattr(lerobot_eval, "eval_policy_all", lambda **settings: eval_all(**(settings | {"max_episodes_rendered": 0})))
    for name, seen in episodes.items():

        def kept(*arguments, seen=seen, **settings):
            seen.append(rollout(*arguments, **settings))
            return seen[-1]

        monkeypatch.setattr(lerobot_eval, "rollout", kept)
        monkeypatch.setattr(sys, "argv", [
            "lerobot-eval", f"--policy.path={tmp_path / name}", "--policy.device=cpu", "--env.type=franka_sim", f"--env.episode_length={STEPS}",
            "--eval.n_episodes=4", "--eval.batch_size=2", "--eval.use_async_envs=false", "--seed=5", f"--output_dir={tmp_path / 'out' / name}",
        ])  # fmt: skip
        lerobot_eval.eval_main()
        assert (tmp_path / "out" / name / "eval_info.json").is_file()
    assert [len(seen) for seen in episodes.values()] == [2, 2]  # nothing of the first episodes is left in the second
    for ours, theirs in zip(episodes["serl"], episodes["act"], strict=True):
        assert theirs["action"].shape == (2, STEPS, 4)
        assert_equal_actions(here, ours["action"].flatten(0, 1), theirs["action"].flatten(0, 1))


def evaluated(path, results, monkeypatch, env):
    """The episodes of ``lerobot-serl-actor --policy.path=``."""
    episodes, add = [], EvaluationFile.add
    monkeypatch.setattr(EvaluationFile, "add", lambda file, episode: (episodes.append(episode), add(file, episode)))
    settings = EvaluationSettings(
        env=env, robot_config=None, teleop_config=None, seed=7, policy=DeployedPolicyConfig(str(path)), n_episodes=2,
        results=results / "eval_info.json",
    )  # fmt: skip
    evaluate(settings)
    monkeypatch.setattr(EvaluationFile, "add", add)
    return episodes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("camera", [False, True])
def test_in_evaluations_of_the_actor_process(tmp_path, monkeypatch, way, camera):
    env = FrankaSimEnv(episode_length=STEPS)
    if camera:
        env = CounterEnv(succeed_at=999, terminate_at=999, truncate_at=STEPS)
        config = with_small_camera("observation.image", 2, chunk_size=100, n_action_steps=way[0], temporal_ensemble_coeff=way[2])
        here = save_edited_act(tmp_path, config, horizon=way[1])
    else:
        here = pair(tmp_path, way)
    theirs, ours = (evaluated(tmp_path / name, tmp_path / f"of_{name}", monkeypatch, env) for name in ("act", "serl"))
    assert len(ours) == len(theirs) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == STEPS
        assert_equal_actions(here, one.action, other.action)
        for key in one.observation:
            assert one.observation[key].dtype == other.observation[key].dtype
        assert one.plan_age.tolist() == [t % way[0] for t in range(STEPS)]
        assert set(other.plan_age.tolist()) == {NO_PLAN}


@pytest.mark.parametrize("way", WAYS)
def test_in_the_study(tmp_path, way):
    here = pair(tmp_path, way)
    stock, before, after = here.stock
    inputs = here.policy.config.input_features

    def world():
        return EnvWorld(FrankaSimEnv(episode_length=STEPS), inputs, 4, 3)

    ours = study_evaluate(world(), deterministic(here.policy), 2)

    def act(observation):
        batch = policy_input({key: value.unsqueeze(0) for key, value in observation.items()})
        return Chunk(after(stock.select_action(before(batch))).numpy(), 0, 0.0)

    other = world()
    theirs = Rollout(other, act, stock.reset)
    for episode in ours:
        expected = theirs.run_episode()
        assert len(expected) == STEPS
        assert_equal_actions(here, episode.action, expected.action)
    other.close()


def rolled_out(root, name, platform):
    """Actions of ``lerobot-rollout`` on the simulated arm, two attempts."""
    data = root / f"{name}_data"
    command = [
        sys.executable, "-m", "lerobot.scripts.lerobot_rollout", "--strategy.type=episodic", "--strategy.reset_to_initial_position=false",
        f"--policy.path={root / name}", "--device=cpu", "--robot.type=franka_sim", f"--robot.calibration_dir={root}", "--robot.cameras=true",
        "--robot.image_height_px=32", "--robot.image_width_px=32", "--robot.reset_after_s=6", "--robot.seed=3", "--fps=10", "--task=Pick.",
        "--return_to_initial_position=false", "--play_sounds=false", "--dataset.repo_id=local/rollout_data", f"--dataset.root={data}",
        "--dataset.no_stamp=true", "--dataset.single_task=Pick.", "--dataset.fps=10", "--dataset.num_episodes=2", "--dataset.episode_time_s=6",
        "--dataset.reset_time_s=0", "--dataset.video=false", "--dataset.push_to_hub=false",
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MUJOCO_GL": platform}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = LeRobotDataset("local/rollout_data", root=data).hf_dataset.with_format("numpy")[:]
    return [np.stack(rows["action"])[rows["episode_index"].ravel() == number] for number in (0, 1)]


@pytest.mark.parametrize("way", [(50, 15, None), (1, 1, 0.01)])
def test_in_lerobot_rollout(tmp_path, way):
    platform = opengl_platform()
    here = pair(tmp_path, way, cameras=1, state_dim=len(STATE_KEYS), action_dim=8)
    for ours, theirs in zip(*(rolled_out(tmp_path, name, platform) for name in ("serl", "act")), strict=True):
        frames = min(len(ours), len(theirs))  # the clock ends an attempt
        assert frames > 30
        assert_equal_actions(here, ours[:frames], theirs[:frames])
