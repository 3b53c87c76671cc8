"""Reward and end of an episode, under each rule."""

import numpy as np
import pytest

from lerobot_serl.replay.labels import (
    DONE,
    INTERVENTION,
    REWARD,
    SUCCESS,
    TERMINATED,
    TRUNCATED,
    LabelRule,
    label_columns,
    label_episode,
    pays_once_at_its_end,
    unread_labels,
)

COLUMN_OF = {"reward": REWARD, "success": SUCCESS, "done": DONE, "terminated": TERMINATED, "truncated": TRUNCATED}


def columns(**values):
    return label_columns({COLUMN_OF[name]: np.array(v) for name, v in values.items()}, "me/data")


CASES = {
    "first terminated": (LabelRule("terminated", "recorded"), dict(reward=[0, 2, 1, 1], terminated=[0, 1, 1, 0]), [0, 2], True, False),
    "terminated at a time limit": (
        LabelRule("terminated", "recorded"), dict(reward=[0, 1], terminated=[0, 1], truncated=[0, 1]), [0, 1], True, False,
    ),
    "first success": (LabelRule("success", "success"), dict(success=[0, 1, 0, 1]), [0, 1], True, False),
    "success in all frames speaks of the episode": (LabelRule("success", "success"), dict(success=[1, 1, 1]), [0, 0, 1], True, False),
    "no success, done": (LabelRule("success", "recorded"), dict(reward=[0, 1, 2], success=[0] * 3, done=[0, 0, 1]), [0, 1, 2], False, True),
    "no success, no done": (LabelRule("success", "success"), dict(success=[0, 0]), [0, 0], False, False),
    "held reward": (LabelRule("reward", "recorded", level=0.5), dict(reward=[0, 0, 1, 1, 1]), [0, 0, 1], True, False),
    "reward twice": (LabelRule("reward", "recorded", level=0.5), dict(reward=[0, 1, 0, 1, 0]), [0, 1, 0, 1], True, False),
    "reward in all frames": (LabelRule("reward", "recorded", level=0.5), dict(reward=[1, 1, 1]), [1, 1, 1], True, False),
    "first done": (LabelRule("done", "recorded"), dict(reward=[3, 4, 5], done=[0, 1, 1]), [3, 4], True, False),
    "done at the time limit": (LabelRule("done", "recorded"), dict(reward=[3, 4], done=[0, 1], truncated=[0, 1]), [3, 4], False, True),
    "truncated alone": (LabelRule("done", "success"), dict(truncated=[0, 0]), [0, 1], True, False),
    "last": (LabelRule("last", "success"), dict(done=[0, 1, 0]), [0, 0, 1], True, False),
    "never": (LabelRule("never", "recorded"), dict(reward=[1, 2], done=[0, 1]), [1, 2], False, True),
    "shift": (LabelRule("last", "recorded", shift=1.0), dict(reward=[-1, -1, 0]), [0, 0, 1], True, False),
    "terminated, a success": (LabelRule("terminated", "success", judged=True), dict(success=[1, 0], terminated=[0, 1]), [0, 1], True, False),
    "terminated, a failure": (LabelRule("terminated", "success", judged=True), dict(success=[0, 0], terminated=[0, 1]), [0, 0], True, False),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_labels_of_an_episode(case):
    rule, values, reward, terminated, truncated = case
    given = columns(**values)
    labels = label_episode(rule, given, len(next(iter(given.values()))))
    assert labels.reward.dtype == np.float32
    assert (labels.reward.tolist(), labels.terminated, labels.truncated) == (reward, terminated, truncated)
    assert labels.steps == len(reward) - (not terminated)


@pytest.mark.parametrize("values", [[[0], [1]], [0, 1], [False, True], np.array([0, 1], np.int64), np.array([0, 1], np.float64)])
def test_numbers_and_flags_of_every_type_are_understood(values):
    for name, dtype in ((REWARD, np.float32), (SUCCESS, bool)):
        column = label_columns({name: np.array(values)}, "me/data")[name]
        assert (column.dtype, column.shape, column.tolist()) == (dtype, (2,), [0, 1])


@pytest.mark.parametrize("values", [[[0, 1], [1, 0]], ["no", "yes"]])
@pytest.mark.parametrize("name", [REWARD, DONE])
def test_what_is_not_one_number_a_frame_is_named(name, values):
    with pytest.raises(ValueError, match=f"Dataset me/data: {name} has the shape .* expected one number or flag"):
        label_columns({name: np.array(values)}, "me/data")


def test_lerobots_own_flag_of_an_intervention_is_understood_unless_there_is_ours():
    theirs, ours = np.array([1, 0]), np.array([0, 1])
    assert label_columns({"complementary_info.is_intervention": theirs}, "me/data")[INTERVENTION].tolist() == [True, False]
    both = label_columns({"complementary_info.is_intervention": theirs, INTERVENTION: ours}, "me/data")
    assert both[INTERVENTION].tolist() == [False, True]


def test_features_that_look_like_labels_are_named():
    read = [REWARD, DONE, "complementary_info.is_intervention", "next.decided_by", "action", "observation.reward", "timestamp"]
    others = ["complementary_info.discrete_penalty", "next.success_rate", "reward", "is_terminal"]
    assert unread_labels([*read, *others]) == others


def test_values_are_bounded_only_where_a_termination_alone_pays():
    for reward, terminated, bounded in (([0, 1], True, True), ([0, 1], False, False), ([1, 1], True, False), ([0, 2], True, False)):
        assert pays_once_at_its_end(np.array(reward, np.float32), terminated) is bounded
