"""Reward and end of an episode, from every combination of label columns that datasets have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl.replay.labels import DONE, REWARD, SUCCESS, TERMINATED, TRUNCATED, LabelRule, choose_rule, label_episode

COLUMN_OF = {"reward": REWARD, "success": SUCCESS, "done": DONE, "terminated": TERMINATED, "truncated": TRUNCATED}


def columns(**values):
    return {COLUMN_OF[name]: np.array(v, dtype=np.float32 if name == "reward" else bool) for name, v in values.items()}


def labelled(frames, **values):
    """Rule, reward, terminated and truncated of a dataset of one episode."""
    given_columns = columns(**values)
    rule = choose_rule(given_columns, "me/data")
    labels = label_episode(rule, given_columns, frames)
    assert labels.reward.dtype == np.float32
    return rule, labels.reward.tolist(), labels.terminated, labels.truncated


CASES = {
    "no label columns": (dict(), LabelRule.UNLABELLED, [0, 0, 0, 1], True, False),
    "done alone says nothing of success": (dict(done=[0, 0, 0, 1]), LabelRule.UNLABELLED, [0, 0, 0, 1], True, False),
    "reward ends at its first positive": (dict(reward=[0, 0, 1, 1]), LabelRule.REWARD, [0, 0, 1], True, False),
    "negative reward does not end": (dict(reward=[-1, -1, -1, 2]), LabelRule.REWARD, [-1, -1, -1, 2], True, False),
    "done with reward terminates": (dict(reward=[0, 1, 0, 1], done=[0, 0, 0, 1]), LabelRule.REWARD_AND_DONE, [0, 1, 0, 1], True, False),
    "done without reward is the time limit": (
        dict(reward=[0, 1, 0, 0], done=[0, 0, 0, 1]), LabelRule.REWARD_AND_DONE, [0, 1, 0, 0], False, True,
    ),
    "reward without done: the data end": (
        dict(reward=[0, 1, 0, 0], done=[0, 0, 0, 0]), LabelRule.REWARD_AND_DONE, [0, 1, 0, 0], False, False,
    ),
    "success alone": (dict(success=[0, 0, 1, 0]), LabelRule.SUCCESS, [0, 0, 1], True, False),
    "several success frames: cut at the first": (dict(success=[0, 1, 1, 1]), LabelRule.SUCCESS, [0, 1], True, False),
    "all-zero reward beside success": (dict(reward=[0, 0, 0, 0], success=[0, 0, 0, 1]), LabelRule.SUCCESS, [0, 0, 0, 1], True, False),
    "reward and success": (
        dict(reward=[-1, -1, 5, 0], success=[0, 0, 1, 1]), LabelRule.REWARD_AND_SUCCESS, [-1, -1, 5], True, False,
    ),
    "success in the first frame": (dict(success=[1, 1, 1, 1]), LabelRule.SUCCESS, [1], True, False),
    "recorded success": (
        dict(reward=[0, 0, 0, 1], terminated=[0, 0, 0, 1], truncated=[0, 0, 0, 0]), LabelRule.RECORDED, [0, 0, 0, 1], True, False,
    ),
    "recorded time limit": (
        dict(reward=[0, 0, 0, 0], terminated=[0, 0, 0, 0], truncated=[0, 0, 0, 1]), LabelRule.RECORDED, [0, 0, 0, 0], False, True,
    ),
    "recorded failure terminates": (
        dict(reward=[0, 0, 0, 0], terminated=[0, 0, 0, 1], truncated=[0, 0, 0, 0]), LabelRule.RECORDED, [0, 0, 0, 0], True, False,
    ),
    "recorded without truncated": (dict(reward=[0, 0, 0, 0], terminated=[0, 0, 0, 0]), LabelRule.RECORDED, [0] * 4, False, False),
    "recorded wins over success and done": (
        dict(reward=[0, 1, 0, 0], success=[0, 1, 0, 0], done=[0, 1, 0, 0], terminated=[0] * 4, truncated=[0, 0, 0, 1]),
        LabelRule.RECORDED, [0, 1, 0, 0], False, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_rule_and_labels(case):
    values, rule, reward, terminated, truncated = case
    assert labelled(4, **values) == (rule, reward, terminated, truncated)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (dict(reward=[0, 0, 0]), "next.reward contain no success in 3 frames"),
        (dict(reward=[-1, 0, 0], done=[0, 0, 1]), "next.reward contain no success"),
        (dict(success=[0, 0, 0]), "next.success contain no success"),
        (dict(reward=[0, 0, 0], success=[0, 0, 0]), "next.reward and next.success contain no success"),
    ],
)
def test_labels_without_any_success_are_refused_with_the_way_out(values, named):
    with pytest.raises(ValueError, match=f"Dataset me/data: {named}") as caught:
        choose_rule(columns(**values), "me/data")
    assert "Expected at least one reward above 0 or one success" in str(caught.value)
    assert "remove these columns (lerobot-edit-dataset)" in str(caught.value)


def test_rule_is_of_the_dataset_and_an_episode_without_success_keeps_its_length():
    """The rule comes from all episodes; one that never succeeds is neither cut nor terminated."""
    rule = choose_rule(columns(success=[0, 1, 0, 0], done=[0, 1, 0, 1]), "me/data")
    failed = label_episode(rule, columns(success=[0, 0], done=[0, 1]), 2)
    assert (failed.reward.tolist(), failed.terminated, failed.truncated) == ([0, 0], False, True)


FLAGS = st.lists(st.booleans(), min_size=6, max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    reward=st.none() | st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=6, max_size=6),
    success=st.none() | FLAGS,
    done=st.none() | FLAGS,
)
def test_what_holds_for_every_guessed_rule(reward, success, done):
    """An episode never ends twice, is never longer than its data, and only its last frame can be the end."""
    values = {name: value for name, value in (("reward", reward), ("success", success), ("done", done)) if value is not None}
    data = columns(**values)
    try:
        rule = choose_rule(data, "me/data")
    except ValueError:
        assert not any(success or [])
        assert not any(r > 0 for r in reward or [])
        assert reward is not None or success is not None
        return
    labels = label_episode(rule, data, 6)
    kept = len(labels.reward)
    assert 1 <= kept <= 6
    assert not (labels.terminated and labels.truncated)
    if not labels.terminated:
        assert kept == 6
    if any(success or []):
        assert kept == success.index(True) + 1
        assert labels.terminated
    if rule in (LabelRule.SUCCESS, LabelRule.UNLABELLED):
        assert labels.reward.tolist() == [0.0] * (kept - 1) + [1.0]
    else:
        assert labels.reward.tolist() == reward[:kept]
