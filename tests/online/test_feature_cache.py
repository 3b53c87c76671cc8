"""Features of episodes are cached in slices: the same as at once, and never much at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import make_recording
from small_policy import small_agent, small_config

from lerobot_serl.online import feature_cache as feature_cache_module
from lerobot_serl.online.feature_cache import FeatureCache, FeatureCacheWorker, cache_features


@pytest.fixture(scope="module")
def agent():
    return small_agent(small_config())


def assert_same(episode, expected):
    assert episode.cached.keys() == expected.cached.keys()
    for key, value in expected.cached.items():
        torch.testing.assert_close(episode.cached[key], value, rtol=1e-5, atol=1e-6)
    for name in ("action", "reward", "intervention", "terminated", "truncated"):
        torch.testing.assert_close(getattr(episode, name), getattr(expected, name))


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 23), sizes=st.lists(st.integers(1, 9), min_size=23, max_size=23))
def test_slices_of_any_size_make_the_same_episode(agent, length, sizes):
    recording = make_recording(length)
    cache = FeatureCache(agent, recording)
    for size in sizes:
        if cache.n_left:
            before = cache.n_left
            cache.advance(size)
            assert cache.n_left == max(before - size, 0)
    assert_same(cache.episode(), cache_features(agent, recording, 1000))


def test_episodes_come_out_one_after_the_other(agent):
    worker = FeatureCacheWorker(agent, batch_size=4)
    assert worker.is_idle
    assert worker.advance() is None
    for length in (1, 30, 7):
        recording = make_recording(length)
        worker.begin(recording)
        done = None
        while done is None:
            assert not worker.is_idle
            done = worker.advance()
        assert worker.is_idle
        assert done.action is recording.action
        assert_same(done, cache_features(agent, recording, 64))


class Clock:
    """Time that only ACT uses up."""

    def __init__(self):
        self.now_s = 0.0

    def perf_counter(self):
        return self.now_s


class SlowAgent:
    """Takes a fixed time for each frame."""

    def __init__(self, agent, clock, frame_s):
        self._agent, self._clock, self.frame_s, self.seen = agent, clock, frame_s, []

    def __getattr__(self, name):
        return getattr(self._agent, name)

    def plan(self, observation):
        (n_frames,) = {len(value) for value in observation.values() if isinstance(value, torch.Tensor)}
        self.seen.append(n_frames)
        self._clock.now_s += n_frames * self.frame_s
        return self._agent.plan(observation)


@pytest.mark.parametrize(
    ("frame_s", "largest"),
    [(1e-7, 64), (0.0011, 9), (0.2, 1)],
    ids=["state alone: limited by the batch size", "as many as fit into 10 ms", "a large ACT: one at a time"],
)
def test_a_slice_takes_as_many_frames_as_fit_into_its_time(agent, monkeypatch, frame_s, largest):
    clock = Clock()
    monkeypatch.setattr(feature_cache_module, "time", clock)
    slow = SlowAgent(agent, clock, frame_s)
    worker = FeatureCacheWorker(slow, batch_size=64)
    worker.begin(make_recording(300))
    while worker.advance() is None:
        pass
    assert sum(slow.seen) == 300
    assert slow.seen[0] == 1
    assert max(slow.seen) == largest
    assert all(after <= 2 * before for before, after in zip(slow.seen, slow.seen[1:], strict=False))
    slow.frame_s = 0.05  # the machine got busy: after one slice that was too long, small ones again
    slow.seen.clear()
    worker.begin(make_recording(20))
    while worker.advance() is None:
        pass
    assert set(slow.seen[1:]) <= {1}


@pytest.mark.parametrize("frame_s", [0.0, 0.001, 5.0])
def test_without_a_limit_slices_do_not_depend_on_the_clock(agent, monkeypatch, frame_s):
    clock = Clock()
    monkeypatch.setattr(feature_cache_module, "time", clock)
    slow = SlowAgent(agent, clock, frame_s)
    worker = FeatureCacheWorker(slow, batch_size=8, slice_s=math.inf)
    for _ in range(2):
        worker.begin(make_recording(20))
        while worker.advance() is None:
            pass
    assert slow.seen == [8, 8, 4, 8, 8, 4]
