"""SIGKILL in the middle of an episode with an open plan, of the robot side and of the learner: what was sent is what is learnt from."""

import csv
import signal
from itertools import pairwise

import numpy as np
import pytest
import torch
from act_checkpoints import save_act, small_act_config
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from processes import eventually
from witnessed_actor import Witnessed

from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.policy.checkpoint_files import newest_whole
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.record.own_expert import record_expert
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.memory import BASE, FEATURES

pytestmark = pytest.mark.slow
PLANNED, LONGEST, HORIZON, STEPS, DELAY = 20, 40, 5, 60, 4
# In the second plan, between two decisions.
MIDDLE = 33


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """Demonstrations, and an ACT whose plans outlive decisions."""
    root = tmp_path_factory.mktemp("ground")
    record_expert(FrankaSimEnv(), "local/demos", root / "demos", n_episodes=3, seed=0)
    statistics = LeRobotDatasetMetadata("local/demos", root=root / "demos").stats
    tensors = {key: {name: torch.as_tensor(value) for name, value in named.items()} for key, named in statistics.items()}
    save_act(root / "act", small_act_config(0, chunk_size=LONGEST, n_action_steps=PLANNED), tensors)
    return root


class Practice:
    """A real learner and real robot sides, which plan beside their control loop."""

    def __init__(self, processes, ground, root):
        self._processes, self._ground, self.root, self._logs, self._port = processes, ground, root, 0, 0
        self.checkpoints, self.witness = root / "run" / "checkpoints", root / "witness.jsonl"

    def learner(self):
        """From its newest checkpoint, if there is one; on the port of the one before."""
        whole = newest_whole(self.checkpoints) if self.checkpoints.is_dir() else None
        flags = ["--resume=true", f"--config_path={whole / 'pretrained_model' / 'train_config.json'}"] if whole else self._flags()
        child = self._processes.start("train", self._log(), *flags, f"--policy.online.port={self._port}")
        child.says("Learner listens at 127.0.0.1:")
        self._port = int(child.output.partition("Learner listens at 127.0.0.1:")[2].partition(";")[0])
        return child

    def actor(self, n_episodes, kills="nobody@0"):
        return self._processes.start(
            "witnessed", self._log(), self.witness, kills, f"--learner=127.0.0.1:{self._port}", "--name=arm", f"--spool_dir={self.root / 'spool'}",
            "--env.type=franka_sim", f"--env.episode_length={STEPS}", "--planning=beside", f"--plan_delay_s={DELAY / 10}",
            f"--n_episodes={n_episodes}", "--patience_s=60",
        )  # fmt: skip

    @property
    def updates(self):
        """That the learner has made, as its metrics say."""
        files = sorted((self.root / "run").glob("**/learner.csv"))
        rows = [row for file in files for row in csv.DictReader(file.read_text().splitlines())]
        return max((int(row["step"]) for row in rows), default=0)

    @property
    def dataset(self):
        return LeRobotDataset("local/online", root=self.root / "online")

    def _flags(self):
        return [
            "--policy.type=serl_sac", f"--policy.act_path={self._ground / 'act'}", "--policy.device=cpu", "--policy.push_to_hub=false",
            "--policy.batch_size=8", "--policy.critic.members=2", "--policy.critic.hidden_sizes=[16]", "--policy.actor.hidden_sizes=[16]",
            "--policy.corrector.hidden_sizes=[16]", f"--policy.horizon={HORIZON}", "--policy.startup.collect_steps=8",
            "--policy.startup.critic_updates=10", "--policy.metrics_period_s=0.5", "--policy.online.repo_id=local/online",
            f"--policy.online.root={self.root / 'online'}", "--dataset.repo_id=local/demos", f"--dataset.root={self._ground / 'demos'}",
            "--batch_size=1", "--num_workers=0", "--env_eval_freq=0", "--log_freq=0", "--steps=1000000", "--save_freq=20",
            f"--output_dir={self.root / 'run'}",
        ]  # fmt: skip

    def _log(self):
        self._logs += 1
        return self.root / f"{self._logs}.log"


@pytest.fixture
def practice(processes, ground, tmp_path):
    return Practice(processes, ground, tmp_path)


def finish(practice, learner):
    """The learner's dataset is whole."""
    learner.send(signal.SIGTERM)
    assert learner.end() == 128 + signal.SIGTERM, learner.output[-3000:]


def assert_learnt_from(practice, episodes):
    """The dataset and what a memory makes of it are these episodes as they were witnessed."""
    rows = practice.dataset.hf_dataset.with_format("numpy")[:]
    assert rows["plan.age"].ravel().tolist() == [age for episode in episodes for age in episode.ages]
    for key, name in (("action", "executed"), ("plan.action", "planned")):
        np.testing.assert_array_equal(rows[key], np.array([row for episode in episodes for row in getattr(episode, name)], np.float32))
    assert not np.array_equal(rows["action"], rows["plan.action"])  # there were edits

    agent = SerlSacPolicy.from_pretrained(newest_whole(practice.checkpoints) / "pretrained_model").agent
    reader = EpisodeReader(practice.dataset, list(agent.config.input_features))
    for number, episode in enumerate(episodes):
        cached, planned = cache_features(agent, reader.read(number), 64, number).cached, torch.tensor(episode.planned)
        for frame, steps in episode.decided:
            base = agent.box.normalize(planned[frame : frame + steps])
            torch.testing.assert_close(cached[BASE][frame, : len(base)], base, rtol=1e-5, atol=1e-5)
            assert cached[FEATURES][frame, -1].item() * PLANNED == pytest.approx(episode.ages[frame], abs=1e-3)


def assert_plans_were_open(episode):
    """They came while the one before was carried out, and the arm never waited."""
    begins = [later for earlier, later in pairwise(episode.ages) if later != earlier + 1]
    assert begins
    assert all(DELAY <= age < PLANNED for age in begins)
    assert min(episode.ages) == 0


def test_the_robot_side_is_killed(practice):
    learner = practice.learner()
    killed = practice.actor(9, f"self@{STEPS + MIDDLE}")
    assert killed.end() == -signal.SIGKILL, killed.output[-3000:]
    whole, cut = Witnessed.of(practice.witness)
    assert (len(whole.ages), len(cut.planned), cut.is_followed) == (STEPS, MIDDLE - 1, False)
    assert cut.ages[-1] > 0
    before = practice.updates
    again = practice.actor(2)
    assert again.end() == 0, again.output[-3000:]
    eventually(lambda: practice.updates > before + 20)
    finish(practice, learner)
    episodes = [episode for episode in Witnessed.of(practice.witness) if len(episode.ages) == STEPS]
    assert len(episodes) == 3
    for episode in episodes:
        assert_plans_were_open(episode)
    assert_learnt_from(practice, episodes)


def test_the_learner_is_killed(practice):
    learner = practice.learner()
    assert practice.actor(2).end() == 0
    eventually(lambda: practice.checkpoints.is_dir() and newest_whole(practice.checkpoints))
    actor = practice.actor(3, f"{learner.pid}@{MIDDLE}")
    assert learner.end() == -signal.SIGKILL
    actor.says("the simulation waits")
    before, learner = practice.updates, practice.learner()
    assert actor.end() == 0, actor.output[-3000:]
    eventually(lambda: practice.updates > before + 20)
    finish(practice, learner)
    episodes = Witnessed.of(practice.witness)
    assert [len(episode.ages) for episode in episodes] == [STEPS] * 5
    for episode in episodes:
        assert_plans_were_open(episode)
    assert_learnt_from(practice, episodes)
