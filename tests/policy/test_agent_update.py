"""One update: nothing is read back from the device, and its state goes on from a checkpoint's own file."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_data import make_recording
from small_policy import small_agent, small_config
from torch.utils._python_dispatch import TorchDispatchMode

from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.checkpoint_files import LEARNER_STATE
from lerobot_serl.policy.parts import CorrectorConfig, CriticConfig, StartupConfig
from lerobot_serl.policy.progress import Progress

READS = ("aten._local_scalar_dense", "aten.item", "aten.is_nonzero", "aten.equal", "aten.nonzero", "aten.masked_select", "aten.allclose")


class ReadBacks(TorchDispatchMode):
    """Counts the operations for which the host has to wait for the device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if str(function).startswith(READS):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.fixture
def learner(demonstrations, tmp_path):
    config = small_config(
        metrics_dir=str(tmp_path), metrics_period_s=3600.0, batch_size=32, policy_delay=1,
        startup=StartupConfig(collect_steps=0, critic_updates=0), critic=CriticConfig(members=3, hidden_sizes=(16,)),
        corrector=CorrectorConfig(least_takeovers=1, hidden_sizes=(16,)),
    )  # fmt: skip
    learner = Learner(small_agent(config), config, Progress(config), demonstrations.meta)
    learner.remember(cache_features(learner.agent, make_recording(20, intervention=torch.arange(20) > 12), 64))
    return learner


def test_no_number_is_read_back_within_an_update(learner):
    learner.step()  # the first one may look whether networks have learnt before
    with ReadBacks() as reads:
        for _ in range(3):
            metrics = learner.agent.update(learner._sample())
            learner.metrics_log.collect(metrics)
    assert reads.found == []
    assert {"critic_loss", "actor_loss", "corrector_loss", "critic_grad_norm"} <= metrics.keys()
    assert all(isinstance(value, torch.Tensor) and value.shape == () for value in metrics.values())


def test_every_fourth_update_tells_more_than_its_losses(learner):
    told = []
    for _ in range(9):
        learner.step()
        told.append(dict(learner.metrics_log._averages.read()))
    assert all({"target_q", "actor_loss", "temperature", "actor_grad_norm"} <= row.keys() for row in told[1:])
    # The first one's row is written at once.
    for name in ("q_data", "q_std", "reward_share", "q_edit", "edit_rms", "edit_saturation", "sigma", "entropy"):
        assert [index for index, row in enumerate(told) if name in row] == [4, 8]


def test_with_a_delay_the_actor_is_in_the_updates_that_tell_more(learner):
    learner.config.policy_delay = 3
    told = []
    for _ in range(24):
        learner.step()
        told.append(learner.metrics_log._averages.read())
    assert [index for index, row in enumerate(told) if "q_data" in row] == [1, 2, 12, 13, 14]
    assert [index for index, row in enumerate(told) if "sigma" in row] == [12]


def test_the_mode_counts_read_backs():
    """What the test above rests on."""
    with ReadBacks() as reads:
        number = torch.rand(4).sum()
        assert bool(number > -1)
        float(number), number.item(), int(number)
    assert len(reads.found) == 4


def test_corrector_and_actor_are_known_to_have_learnt_without_a_look(learner):
    fresh = small_agent(learner.config)
    with torch.no_grad():
        for part in (learner.agent.actor, learner.agent.corrector, fresh.actor, fresh.corrector):
            part.head.weight.zero_(), part.head.bias.zero_()
    assert learner.agent.is_act
    learner.step()
    with ReadBacks() as reads:
        assert learner.agent.actor.has_learnt
        assert learner.agent.corrector.has_learnt
    assert reads.found == []
    fresh.load_state_dict(learner.agent.state_dict())
    assert not fresh.is_act
    assert fresh.corrector.has_learnt


def test_learning_goes_on_from_its_file_bit_by_bit(learner, tmp_path, demonstrations):
    for _ in range(3):
        learner.step()
    learner.learning.save(tmp_path / "checkpoint")
    config = small_config(
        **{name: getattr(learner.config, name) for name in ("startup", "critic", "corrector", "batch_size", "policy_delay")}
    )
    config.metrics_dir = str(tmp_path / "other")
    other = Learner(small_agent(config, seed=1), config, Progress(config), demonstrations.meta)
    other.remember(cache_features(learner.agent, make_recording(20, intervention=torch.arange(20) > 12), 64))
    other.agent.load_state_dict(learner.agent.state_dict())
    other.learning.load(tmp_path / "checkpoint")
    other.online, other.demonstrations, other.sampler = learner.online, learner.demonstrations, learner.sampler
    assert other.progress.counters() == learner.progress.counters()
    for _ in range(3):
        learner.step(), other.step()
    for name, value in learner.agent.state_dict().items():
        assert torch.equal(value, other.agent.state_dict()[name]), name


def rewritten(change):
    def damage(path):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        change(tensors, metadata)
        save_file(tensors, path, metadata=metadata)

    return damage


DAMAGES = {
    "missing": (lambda path: path.unlink(), "cannot be read"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot be read"),
    "no counters": (rewritten(lambda tensors, metadata: metadata.clear()), "cannot be read"),
    "text for a counter": (rewritten(lambda tensors, metadata: metadata.update(counters='{"updates": "3"}')), "its counters are no whole numbers"),
    "no generator": (rewritten(lambda tensors, metadata: tensors.pop("generator")), "generator"),
    "another network": (
        rewritten(lambda tensors, metadata: tensors.update({"optimizer.grasp.0.exp_avg": torch.zeros(3)})), "unknown network: grasp.0.exp_avg",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_state_is_named_with_a_way_on(learner, tmp_path, name):
    learner.step()
    learner.learning.save(tmp_path)
    damage, words = DAMAGES[name]
    path = tmp_path / "training_state" / LEARNER_STATE
    damage(path)
    with pytest.raises(ValueError, match=words) as caught:
        learner.learning.load(tmp_path)
    assert str(path) in str(caught.value)
    assert f"--policy.path={tmp_path / 'pretrained_model'}" in str(caught.value)


def test_counters_that_an_earlier_release_did_not_have_are_zero(learner, tmp_path):
    learner.step()
    learner.learning.save(tmp_path)
    rewritten(lambda tensors, metadata: metadata.update(counters=json.dumps({"updates": 7})))(tmp_path / "training_state" / LEARNER_STATE)
    learner.learning.load(tmp_path)
    assert learner.progress.counters() == dict.fromkeys(learner.progress.counters(), 0) | {"updates": 7}
