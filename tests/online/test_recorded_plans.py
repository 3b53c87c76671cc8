"""Plans in the online dataset: what a learner learnt from live is what it learns from after a restart; datasets and messages without plans."""

from dataclasses import replace

import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from small_data import FPS, make_recording
from small_learner import RawActor
from small_policy import small_agent, small_config
from test_open_plans import walked

from lerobot_serl.base.timeline import NO_PLAN
from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.parts import OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Progress
from lerobot_serl.replay.episode_message import encode_episode
from lerobot_serl.replay.memory import BASE, FEATURES
from lerobot_serl.replay.store import EpisodeStore, online_features
from lerobot_serl.transport import decode, encode

FRAMES = 11
REPO, COLUMNS = "test/online", {"plan.action", "plan.age"}


@pytest.fixture
def remembered(monkeypatch):
    """Every episode that a learner takes in, as it learns from it."""
    episodes, remember = [], Learner.remember
    monkeypatch.setattr(Learner, "remember", lambda learner, episode: (episodes.append(episode), remember(learner, episode)))
    return episodes


class Restarts:
    """Learners one after the other, with one online dataset and a port of their own."""

    def __init__(self, demonstrations, root):
        self._meta, self.root, self.runs, self.learner = demonstrations.meta, root, 0, None
        self.config = small_config(
            horizon=2, n_action_steps=4, online=OnlineConfig(repo_id=REPO, root=str(root / "online"), port=0, reach=1e6),
            startup=StartupConfig(collect_steps=5, critic_updates=2),
        )  # fmt: skip
        self.agent = small_agent(self.config)

    def begin(self):
        self.runs += 1
        config = replace(self.config, metrics_dir=str(self.root / str(self.runs)))
        self.learner = Learner(self.agent, config, Progress(config), self._meta)
        return self.learner

    def receive(self, remembered, *messages):
        """Over the network; returns when all have been learnt about."""
        wanted = len(remembered) + len(messages)
        with RawActor(self.learner.collection.address) as actor:
            for message in messages:
                actor.send(message)
        while len(remembered) < wanted:
            self.learner._take(self.learner.collection, wait_s=1.0)

    def end(self):
        """As a kill: what was received is in the journal, and nobody moves it into the dataset."""
        self.learner.collection._writer.finish = lambda: None
        self.learner.collection._server.stop()

    @property
    def dataset(self):
        return LeRobotDataset(REPO, root=self.root / "online")


@pytest.fixture
def restarts(demonstrations, tmp_path):
    made = Restarts(demonstrations, tmp_path)
    yield made
    if made.learner is not None:
        made.end()


def of_earlier_release(recording, uuid):
    """Its message has no plans."""
    header, tensors = decode(encode_episode(recording, uuid))
    return encode(header, {name: value for name, value in tensors.items() if not name.startswith("plan_")})


def by_hand(recording):
    """From beginning to end."""
    return replace(
        recording, intervention=torch.ones(FRAMES, dtype=torch.bool), plan_action=recording.action.clone(),
        plan_age=torch.full((FRAMES,), NO_PLAN),
    )  # fmt: skip


def test_what_is_read_back_is_learnt_from_as_it_was_live(restarts, remembered):
    episodes = [walked(restarts.agent)[0], walked(restarts.agent, by_hand=(3, 4))[0]]
    restarts.begin()
    messages = [encode_episode(episode, f"e{number}") for number, episode in enumerate([*episodes, by_hand(episodes[0])])]
    restarts.receive(remembered, *messages, of_earlier_release(episodes[1], "old"))
    live = list(remembered)
    restarts.end()
    remembered.clear()
    restarts.begin()
    assert len(remembered) == len(live) == 4
    for before, after in zip(live, remembered, strict=True):
        assert before.cached.keys() == after.cached.keys()
        for name, value in before.cached.items():
            torch.testing.assert_close(torch.as_tensor(after.cached[name][:]), torch.as_tensor(value[:]), rtol=1e-5, atol=1e-6)
        assert torch.equal(before.plan_age, after.plan_age)
    for episode, seen in zip(episodes, remembered, strict=False):
        assert torch.equal(seen.plan_action, episode.plan_action)
    rows = restarts.dataset.hf_dataset.with_format("numpy")[:]
    assert rows["plan.age"].ravel().tolist() == torch.cat([episode.plan_age for episode in live]).tolist()
    assert rows["plan.age"].ravel()[FRAMES : 2 * FRAMES].tolist() == [0, 1, 2, NO_PLAN, NO_PLAN, 0, 1, 2, 3, 0, 1]


def test_new_episodes_go_on_where_those_of_before_end(restarts, remembered):
    """Where plans begin that nobody recorded depends on an episode's number, which a restart does not change."""
    messages = [encode_episode(by_hand(walked(restarts.agent)[0]), f"e{number}") for number in range(3)]
    restarts.begin()
    restarts.receive(remembered, *messages[:2])
    restarts.end()
    restarts.begin()
    restarts.receive(remembered, messages[2])
    ages = [(4 * episode.cached[FEATURES][:, -1]).round().int().tolist() for episode in remembered]
    assert ages[:2] == ages[2:4]
    assert len({tuple(age) for age in ages[2:]}) == 3


def test_demonstrations_begin_their_plans_at_different_frames(restarts):
    memory = restarts.begin().demonstrations
    ages = (4 * memory._columns[FEATURES][:, -1]).round().int().tolist()
    assert len({tuple(ages[first : first + 4]) for first in (0, 5, 9)}) > 1  # episodes of 5, 4 and 6 frames


def test_a_dataset_of_an_earlier_release_is_opened_learnt_from_and_appended_to(restarts, remembered, demonstrations, caplog):
    features = online_features(demonstrations.meta.features, use_videos=False)
    old = {key: value for key, value in features.items() if key not in COLUMNS}
    episode = walked(restarts.agent)[0]
    EpisodeStore(REPO, str(restarts.root / "online"), FPS, old, False).append([("first", episode)])
    learner = restarts.begin()
    assert "is of an earlier release and goes on without plan.action, plan.age" in caplog.text
    assert [recording.plan_age.tolist() for recording in remembered] == [[NO_PLAN] * FRAMES]
    restarts.receive(remembered, encode_episode(episode, "second"))
    assert remembered[1].plan_age.tolist() == episode.plan_age.tolist()
    for _ in range(3):
        loss, _ = learner.step()
        assert loss.isfinite()
    restarts.end()
    remembered.clear()
    restarts.begin()
    assert len(remembered) == restarts.dataset.num_episodes == 2
    assert not COLUMNS & restarts.dataset.features.keys()
    assert torch.equal(remembered[1].action, episode.action)
    assert remembered[1].cached[BASE].shape == (FRAMES, 2, 2)


def test_a_message_without_plans_is_learnt_from_as_a_demonstration(restarts, remembered):
    episode = walked(restarts.agent)[0]
    learner = restarts.begin()
    restarts.receive(
        remembered,
        of_earlier_release(episode, "old"),
        encode_episode(make_recording(FRAMES, plan_age=torch.full((FRAMES,), NO_PLAN)), "none"),
    )
    assert [recording.plan_age.tolist() for recording in remembered] == [[NO_PLAN] * FRAMES] * 2
    observation = {key: value[:1] for key, value in episode.observation.items()}
    torch.testing.assert_close(remembered[0].cached[BASE][0], restarts.agent.plan(observation).actions[0, :2])
    for _ in range(3):
        assert learner.step()[0].isfinite()
