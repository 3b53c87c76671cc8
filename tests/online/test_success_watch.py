"""Alarm and way back when success falls far below the start-up episodes'; by the learner's own intake of episodes."""

import logging

import pytest
import torch
from small_data import make_recording
from small_policy import small_agent, small_config

from lerobot_serl.online.learner import Learner
from lerobot_serl.online.success_watch import SuccessWatch
from lerobot_serl.policy.parts import GuardConfig, OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Phase, Progress
from lerobot_serl.replay.episode import ACTED_AS, ActedAs

ALONE = torch.zeros(5, dtype=torch.bool)
WINDOW = 20


def episode(success, helped=False, acted_as=ActedAs.EXPLORING):
    return make_recording(success=success, intervention=ALONE | helped, info={ACTED_AS: acted_as.value})


class Watched:
    """A watch with an agent whose weights say when they were made: each step of learning adds 1 to the actor's first bias."""

    def __init__(self, startup=(12, 20), **settings):
        self.config = small_config(
            online=OnlineConfig(repo_id="test/online"),
            startup=StartupConfig(collect_steps=0, critic_updates=0, scale_updates=1000),
            guard=GuardConfig(window=WINDOW, **settings),
        )
        self.agent, self.progress = small_agent(self.config), Progress(self.config)
        self.watch = SuccessWatch(self.config.guard, self.agent, self.progress)
        self.start = self.mark
        successes, trials = startup
        for index in range(trials):
            self.watch.episode(episode(index < successes), Phase.COLLECT)
        self.watch.before_update()

    @property
    def mark(self):
        return self.agent.actor.head.bias[0].item()

    def learn(self, updates=10):
        with torch.no_grad():
            self.agent.actor.head.bias[0] += 1
            for tensor in (*self.agent.critic.parameters(), *self.agent.critic_target.parameters(), self.agent.raw_temperature):
                tensor += 0.5
        self.progress.updates += updates
        self.agent.grow_edits(self.progress.scale_fraction)

    def run(self, pattern, helped=False, acted_as=ActedAs.EXPLORING):
        """Episodes by a string of 1 and 0, each after ten updates; ends when the weights are set back, and returns whether."""
        for success in pattern:
            self.learn()
            if self.watch.episode(episode(success == "1", helped, acted_as), Phase.ACTOR):
                return True
        return False

    def deploy(self, pattern):
        """The same with episodes as deployed."""
        return self.run(pattern, acted_as=ActedAs.DEPLOYED)

    def act(self, successes, trials):
        """ACT's own episodes, while nothing is learnt."""
        for index in range(trials):
            assert not self.watch.episode(episode(index < successes, acted_as=ActedAs.ACT), Phase.ACTOR)

    def state(self):
        return {name: value.clone() for name, value in self.agent.state_dict().items()}


def test_a_collapse_raises_the_alarm_once_and_brings_the_best_weights_back(caplog):
    watched = Watched()
    assert not watched.deploy("1" * 30 + "01" * 5)
    # Best: the copy after episode 10, with 10 episodes before it and 20 after, all successes, after 100 updates.
    assert not watched.run("0" * 10)
    assert watched.run("0" * 10)
    assert watched.mark == pytest.approx(watched.start + 10, abs=1e-4)
    assert (watched.progress.alarms, watched.progress.rollbacks) == (1, 1)
    assert "ALARM: success has fallen far below the start-up episodes'" in caplog.text
    assert "start-up: 12 of 20 (60 %, 95 % interval 39 to 78 %)" in caplog.text
    assert "to those with the best evidence so far (30 of 30 (100 %, 95 % interval 89 to 100 %))" in caplog.text
    assert watched.progress.learnt_updates == 100
    assert watched.progress.updates > 500  # pacing goes by all updates made
    # The edit scale goes on growing where those weights were.
    torch.testing.assert_close(watched.agent.edit_scale, watched.agent.edit_reach * (0.1 + 0.9 * 0.1))


def test_what_would_be_deployed_is_watched_too(caplog):
    """Practice succeeded in 338 of 339 episodes while the policy that users would have got lost to ACT by 18 points."""
    watched = Watched(startup=(20, 20))
    watched.act(20, 20)
    for _ in range(19):
        assert not watched.run("1111")
        assert not watched.deploy("0")
    assert watched.deploy("0")
    assert "ALARM: success has fallen far below ACT's. Last episodes as deployed: 0 of 20" in caplog.text
    assert watched.mark == watched.start
    assert not watched.deploy("0" * 19)  # the next alarm needs new episodes
    assert watched.deploy("0")


def test_everything_that_decides_how_the_policy_acts_comes_back():
    watched = Watched()
    before = watched.state()
    assert watched.run("0" * WINDOW)  # no window was ever good: back to the weights with which the actor began
    for name, value in watched.state().items():
        assert torch.equal(value, before[name]), name


def test_the_next_alarm_needs_a_whole_new_window():
    watched = Watched()
    assert watched.run("0" * WINDOW)
    assert not watched.run("0" * (WINDOW - 1))
    assert watched.run("0")
    assert watched.progress.alarms == 2


@pytest.mark.parametrize(
    ("startup", "pattern", "settings"),
    [
        ((6, 9), "0" * WINDOW, {}),  # too few start-up episodes to compare with
        ((12, 20), "0" * (WINDOW - 1), {}),  # no whole window
        ((12, 20), "0" * 11 + "1" * 9, {}),  # 45 %: below 60 %, by less than the margin
        ((12, 20), "0" * 14 + "1" * 6, {}),  # 30 %: below by more than the margin, but the intervals overlap
        ((40, 40), "0" * 5 + "1" * 15, {"margin": 0.3}),  # 75 % after 100 %: no chance, but within the margin
        ((2, 40), "0" * WINDOW, {}),  # ACT hardly ever succeeded: nothing far below that exists
    ],
)
def test_no_alarm_without_evidence(startup, pattern, settings):
    watched = Watched(startup, **settings)
    assert not watched.run(pattern)
    assert watched.progress.alarms == 0


def test_episodes_with_help_say_nothing():
    watched = Watched()
    assert not watched.run("0" * 100, helped=True)
    assert not watched.run("0" * (WINDOW - 1))
    assert not watched.run("1" * 10, helped=True)
    assert watched.run("0")


def test_rollback_can_be_switched_off(caplog):
    watched = Watched(rollback=False)
    assert not watched.run("0" * WINDOW)
    assert watched.mark == pytest.approx(watched.start + WINDOW, abs=1e-4)
    assert (watched.progress.alarms, watched.progress.rollbacks) == (1, 0)
    assert "The weights stay as they are (policy.guard.rollback=false)" in caplog.text


@pytest.mark.parametrize("pattern", ["", "1" * 7, "1" * 25, "1" * 30 + "0" * 9])
@pytest.mark.parametrize("acted_as", ActedAs)
def test_a_resumed_run_watches_on(tmp_path, pattern, acted_as):
    """Whatever comes next has the same effect with and without an interruption."""
    first = Watched()
    first.run(pattern, acted_as=acted_as)
    first.watch.save(tmp_path)
    second = Watched(startup=(0, 0))
    second.agent.load_state_dict(first.agent.state_dict())
    second.progress.restore(first.progress.counters())
    second.watch = SuccessWatch(second.config.guard, second.agent, second.progress)
    second.watch.load(tmp_path)
    for rest in ("1" * 9, "0" * 30):
        assert first.deploy(rest) == second.deploy(rest)
        assert str(first.watch.best_policy) == str(second.watch.best_policy)
        assert first.progress.counters() == second.progress.counters()
        for name, value in first.agent.state_dict().items():
            assert torch.equal(value, second.agent.state_dict()[name]), name
    assert first.progress.rollbacks == 1


def test_a_damaged_file_is_named_and_a_missing_one_is_none(tmp_path):
    watched = Watched()
    watched.watch.load(tmp_path)
    watched.watch.save(tmp_path)
    path = tmp_path / "success_watch.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        watched.watch.load(tmp_path)
    other = small_agent(small_config(critic=watched.config.critic.__class__(members=2, hidden_sizes=(16,))))
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"kept weights: critic.* expected"):
        SuccessWatch(watched.config.guard, other, watched.progress).load(tmp_path)


def test_the_learner_takes_the_alarm_from_arriving_episodes(demonstrations, tmp_path, caplog):
    """Server and all: after the rollback the optimizer forgets its momentum and new weights go out."""
    caplog.set_level(logging.INFO)
    config = small_config(
        online=OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0),
        startup=StartupConfig(collect_steps=55, critic_updates=0),
        guard=GuardConfig(window=10),
        metrics_dir=str(tmp_path),
    )
    progress, agent = Progress(config), small_agent(config)
    learner = Learner(agent, config, progress, demonstrations.meta)
    collection = learner.collection
    try:

        def take_in(recordings):
            for recording in recordings:
                collection._arrived.put(recording)
            while not (learner.feature_cache.is_idle and collection._arrived.empty()):
                learner._take(collection, 0.0)

        take_in(episode(True) for _ in range(12))
        assert progress.phase is Phase.ACTOR
        before = agent.actor.head.bias.clone()
        learner.step()
        with torch.no_grad():
            agent.actor.head.bias += 3
        collection.publish()
        take_in(episode(False) for _ in range(10))
    finally:
        collection._server.stop()
    assert torch.equal(agent.actor.head.bias, before)
    assert not any(adam.has_state for adam in learner.learning.optimizers._adams.values())
    published = collection._publisher.wait_for_newer(0, 0)
    assert torch.equal(published.tensors["actor.head.bias"], before)
    assert progress.alarms == 1
