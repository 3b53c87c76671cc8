"""Reading real LeRobotDatasets episode by episode."""

import numpy as np
import pytest
import torch
from small_data import ACTION, ENV_STATE, STATE, frames_of

from lerobot_serl.label_settings import AS_RECORDED
from lerobot_serl.replay.demonstrations import EpisodeReader

KEYS = [STATE, ENV_STATE]


def flags(frames, *at):
    return [t in at for t in range(frames)]


def test_labelled_episodes(demonstrations):
    reader = EpisodeReader(demonstrations, KEYS)
    assert reader.rule.name == "ends=success, reward=recorded"
    assert len(reader) == 3
    assert reader.lengths == [5, 4, 6]
    assert reader.binary_rewards
    ends = [(e.terminated, e.truncated, e.success) for e in (reader.read(i) for i in range(3))]
    assert ends == [(True, False, True), (False, True, False), (True, False, True)]


def test_numbers_of_every_frame(demonstrations):
    reader = EpisodeReader(demonstrations, KEYS)
    for index, length in enumerate((5, 4, 6)):
        recording = reader.read(index)
        expected = frames_of(length, index + 1)
        for key, tensor in {**recording.observation, ACTION: recording.action}.items():
            assert tensor.dtype == torch.float32
            assert np.array_equal(tensor.numpy(), np.stack([frame[key] for frame in expected]))
        assert not recording.intervention.any()
        assert len(recording) == length
    assert set(reader.read(0).observation) == set(KEYS)


def test_only_the_asked_observations_are_read(demonstrations):
    assert set(EpisodeReader(demonstrations, [STATE]).read(1).observation) == {STATE}


def test_an_episode_is_cut_after_its_first_success(make_dataset):
    dataset = make_dataset(
        [
            frames_of(6, 1, next_success=flags(6, 2, 3, 4, 5)),
            frames_of(4, 2, next_success=flags(4)),
            frames_of(3, 3, next_success=flags(3, 2)),
        ]
    )
    reader = EpisodeReader(dataset, KEYS)
    assert reader.rule.name == "ends=success, reward=success"
    assert reader.lengths == [3, 4, 3]
    first, second, third = (reader.read(i) for i in range(3))
    assert first.observation[STATE][:, 0].tolist() == [100, 101, 102]
    assert first.action[:, 0].tolist() == pytest.approx([100.2, 101.2, 102.2])
    assert first.reward.tolist() == [0, 0, 1]
    assert len(first.intervention) == 3
    assert first.terminated
    assert not second.terminated
    assert third.observation[STATE][:, 0].tolist() == [300, 301, 302]


def test_unlabelled_data_count_as_success(make_dataset):
    reader = EpisodeReader(make_dataset([frames_of(3, 1), frames_of(2, 2)]), KEYS)
    assert reader.rule.name == "ends=last, reward=success"
    assert [reader.read(i).reward.tolist() for i in range(2)] == [[0, 0, 1], [0, 1]]
    assert reader.binary_rewards


@pytest.mark.parametrize(
    ("reward", "terminated", "binary"),
    [
        ([0, 0, 1], True, True),
        ([0, 0, 0], True, True),
        ([0, 1, 1], True, False),
        ([0, 0, 0.5], True, False),
        ([-1, -1, 1], True, False),
        ([0, 0, 1], False, False),
    ],
)
def test_binary_rewards(make_dataset, reward, terminated, binary):
    """Only a termination that pays 1 bounds the values by 0 and 1."""
    ends = dict(next_terminated=flags(3, 2) if terminated else flags(3), next_truncated=flags(3) if terminated else flags(3, 2))
    reader = EpisodeReader(make_dataset([frames_of(3, 1, next_reward=reward, **ends)]), KEYS, settings=AS_RECORDED)
    assert reader.rule.name == "ends=terminated, reward=recorded"
    assert reader.binary_rewards is binary


@pytest.mark.parametrize("key", [STATE, ENV_STATE, ACTION])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_named(make_dataset, key, value):
    episodes = [frames_of(3, 1), frames_of(4, 2), frames_of(3, 3)]
    episodes[1][2][key][1] = value
    episodes[2][0][key][0] = value
    with pytest.raises(
        ValueError, match=rf"Dataset test/tiny: episode 1, frame 2, '{key}'\[1\] is {value}, expected .*lerobot-serl-doctor"
    ):
        EpisodeReader(make_dataset(episodes), KEYS)


@pytest.mark.parametrize("value", [1e30, -3e38])
def test_a_number_whose_square_32_bits_cannot_hold_is_named(make_dataset, value):
    episodes = [frames_of(3, 1), frames_of(4, 2)]
    episodes[1][2][STATE][1] = value
    with pytest.raises(ValueError, match=r"episode 1, frame 2, 'observation.state'\[1\] is -?[13]e\+3[08], expected -1e\+17 to 1e\+17"):
        EpisodeReader(make_dataset(episodes), KEYS)


def test_episodes_that_make_no_sense_are_left_out_of_practice_with_a_word(make_dataset, caplog):
    episodes = [frames_of(3, mark, next_reward=flags(3, 2), next_terminated=flags(3, 2)) for mark in (1, 2, 3, 4)]
    episodes[1][2][STATE][1] = 1e30
    episodes[2][0][ACTION][0] = np.nan
    bounds = EpisodeReader(make_dataset([episodes[0], episodes[3]]), KEYS).plausible(reach=2.0, pays_once=True)
    reader = EpisodeReader(make_dataset(episodes), KEYS, bounds)
    assert [reader.read(index).observation[STATE][0, 0].item() for index in range(len(reader))] == [100, 400]
    assert "2 of 4 episodes are left out of learning" in caplog.text
    assert "episode 1, frame 2, 'observation.state'[1] is 1e+30" in caplog.text
    assert "lerobot-serl-doctor" in caplog.text
    episodes[3][1]["next.reward"][0] = 0.5  # pays before its end
    assert len(EpisodeReader(make_dataset(episodes), KEYS, bounds)) == 1


def test_a_bad_reward_is_named(make_dataset):
    episodes = [frames_of(3, 1, next_reward=flags(3, 2)), frames_of(3, 2, next_reward=[0, np.nan, 1])]
    with pytest.raises(ValueError, match=r"episode 1, frame 1, 'next.reward'"):
        EpisodeReader(make_dataset(episodes), KEYS)


def test_bad_numbers_in_what_is_not_read_do_not_matter(make_dataset):
    episodes = [frames_of(3, 1)]
    episodes[0][1][ENV_STATE][0] = np.nan
    assert EpisodeReader(make_dataset(episodes), [STATE]).lengths == [3]


def test_an_episode_of_one_frame_is_refused_with_the_command_that_removes_it(make_dataset):
    dataset = make_dataset([frames_of(3, 1), frames_of(1, 2)])
    with pytest.raises(ValueError, match="episode 1 has 1 frame; expected at least two") as caught:
        EpisodeReader(dataset, KEYS)
    assert '--operation.type=delete_episodes --operation.episode_indices="[1]"' in str(caught.value)


def test_an_episode_that_ended_in_its_first_step_was_learnt_from_and_is_read_again(make_dataset):
    """Otherwise a run that has taken one in could not be resumed."""
    ends = [
        frames_of(3, 1, next_reward=[0.0, 0.0, 1.0], next_terminated=flags(3, 2)),
        frames_of(1, 2, next_reward=[0.0], next_terminated=[True]),
    ]
    reader = EpisodeReader(make_dataset(ends), KEYS)
    assert reader.lengths == [3, 1]
    assert reader.read(1).terminated
    ends[1] = frames_of(1, 2, next_reward=[0.0], next_terminated=[False])
    with pytest.raises(ValueError, match="episode 1 has 1 frame"):
        EpisodeReader(make_dataset(ends), KEYS)


def test_vectors_of_one_number_keep_their_dimension(make_dataset):
    """LeRobot stores features of shape (1,) as plain numbers."""
    feature = {"dtype": "float32", "shape": (1,), "names": ["force"]}
    episode = [{**frame, "observation.force": np.array([t], np.float32)} for t, frame in enumerate(frames_of(3, 1))]
    recording = EpisodeReader(make_dataset([episode], {"observation.force": feature}), [STATE, "observation.force"]).read(0)
    assert recording.observation["observation.force"].tolist() == [[0.0], [1.0], [2.0]]


def test_images_are_read_back_exactly(make_dataset):
    cameras = {
        f"observation.images.{name}": {"dtype": "image", "shape": (32, 32, 3), "names": ["height", "width", "channels"]} for name in "ab"
    }
    random = np.random.default_rng(0)
    episodes = [frames_of(3, 1), frames_of(2, 2)]
    for episode in episodes:
        for frame in episode:
            frame |= {key: random.integers(0, 256, (32, 32, 3), dtype=np.uint8) for key in cameras}
    reader = EpisodeReader(make_dataset(episodes, cameras), [*cameras, STATE])
    for index, episode in enumerate(episodes):
        recording = reader.read(index)
        assert set(recording.observation) == {*cameras, STATE}
        for key in cameras:
            image = recording.observation[key]
            assert image.dtype == torch.uint8
            assert np.array_equal(image.numpy(), np.stack([frame[key].transpose(2, 0, 1) for frame in episode]))


def test_the_change_of_actions_is_counted_within_episodes(make_dataset):
    """Between two episodes lies a jump of 100, which must not count."""
    up_and_down = frames_of(6, 1)
    for t, frame in enumerate(up_and_down):
        frame[ACTION] = np.array([t % 2, 3.0 * (t % 2)], dtype=np.float32)
    dataset = make_dataset([up_and_down, [{**frame, ACTION: frame[ACTION] + 100} for frame in up_and_down]])
    assert EpisodeReader(dataset, KEYS).action_change == pytest.approx([1.0, 3.0])
