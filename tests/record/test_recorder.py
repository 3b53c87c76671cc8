"""`lerobot-serl-record` in an environment that is not ours: a scripted expert, a person, and what can be wrong with either."""

import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from counter_env import CounterEnv
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from scripted_hand import ScriptedHandConfig

from lerobot_serl.actor.settings import RewardConfig
from lerobot_serl.actor.world import WorldError
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.record.recorder import RecordSettings, record
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.scripts.lerobot_serl_record import RecordConfig, _settings
from lerobot_serl.setting_error import SettingError

STATE, IMAGE = "observation.state", "observation.image"
COMMAND = (sys.executable, "-m", "lerobot_serl.scripts.lerobot_serl_record")


def push(env):
    """An expert; how often it was made, and for what, it notes in the environment."""
    env.attempts = [*getattr(env, "attempts", []), float(env.state[1])]

    def act(observation):
        assert observation["agent_pos"] is env.state
        return [0.25 * (observation["agent_pos"][0] + 1), 9.0]  # the second one is outside the action's bounds

    return act


def settings_of(root, new_expert=push, **changes):
    values = {
        "env": CounterEnv(succeed_at=3),
        "repo_id": "me/counted",
        "root": root / "data",
        "n_episodes": 2,
        "seed": 5,
        "use_videos": False,
    }
    return RecordSettings(**(values | {"new_expert": new_expert} | changes))


def recorded(root):
    dataset = LeRobotDataset("me/counted", root=root / "data")
    return dataset, [dataset[index] for index in range(len(dataset))]


def column(frames, key):
    return [frame[key].tolist() for frame in frames]


def test_an_experts_episodes_are_what_the_environment_gave_and_carried_out(tmp_path):
    summary = record(settings_of(tmp_path))
    assert (summary.n_episodes, summary.n_frames, summary.n_attempts) == (2, 6, 2)
    dataset, frames = recorded(tmp_path)
    assert {key for key in dataset.features if "." in key or key == "action"} == {
        STATE,
        IMAGE,
        "action",
        "next.reward",
        "next.success",
        "next.done",
    }
    assert dataset.fps == CounterEnv().fps
    assert dataset.features["action"]["names"] is None
    assert [frame["task"] for frame in frames] == ["count to three"] * 6
    assert column(frames, "next.success") == column(frames, "next.done") == [False, False, True] * 2
    assert column(frames, "next.reward") == [0.0, 0.0, 1.0] * 2
    assert column(frames, "action") == [[0.25, 0.5], [0.5, 0.5], [0.5, 0.5]] * 2
    assert column(frames, STATE)[3:] == [[0.0, 6.0], [1.0, 6.25], [2.0, 6.75]]
    pixels = np.arange(90, dtype=np.uint8).reshape(6, 5, 3) + np.uint8(102)
    assert np.array_equal((frames[2][IMAGE] * 255).round().numpy().astype(np.uint8), pixels.transpose(2, 0, 1))


def test_an_expert_is_made_anew_for_each_attempt_when_it_has_begun(tmp_path):
    seen = []

    def watched(env):
        act = push(env)
        seen[:] = env.attempts
        return act

    record(settings_of(tmp_path, watched, n_episodes=3))
    assert seen == [5.0, 6.0, 7.0]


def test_attempts_that_fail_are_tried_again_and_not_kept(tmp_path):
    """Only the environment knows: a step too late is a failure."""

    def every_second(env):
        env.succeed_at = 3 if env.state[1] % 2 else 99
        return push(env)

    summary = record(settings_of(tmp_path, every_second, env=CounterEnv(truncate_at=4)))
    assert (summary.n_episodes, summary.n_attempts) == (2, 3)
    _, frames = recorded(tmp_path)
    assert [frame[STATE][1].item() for frame in frames if frame["frame_index"] == 0] == [5.0, 7.0]


def test_failures_are_kept_as_failures_if_that_is_asked_for(tmp_path):
    def every_second(env):
        env.succeed_at = 3 if env.state[1] % 2 else 99
        return push(env)

    record(settings_of(tmp_path, every_second, env=CounterEnv(truncate_at=4), keep_failures=True))
    dataset, frames = recorded(tmp_path)
    assert column(frames, "next.success") == [False, False, True, *[False] * 4]
    assert column(frames, "next.truncated") == [*[False] * 6, True]
    reader = EpisodeReader(dataset, [STATE])
    episodes = [reader.read(index) for index in range(2)]
    assert [(episode.success, episode.terminated, episode.truncated) for episode in episodes] == [(True, True, False), (False, False, True)]


def test_names_that_the_environments_configuration_gives_are_kept(tmp_path):
    env = CounterEnv(succeed_at=2)
    env.feature_names = {"action": ["x", "y"], STATE: ("count", "sum")}
    record(settings_of(tmp_path, env=env, n_episodes=1, task="another one"))
    dataset, frames = recorded(tmp_path)
    assert (dataset.features["action"]["names"], dataset.features[STATE]["names"]) == (["x", "y"], ["count", "sum"])
    assert frames[0]["task"] == "another one"
    env.feature_names = {"action": ["x"]}
    with pytest.raises(ValueError, match=r"has 1 names for 'action', which has 2 entries"):
        record(settings_of(tmp_path / "wrong", env=env))


def test_the_environments_own_reward_is_recorded_if_that_is_asked_for(tmp_path):
    record(settings_of(tmp_path, n_episodes=1, reward=RewardConfig(source="environment")))
    assert column(recorded(tmp_path)[1], "next.reward") == [-0.25, -0.25, 2.0]


def failing(env):
    return lambda observation: observation["no such key"]


WRONG_EXPERTS = {
    "no function": (
        lambda env: [0.0, 0.0],
        r"The expert returned \[0.0, 0.0\] for an environment, expected a function: observation -> action",
    ),
    "too few numbers": (lambda env: lambda seen: [1.0], r"The expert gave \[1.0\] of shape \(1,\), expected \(2,\)"),
    "words": (lambda env: lambda seen: "left", r"The expert gave 'left', expected 2 numbers"),
    "nothing": (lambda env: lambda seen: None, r"The expert gave None of shape \(\), expected \(2,\)"),
    "not finite": (lambda env: lambda seen: [float("nan"), 0.0], r"the action's entries \[0\] are not finite; it was not sent"),
    "its own fault": (failing, r"The expert failed: KeyError: 'no such key' \(test_recorder.py, line \d+\)"),
    "fault at the start": (
        lambda env: env.arm,
        r"The expert failed: AttributeError: .*has no attribute 'arm' \(test_recorder.py, line \d+\)",
    ),
}


@pytest.mark.parametrize("case", WRONG_EXPERTS)
def test_what_is_wrong_with_an_expert_is_said_and_nothing_stays(tmp_path, case):
    expert, words = WRONG_EXPERTS[case]
    with pytest.raises(WorldError, match=words):
        record(settings_of(tmp_path, expert))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("wanted", "tried"), [(1, 10), (20, 30)])
def test_an_expert_that_never_succeeds_is_given_up(tmp_path, wanted, tried):
    hopeless = settings_of(tmp_path, env=CounterEnv(truncate_at=2), n_episodes=wanted)
    with pytest.raises(RuntimeError, match=rf"solved 0 of {tried} episodes; give attempts more time, mend the expert, or look at what"):
        record(hopeless)
    assert not (tmp_path / "data").exists()


def test_an_attempt_that_never_ends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("lerobot_serl.record.expert.MOST_STEPS", 20)
    with pytest.raises(WorldError, match=r"has not ended after 20 steps. Give the environment a time limit, such as --env.episode_length"):
        record(settings_of(tmp_path, env=CounterEnv()))


def test_a_person_moves_it_from_beginning_to_end(tmp_path):
    """No key and no event says that the person takes over: there is nobody else."""
    summary = record(settings_of(tmp_path, None, teleop=ScriptedHandConfig()))
    assert (summary.n_episodes, summary.n_attempts) == (2, 2)
    _, frames = recorded(tmp_path)
    np.testing.assert_allclose(column(frames, "action"), [[x / 10, 0.0] for x in (1, 2, 3, 4, 5, 5)], atol=1e-6)


def test_a_person_says_what_succeeded_and_throws_away(tmp_path):
    """Ticks 1-2 success by the person's word, 3-4 a failure, 5 thrown away, 6-8 the environment's own success."""
    hand = ScriptedHandConfig(presses={2: "success", 4: "failure", 5: "rerecord_episode"})
    summary = record(settings_of(tmp_path, None, teleop=hand))
    assert (summary.n_episodes, summary.n_frames, summary.n_attempts) == (2, 5, 4)
    _, frames = recorded(tmp_path)
    assert column(frames, "next.success") == [False, True, False, False, True]
    assert [frame[STATE][1].item() for frame in frames if frame["frame_index"] == 0] == [5.0, 8.0]


def test_a_device_that_does_not_answer_keeps_what_is_complete(tmp_path):
    with pytest.raises(WorldError, match=r"teleoperator serl_test_hand does not answer: .* no answer.*third attempt in a row"):
        record(settings_of(tmp_path, None, teleop=ScriptedHandConfig(breaks_at=5)))
    assert recorded(tmp_path)[0].num_episodes == 1


def test_a_device_with_another_number_of_keys_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"gives 2 numbers \['x', 'y'\], but an action of this environment has 4"):
        record(settings_of(tmp_path, None, env=FrankaSimEnv(), teleop=ScriptedHandConfig()))
    assert not (tmp_path / "data").exists()


WRONG_NAMES = {
    "no colon": ("push", "expected MODULE:FUNCTION"),
    "no module": ("no_such_module:push", "No module named 'no_such_module'"),
    "no function": ("test_recorder:pull", "has no attribute 'pull'"),
    "no function but a number": ("test_recorder:STATE", "is a str, expected a function of the environment"),
    "too many arguments": ("test_recorder:column", "expected a function of one argument, the environment"),
}


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_an_expert_that_cannot_be_found_is_refused(case):
    name, words = WRONG_NAMES[case]
    with pytest.raises(ValueError, match=f"--expert='{re.escape(name)}'.*{re.escape(words)}"):
        _settings(RecordConfig(env=CounterEnv(), repo_id="me/x", expert=name))


def test_flags_that_do_not_go_together_are_refused():
    hand = ScriptedHandConfig()
    with pytest.raises(SettingError, match=r"Give either --expert=module:function or --teleop.type="):
        RecordConfig(env=CounterEnv(), repo_id="me/x", expert="a:b", teleop=hand)
    with pytest.raises(SettingError, match=r"noise_std is 0.1, which only franka_sim's own expert obeys"):
        RecordConfig(env=CounterEnv(), repo_id="me/x", teleop=hand, noise_std=0.1)


@pytest.mark.slow
def test_the_command_records_an_expert_of_the_working_directory(tmp_path):
    """Also in franka_sim, whose own expert then stays out of it."""
    (tmp_path / "my_expert.py").write_text(
        textwrap.dedent("""
            from lerobot_serl.envs.expert_franka_sim import ScriptedExpert

            def lift(env):
                expert = ScriptedExpert(noise_std=0.1, seed=int(env.np_random.integers(100)))
                return lambda observation: expert.act(observation)
        """)
    )
    flags = ("--env.type=franka_sim", "--expert=my_expert:lift", "--repo_id=me/counted", "--root=data", "--n_episodes=2")
    done = subprocess.run(
        [*COMMAND, *flags], cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    dataset, frames = recorded(tmp_path)
    assert dataset.num_episodes == 2
    assert dataset.features["action"]["names"] == ["delta_x", "delta_y", "delta_z", "gripper"]
    assert frames[-1]["next.success"]
