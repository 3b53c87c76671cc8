"""Episodes: the three kinds of end, slicing, interventions."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lerobot_serl.replay.episode import Episode
from lerobot_serl.replay.memory import ReplayMemory
from lerobot_serl.replay.segments import intervened_segments, policy_segments


def episode(frames, terminated=False, truncated=False, intervention=None):
    ramp = torch.arange(frames, dtype=torch.float32)
    return Episode(
        observation={},
        cached={"features": ramp.unsqueeze(-1)},
        action=ramp.unsqueeze(-1),
        reward=torch.zeros(frames),
        intervention=torch.zeros(frames, dtype=torch.bool) if intervention is None else torch.tensor(intervention),
        terminated=terminated,
        truncated=truncated,
    )


def test_steps_depend_on_the_end():
    assert episode(5, terminated=True).steps == 5
    assert episode(5, truncated=True).steps == 4
    assert episode(5).steps == 4


def test_contradictions_are_refused():
    with pytest.raises(ValueError, match="not both"):
        episode(5, terminated=True, truncated=True)
    with pytest.raises(ValueError, match="at least one transition, got 1"):
        ReplayMemory(10, 1, 0.9).add(episode(1))
    assert episode(1, terminated=True).steps == 1
    for place in ("observation", "cached"):
        with pytest.raises(ValueError, match="same number of frames"):
            replace(episode(4), **{place: {"features": torch.zeros(3, 1)}})


def test_a_slice_keeps_the_end_only_if_it_contains_it():
    whole = episode(6, terminated=True)
    assert whole.slice(2, 6).terminated
    assert not whole.slice(0, 5).terminated
    assert whole.slice(2, 4).action.flatten().tolist() == [2.0, 3.0]
    ended = episode(6, truncated=True).slice(2, 6, terminated=True)
    assert (ended.terminated, ended.truncated) == (True, False)


def test_a_slice_takes_every_column_along():
    cut = replace(episode(6), observation={"state": torch.arange(6.0)}).slice(2, 5)
    assert [len(value) for value in (*cut.observation.values(), *cut.kept.values())] == [3] * 5
    assert cut.observation["state"].tolist() == cut.kept["features"].flatten().tolist() == [2.0, 3.0, 4.0]


def test_what_is_cached_under_the_name_of_a_recorded_column_is_what_the_memory_keeps():
    whole = replace(episode(3), cached={"action": torch.full((3, 1), 0.5)})
    assert whole.kept["action"].flatten().tolist() == [0.5] * 3
    assert whole.action.flatten().tolist() == [0.0, 1.0, 2.0]


def test_intervened_segments_end_with_a_frame_to_bootstrap_from():
    flags = [False, True, True, False, False, True, True]
    first, second = intervened_segments(episode(7, terminated=True, intervention=flags))
    assert first.action.flatten().tolist() == [1.0, 2.0, 3.0]
    assert not first.terminated
    assert second.action.flatten().tolist() == [5.0, 6.0]
    assert second.terminated
    assert intervened_segments(episode(4)) == []


def test_a_takeover_ends_the_policys_run_as_a_failure():
    flags = [False, False, True, True, False, False, False]
    before, after = policy_segments(episode(7, truncated=True, intervention=flags))
    assert before.action.flatten().tolist() == [0.0, 1.0]
    assert before.terminated
    assert not before.success
    assert after.action.flatten().tolist() == [4.0, 5.0, 6.0]
    assert after.truncated
    assert not after.terminated


def test_an_episode_without_a_takeover_is_one_run_of_the_policy():
    whole = episode(4, terminated=True)
    (run,) = policy_segments(whole)
    assert run.action.equal(whole.action)
    assert run.terminated
    assert policy_segments(episode(3, intervention=[True, True, True])) == []


def test_a_run_of_one_frame_counts_if_something_followed_it():
    flags = [False, True, False]
    assert [len(run) for run in policy_segments(episode(3, intervention=flags))] == [1]
    assert [len(run) for run in policy_segments(episode(3, terminated=True, intervention=flags))] == [1, 1]
    assert intervened_segments(episode(2, intervention=[False, True])) == []
    assert [run.terminated for run in intervened_segments(episode(2, terminated=True, intervention=[False, True]))] == [True]


@given(flags=st.lists(st.booleans(), min_size=2, max_size=12), end=st.sampled_from(["terminated", "truncated", "neither"]))
def test_the_runs_cover_every_transition_once(flags, end):
    whole = episode(len(flags), terminated=end == "terminated", truncated=end == "truncated", intervention=flags)
    runs = [*policy_segments(whole), *intervened_segments(whole)]
    acted = [frame for run in runs for frame in run.action.flatten().tolist()[: run.steps]]
    assert sorted(acted) == [float(frame) for frame in range(whole.steps)]
