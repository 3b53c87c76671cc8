"""Training steps of the learner, in this process: the batch, what the losses are given, what a finished update leaves behind."""

import logging
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_data import frames_of, make_recording
from small_policy import small_agent, small_config

from lerobot_serl.base.act import ActBase
from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.parts import CriticConfig, OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Progress
from lerobot_serl.replay.episode import Episode

ALONE = {"intervention": torch.zeros(8, dtype=torch.bool)}


class Episodes:
    """A source in the learner's own process."""

    def __init__(self, count):
        self.left = [make_recording(8, **ALONE) for _ in range(count)]

    def existing(self):
        return None

    def start(self, frames, episodes, resumed):
        pass

    def arrived(self, wait_s):
        return self.left.pop()

    def ingested(self):
        pass

    after_update = publish = remind = ingested


def learner_for(dataset, tmp_path, source=None, **changes):
    config = small_config(metrics_dir=str(tmp_path), **changes)
    return Learner(small_agent(config), config, Progress(config), dataset.meta, source)


@pytest.mark.parametrize(
    ("base", "said"), [("act", "acts as ACT: nothing"), ("none", "acts with the newest weights, learnt from scratch.")]
)
def test_the_best_of_a_run_without_a_robot_is_what_can_be_deployed(demonstrations, tmp_path, base, said):
    """Without a base policy there is nothing else: `act_alone`, which is written where the edits are not better, would be refused."""
    best = learner_for(demonstrations, tmp_path, base=base).best_policy
    assert str(best).startswith(said)
    assert best.edits_are_better == (base == "none")


@pytest.mark.parametrize(("takes_s", "is_said"), [(0.0, False), (0.1, True)])
def test_a_base_policy_that_is_too_slow_for_a_robot_is_said_before_collection(
    demonstrations, tmp_path, caplog, monkeypatch, takes_s, is_said
):
    """The demonstrations' episodes have 5, 4 and 6 frames, and 10 frames a second."""
    in_time = ActBase.plan

    def plan(self, observation, steps):
        time.sleep(takes_s * len(next(iter(observation.values()))))
        return in_time(self, observation, steps)

    monkeypatch.setattr(ActBase, "plan", plan)
    warned = []

    class Watched(Episodes):
        def start(self, *values, **named):
            warned.extend(text for text in caplog.messages if "The base policy takes" in text)

    config = {"online": OnlineConfig(repo_id="local/online", root=str(tmp_path / "online"))}
    learner_for(demonstrations, tmp_path, Watched(0), **config)
    assert len(warned) == is_said
    words = ("a robot delivers 10 frames a second", "nothing is left for updates", "Use --policy.device=cuda;")
    assert all(word in text for text in warned for word in words)


def remember(learner, recording: Episode):
    learner.remember(cache_features(learner.agent, recording, 64))


@pytest.mark.parametrize(("share", "of_demonstrations"), [(0.25, 8), (0.5, 16), (0.0, 0)])
def test_so_much_of_a_batch_is_from_the_demonstrations(demonstrations, tmp_path, share, of_demonstrations):
    learner = learner_for(demonstrations, tmp_path, batch_size=32, demo_fraction=share)
    assert learner._sample().is_demo.all()
    remember(learner, make_recording(8, mark=-90.0, **ALONE))
    batch = learner._sample()
    assert len(batch.reward) == 32
    assert batch.is_demo.sum() == of_demonstrations
    assert torch.equal((batch.features > 0).all(-1), batch.is_demo)  # the robot's episode has negative numbers


def test_windows_and_memories_are_as_the_settings_say(demonstrations, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    learner = learner_for(demonstrations, tmp_path, batch_size=32, n_step=5, memory_device="auto")
    assert [memory.n_step for memory in (learner.online, learner.demonstrations)] == [5, 5]
    batch = learner._sample()
    assert batch.length.max() == 5
    assert batch.chunk.shape[1] == 3
    frames = learner.online.capacity + learner.demonstrations.capacity
    assert f"Replay memories: at most {frames:,} frames with {learner.demonstrations.bytes_per_frame} bytes each" in caplog.text
    assert "in the host's memory (policy.memory_device=auto)" in caplog.text
    with pytest.raises(ValueError, match=r"policy.memory_device='cuda': expected a policy on the same device, not on cpu"):
        learner_for(demonstrations, tmp_path, memory_device="cuda")


def test_a_memory_on_the_host_draws_there_although_the_networks_are_elsewhere(demonstrations, tmp_path):
    """A draw on the networks' device would have to be fetched, behind all that the device has still to do."""
    learner = learner_for(demonstrations, tmp_path, batch_size=32)
    learner.learning.generator = SimpleNamespace(device=torch.device("cuda"), initial_seed=lambda: 3)
    one, again = learner._sample(), learner._sample()
    learner.progress.updates += 1
    other = learner._sample()
    assert torch.equal(one.index, again.index)
    assert not torch.equal(one.index, other.index)


def test_targets_are_clipped_to_the_range_that_the_data_decide(demonstrations, tmp_path):
    """Critics that promise 50 for everything: the target is 1, and 0 at the very least."""
    learner = learner_for(demonstrations, tmp_path, batch_size=64)
    assert learner.config.value_range == (0.0, 1.0)
    for promise, low, high in ((50.0, 0.7, 1.0), (-50.0, 0.0, 0.5)):
        with torch.no_grad():
            for layer in learner.agent.critic_target.parameters():
                layer.zero_()
            learner.agent.critic_target.head_bias.fill_(promise)
        assert low <= learner.agent.critic_loss(learner._sample())[1]["target_q"] <= high


def test_entropy_in_the_targets_leaves_them_unclipped(demonstrations, tmp_path):
    assert learner_for(demonstrations, tmp_path, backup_entropy="soft").config.value_range is None


def test_the_discount_follows_from_the_median_demonstration(make_dataset, tmp_path):
    def episode(frames, mark):
        end = [t == frames - 1 for t in range(frames)]
        return frames_of(frames, mark, next_reward=end, next_success=end, next_done=end)

    learner = learner_for(make_dataset([episode(4, 1), episode(5, 2), episode(30, 3)]), tmp_path)
    assert learner.config.discount == pytest.approx(0.4 ** (1 / 5), abs=1e-5)


def test_an_update_moves_the_target_critics_and_is_counted(demonstrations, tmp_path):
    learner = learner_for(demonstrations, tmp_path, critic=CriticConfig(members=3, hidden_sizes=(16,), target_rate=0.25))
    with torch.no_grad():
        for weight in learner.agent.critic.parameters():
            weight.normal_()
    before = [weight.clone() for weight in learner.agent.critic_target.parameters()]
    state = learner.learning.generator.get_state()
    learner.step()
    for old, new, critic in zip(before, learner.agent.critic_target.parameters(), learner.agent.critic.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * critic)
    assert learner.progress.updates == 1
    assert not torch.equal(learner.learning.generator.get_state(), state)


def test_the_actors_rate_rises_with_its_updates(demonstrations, tmp_path):
    startup = StartupConfig(collect_steps=0, critic_updates=2, ramp_updates=4)
    learner, rates = learner_for(demonstrations, tmp_path, startup=startup, policy_delay=1), []
    actor = learner.learning.optimizers._adams["actor"]
    for _ in range(8):
        learner.step()
        rates.append(actor.lr / learner.config.actor.lr if actor.has_state else None)
    assert rates == pytest.approx([None, None, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_a_schedule_holds_for_all_networks(demonstrations, tmp_path):
    learner = learner_for(
        demonstrations, tmp_path, startup=StartupConfig(collect_steps=0, critic_updates=0, ramp_updates=0), policy_delay=1,
        lr_schedule="cosine", lr_decay_updates=4,
    )  # fmt: skip
    for factor in (1.0, 0.8535534, 0.5, 0.1464466):
        learner.step()
        for name in ("critic", "actor", "temperature"):
            adam = learner.learning.optimizers._adams[name]
            assert adam.lr == pytest.approx(factor * getattr(learner.config, name).lr)


def test_the_critics_view_of_the_edit_is_asked_for_when_a_row_is_due(demonstrations, tmp_path):
    learner = learner_for(demonstrations, tmp_path, metrics_period_s=1e-9)
    assert "edit_advantage" in learner.step()[1]
    learner.config.metrics_period_s = 3600.0
    learner.step()
    assert "edit_advantage" not in learner.metrics_log._averages.read()


def test_an_episode_is_judged_by_the_phase_in_which_it_came(demonstrations, tmp_path):
    """The last episode of the start-up ends it, and still is ACT's: without it the alarm's yardstick would lack one."""
    learner = learner_for(
        demonstrations, tmp_path, Episodes(0), startup=StartupConfig(collect_steps=16, critic_updates=0),
        online=OnlineConfig(repo_id="local/here", root=str(tmp_path / "never")),
    )  # fmt: skip
    source = Episodes(3)
    for _ in range(3):
        learner._take(source, 0.0)
    assert learner.progress.phase.value == "actor"
    assert (learner.watch._startup.trials, len(learner.watch._recent)) == (2, 1)


@pytest.mark.parametrize("learnt", [False, True])
def test_a_trained_checkpoint_that_goes_on_is_not_called_act(demonstrations, tmp_path, caplog, learnt):
    caplog.set_level(logging.INFO)
    learner = learner_for(
        demonstrations, tmp_path, Episodes(0), startup=StartupConfig(collect_steps=8, critic_updates=0),
        online=OnlineConfig(repo_id="local/here", root=str(tmp_path / "never")),
    )  # fmt: skip
    with torch.no_grad():
        learner.agent.actor.head.weight.zero_()
        learner.agent.actor.head.bias.fill_(float(learnt))
    learner._take(Episodes(1), 0.0)
    expected = (
        "The same policy, exploring, before learning: success in 1 of 1"
        if learnt
        else "ACT with small edits, before learning: success in 1 of 1"
    )
    assert expected in caplog.text


def test_actions_outside_the_box_are_learnt_from_as_its_edge(demonstrations, tmp_path):
    learner = learner_for(demonstrations, tmp_path)
    recording = make_recording(8, **ALONE)
    episode = cache_features(learner.agent, replace(recording, action=recording.action + 1e4), 64)
    assert torch.equal(episode.kept["action"], torch.ones_like(episode.action))
