"""What a person reads of a dataset's labels: real LeRobotDatasets of the kinds that are about."""

import functools
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from small_data import STATE, frames_of

from lerobot_serl.label_settings import LabelSettings
from lerobot_serl.replay.demonstrations import EpisodeReader

T, EPISODES = 10, 4
PENALTY = "complementary_info.discrete_penalty"


def flags(*at):
    return [t in at for t in range(T)]


LAST = flags(T - 1)
HELD = flags(T - 3, T - 2, T - 1)
SHAPED = [t / T for t in range(T)]
# Columns of a successful episode, and of one that failed -> frames used, rewards recorded and learnt (sums), episodes that terminate, are
# truncated and end with the data, rewards of 0 or 1 at the end.
KINDS = {
    "HIL-SERL": (dict(next_reward=HELD, next_done=LAST), dict(next_reward=flags(), next_done=LAST), 33, 9, 3, (3, 1, 0), True),
    "done held": (dict(next_reward=HELD, next_done=HELD), dict(next_reward=flags(), next_done=LAST), 33, 9, 3, (3, 1, 0), True),
    "dense": (dict(next_reward=SHAPED, next_done=LAST), None, 40, 18, 18, (4, 0, 0), False),
    "dense without done": (dict(next_reward=SHAPED), None, 40, 18, 18, (4, 0, 0), False),
    "negative": (
        dict(next_reward=[-1] * (T - 1) + [0], next_done=LAST), dict(next_reward=[-1] * T, next_done=LAST), 39, -37, -36, (3, 1, 0), False,
    ),
    "done never true": (dict(next_reward=LAST, next_done=flags()), dict(next_reward=flags(), next_done=flags()), 39, 3, 3, (3, 0, 1), True),
    "cost and bonus": (
        dict(next_reward=[-1] * (T - 1) + [10], next_done=LAST), dict(next_reward=[-1] * T, next_done=LAST), 39, -7, -6, (3, 1, 0), False,
    ),
    "unlabelled": ({}, None, 40, 0, 4, (4, 0, 0), True),
    "reward at the end": (dict(next_reward=LAST, next_done=LAST), dict(next_reward=flags(), next_done=LAST), 39, 3, 3, (3, 1, 0), True),
    "terminated alone": (dict(next_terminated=LAST), dict(next_terminated=flags()), 39, 0, 3, (3, 0, 1), True),
    "done in the middle": (
        dict(next_reward=LAST, next_done=flags(4, T - 1)), dict(next_reward=flags(), next_done=flags(4, T - 1)), 39, 3, 3, (3, 1, 0), True,
    ),
    "success in the middle": (dict(next_success=flags(4, 5)), dict(next_success=flags()), 24, 0, 3, (3, 0, 1), True),
}  # fmt: skip


@pytest.fixture(scope="module")
def reader_of(make_dataset):
    """``reader_of(kind, settings)``: four episodes, of which the third is a failure."""

    @functools.cache
    def dataset_of(kind):
        success, failure = KINDS[kind][:2]
        columns = [failure if failure is not None and episode == 2 else success for episode in range(EPISODES)]
        return make_dataset([frames_of(T, episode + 1, **columns[episode]) for episode in range(EPISODES)])

    def make(kind, settings=None):
        return EpisodeReader(dataset_of(kind), [STATE], settings=settings or LabelSettings())

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_what_becomes_of_a_dataset(reader_of, kind):
    frames, recorded, learnt, ends, bounded = KINDS[kind][2:]
    reader = reader_of(kind)
    table = reader.label_table
    assert (table.recorded.frames, table.used.frames) == (T * EPISODES, frames)
    assert (table.recorded.total, table.learnt.total) == pytest.approx((recorded, learnt))
    assert (table.terminated, table.truncated, table.data_end) == ends
    assert reader.binary_rewards is bounded
    read = [reader.read(index) for index in range(EPISODES)]
    transitions = [recording.reward[: len(recording) - (not recording.terminated)] for recording in read]
    assert sum(map(len, transitions)) == frames
    assert sum(float(rewards.sum()) for rewards in transitions) == pytest.approx(learnt)
    text = "\n".join(table.lines())
    for words in (
        f"{T * EPISODES}  {frames}, as transitions",
        f"{ends[0]} terminate, {ends[1]} are truncated, {ends[2]} end with the data",
    ):
        assert words in text
    assert "--policy.labels.ends=" in text
    assert "--policy.labels.reward=" in text


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_table_offers_can_be_chosen(reader_of, kind):
    text = "\n".join(reader_of(kind).label_table.lines())
    offered = {name: re.search(rf"labels.{name}=\w+; otherwise: ([\w|]+)", text) for name in ("ends", "reward")}
    refused = []
    for name, found in offered.items():
        for choice in found[1].split("|") if found else ():
            try:
                reader_of(kind, LabelSettings(**{name: choice}))
            except ValueError as error:
                refused.append(str(error))
    assert all("no reward is left in any transition" in text for text in refused), "a choice that fits, and makes no sense here"


def test_a_warning_names_what_is_lost_and_why(reader_of):
    assert [kind for kind in KINDS if reader_of(kind).label_table.warning] == ["HIL-SERL", "done held", "success in the middle"]
    warning = reader_of("HIL-SERL").label_table.warning
    assert "82.5% of the frames and 33.3% of the recorded reward are learnt from" in warning
    assert "6 frames (reward 6) after a termination" in warning
    assert "1 frame (reward 0) at the end of episodes that do not terminate" in warning
    assert "--policy.labels.ends=done|last|never says otherwise" in warning


def test_a_flag_says_otherwise_and_a_loss_is_named(reader_of):
    assert reader_of("HIL-SERL", LabelSettings(ends="last")).label_table.learnt.total == 9
    never = reader_of("reward at the end", LabelSettings(ends="never")).label_table
    assert never.learnt.total == 0
    assert "0.0% of the recorded reward and no reward are learnt from" in never.warning
    assert "4 frames (reward 3) at the end" in never.warning
    ones = reader_of("negative", LabelSettings(reward="success")).label_table
    assert (ones.learnt.total, ones.learnt.count, ones.warning) == (3, 3, None)
    assert reader_of("negative", LabelSettings(shift=1.0)).binary_rewards


def test_a_reward_that_no_transition_would_hold_is_refused(make_dataset):
    ends = dict(next_reward=LAST, next_terminated=flags(), next_truncated=LAST)
    with pytest.raises(ValueError, match=r"Dataset test/tiny: no reward is left in any transition.*--policy.labels.ends") as caught:
        EpisodeReader(make_dataset([frames_of(T, 1, **ends)]), [STATE])
    assert "1 are truncated" in str(caught.value)
    reader = EpisodeReader(make_dataset([frames_of(T, 1, **ends)]), [STATE], settings=LabelSettings(ends="last"))
    assert reader.label_table.learnt.total == 1


def test_columns_of_lerobots_reinforcement_learning(make_dataset):
    extra = {
        PENALTY: {"dtype": "float32", "shape": (1,), "names": ["discrete_penalty"]},
        "complementary_info.is_intervention": {"dtype": "bool", "shape": (1,), "names": None},
    }
    episode = frames_of(T, 1, next_reward=HELD, next_done=LAST)
    for t, frame in enumerate(episode):
        frame |= {PENALTY: np.array([-0.02], np.float32), "complementary_info.is_intervention": np.array([t > 4])}
    reader = EpisodeReader(make_dataset([episode], extra), [STATE])
    assert reader.read(0).intervention.tolist() == [False] * 5 + [True] * 3
    assert f"not read, and no part of the reward: {PENALTY}" in "\n".join(reader.label_table.lines())


@pytest.mark.parametrize("dtype", ["bool", "int64", "float64"])
def test_rewards_of_every_type(make_dataset, dtype):
    feature = {"next.reward": {"dtype": dtype, "shape": (1,), "names": None}}
    episode = [{**frame, "next.reward": np.array([t == T - 1], dtype)} for t, frame in enumerate(frames_of(T, 1))]
    recording = EpisodeReader(make_dataset([episode], feature), [STATE]).read(0)
    assert recording.reward.tolist() == [0] * (T - 1) + [1]
    assert recording.terminated


@pytest.mark.slow
def test_the_command_that_leaves_episodes_out_runs(make_dataset, tmp_path):
    """In a directory with blanks in its name."""
    source = make_dataset([frames_of(3, 1), frames_of(1, 2), frames_of(3, 3)])
    root = tmp_path / "my data"
    source.root.rename(root)
    with pytest.raises(ValueError, match="episode 1 has 1 frame") as caught:
        EpisodeReader(LeRobotDataset("test/tiny", root=root), [STATE])
    command = shlex.split(str(caught.value).rpartition("Remove it: ")[2])
    assert command[0] == "lerobot-edit-dataset"
    edit = [sys.executable, "-m", "lerobot.scripts.lerobot_edit_dataset", *command[1:]]
    home = {**os.environ, "HF_LEROBOT_HOME": str(tmp_path / "home")}
    done = subprocess.run(edit, env=home, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    reader = EpisodeReader(LeRobotDataset("test/tiny", root=root), [STATE])
    assert reader.lengths == [3, 3]
    assert (tmp_path / "my data_old" / "meta" / "info.json").is_file()
    assert not (tmp_path / "home").exists()
    assert "ALSO FAILURES" in "\n".join(reader.label_table.lines())
    assert f"--root={shlex.quote(str(root))}" in "\n".join(reader.label_table.lines())
