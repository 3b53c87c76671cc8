"""What demonstrations say about the robot, and how it travels to actor processes that do not trust it."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import frames_of

from lerobot_serl.replay.demonstration_stats import DemonstrationStats, gather_stats, stats_from_json
from lerobot_serl.replay.demonstrations import EpisodeReader

DEMO_STATS = DemonstrationStats(
    action_names=("a.pos", "b.pos"), state_names=("a.pos", "a.vel"), action_low=(-1.0, 0.0), action_high=(1.0, 0.0),
    action_step=(0.25, None), start=(0.5, None), median_length=40, longest=60,
    state_low=(-1.0, -2.0), state_high=(1.0, 2.0), start_low=(0.25, None), start_high=(0.75, None),
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([10**400, -(10**400)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
numbers = st.floats(-1e6, 1e6)


def features(action=("a.pos", "b.pos"), state=("b.pos", "a.pos")):
    return {"action": {"names": action, "shape": (2,)}, "observation.state": {"names": state, "shape": (2,)}}


def test_demo_stats_of_a_small_dataset():
    actions = np.array([[0.0, 5.0], [1.0, 6.0], [2.0, 7.0], [-3.0, 5.0]], np.float32)
    states = np.array([[4.5, 0.5], [6.0, 1.0], [6.0, 1.0], [5.0, -1.0]], np.float32)
    demo_stats = gather_stats(features(), actions, states, starts=[0, 2], lengths=[2, 2])
    assert demo_stats == DemonstrationStats(
        action_names=("a.pos", "b.pos"), state_names=("b.pos", "a.pos"), action_low=(-3.0, 5.0), action_high=(2.0, 7.0),
        action_step=(2.0, 1.0), start=(0.75, 5.25), median_length=2, longest=2,
        state_low=(4.5, -1.0), state_high=(6.0, 1.0), start_low=(0.5, 4.5), start_high=(1.0, 6.0),
    )  # fmt: skip


@pytest.mark.parametrize(("value", "counts"), [(900.0, False), (-900.0, False), (200.0, True)])
def test_a_glitch_does_not_widen_the_limits(value, counts):
    """Both the range and the step from the measured value."""
    actions = np.stack([60 * np.sin(np.arange(300)), np.zeros(300)], axis=1).astype(np.float32)
    states = 0.9 * actions
    actions[123, 0], actions[200, 1] = value, 1.0
    demo_stats = gather_stats(features(state=("a.pos", "b.pos")), actions, states, [0], [300])
    edges = (min(value, -60.0), max(value, 60.0)) if counts else (-60.0, 60.0)
    assert (demo_stats.action_low[0], demo_stats.action_high[0]) == pytest.approx(edges, abs=0.1)
    assert demo_stats.action_step[0] == pytest.approx(6.0, abs=0.1) or counts
    assert demo_stats.action_high[1] == 1.0, "where all others are alike, one frame may be meant"


@pytest.mark.parametrize("n_frames", [1, 2, 49])
def test_of_few_actions_all_count(n_frames):
    actions = np.zeros((n_frames, 2), np.float32)
    actions[0], actions[-1] = 0.1, 900.0
    assert gather_stats(features(), actions, None, [0], [n_frames]).action_high == (900.0, 900.0)


def test_what_is_not_measured_has_no_step_and_no_start():
    actions, states = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    demo_stats = gather_stats(features(state=("b.pos", "c.pos")), actions, states, [0], [3])
    assert (demo_stats.action_step, demo_stats.start) == ((None, 1.0), (None, 1.0))
    assert demo_stats.starts == (None, (1.0, 1.0))
    without = gather_stats(features(), actions, None, [0], [3])
    assert (without.action_step, without.start, without.state_names) == ((None, None), (None, None), ())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ()),
        (["only one"], ()),
        (["twice", "twice"], ()),
        ({"motors": ["a", "b"]}, ("a", "b")),
        ({"x": 0, "y": 1}, ("x", "y")),
        ("ab", ()),
    ],
)
def test_names_as_datasets_of_different_age_have_them(names, expected):
    demo_stats = gather_stats(features(action=names), np.zeros((2, 2), np.float32), None, [0], [2])
    assert demo_stats.action_names == expected


def test_demo_stats_of_a_real_dataset(make_dataset):
    dataset = make_dataset([frames_of(5, 1), frames_of(3, 2)])
    demo_stats = EpisodeReader(dataset, ["observation.state"]).demo_stats
    assert demo_stats.action_names == ("action_0", "action_1")
    assert demo_stats.state_names == ("state_0", "state_1", "state_2", "state_3")
    assert demo_stats.action_low == pytest.approx((100.2, 100.2), abs=0.5)
    assert demo_stats.action_high == pytest.approx((202.2, 202.2), abs=0.5)
    assert demo_stats.action_step == (None, None)
    assert (demo_stats.median_length, demo_stats.longest) == (4, 5)
    assert stats_from_json(json.loads(json.dumps(demo_stats.to_json()))) == demo_stats


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(numbers, numbers, st.none() | numbers, st.none() | numbers), min_size=1, max_size=6),
    names=st.lists(st.text(max_size=20), max_size=6),
    lengths=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
)
def test_there_and_back(rows, names, lengths):
    low, high, step, start = (tuple(column) for column in zip(*rows, strict=True))
    low, high = tuple(map(min, low, high)), tuple(map(max, low, high))
    demo_stats = DemonstrationStats(tuple(names), (), low, high, step, start, *lengths)
    assert stats_from_json(json.loads(json.dumps(demo_stats.to_json()))) == demo_stats


@settings(max_examples=500, deadline=None)
@given(key=st.sampled_from(sorted(DEMO_STATS.to_json())), value=json_values)
def test_hostile_values_are_refused_or_harmless(key, value):
    try:
        demo_stats = stats_from_json({**DEMO_STATS.to_json(), key: value})
    except ValueError:
        return
    assert len(demo_stats.action_low) == len(demo_stats.action_high) == len(demo_stats.action_step) == len(demo_stats.start)
    assert all(type(name) is str for name in (*demo_stats.action_names, *demo_stats.state_names))
    given_numbers = (
        *demo_stats.action_low,
        *demo_stats.action_high,
        *(v for v in (*demo_stats.action_step, *demo_stats.start) if v is not None),
    )
    assert all(math.isfinite(np.float32(number)) for number in given_numbers)
    assert all(low <= high for low, high in zip(demo_stats.action_low, demo_stats.action_high, strict=True))
    assert len(demo_stats.state_low) == len(demo_stats.state_high)
    assert len(demo_stats.state_low) in (0, len(demo_stats.state_names) or len(demo_stats.state_low))
    assert len(demo_stats.starts) == len(demo_stats.action_low)
    assert demo_stats.longest >= 1


def test_an_older_learner_does_not_say_between_which_values_the_state_was():
    later = ("state_low", "state_high", "start_low", "start_high")
    demo_stats = stats_from_json({key: value for key, value in DEMO_STATS.to_json().items() if key not in later})
    assert (demo_stats.state_low, demo_stats.state_high) == ((), ())
    assert demo_stats.starts == ((0.5, 0.5), None)


@settings(max_examples=200, deadline=None)
@given(document=json_values)
def test_hostile_documents_are_refused(document):
    with pytest.raises(ValueError, match="other entries than expected"):
        stats_from_json(document)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(action_low=[math.nan, 0.0]), "'action_low' is .*, expected finite numbers"),
        (dict(action_high=[1.0]), "'action_high' has 1 entries, expected 2"),
        (dict(action_low=[2.0, 0.0]), "'action_low' lies above 'action_high'"),
        (dict(action_low=[True, 0.0]), "'action_low' is"),
        (dict(state_low=[0.0, 3.0]), "'state_low' lies above 'state_high'"),
        (dict(state_low=[0.0], state_high=[1.0]), "'state_low' has 1 entries, expected 2, as 'state_names'"),
        (dict(start_low=[None, math.inf]), "'start_low' is .*, expected finite numbers"),
        (dict(start_high=[]), "'start_low' lies above 'start_high'"),
        (dict(action_names=["x" * 201, "y"]), "'action_names' is .*, expected names"),
        (dict(state_names="ab"), "'state_names' is 'ab', expected a list"),
        (dict(action_names=["n"] * 10_001), "'action_names' is"),
        (dict(action_low=[None, 0.0]), "'action_low' is"),
        (dict(longest=0), "'longest' is 0, expected a positive number of steps"),
        (dict(median_length=2.5), "'median_length' is 2.5"),
        (dict(start=[10**400, None]), "'start' is"),
        (dict(more=1), "other entries"),
    ],
)
def test_messages_name_the_entry(changes, said):
    with pytest.raises(ValueError, match=said):
        stats_from_json({**DEMO_STATS.to_json(), **changes})
