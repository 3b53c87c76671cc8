"""The optimizer against ``torch.optim.Adam``, one oracle for each group."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.optim.optimizers import load_optimizer_state, save_optimizer_state

from lerobot_serl.policy.optimizer import GroupControl, PerNetworkAdam, PerNetworkAdamConfig

RATES = {"critic": 3e-2, "actor": 1e-2, "temperature": 1e-3}
SHAPES = {"critic": [(4, 3), (3,)], "actor": [(5,)], "temperature": [()]}


def networks(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes] for name, shapes in SHAPES.items()}


def optimizer_of(parameters, limit=0.0):
    controls = {name: GroupControl() for name in parameters}
    groups = [
        {"params": values, "lr": RATES[name], "name": name, "max_grad_norm": limit, "control": controls[name]}
        for name, values in parameters.items()
    ]
    return PerNetworkAdamConfig().build(groups), controls


def set_gradients(parameters, generator, size=1.0):
    for parameter in parameters:
        parameter.grad = size * torch.randn(parameter.shape, generator=generator)


def assert_same(one, two):
    for name in one:
        for a, b in zip(one[name], two[name], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    plan=st.lists(
        st.tuples(st.sets(st.sampled_from(sorted(SHAPES))), st.floats(0, 2), st.floats(0.01, 20)),
        min_size=1,
        max_size=8,
    ),
    limit=st.sampled_from([0.0, 0.5, 10.0]),
)
def test_each_group_equals_an_adam_of_its_own(plan, limit):
    """Groups take part in any pattern, with any learning-rate scale and gradient size."""
    ours, theirs = networks(), networks()
    optimizer, controls = optimizer_of(ours, limit)
    oracles = {name: torch.optim.Adam(theirs[name], lr=RATES[name], fused=True) for name in theirs}
    for step, (taking_part, scale, size) in enumerate(plan):
        optimizer.zero_grad(set_to_none=True)
        for name, oracle in oracles.items():
            oracle.zero_grad(set_to_none=True)
            controls[name].lr_scale = scale
            if name in taking_part:
                set_gradients(ours[name], torch.Generator().manual_seed(step), size)
                set_gradients(theirs[name], torch.Generator().manual_seed(step), size)
                torch.nn.utils.clip_grad_norm_(theirs[name], limit or float("inf"))
                oracle.param_groups[0]["lr"] = RATES[name] * scale
                oracle.step()
        optimizer.step()
        for name in taking_part:
            expected = torch.cat([p.grad.flatten() for p in theirs[name]]).norm()
            actual = torch.cat([p.grad.flatten() for p in ours[name]]).norm()
            assert actual.item() == pytest.approx(expected.item())
    assert_same(ours, theirs)
    assert [group["lr"] for group in optimizer.param_groups] == list(RATES.values())


def test_a_group_without_gradient_stays_also_after_momentum():
    parameters = networks()
    optimizer, controls = optimizer_of(parameters)
    generator = torch.Generator().manual_seed(0)
    for values in parameters.values():
        set_gradients(values, generator)
    optimizer.step()
    before = [value.detach().clone() for value in parameters["actor"]]
    norm = controls["actor"].grad_norm
    for _ in range(3):
        optimizer.zero_grad()
        set_gradients(parameters["critic"], generator)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, parameters["actor"], strict=True))
    assert controls["actor"].grad_norm == norm


def test_each_group_is_clipped_on_its_own_and_says_its_norm():
    parameters = {"critic": [torch.zeros(4, requires_grad=True)], "actor": [torch.zeros(1, requires_grad=True)]}
    optimizer, controls = optimizer_of(parameters, limit=2.0)
    parameters["critic"][0].grad = torch.full((4,), 50.0)
    parameters["actor"][0].grad = torch.full((1,), 1.0)
    optimizer.step()
    assert controls["critic"].grad_norm == pytest.approx(100.0)
    assert controls["actor"].grad_norm == pytest.approx(1.0)
    assert parameters["critic"][0].grad.norm().item() == pytest.approx(2.0, rel=1e-4)
    assert parameters["actor"][0].grad.item() == 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing_in_any_group(value):
    parameters = networks()
    optimizer, controls = optimizer_of(parameters, limit=1.0)
    generator = torch.Generator().manual_seed(0)
    for values in parameters.values():
        set_gradients(values, generator)
    optimizer.step()
    weights = {name: [v.detach().clone() for v in values] for name, values in parameters.items()}
    momentum = [v.clone() for state in optimizer.state.values() for v in state.values()]
    norms = {name: control.grad_norm for name, control in controls.items()}
    for values in parameters.values():
        set_gradients(values, generator)
    parameters["actor"][0].grad[2] = value
    optimizer.step()
    assert_same(parameters, weights)
    assert all(torch.equal(a, b) for a, b in zip(momentum, [v for s in optimizer.state.values() for v in s.values()], strict=True))
    assert [name for name, control in controls.items() if control.bad_gradient] == ["actor"]
    assert {name: control.grad_norm for name, control in controls.items()} == norms
    optimizer.zero_grad()
    set_gradients(parameters["critic"], generator)
    optimizer.step()
    assert not any(control.bad_gradient for control in controls.values())
    assert not torch.equal(parameters["critic"][0], weights["critic"][0])


def test_a_group_that_forgets_steps_like_a_fresh_one():
    used, fresh = networks(), networks()
    optimizer, controls = optimizer_of(used)
    for step in range(3):
        for values in used.values():
            set_gradients(values, torch.Generator().manual_seed(step))
        optimizer.step()
    for name, values in used.items():
        for target, source in zip(values, fresh[name], strict=True):
            target.data.copy_(source.data)
    for control in controls.values():
        control.forget = True
    other, _ = optimizer_of(fresh)
    for parameters, one in ((used, optimizer), (fresh, other)):
        for step in range(3, 6):
            for values in parameters.values():
                set_gradients(values, torch.Generator().manual_seed(step))
            one.step()
    assert_same(used, fresh)


def test_the_learning_rate_is_restored_also_after_an_error():
    parameters = networks()
    optimizer, controls = optimizer_of(parameters)
    controls["actor"].lr_scale = 0.125
    for values in parameters.values():
        set_gradients(values, torch.Generator().manual_seed(0))

    def broken():
        assert optimizer.param_groups[1]["lr"] == RATES["actor"] * 0.125
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        optimizer.step(broken)
    assert [group["lr"] for group in optimizer.param_groups] == list(RATES.values())


def test_scale_zero_holds_the_network_but_gathers_momentum():
    parameters = networks()
    optimizer, controls = optimizer_of(parameters)
    controls["actor"].lr_scale = 0.0
    before = parameters["actor"][0].detach().clone()
    set_gradients(parameters["actor"], torch.Generator().manual_seed(0))
    optimizer.step()
    assert torch.equal(parameters["actor"][0], before)
    assert optimizer.state[parameters["actor"][0]]["exp_avg"].abs().sum() > 0


def test_lerobot_saves_and_loads_the_state(tmp_path):
    """The file holds names and limits, not the controls; training goes on as if nothing had happened."""
    ours, reloaded = networks(), networks()
    optimizer, _ = optimizer_of(ours, limit=5.0)
    for step in range(3):
        optimizer.zero_grad()
        for name in ("critic", "temperature") if step else SHAPES:
            set_gradients(ours[name], torch.Generator().manual_seed(step))
        optimizer.step()
    save_optimizer_state(optimizer, tmp_path)
    for name, values in ours.items():
        for target, source in zip(reloaded[name], values, strict=True):
            target.data.copy_(source.data)
    second, controls = optimizer_of(reloaded, limit=5.0)
    assert load_optimizer_state(second, tmp_path) is second
    assert [group["name"] for group in second.param_groups] == list(SHAPES)
    assert [group["max_grad_norm"] for group in second.param_groups] == [5.0] * 3
    assert all("control" not in group for group in second.param_groups)
    controls["actor"].lr_scale = 0.5
    optimizer.controls[1].lr_scale = 0.5
    for step in range(3, 6):
        for parameters, one in ((ours, optimizer), (reloaded, second)):
            one.zero_grad()
            for values in parameters.values():
                set_gradients(values, torch.Generator().manual_seed(step))
            one.step()
    assert_same(ours, reloaded)


def test_a_fresh_optimizer_can_be_saved(tmp_path):
    optimizer, _ = optimizer_of(networks())
    save_optimizer_state(optimizer, tmp_path)
    second, _ = optimizer_of(networks())
    load_optimizer_state(second, tmp_path)
    assert [group["lr"] for group in second.param_groups] == list(RATES.values())


def test_it_is_registered_with_lerobot():
    assert PerNetworkAdamConfig().type == "per_network_adam"
    assert PerNetworkAdamConfig().grad_clip_norm == 0.0
    optimizer, _ = optimizer_of(networks())
    assert isinstance(optimizer, PerNetworkAdam)
    assert isinstance(optimizer, torch.optim.Adam)


def test_a_resumed_run_may_change_learning_rates_and_limits(tmp_path):
    """LeRobot restores the optimizer with the groups of the run before."""
    optimizer, _ = optimizer_of(networks(), limit=1.0)
    save_optimizer_state(optimizer, tmp_path)
    resumed, _ = optimizer_of(networks(), limit=2.0)
    for group in resumed.param_groups:
        group["lr"] *= 0.1
    resumed = load_optimizer_state(resumed, tmp_path)
    assert [group["lr"] for group in resumed.param_groups] == pytest.approx([0.1 * rate for rate in RATES.values()])
    assert {group["max_grad_norm"] for group in resumed.param_groups} == {2.0}
