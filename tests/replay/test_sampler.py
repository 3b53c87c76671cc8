"""Which windows a batch holds: the numbers of before there was a sampler, weights, and nothing read back from a device."""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from test_memory import GAMMA, make_episode
from torch.utils._python_dispatch import TorchDispatchMode

from lerobot_serl import sac
from lerobot_serl.replay.batch import Batch
from lerobot_serl.replay.memory import ReplayMemory
from lerobot_serl.replay.sampler import Sampler, UniformSampler

HORIZON = 3
# Operators through which a device tells the host a number, or a shape that depends on numbers.
READ_BACKS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select")


class NoReadBack(TorchDispatchMode):
    """Fails where the host asks the device for a number."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in READ_BACKS, f"{function} reads back from the device"
        target = (kwargs or {}).get("device")
        to_host = name == "_to_copy" and target is not None and torch.device(target).type == "cpu"
        assert not (to_host and args[0].device.type != "cpu"), f"{function} copies to the host"
        return function(*args, **(kwargs or {}))


def with_images(episode, identity):
    count = len(episode) * 3 * 9 * 12
    images = {
        f"observation.images.{name}": ((torch.arange(count).view(-1, 3, 9, 12) * (7 + place) + identity) % 251).to(torch.uint8)
        for place, name in enumerate("ab")
    }
    return replace(episode, cached={**episode.cached, **images})


def filled(*identities, place="cpu", n_step=None):
    memory = ReplayMemory(60, HORIZON, GAMMA, n_step, torch.device(place))
    for identity in identities:
        end = ("terminated", "truncated", "data end")[identity % 3]
        memory.add(with_images(make_episode(identity, 5 + 3 * identity, end, HORIZON), identity))
    return memory


def uniform(place="cpu", demo_fraction=0.5, n_step=None):
    return UniformSampler(
        filled(1, 2, 3, 4, 5, 6, place=place, n_step=n_step), filled(7, 8, 9, place=place, n_step=n_step), 16, demo_fraction
    )


def checksum(image):
    return int((image.long().flatten() * (torch.arange(image.numel()) % 1009)).sum())


def test_the_default_draws_what_it_always_drew():
    """Numbers of the code of before memories could lie on a device (commit e2a8bbd): a seed still fixes a run."""
    generator = torch.Generator().manual_seed(11)
    batch = uniform().sample(generator)
    assert batch.features.flatten().int().tolist() == [
        6020, 5009, 5000, 5011, 5017, 5003, 6004, 6005, 9008, 9023, 9017, 9004, 9008, 9018, 9000, 9014,
    ]  # fmt: skip
    assert batch.next_features.flatten().int().tolist() == [
        6020, 5012, 5003, 5014, 5019, 5006, 6007, 6008, 9011, 9026, 9020, 9007, 9011, 9021, 9003, 9017,
    ]  # fmt: skip
    assert batch.length.tolist() == [3, 3, 3, 3, 2, *[3] * 11]
    sums = [column.double().sum().item() for column in (batch.reward, batch.discount, batch.chunk, batch.intervention)]
    assert sums == [30.806122958660126, 11.015998721122742, 335518.5, 15.0]
    assert [checksum(image) for image in batch.images.values()] == [300552012, 322939271]
    assert [checksum(image) for image in batch.next_images.values()] == [318361606, 321647233]
    assert torch.rand(1, generator=generator).item() == 0.15732699632644653


def test_demonstrations_have_their_share_and_the_memory_is_named():
    for fraction, count in ((0.0, 0), (0.25, 4), (0.5, 8)):
        batch = uniform(demo_fraction=fraction).sample(torch.Generator())
        assert batch.is_demo.tolist() == [False] * (16 - count) + [True] * count
        assert batch.weight.tolist() == [1.0] * 16
    alone = UniformSampler(ReplayMemory(10, HORIZON, GAMMA), filled(7), 16, 0.5).sample(torch.Generator())
    assert alone.is_demo.all()
    with pytest.raises(ValueError, match="empty"):
        UniformSampler(ReplayMemory(10, HORIZON, GAMMA), ReplayMemory(10, HORIZON, GAMMA), 16, 0.5).sample(torch.Generator())


@pytest.mark.parametrize("n_step", [None, 7])
@pytest.mark.parametrize("place", ["cpu", "meta"])
def test_drawing_reads_nothing_back(place, n_step):
    """Meta tensors have no numbers: whatever a sampler asked them for, also by numpy or tolist, would fail."""
    sampler = uniform(place, n_step=n_step)
    if place == "cpu":  # whose images have a path of their own, in host memory
        for memory in (sampler.robot, sampler.demonstrations):
            memory._columns = {name: column for name, column in memory._columns.items() if "images" not in name}
    with NoReadBack():
        batch = sampler.sample(torch.Generator().manual_seed(0))
    columns = [value for item in fields(Batch) if isinstance(value := getattr(batch, item.name), torch.Tensor)]
    assert {column.device.type for column in (*columns, *batch.images.values(), *batch.next_images.values())} == {place}
    shapes = {name: image.shape for name, image in batch.next_images.items()}
    assert set(shapes.values()) == ({(16, 3, 9, 12)} if place == "meta" else set())
    assert batch.chunk.shape == batch.next_base.shape == (16, HORIZON, 1)


ASKS = {
    "item": lambda x: x.sum().item(), "bool": lambda x: bool(x.any()), "mask": lambda x: x[x > 0], "list": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(), "copy": lambda x: x.to("cpu"),
}  # fmt: skip


@pytest.mark.parametrize("ask", ASKS)
def test_a_read_back_would_be_seen(ask):
    with pytest.raises((AssertionError, NotImplementedError, RuntimeError, TypeError)), NoReadBack():
        ASKS[ask](torch.ones(3, device="meta"))


@dataclass
class PreferringSampler:
    """Windows by preference: what a prioritised sampler needs of the memory and of the batch, in one class."""

    memory: ReplayMemory
    priority: torch.Tensor
    first_number: int = 0

    def sample(self, generator):
        chance = self.priority[self.first_number :][: len(self.memory)]
        index = torch.multinomial(chance, 256, replacement=True, generator=generator)
        batch = self.memory.windows(index, generator)
        weight = chance.sum() / len(chance) / chance[index]
        return Batch(**{item.name: getattr(batch, item.name) for item in fields(batch)} | {"weight": weight / weight.max()})


def test_another_sampler_is_one_class():
    memory = filled(7)
    priority = torch.full((len(memory),), 0.1)
    priority[3] = 1.0
    sampler: Sampler = PreferringSampler(memory, priority)
    batch = sampler.sample(torch.Generator().manual_seed(0))
    often = batch.index == 3
    assert often.float().mean() > 0.2
    assert batch.features[often].unique().item() == 7003
    assert batch.weight[often].unique().item() == pytest.approx(0.1)
    assert batch.weight[~often].unique().item() == 1.0
    error = torch.where(often, 1.0, 2.0)
    loss = sac.critic_loss(error.expand(2, -1), torch.zeros(256), batch.weight)
    assert loss.item() == pytest.approx((0.1 * often.sum() + 4 * (~often).sum()).item() / 256)


def test_a_number_names_a_transition_for_good():
    memory = ReplayMemory(25, HORIZON, GAMMA)
    for identity in range(1, 8):
        memory.add(make_episode(identity, 9, "terminated", HORIZON))
    batch = memory.windows(torch.arange(len(memory)), torch.Generator())
    assert memory.episodes == 2
    assert batch.index.tolist() == list(range(9 * 5, 9 * 7))
    assert batch.features.flatten().tolist() == [1000.0 * identity + t for identity in (6, 7) for t in range(9)]
