"""Counting a policy's successes without a learner: `lerobot-serl-actor --policy.path=...`."""

import json
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from act_checkpoints import random_observations, save_act, small_act_config
from counter_env import CounterEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.act.modeling_act import ACTPolicy
from practice_run import Run, actions
from scripted_hand import ScriptedHandConfig
from small_data import make_recording
from small_policy import fresh_chunk

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.demonstrated import find_stats, nothing_known
from lerobot_serl.actor.deployed_policy import load_deployed
from lerobot_serl.actor.evaluation import EvaluationSettings, evaluate
from lerobot_serl.actor.evaluation_file import EvaluationFile
from lerobot_serl.actor.robot_setup import RobotSettings
from lerobot_serl.actor.settings import DemonstrationsConfig, DeployedPolicyConfig, SafetyConfig
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.policy.act_checkpoint import find_checkpoint
from lerobot_serl.replay.demonstration_stats_file import FILE
from lerobot_serl.replay.episode import ActedAs
from lerobot_serl.report.comparison import compare
from lerobot_serl.robots.config_franka_sim_robot import FrankaSimRobotConfig
from lerobot_serl.scripts.lerobot_serl_actor import ActorProcessConfig, _workplace
from lerobot_serl.setting_error import SettingError


@pytest.fixture(scope="module")
def act(tmp_path_factory):
    directory = tmp_path_factory.mktemp("act")
    save_act(directory, small_act_config(0))
    return directory


def settings_of(path, results, arm=None, **changes):
    values = {
        "env": None if arm else FrankaSimEnv(episode_length=4), "robot_config": arm, "teleop_config": None, "seed": 7,
        "policy": DeployedPolicyConfig(str(path)), "n_episodes": 6, "results": results / "eval_info.json",
    }  # fmt: skip
    return EvaluationSettings(**(values | changes))


def test_two_evaluations_in_an_environment_are_compared_start_by_start(act, tmp_path):
    for name in ("before", "after"):
        assert evaluate(settings_of(act, tmp_path / name)) == (0, 6)
    document = json.loads((tmp_path / "before" / "eval_info.json").read_text())
    assert [episode["seed"] for episode in document["per_episode"]] == [7, 8, 9, 10, 11, 12]
    assert {(episode["steps"], episode["acted_as"], episode["decided_by"]) for episode in document["per_episode"]} == {
        (4, "ACT", "time limit")
    }
    assert (document["policy"], document["place"], document["wanted_episodes"]) == (str(act), "--env.type=franka_sim", 6)
    assert document["aggregated"]["pc_success"] == 0.0
    comparison = compare(tmp_path / "before", tmp_path / "after")
    assert comparison.pairs is not None
    assert comparison.pairs.neither == 6


def test_a_finished_evaluation_is_not_written_over(act, tmp_path):
    (tmp_path / "eval_info.json").write_text("precious")
    with pytest.raises(FileExistsError, match=r"holds an evaluation already, eval_info.json. Choose another directory"):
        evaluate(settings_of(act, tmp_path))
    assert (tmp_path / "eval_info.json").read_text() == "precious"


def test_every_episode_is_in_the_file_at_once_and_help_makes_it_a_failure(tmp_path):
    results = EvaluationFile(tmp_path / "new" / "eval_info.json", {"place": "here"})
    alone = torch.zeros(5, dtype=torch.bool)
    seen = []
    for recording in (make_recording(intervention=alone), make_recording(), make_recording(intervention=alone, success=False)):
        results.add(recording)
        seen.append(json.loads(results.path.read_text()))
    assert [[episode["success"] for episode in document["per_episode"]] for document in seen] == [
        [True], [True, False], [True, False, False],
    ]  # fmt: skip
    assert [episode["steps_by_hand"] for episode in seen[-1]["per_episode"]] == [0, 2, 0]
    assert results.counts == (1, 3)
    assert seen[-1]["aggregated"]["pc_success"] == pytest.approx(100 / 3)


class Stub:
    """A policy that counts how often it is told to begin anew; its chunks are of one step."""

    inputs: ClassVar = {"observation.state": PolicyFeature(FeatureType.STATE, (2,))}
    action_dim, acts_as = 2, ActedAs.ACT

    def __init__(self, files):
        self.files, self.asked, self.begun = files, 0, []

    def begin(self):
        self.begun.append(self.asked)

    moved = begin

    def plan_with(self, planning, fps, simulated):
        pass

    def report(self):
        return {}

    def close(self):
        pass

    def see(self, observation):
        pass

    def act(self, observation):
        self.asked += 1
        return Chunk(np.zeros((1, 2), np.float32), 0, 0.0, ActedAs.ACT)


def test_after_a_persons_help_the_policy_begins_anew_and_the_episode_failed(act, tmp_path, monkeypatch):
    stub = Stub(find_checkpoint(str(act), "policy.path"))
    monkeypatch.setattr("lerobot_serl.actor.evaluation.load_deployed", lambda *_: stub)
    hand = ScriptedHandConfig(takes_over=(3, 4))
    settings = settings_of(act, tmp_path, env=CounterEnv(succeed_at=6), teleop_config=hand, n_episodes=2)
    assert evaluate(settings) == (1, 2)
    assert stub.begun == [0, 2, 2, 4]  # each episode, and the two ticks by hand
    first, second = json.loads((tmp_path / "eval_info.json").read_text())["per_episode"]
    assert (first["success"], first["steps_by_hand"], first["steps"]) == (False, 2, 6)
    assert (second["success"], second["steps_by_hand"]) == (True, 0)


def test_practice_has_not_seen_the_starts_of_an_evaluation():
    asked = {"env": FrankaSimEnv(), "policy": DeployedPolicyConfig("x")}
    seeds = [_workplace(ActorProcessConfig(**flags))["seed"] for flags in (asked, asked | {"seed": 3})]
    assert seeds == [100_000, 3]
    assert _workplace(ActorProcessConfig(learner="127.0.0.1:1", env=FrankaSimEnv()))["seed"] == 1_000_000


@pytest.mark.parametrize("changes", [{}, {"n_action_steps": 3}, {"n_action_steps": 1, "temporal_ensemble_coeff": 0.01}])
def test_act_acts_as_lerobots_own_select_action(tmp_path, changes):
    """Also with its owner's own number of steps, and with temporal ensembling; forgetting begins anew."""
    config = small_act_config(0, n_action_steps=changes.get("n_action_steps", 7))
    _, pre, post = save_act(tmp_path, config)
    stock = ACTPolicy.from_pretrained(tmp_path, config=small_act_config(0, **({"n_action_steps": 7} | changes))).eval()
    deployed = load_deployed(DeployedPolicyConfig(str(tmp_path), **changes), "cpu")
    assert deployed.acts_as is ActedAs.ACT
    assert deployed.action_dim == 4
    assert deployed.inputs.keys() == config.input_features.keys()
    observations = random_observations(config, 24)
    for _ in range(2):
        stock.reset()
        deployed.begin()
        planned = []
        for step in range(24):
            here = {key: value[step] for key, value in observations.items()}
            if not planned:
                planned.extend(torch.from_numpy(deployed.act(here).actions))
            wanted = post(stock.select_action(pre({key: value.unsqueeze(0) for key, value in here.items()})))
            torch.testing.assert_close(planned.pop(0), wanted[0])
    here = {key: value[0] for key, value in observations.items()}
    assert len(deployed.act(here).actions) == changes.get("n_action_steps", 7)


def test_a_serl_sac_checkpoint_acts_as_it_is_deployed(demonstrations, tmp_path):
    run = Run(demonstrations, tmp_path).practise("1" * 30, ActedAs.DEPLOYED)
    run.save(1)
    numbered = load_deployed(DeployedPolicyConfig(str(tmp_path / "checkpoints" / "000001")), "cpu")
    assert numbered.acts_as is ActedAs.DEPLOYED
    generator = torch.Generator().manual_seed(1)
    observations = {key: torch.rand(9, *feature.shape, generator=generator) for key, feature in run.policy.config.input_features.items()}
    chunk = fresh_chunk(numbered, {key: value[0] for key, value in observations.items()})
    torch.testing.assert_close(torch.from_numpy(chunk.actions), actions(run.policy)[0])
    run.policy.config.act_alone = True
    run.policy.save_pretrained(tmp_path / "alone")
    assert load_deployed(DeployedPolicyConfig(str(tmp_path / "alone")), "cpu").acts_as is ActedAs.ACT


def test_every_checkpoint_of_a_learner_says_what_its_demonstrations_were_like(demonstrations, tmp_path):
    """The numbered one, the best, and what goes to the Hub."""
    run = Run(demonstrations, tmp_path)
    best = run.save(1)
    run.policy.save_pretrained(tmp_path / "hub")
    for directory in (best.parent / "000001" / "pretrained_model", best / "pretrained_model", tmp_path / "hub"):
        rated = find_stats(find_checkpoint(str(directory), "policy.path"), DemonstrationsConfig())
        assert rated == run.learner.demo_stats
        assert (rated.fps, rated.stats.longest, rated.stats.action_names) == (10, 6, ("action_0", "action_1"))


def test_the_demonstrations_are_those_that_are_named_or_that_the_training_names(act, demonstrations, tmp_path):
    files = find_checkpoint(str(act), "policy.path")
    assert find_stats(files, DemonstrationsConfig()) is None
    named = find_stats(files, DemonstrationsConfig("test/tiny", str(demonstrations.root)))
    assert (named.fps, named.stats.longest) == (10, 6)
    save_act(tmp_path, small_act_config(0))
    trained = find_checkpoint(str(tmp_path), "policy.path")
    elsewhere = nothing_known(4, 30, 99)
    elsewhere.write(tmp_path)
    assert find_stats(trained, DemonstrationsConfig()) == elsewhere
    assert find_stats(trained, DemonstrationsConfig("test/tiny", str(demonstrations.root))) == named
    (tmp_path / FILE).unlink()
    for root, expected in ((demonstrations.root, named), (tmp_path / "gone", None)):
        (tmp_path / "train_config.json").write_text(json.dumps({"dataset": {"repo_id": "test/tiny", "root": str(root)}}))
        assert find_stats(trained, DemonstrationsConfig()) == expected


@pytest.mark.parametrize("content", ["", "[]", '{"fps": 10}', '{"fps": 0, "demonstrations": {}}', '{"fps": 10, "demonstrations": {}}'])
def test_a_damaged_file_of_the_demonstrations_is_named(tmp_path, content):
    save_act(tmp_path, small_act_config(0))
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match=rf"policy.path='{tmp_path}': {FILE}: "):
        find_stats(find_checkpoint(str(tmp_path), "policy.path"), DemonstrationsConfig())


ARM = FrankaSimRobotConfig(id="evaluated", control_mode="ee_delta", cameras=True, image_height_px=32, image_width_px=32)


def test_a_robot_is_not_moved_without_limits_unless_that_is_asked_for(act, tmp_path):
    with pytest.raises(ValueError, match=r"neither the checkpoint nor a flag says .*--dataset.repo_id=YOU/TASK .*--safety.enabled=false"):
        evaluate(settings_of(act, tmp_path / "a", ARM))
    off = RobotSettings(safety=SafetyConfig(enabled=False))
    with pytest.raises(ValueError, match=r"Then give --fps, .* and --episode_time_s"):
        evaluate(settings_of(act, tmp_path / "b", ARM, robot=off))
    assert nothing_known(4, 10, 30).stats.longest == 30


def test_demonstrations_of_another_robot_are_refused(act, demonstrations, tmp_path):
    dataset = DemonstrationsConfig("test/tiny", str(demonstrations.root))
    with pytest.raises(
        ValueError, match=r"its actions have 4 numbers, those of the demonstrations 2. Name the dataset that it was trained on"
    ):
        evaluate(settings_of(act, tmp_path, dataset=dataset))


def test_a_dataset_that_is_nowhere_is_refused(act, tmp_path):
    with pytest.raises(ValueError, match=r"--dataset.repo_id=nobody/nothing: neither in .*nowhere nor on the Hub"):
        evaluate(settings_of(act, tmp_path, dataset=DemonstrationsConfig("nobody/nothing", str(tmp_path / "nowhere"))))


def test_other_policies_are_refused_by_name(tmp_path, demonstrations):
    (tmp_path / "config.json").write_text('{"type": "diffusion"}')
    (tmp_path / "model.safetensors").write_text("x")
    with pytest.raises(ValueError, match=r"a policy of type 'diffusion', expected 'serl_sac' or 'act'. lerobot-eval and lerobot-rollout"):
        load_deployed(DeployedPolicyConfig(str(tmp_path)), "cpu")
    Run(demonstrations, tmp_path / "run").save(1)
    with pytest.raises(ValueError, match=r"--policy.n_action_steps=3 is for ACT"):
        load_deployed(DeployedPolicyConfig(str(tmp_path / "run" / "checkpoints" / "000001"), n_action_steps=3), "cpu")


def test_temporal_ensembling_beside_several_steps_says_what_to_add(act):
    with pytest.raises(ValueError, match=r"Add --policy.n_action_steps=1"):
        load_deployed(DeployedPolicyConfig(str(act), temporal_ensemble_coeff=0.01), "cpu")


def test_a_checkpoint_that_is_not_there_is_named_with_its_flag(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^policy.path="):
        load_deployed(DeployedPolicyConfig(str(tmp_path / "no" / "such")), "cpu")


WRONG = {
    "neither": ({}, "Give either --learner=HOST:PORT, to collect for a learner, or --policy.path=CHECKPOINT"),
    "both": ({"learner": "127.0.0.1:1", "policy": DeployedPolicyConfig("x")}, "Give either --learner=HOST:PORT"),
    "spool": ({"policy": DeployedPolicyConfig("x"), "spool_limit_gb": 3.0}, "--spool_limit_gb: only with --learner is it of any use"),
    "dataset": ({"learner": "127.0.0.1:1", "dataset": DemonstrationsConfig("a/b")}, "--dataset: only with --policy.path is it of any use"),
}


@pytest.mark.parametrize("flags", WRONG)
def test_flags_that_do_not_go_together_are_refused(flags):
    values, words = WRONG[flags]
    with pytest.raises(SettingError, match=re.escape(words)):
        ActorProcessConfig(env=FrankaSimEnv(), **values)


def test_settings_of_act_need_a_policy():
    with pytest.raises(SettingError, match=r"--policy.path=None: expected a checkpoint, as other flags of it are given"):
        DeployedPolicyConfig(n_action_steps=2)
    with pytest.raises(SettingError, match=r"--dataset.repo_id=None: expected a name"):
        DemonstrationsConfig(root="somewhere")
