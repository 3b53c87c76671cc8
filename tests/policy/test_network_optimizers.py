"""Each network's optimizer against ``torch.optim.Adam``; what is not finite moves nothing; the table says who is who."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_policy import small_agent, small_config
from torch import nn

from lerobot_serl.policy.network_optimizers import NetworkOptimizers
from lerobot_serl.policy.network_table import Network, NetworkTable
from lerobot_serl.policy.parts import ActorConfig, CriticConfig, TemperatureConfig

RATES = {"critic": 3e-2, "actor": 1e-2, "temperature": 1e-3}
SHAPES = {"critic": [(4, 3), (3,)], "actor": [(5,)], "temperature": [()]}


class Nets(nn.Module):
    """Three networks of a few numbers, and one that does not learn."""

    def __init__(self, limit=0.0, weight_decay=0.0, rate_factor=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.critic = nn.ParameterList([torch.randn(shape, generator=generator) for shape in SHAPES["critic"]])
        self.actor = nn.ParameterList([torch.randn(shape, generator=generator) for shape in SHAPES["actor"]])
        self.temperature = nn.Parameter(torch.randn((), generator=generator))
        self.register_buffer("fixed", torch.ones(2))
        self.slow = nn.ParameterList([torch.ones(2)]).requires_grad_(False)
        kinds = {"critic": CriticConfig, "actor": ActorConfig, "temperature": TemperatureConfig}
        settings = {name: kind(lr=RATES[name] * rate_factor, grad_clip_norm=limit) for name, kind in kinds.items()}
        settings["critic"].weight_decay = weight_decay
        self.table = NetworkTable(
            self,
            {
                "critic": Network(("critic",), settings["critic"]),
                "slow": Network(("slow",), on_robot=False),
                "actor": Network(("actor",), settings["actor"]),
                "temperature": Network(("temperature",), settings["temperature"], on_robot=False, restored=False),
            },
        )
        self.optimizers = NetworkOptimizers(self.table)

    def step(self, taking_part, seed, size=1.0, spoil=None, takes_part=None, **scales):
        """One step on a loss whose gradients are random numbers."""
        generator, loss = torch.Generator().manual_seed(seed), torch.zeros(())
        for name in sorted(taking_part):
            for parameter in self.table.parameters(name):
                gradient = size * torch.randn(parameter.shape, generator=generator)
                if name == spoil:
                    gradient.view(-1)[0] = torch.nan
                loss = loss + (gradient * parameter).sum()
        terms = {"loss": torch.zeros(())}
        return self.optimizers.step(loss, terms, scales, takes_part)

    def numbers(self):
        return [value.clone() for value in (*self.state_dict().values(), *self.optimizers.state_dict().values())]


def same(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    plan=st.lists(
        st.tuples(st.sets(st.sampled_from(sorted(SHAPES)), min_size=1), st.floats(0, 2), st.floats(0.01, 20)), min_size=1, max_size=8
    ),
    limit=st.sampled_from([0.0, 0.5, 10.0]),
    weight_decay=st.sampled_from([0.0, 0.1]),
)
def test_each_network_equals_an_adam_of_its_own(plan, limit, weight_decay):
    """Networks take part in any pattern, with any learning-rate scale and gradient size."""
    ours, theirs = Nets(limit, weight_decay), Nets()
    decays = {"critic": weight_decay}
    oracles = {name: torch.optim.AdamW(theirs.table.parameters(name), RATES[name], weight_decay=decays.get(name, 0)) for name in RATES}
    for seed, (taking_part, scale, size) in enumerate(plan):
        norms = ours.step(taking_part, seed, size, **dict.fromkeys(RATES, scale))
        generator = torch.Generator().manual_seed(seed)
        for name in sorted(taking_part):
            parameters = theirs.table.parameters(name)
            for parameter in parameters:
                parameter.grad = size * torch.randn(parameter.shape, generator=generator)
            norm = torch.nn.utils.clip_grad_norm_(parameters, limit or float("inf"))
            assert norms[f"{name}_grad_norm"].item() == pytest.approx(norm.item())
            oracles[name].param_groups[0]["lr"] = RATES[name] * scale
            oracles[name].step()
        assert norms.keys() == {f"{name}_grad_norm" for name in taking_part}
    for name in RATES:
        for one, other in zip(ours.table.parameters(name), theirs.table.parameters(name), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
            assert one.grad is None


def test_a_network_without_gradient_stays_also_after_momentum():
    nets = Nets()
    nets.step(RATES, 0)
    before = [value.detach().clone() for value in nets.actor]
    for seed in range(3):
        nets.step({"critic"}, seed)
    assert same(before, list(nets.actor))


def test_a_network_that_does_not_take_part_stays_with_its_momentum():
    nets, other = Nets(), Nets()
    nets.step(RATES, 0), other.step(RATES, 0)
    nets.step(RATES, 1, takes_part={"actor": torch.tensor(False), "critic": torch.tensor(True)})
    other.step({"critic", "temperature"}, 1)
    state, expected = nets.optimizers.state_dict(), other.optimizers.state_dict()
    assert same([state["actor.0.exp_avg"], state["actor.0.step"]], [expected["actor.0.exp_avg"], expected["actor.0.step"]])
    assert nets.optimizers.skipped == 0
    nets.step({"actor"}, 2, takes_part={"actor": torch.tensor(True)})
    assert nets.optimizers.state_dict()["actor.0.step"] == 2


@pytest.mark.parametrize("spoilt", ["actor", "critic"])
def test_what_is_not_finite_moves_nothing_in_any_network_and_is_named(spoilt):
    nets = Nets(limit=1.0)
    nets.step(RATES, 0)
    before = nets.numbers()
    nets.step(RATES, 1, spoil=spoilt)
    nets.step({"critic", spoilt}, 2, spoil=spoilt)
    assert same(nets.numbers(), before)
    assert (nets.optimizers.skipped, nets.optimizers.in_a_row) == (2, 2)
    assert nets.optimizers.take_bad_terms() == [f"gradient of {spoilt}"]
    assert nets.optimizers.take_bad_terms() == []
    nets.step({"critic"}, 3)
    assert (nets.optimizers.skipped, nets.optimizers.in_a_row) == (2, 0)
    assert not same(nets.numbers(), before)


def test_a_loss_is_named_before_the_gradients_that_it_spoils():
    nets = Nets()
    loss = nets.temperature * torch.nan
    nets.optimizers.step(loss, {"critic_loss": torch.zeros(()), "actor_loss": loss}, {})
    assert nets.optimizers.take_bad_terms() == ["actor_loss"]


def test_networks_that_forget_step_like_fresh_ones():
    used, fresh = Nets(), Nets()
    for seed in range(3):
        used.step(RATES, seed)
    used.load_state_dict(fresh.state_dict())
    used.optimizers.forget()
    for seed in range(3, 6):
        used.step(RATES, seed), fresh.step(RATES, seed)
    assert same(used.numbers(), fresh.numbers())


def test_the_state_goes_on_under_this_runs_own_rates():
    nets, resumed = Nets(limit=5.0), Nets(limit=2.0, rate_factor=0.5)
    for seed in range(3):
        nets.step({"critic", "temperature"} if seed else RATES, seed)
    resumed.load_state_dict(nets.state_dict())
    resumed.optimizers.load_state_dict({name: value.clone() for name, value in nets.optimizers.state_dict().items()})
    assert same(resumed.numbers(), nets.numbers())
    resumed.step(RATES, 4), nets.step(RATES, 4, **dict.fromkeys(RATES, 0.5))
    moved = [(value - other).abs().max() for value, other in zip(resumed.actor, nets.actor, strict=True)]
    assert max(moved) > 0  # another gradient limit
    assert resumed.optimizers._adams["actor"].lr == 0.5 * RATES["actor"]


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("critic.0.exp_avg", torch.zeros(3, 3), r"momentum critic.0.exp_avg has shape \(3, 3\), expected \(4, 3\)"),
        ("critic.7.exp_avg", torch.zeros(4, 3), "momentum of an unknown network: critic.7.exp_avg"),
        ("grasp.0.exp_avg", torch.zeros(4, 3), "momentum of an unknown network: grasp.0.exp_avg"),
        ("critic.0.other", torch.zeros(4, 3), "momentum of an unknown network: critic.0.other"),
    ],
)
def test_momentum_that_does_not_fit_is_named(name, tensor, words):
    with pytest.raises(ValueError, match=words):
        Nets().optimizers.load_state_dict({name: tensor})


def test_the_table_says_what_is_published_and_restored():
    nets = Nets()
    assert set(nets.table.published()) == {"critic.0", "critic.1", "actor.0"}
    assert set(nets.table.restored()) == {"critic.0", "critic.1", "slow.0", "actor.0"}
    assert set(nets.table.on_robot()) == {"critic.0", "critic.1", "actor.0", "fixed"}
    assert [nets.table.name_of(name) for name in ("critic.0", "slow.0", "fixed")] == ["critic", "slow", "fixed"]
    assert list(nets.table.learning) == list(RATES)


def test_every_tensor_that_learns_is_in_one_line_of_the_agents_table():
    agent = small_agent(small_config())
    learning = [id(parameter) for name in agent.networks.learning for parameter in agent.networks.parameters(name)]
    assert len(learning) == len(set(learning))
    assert set(learning) == {id(parameter) for parameter in agent.parameters() if parameter.requires_grad}
    never = {name.partition(".")[0] for name in agent.state_dict()} - {part.partition(".")[0] for part in agent.networks.restored()}
    assert never == {"act", "features", "box"}
    assert not any(name.startswith(("critic_target", "raw_temperature")) for name in agent.networks.on_robot())
