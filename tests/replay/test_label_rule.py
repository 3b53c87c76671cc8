"""The rule that is decided from what a dataset's label columns hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_labels import columns

from lerobot_serl.label_settings import AS_RECORDED, ENDS, REWARDS, LabelSettings
from lerobot_serl.replay.label_rule import decide_rule, success_level, words
from lerobot_serl.replay.label_table import LabelTable
from lerobot_serl.replay.labels import REWARD, label_episodes

SECOND = {"reward": [0, 0, 0], "success": [0] * 3, "done": [0, 0, 1], "terminated": [0] * 3, "truncated": [0] * 3}


def decide(first, second=None, how=None):
    """Rule, and for each of two episodes its reward and end ("T", "t" or "-")."""
    second = {name: SECOND[name] for name in first} if second is None else second
    frames = [len(next(iter(episode.values()), [0] * 4)) for episode in (first, second)]
    data = columns(**{name: [*first[name], *second[name]] for name in first})
    spans = [(0, frames[0]), (frames[0], sum(frames))]
    rule = decide_rule(data, spans, "me/data", how or LabelSettings())
    labels = label_episodes(rule, data, spans)
    ends = "".join("T" if one.terminated else "t" if one.truncated else "-" for one in labels)
    return (rule.ends, rule.reward), [one.reward.tolist() for one in labels], ends, rule


# Columns of the first episode (and of the second, else SECOND: one that failed) -> rule, rewards, ends
UNDERSTOOD = {
    "no labels": (({},), ("last", "success"), [[0, 0, 0, 1]] * 2, "TT"),
    "done alone says nothing of success": ((dict(done=[0, 0, 1]),), ("last", "success"), [[0, 0, 1]] * 2, "TT"),
    "reward 1 at the last frame, done": (
        (dict(reward=[0, 0, 1], done=[0, 0, 1]),), ("reward", "recorded"), [[0, 0, 1], [0, 0, 0]], "Tt",
    ),
    "success": ((dict(success=[0, 0, 1, 0]),), ("success", "success"), [[0, 0, 1], [0, 0, 0]], "T-"),
    "success beside reward 0": ((dict(reward=[0] * 4, success=[0, 0, 0, 1]),), ("success", "success"), [[0, 0, 0, 1], [0] * 3], "T-"),
    "success beside rewards": (
        (dict(reward=[-1, -1, 5, 0], success=[0, 0, 1, 1]),), ("success", "recorded"), [[-1, -1, 5], [0] * 3], "T-",
    ),
    "our own success": (
        (dict(reward=[0, 0, 1], success=[0, 0, 1], done=[0, 0, 1], terminated=[0, 0, 1], truncated=[0] * 3),),
        ("terminated", "recorded"), [[0, 0, 1], [0] * 3], "Tt",
    ),
    "our own failures": (
        (dict(reward=[0, 0], terminated=[0, 1], truncated=[0, 0]), dict(reward=[0, 0], terminated=[0, 0], truncated=[0, 1])),
        ("terminated", "recorded"), [[0, 0]] * 2, "Tt",
    ),
    "our own, cut off with a reward": (
        (dict(reward=[0.1, -2.0], terminated=[0, 0], truncated=[0, 1]),), ("terminated", "recorded"), [[0.1, -2.0], [0] * 3], "t-",
    ),
}  # fmt: skip
MENDED = {
    "a success held (HIL-SERL)": ((dict(reward=[0, 1, 1, 1], done=[0, 0, 0, 1]),), ("reward", "recorded"), [[0, 1], [0] * 3], "Tt"),
    "done held too": ((dict(reward=[0, 1, 1], done=[0, 1, 1]),), ("reward", "recorded"), [[0, 1], [0] * 3], "Tt"),
    "done never true": (
        (dict(reward=[0, 0, 1], done=[0] * 3), dict(reward=[0, 0], done=[0, 0])), ("reward", "recorded"), [[0, 0, 1], [0, 0]], "T-",
    ),
    "terminated never true": ((dict(reward=[0, 0, 1], terminated=[0] * 3),), ("reward", "recorded"), [[0, 0, 1], [0] * 3], "T-"),
    "subgoals pay too": ((dict(reward=[0, 1, 0, 1], done=[0, 0, 0, 1]),), ("reward", "recorded"), [[0, 1, 0, 1], [0] * 3], "Tt"),
    "a pulse, and it goes on": ((dict(reward=[0, 1, 0, 0], done=[0, 0, 0, 1]),), ("reward", "recorded"), [[0, 1], [0] * 3], "Tt"),
    "step costs, 0 at the goal": (
        (dict(reward=[-1, -1, 0, 0], done=[0, 0, 0, 1]), dict(reward=[-1, -1], done=[0, 1])),
        ("reward", "recorded"), [[-1, -1, 0], [-1, -1]], "Tt",
    ),
    "step costs and a bonus": (
        (dict(reward=[-0.5, -0.5, 10], done=[0, 0, 1]), dict(reward=[-0.5, -2], done=[0, 1])),
        ("reward", "recorded"), [[-0.5, -0.5, 10], [-0.5, -2]], "Tt",
    ),
    "shaped, without done": (
        (dict(reward=[0.1, 0.3, 0.5, 0.75]), dict(reward=[0.25, 0.5])), ("last", "recorded"), [[0.1, 0.3, 0.5, 0.75], [0.25, 0.5]], "TT",
    ),
    "shaped, with done": (
        (dict(reward=[0.25, 0.5, 0.75], done=[0, 0, 1]), dict(reward=[0, 0.25], done=[0, 0])),
        ("done", "recorded"), [[0.25, 0.5, 0.75], [0, 0.25]], "T-",
    ),
    "shaped, done never true": (
        (dict(reward=[0.25, 0.5, 0.75], done=[0] * 3), dict(reward=[0.5, 0.25], done=[0, 0])),
        ("last", "recorded"), [[0.25, 0.5, 0.75], [0.5, 0.25]], "TT",
    ),
    "shaped, done in the middle": (
        (dict(reward=[0.25, 0.5, 0.75], done=[0, 1, 0]), dict(reward=[0.5, 0.25], done=[0, 1])),
        ("last", "recorded"), [[0.25, 0.5, 0.75], [0.5, 0.25]], "TT",
    ),
    "shaped, truncated": (
        (dict(reward=[0.25, 0.5, 0.75], truncated=[0] * 3), dict(reward=[0.5, 0.25], truncated=[0, 1])),
        ("done", "recorded"), [[0.25, 0.5, 0.75], [0.5, 0.25]], "Tt",
    ),
    "success and failure pay": (
        (dict(reward=[0, 0, 1]), dict(reward=[0, 0, -1])), ("last", "recorded"), [[0, 0, 1], [0, 0, -1]], "TT",
    ),
    "each frame of a successful episode pays": (
        (dict(reward=[1, 1, 1], done=[0, 0, 1]),), ("done", "recorded"), [[1, 1, 1], [0] * 3], "TT",
    ),
    "terminated without reward": (
        (dict(terminated=[0, 0, 1]),), ("terminated", "success"), [[0, 0, 1], [0] * 3], "T-",
    ),
    "terminated beside success": (
        (dict(success=[0, 1, 1], terminated=[0, 0, 1]), dict(success=[0, 0], terminated=[0, 1])),
        ("terminated", "success"), [[0, 0, 1], [0, 0]], "TT",
    ),
    "truncated without terminated": (
        (dict(truncated=[0] * 3), dict(truncated=[0, 1])), ("done", "success"), [[0, 0, 1], [0, 0]], "Tt",
    ),
    "rewards where next.success never is": (
        (dict(reward=[0, 0, 1], success=[0] * 3),), ("reward", "recorded"), [[0, 0, 1], [0] * 3], "T-",
    ),
    "a number that is none is for others to name": (
        (dict(reward=[0, np.nan, 1, 1], done=[0, 0, 0, 1]),), ("reward", "recorded"), [[0, np.nan, 1], [0] * 3], "Tt",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", [*UNDERSTOOD.values(), *MENDED.values()], ids=[*UNDERSTOOD, *MENDED])
def test_what_is_decided(case):
    episodes, rule, rewards, ends = case
    found = decide(*episodes)
    assert (found[0], found[2]) == (rule, ends)
    for one, two in zip(found[1], rewards, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(two, np.float32))


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (dict(reward=[0] * 3), None, "next.reward: none is true or other than 0 in 6 frames"),
        (dict(success=[0] * 3), None, "next.success: none is true or other than 0 in 6 frames"),
        (dict(reward=[0] * 3, success=[0] * 3), None, "next.reward and next.success: none"),
        (dict(success=[0] * 3, terminated=[0, 0, 1]), None, "next.success and next.terminated: none"),
        (dict(reward=[-1] * 3, done=[0, 0, 1]), dict(reward=[-1] * 2, done=[0, 1]), "next.reward is -1 in all 5 frames"),
        (dict(truncated=[0, 0, 1]), dict(truncated=[0, 0, 1]), "every episode is next.truncated"),
    ],
)
def test_what_cannot_be_decided_is_refused_with_the_flag_that_decides_it(first, second, named):
    with pytest.raises(ValueError, match=f"Dataset me/data: {named}") as caught:
        decide(first, second)
    assert "Expected a reward that stands out, or a success" in str(caught.value)
    assert "--policy.labels.ends=last --policy.labels.reward=success" in str(caught.value)
    rewards, ends = decide(first, second, LabelSettings(ends="last", reward="success"))[1:3]
    assert [reward[-1] for reward in rewards] == [1, 1]
    assert ends == "TT"


def test_a_remark_says_what_was_assumed():
    said = {name: "; ".join(decide(*MENDED[name][0])[3].remarks) for name in MENDED}
    assert "--policy.labels.ends=never" in said["shaped, with done"]
    assert "--policy.labels.ends=never" in said["shaped, without done"]
    assert "in the middle of 1 episodes that go on" in said["shaped, done in the middle"]
    assert "next.done is never true" in said["done never true"]
    assert "--policy.labels.reward=success" in said["step costs, 0 at the goal"]
    assert said["a success held (HIL-SERL)"] == ""
    assert "ALSO FAILURES" in "".join(decide({})[3].remarks)


SHAPED = dict(reward=[0.25, 0.5, 0.75], done=[0, 0, 1]), dict(reward=[0.5, 0.25], done=[0, 1])


def test_a_person_may_say_otherwise():
    assert decide(*SHAPED, how=LabelSettings(ends="never"))[1:3] == ([[0.25, 0.5, 0.75], [0.5, 0.25]], "tt")
    assert decide(*SHAPED, how=LabelSettings(reward="success"))[1:3] == ([[0, 0, 1], [0, 1]], "TT")
    costs = dict(reward=[-1, -1, 0], done=[0, 0, 1]), dict(reward=[-1, -1], done=[0, 1])
    assert decide(*costs, how=LabelSettings(shift=1.0))[1:3] == ([[0, 0, 1], [0, 0]], "Tt")
    assert decide(*costs, how=LabelSettings(ends="done"))[1:3] == ([[-1, -1, 0], [-1, -1]], "TT")
    held = dict(reward=[0, 1, 1], done=[0, 0, 1]), dict(reward=[0, 0], done=[0, 1])
    assert decide(*held, how=LabelSettings(ends="done"))[1] == [[0, 1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("how", "named"),
    [
        (
            LabelSettings(ends="terminated"),
            "policy.labels.ends='terminated': expected next.terminated in dataset me/data, found next.reward",
        ),
        (LabelSettings(ends="success"), "policy.labels.ends='success': expected next.success"),
        (LabelSettings(ends="reward"), "policy.labels.ends='reward': expected one highest reward .* found 0.25 to 0.75 in 5 frames"),
    ],
)
def test_a_flag_that_the_columns_do_not_bear_is_refused(how, named):
    with pytest.raises(ValueError, match=named):
        decide(*SHAPED, how=how)
    with pytest.raises(ValueError, match=r"policy.labels.reward='recorded': expected next.reward in dataset me/data, found no labels"):
        decide({}, how=LabelSettings(reward="recorded"))


def test_practice_is_read_as_recorded_whatever_it_holds():
    episodes = (dict(reward=[0.5, 2, 0], success=[1, 0, 0], terminated=[0, 0, 0]), dict(reward=[0, 0], success=[0, 0], terminated=[0, 1]))
    assert decide(*episodes, how=AS_RECORDED)[:3] == (("terminated", "recorded"), [[0.5, 2, 0], [0, 0]], "-T")


@pytest.mark.parametrize(
    ("reward", "level"),
    [
        ([0, 1, 0, 0], 0.5),
        ([-1, 0, -1, -1], -0.5),
        ([-1, 10, -5, -1], 4.5),
        ([0, 0.5, 1, 0], None),
        ([2, 2, 2, 2], None),
        ([0, -9, 0, 0], None),
    ],
)
def test_the_level_that_only_a_success_reaches(reward, level):
    assert success_level(np.array(reward, np.float32), [(0, 2), (2, 4)]) == level


def test_words_say_it_all():
    rule = decide(dict(reward=[-1, -1, 0]), dict(reward=[-1, -1]), LabelSettings(shift=1.0))[3]
    assert words(rule) == (
        "an episode terminates where its reward rises above -0.5 for the last time: the success",
        "next.reward as recorded, +1 in every frame",
    )


FLAGS = st.none() | st.lists(st.booleans(), min_size=12, max_size=12)


@settings(max_examples=300, deadline=None)
@given(
    lengths=st.sampled_from([(12,), (6, 6), (2, 3, 7)]),
    reward=st.none()
    | st.sampled_from([(0.0, 1.0), (-1.0, 0.0), (-0.5, 10.0, -4.0), (0.0, 0.25, 0.5, 1.0), (1.0,)]).flatmap(
        lambda values: st.lists(st.sampled_from(values), min_size=12, max_size=12)
    ),
    success=FLAGS,
    done=FLAGS,
    terminated=FLAGS,
    truncated=FLAGS,
    ends=st.just("auto") | st.sampled_from(sorted(ENDS)),
    pays=st.just("auto") | st.sampled_from(sorted(REWARDS)),
)
def test_no_reward_is_lost_without_a_word(lengths, reward, success, done, terminated, truncated, ends, pays):
    """Or the dataset is refused by name. An episode ends once, has a transition, and what is left out is counted."""
    values = {"reward": reward, "success": success, "done": done, "terminated": terminated, "truncated": truncated}
    data = columns(**{name: value for name, value in values.items() if value is not None})
    stops = np.cumsum(lengths).tolist()
    spans = list(zip([0, *stops[:-1]], stops, strict=True))
    refusal = None
    try:
        rule = decide_rule(data, spans, "me/data", LabelSettings(ends=ends, reward=pays))
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert "me/data" in refusal
        return
    labelled = label_episodes(rule, data, spans)
    for (start, stop), labels in zip(spans, labelled, strict=True):
        assert labels.steps >= 1
        assert not (labels.terminated and labels.truncated)
        assert labels.terminated or len(labels.reward) == stop - start
        if rule.reward == "recorded":
            np.testing.assert_array_equal(labels.reward, data[REWARD][start : start + len(labels.reward)])
        else:
            assert not labels.reward[:-1].any()
            assert labels.reward[-1] in ((0, 1) if labels.terminated else (0,))
    table = LabelTable.of("me/data", rule, data, spans, labelled)
    left = (table.used, table.after, table.last)
    assert table.recorded.frames == sum(part.frames for part in left) == 12
    assert table.recorded.count == sum(part.count for part in left)
    assert table.recorded.total == pytest.approx(sum(part.total for part in left))
    assert table.terminated + table.truncated + table.data_end == len(spans)
    if rule.reward == "recorded":
        assert table.learnt == table.used
    lost = table.used.frames < 0.95 * 12 or (rule.reward == "recorded" and table.used.size < 0.95 * table.recorded.size)
    assert (table.warning is not None) == (lost or not table.learnt.count)
    if table.recorded.frames > table.used.frames:
        assert "left out" in "\n".join(table.lines())
