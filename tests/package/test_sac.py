"""``sac.py`` against SERL's JAX numbers and against brute force."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl import sac

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("serl_sac_case*.npz"))
RELATIVE = 1e-5


@pytest.fixture(params=GOLDEN, ids=[path.stem for path in GOLDEN])
def case(request):
    arrays = np.load(request.param)
    tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "meta"}
    return tensors, json.loads(bytes(arrays["meta"]).decode())


def close(actual, expected, relative=RELATIVE):
    torch.testing.assert_close(actual, expected, rtol=relative, atol=1e-6)


def test_golden_files_are_there():
    assert len(GOLDEN) == 3


def test_tanh_gaussian_matches_serl(case):
    arrays, _ = case
    action, log_prob = sac.tanh_gaussian(arrays["tanh_mean"], arrays["tanh_std"], arrays["tanh_noise"])
    close(action, arrays["tanh_action"])
    close(log_prob, arrays["tanh_log_prob"])
    close(arrays["tanh_mean"].tanh(), arrays["tanh_mode"])


def test_the_written_out_gradient_of_a_tanh_gaussian():
    generator = torch.Generator().manual_seed(0)
    mean, std, noise = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    assert torch.autograd.gradcheck(
        lambda mean, std: sac.tanh_gaussian(mean, std, noise), (mean.requires_grad_(), (0.1 + std.exp()).requires_grad_())
    )


def test_critic_target_and_loss_match_serl(case):
    arrays, meta = case
    target = sac.critic_target(
        arrays["rewards"],
        meta["discount"] * arrays["masks"],
        arrays["target_next_q"][arrays["subsample_index"].long()],
        backup_entropy="serl" if meta["backup_entropy"] else "none",
        temperature=arrays["temperature"],
        next_log_prob=arrays["next_log_prob"],
    )
    close(target.mean(), arrays["target_q_mean"])
    close(sac.critic_loss(arrays["predicted_q"], target), arrays["critic_loss"])
    assert torch.equal(
        sac.critic_loss(arrays["predicted_q"], target, torch.ones_like(target)), sac.critic_loss(arrays["predicted_q"], target)
    )


def test_actor_loss_matches_serl(case):
    arrays, _ = case
    close(sac.actor_loss(arrays["pi_q"], arrays["pi_log_prob"], arrays["temperature"]), arrays["actor_loss"])


def test_the_actors_loss_leaves_the_temperature_alone():
    temperature = torch.tensor(0.5, requires_grad=True)
    log_prob = torch.tensor([1.0, 3.0], requires_grad=True)
    loss = sac.actor_loss(torch.zeros(2, 2), log_prob, temperature)
    loss.backward()
    assert loss.item() == pytest.approx(1.0)
    assert log_prob.grad.tolist() == pytest.approx([0.25, 0.25])
    assert temperature.grad is None


def test_temperature_loss_and_gradient_match_serl(case):
    arrays, meta = case
    raw = arrays["temperature_raw"].clone().requires_grad_()
    loss = sac.temperature_loss(sac.temperature_of(raw), arrays["temperature_log_prob"], float(arrays["target_entropy"]))
    loss.backward()
    close(loss.detach(), arrays["temperature_loss"])
    close(raw.grad, arrays["temperature_raw_grad"])
    assert sac.raw_temperature_of(meta["temperature_init"]) == pytest.approx(float(arrays["temperature_raw"]), rel=1e-5)


def test_update_target_matches_serl(case):
    arrays, meta = case
    target = arrays["target_param"].clone()
    sac.update_target([target], [arrays["online_param"]], meta["soft_target_update_rate"])
    close(target, arrays["target_param_after"])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_window_return_against_a_loop(data):
    horizon = data.draw(st.integers(1, 6))
    length = data.draw(st.integers(1, horizon))
    discount = data.draw(st.floats(0.1, 1.0))
    rewards = data.draw(st.lists(st.floats(-2, 2), min_size=horizon, max_size=horizon))
    total = sum(discount**k * rewards[k] for k in range(length))
    value, factor = sac.window_return(torch.tensor([rewards]), torch.tensor([length]), discount)
    assert value.item() == pytest.approx(total, abs=1e-4)
    assert factor.item() == pytest.approx(discount**length, rel=1e-4)


def test_soft_backup_keeps_discount_and_mask():
    reward, discount = torch.zeros(2), torch.tensor([0.9, 0.0])
    target = sac.critic_target(
        reward, discount, torch.ones(2, 2), backup_entropy="soft", temperature=0.5, next_log_prob=torch.full((2,), 2.0)
    )
    assert target.tolist() == pytest.approx([0.9 * (1 - 0.5 * 2.0), 0.0])


def test_target_is_clipped_to_the_reachable_range_and_has_no_gradient():
    next_q = torch.tensor([[5.0, -3.0]], requires_grad=True)
    target = sac.critic_target(torch.zeros(2), torch.ones(2), next_q, value_range=(0.0, 1.0))
    assert target.tolist() == [1.0, 0.0]
    assert not target.requires_grad


def test_choose_candidate_needs_agreement():
    # Candidate 1 is better on average, but the critics disagree; candidate 2 is a little better for every critic.
    q = torch.tensor([[[0.5, 1.5, 0.6]], [[0.5, -0.1, 0.6]]])
    assert sac.choose_candidate(q, margin=0.0).item() == 1
    assert sac.choose_candidate(q, margin=1.0).item() == 2
    assert sac.choose_candidate(q[..., :2], margin=1.0).item() == 0


def test_edit_chunk_is_bounded():
    base, edit = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    assert sac.edit_chunk(base, edit, 0.2).max() == pytest.approx(0.2)
    assert sac.edit_chunk(base + 0.95, edit, 0.2).max() == 1.0


@pytest.mark.parametrize("std", [0.05, 0.2, 0.6, 1.5])
def test_entropy_against_sampling(std):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(400_000, 1, generator=generator)
    _, log_prob = sac.tanh_gaussian(torch.zeros_like(noise), torch.full_like(noise, std), noise)
    assert sac.entropy_of_tanh_gaussian(std) == pytest.approx(-log_prob.mean().item(), abs=0.01)


def test_log_probability_stays_finite_far_out():
    _, log_prob = sac.tanh_gaussian(torch.tensor([[30.0]]), torch.tensor([[0.1]]), torch.tensor([[0.0]]))
    assert math.isfinite(log_prob.item())


def test_the_score_of_an_edit_is_its_sure_advantage():
    q = torch.tensor([[[0.1, 0.3, 0.2]], [[0.5, 0.5, 0.9]]])  # two critics, one observation, three candidates
    advantage = torch.tensor([[0.0, 0.2, 0.1], [0.0, 0.0, 0.4]])
    expected = advantage.mean(0) - 2.0 * advantage.std(0, correction=0)
    torch.testing.assert_close(sac.advantage_score(q, 2.0)[0], expected, atol=1e-5, rtol=0)


def test_where_all_critics_agree_the_score_has_a_finite_gradient():
    q = torch.tensor([[[0.1, 0.4]], [[0.1, 0.4]]], requires_grad=True)
    sac.advantage_score(q, 1.0).sum().backward()
    assert q.grad.isfinite().all()
