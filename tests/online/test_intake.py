"""Episodes are annotated in slices: the same as at once, and never much at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import make_recording
from small_policy import small_agent, small_config

from lerobot_serl.online import intake as intake_module
from lerobot_serl.online.intake import Annotation, Intake, annotate


@pytest.fixture(scope="module")
def agent():
    return small_agent(small_config())


def assert_same(episode, expected):
    assert episode.columns.keys() == expected.columns.keys()
    for key, value in expected.columns.items():
        torch.testing.assert_close(episode.columns[key], value, rtol=1e-5, atol=1e-6)
    for name in ("action", "reward", "intervention", "terminated", "truncated"):
        torch.testing.assert_close(getattr(episode, name), getattr(expected, name))


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 23), sizes=st.lists(st.integers(1, 9), min_size=23, max_size=23))
def test_slices_of_any_size_make_the_same_episode(agent, length, sizes):
    recording = make_recording(length)
    annotation = Annotation(agent, recording)
    for size in sizes:
        if annotation.n_left:
            before = annotation.n_left
            annotation.advance(size)
            assert annotation.n_left == max(before - size, 0)
    assert_same(annotation.episode(), annotate(agent, recording, 1000))


def test_recordings_come_out_one_after_the_other(agent):
    intake = Intake(agent, batch_size=4)
    assert intake.is_idle
    assert intake.advance() is None
    for length in (1, 30, 7):
        recording = make_recording(length)
        intake.begin(recording)
        done = None
        while done is None:
            assert not intake.is_idle
            done = intake.advance()
        assert intake.is_idle
        assert done[0] is recording
        assert_same(done[1], annotate(agent, recording, 64))


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
        self.parameters, self.box, self.image_keys, self.act = agent.parameters, agent.box, agent.image_keys, agent.act

    def annotate(self, observation):
        (n_frames,) = {len(value) for value in observation.values() if isinstance(value, torch.Tensor)}
        self.seen.append(n_frames)
        self._clock.now_s += n_frames * self.frame_s
        return self._agent.annotate(observation)


@pytest.mark.parametrize(
    ("frame_s", "largest"),
    [(1e-7, 64), (0.0011, 9), (0.2, 1)],
    ids=["state alone: limited by the batch size", "as many as fit into 10 ms", "a large ACT: one at a time"],
)
def test_a_slice_takes_as_many_frames_as_fit_into_its_time(agent, monkeypatch, frame_s, largest):
    clock = Clock()
    monkeypatch.setattr(intake_module, "time", clock)
    slow = SlowAgent(agent, clock, frame_s)
    intake = Intake(slow, batch_size=64)
    intake.begin(make_recording(300))
    while intake.advance() is None:
        pass
    assert sum(slow.seen) == 300
    assert slow.seen[0] == 1
    assert max(slow.seen) == largest
    assert all(after <= 2 * before for before, after in zip(slow.seen, slow.seen[1:], strict=False))
    slow.frame_s = 0.05  # the machine got busy: after one slice that was too long, small ones again
    slow.seen.clear()
    intake.begin(make_recording(20))
    while intake.advance() is None:
        pass
    assert set(slow.seen[1:]) <= {1}


@pytest.mark.parametrize("frame_s", [0.0, 0.001, 5.0])
def test_without_a_limit_slices_do_not_depend_on_the_clock(agent, monkeypatch, frame_s):
    clock = Clock()
    monkeypatch.setattr(intake_module, "time", clock)
    slow = SlowAgent(agent, clock, frame_s)
    intake = Intake(slow, batch_size=8, slice_s=math.inf)
    for _ in range(2):
        intake.begin(make_recording(20))
        while intake.advance() is None:
            pass
    assert slow.seen == [8, 8, 4, 8, 8, 4]
