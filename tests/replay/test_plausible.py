"""Numbers that are finite and make no sense are refused, or do no harm, and never end a run (``replay/plausible.py``)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import ACTION, ENV_STATE, FPS, SIZES, STATE, make_recording
from small_policy import small_agent, small_config

from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.parts import OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Progress
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.episode_message import decode_episode, encode_episode
from lerobot_serl.replay.journal import journal_of
from lerobot_serl.replay.labels import REWARD
from lerobot_serl.replay.plausible import LARGEST, Plausible
from lerobot_serl.replay.store import EpisodeStore, online_features
from lerobot_serl.transport import MessageError

FRAMES = 6
NETWORKS = ("critic", "actor", "temperature", "corrector")
EXTREMES = 10_000


def column_of(recording, key):
    return {**recording.observation, ACTION: recording.action, REWARD: recording.reward.unsqueeze(-1)}[key]


def with_number(value, key=STATE, frame=2, entry=1, mark=1.0, **changes):
    """A recording in which one number is replaced; the rest is like the demonstrations."""
    recording = make_recording(FRAMES, mark=mark, intervention=torch.zeros(FRAMES, dtype=torch.bool), **changes)
    column_of(recording, key)[frame, entry] = value
    return recording


@pytest.fixture
def bounds(demonstrations):
    return EpisodeReader(demonstrations, [STATE, ENV_STATE]).plausible(100.0, pays_once=True)


def online_config(tmp_path, **changes):
    online = OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0)
    return small_config(
        online=online, metrics_dir=str(tmp_path), startup=StartupConfig(collect_steps=1, critic_updates=1), utd=20.0, **changes
    )


def learner_for(config, demonstrations):
    return Learner(small_agent(config), config, Progress(config), demonstrations.meta)


def end(learner):
    learner.collection._writer.finish = lambda: None
    learner.collection._server.stop()


def test_bounds_lie_so_many_widths_around_what_was_seen():
    seen = {STATE: (np.array([0.0, 5.0, -1e6]), np.array([2.0, 5.0, -1e6])), REWARD: (np.array([0.0]), np.array([1.0]))}
    bounds = Plausible.around(seen, reach=10.0)
    # The second stood still and counts for its own size, as does the third; a reward counts for 100.
    assert bounds.low[STATE].tolist() == [-20.0, -45.0, -1.1e7]
    assert bounds.high[STATE].tolist() == [22.0, 55.0, 9e6]
    assert (bounds.low[REWARD].tolist(), bounds.high[REWARD].tolist()) == ([-1000.0], [1001.0])
    wide = Plausible.around({STATE: (np.array([-1e17]), np.array([1e17]))})
    assert (wide.low[STATE].tolist(), wide.high[STATE].tolist()) == ([-LARGEST], [LARGEST])


def test_the_first_flaw_is_named(bounds):
    assert bounds.flaw_of(with_number(300.0)) is None
    assert (
        bounds.flaw_of(with_number(1e30))
        == f"frame 2, 'observation.state'[1] is 1e+30, expected {bounds.low[STATE][1]:g} to {bounds.high[STATE][1]:g}"
    )
    assert bounds.flaw_of(with_number(-1e9, ACTION, 0, 0)).startswith("frame 0, 'action'[0] is -1e+09, expected ")
    assert bounds.flaw_of(with_number(1e6, REWARD, 5, 0)).startswith("frame 5, 'next.reward'[0] is 1e+06, expected ")
    assert "--policy.value_range" in bounds.flaw_of(with_number(0.5, REWARD, 2, 0))
    assert replace(bounds, pays_once=False).flaw_of(with_number(0.5, REWARD, 2, 0)) is None


def test_the_learner_refuses_before_it_acknowledges(tmp_path, demonstrations):
    learner = learner_for(online_config(tmp_path), demonstrations)
    for index, recording in enumerate((with_number(1e30), with_number(3e38, ACTION), with_number(2.0, REWARD, entry=0))):
        with pytest.raises(MessageError, match=r"an episode makes no sense: .*--policy.online.reach=100"):
            learner.collection._receive(encode_episode(recording, f"bad-{index}"))
    assert learner.collection._receive(encode_episode(with_number(250.0), "good")).is_new
    assert journal_of(tmp_path / "online").uuids() == {"good"}
    end(learner)


def test_a_wider_reach_lets_more_in(tmp_path, demonstrations):
    config = online_config(tmp_path)
    config.online.reach = 1e9
    learner = learner_for(config, demonstrations)
    assert learner.collection._receive(encode_episode(with_number(1e8), "wide")).is_new
    end(learner)


def test_what_an_earlier_release_took_does_not_end_this_one(tmp_path, demonstrations, caplog):
    """1e30 once in each frame, in the dataset and in its journal: the learner starts, is resumed, and learns from the rest."""
    config = online_config(tmp_path)
    root = tmp_path / "online"
    features = online_features({key: demonstrations.features[key] for key in SIZES}, use_videos=False)
    absurd = make_recording(FRAMES, intervention=torch.zeros(FRAMES, dtype=torch.bool))
    absurd.observation[STATE][:, 0] = 1e30
    store = EpisodeStore("test/online", str(root), FPS, features, use_videos=False)
    store.append([("good", with_number(250.0)), ("absurd", absurd), ("infinite", with_number(3e38, ACTION))])
    journal_of(root).write("late", encode_episode(with_number(-1e25, ENV_STATE), "late"))
    for _ in range(2):  # a fresh run, then one that goes on
        caplog.clear()
        learner = learner_for(config, demonstrations)
        assert "2 of 3 episodes are left out of learning" in caplog.text
        assert len(learner.online) == FRAMES
        learner.collection._receive(encode_episode(with_number(260.0), f"more-{_}"))
        for _ in range(30):
            loss, _ = learner.step()
            assert loss.isfinite()
        learner.guard.look()
        assert learner.progress.skipped_updates == 0
        end(learner)
        for path in journal_of(root).pending():
            path.unlink()  # so that the second run finds the same dataset
    assert config.in_progress
    assert [path.name for path in (root.with_name("online.journal") / "damaged").iterdir()] == ["00000001-late.episode"]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_extreme_numbers_are_refused_or_do_no_harm(tmp_path_factory, demonstrations, seed):
    """Of all sizes, anywhere in an episode. 25 times 400 make `EXTREMES`."""
    learner = learner_for(small_config(metrics_dir=str(tmp_path_factory.mktemp("metrics"))), demonstrations)
    config, bounds = learner.config, learner._plausible
    random = np.random.default_rng(seed)
    taken = []
    for _ in range(EXTREMES // 25):
        key = str(random.choice([STATE, ENV_STATE, ACTION, REWARD]))
        value = float(random.choice([-1, 1]) * 10 ** random.uniform(0, 38.5))
        recording = with_number(value, key, int(random.integers(FRAMES)), int(random.integers({**SIZES, REWARD: 1}[key])))
        try:
            _, recording = decode_episode(encode_episode(recording, "u"), config.input_features, 2)
        except MessageError:
            assert not np.isfinite(np.float32(value))
            continue
        if bounds.flaw_of(recording) is None:
            taken.append(recording)
    assert taken
    for recording in taken:
        episode = cache_features(learner.agent, recording, 64)
        assert episode.is_finite
        assert episode.kept["action"][:].abs().max() <= 1
        for value in (*recording.observation.values(), recording.action):
            assert value.square().mean().isfinite()
        learner.remember(episode)
    assert len(learner.online) == FRAMES * len(taken)
    for _ in range(4):
        loss, _ = learner.step()
        assert loss.isfinite()
    learner.guard.look()
    assert learner.progress.skipped_updates == 0


def test_of_what_act_makes_nan_nothing_is_learnt(tmp_path, demonstrations, caplog):
    """Bounds that a person set too wide."""
    learner = learner_for(small_config(metrics_dir=str(tmp_path)), demonstrations)
    learner.remember(cache_features(learner.agent, with_number(3e38), 64))
    assert len(learner.online) == 0
    assert "left out of learning" in caplog.text
    learner.remember(cache_features(learner.agent, with_number(250.0), 64))
    assert len(learner.online) == FRAMES
