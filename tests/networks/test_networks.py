"""Critic ensemble, action box and features, against written-out references."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lerobot_serl.networks.action_normalizer import ActionNormalizer
from lerobot_serl.networks.critic import CriticEnsemble
from lerobot_serl.networks.edit_actor import EditActor, interpolation
from lerobot_serl.networks.fast_cpu import LEAST_ROWS
from lerobot_serl.networks.features import ObservationFeatures


def plain_critic(critic, member, features, chunk):
    """One member as an ordinary MLP with LayerNorm after each linear layer."""
    hidden = torch.cat([features, chunk.flatten(1)], -1)
    for layer in range(len(critic.weights)):
        hidden = hidden @ critic.weights[layer][member] + critic.biases[layer][member]
        hidden = F.relu(
            F.layer_norm(hidden, hidden.shape[-1:], critic.norm_weights[layer][member][0], critic.norm_biases[layer][member][0])
        )
    return (hidden @ critic.head_weight[member] + critic.head_bias[member]).squeeze(-1)


@pytest.fixture
def critic():
    torch.manual_seed(0)
    ensemble = CriticEnsemble(feature_size=7, action_size=6, hidden_sizes=(16, 12), members=3)
    with torch.no_grad():
        for parameter in ensemble.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return ensemble


BOTH_WAYS = pytest.mark.parametrize("rows", [5, LEAST_ROWS])


@BOTH_WAYS
def test_the_ensemble_equals_separate_networks(critic, rows):
    features, chunk = torch.randn(rows, 7), torch.randn(rows, 3, 2)
    expected = torch.stack([plain_critic(critic, i, features, chunk) for i in range(3)])
    torch.testing.assert_close(critic(features, chunk), expected, atol=1e-5, rtol=1e-5)


@BOTH_WAYS
def test_candidates_and_members_are_the_same_values(critic, rows):
    features, chunks = torch.randn(rows, 7), torch.randn(rows, 4, 3, 2)
    one_by_one = torch.stack([critic(features, chunks[:, c]) for c in range(4)], -1)
    together = critic(features, chunks)
    assert together.shape == (3, rows, 4)
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(critic(features, chunks, torch.tensor([2, 0])), together[[2, 0]], atol=1e-5, rtol=1e-5)


def test_members_begin_differently():
    q = CriticEnsemble(3, 4, (8,), 5)(torch.randn(6, 3), torch.randn(6, 2, 2))
    assert q.std(0).min() > 0


@BOTH_WAYS
def test_frozen_keeps_the_parameters_out_but_not_the_chunk(critic, rows):
    chunk = torch.randn(rows, 3, 2, requires_grad=True)
    critic(torch.randn(rows, 7), chunk, frozen=True).sum().backward()
    assert chunk.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0, 50)), min_size=1, max_size=6), st.floats(0, 1))
@example([(0.0, 1e-45)], 0.0)  # a range that a float32 holds, but not half of it
@example([(32.0, 1e-5)], 0.0)  # three numbers in 32 bits
def test_the_box_contains_the_demonstrations_and_maps_there_and_back(dimensions, margin):
    low = torch.tensor([a for a, _ in dimensions])
    high = torch.tensor([a + width for a, width in dimensions])
    box = ActionNormalizer(len(dimensions))
    box.set_from_range(low, high, margin, floor=0.02)
    assert box.normalize(low).min() >= -1 - 1e-4
    assert box.normalize(high).max() <= 1 + 1e-4
    inside = low + (high - low) * torch.rand(20, len(dimensions))
    error = (box.unnormalize(box.normalize(inside)) - inside).abs() / box.half_width
    assert error.max() <= 1e-4
    assert (box.half_width > 0).all()


def test_margin_and_floor_of_the_box():
    box = ActionNormalizer(2)
    box.set_from_range(torch.tensor([-1.0, 3.0]), torch.tensor([1.0, 3.0]), margin=0.2, floor=0.1)
    torch.testing.assert_close(box.half_width, torch.tensor([1.2, 0.12]))
    assert box.normalize(torch.tensor([1.0, 3.0]))[0].item() == pytest.approx(1 / 1.2)
    with pytest.raises(ValueError, match="min <= max"):
        box.set_from_range(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.2, 0.1)
    with pytest.raises(ValueError, match="must be finite"):
        box.set_from_range(torch.tensor([float("nan"), 0.0]), torch.ones(2), 0.2, 0.1)


def test_features_normalise_clamp_and_order():
    features = ObservationFeatures({"observation.state": 2}, pooled_sizes=(4, 3))
    features.set_statistics({"observation.state": {"mean": torch.tensor([1.0, 0.0]), "std": torch.tensor([2.0, 1e-9])}})
    pooled = torch.randn(3, 7)
    state = torch.tensor([[3.0, 0.0], [1.0, 1e6], [-1.0, 0.0]])
    out = features({"observation.state": state}, pooled)
    assert out.shape == (3, features.size) == (3, 9)
    torch.testing.assert_close(out[:, 0], torch.tensor([1.0, 0.0, -1.0]))
    assert out[1, 1] == 10.0  # a dimension that never moved in the demonstrations must not explode
    torch.testing.assert_close(out[:, 2:6], F.layer_norm(pooled[:, :4], (4,)))
    torch.testing.assert_close(out[:, 6:], F.layer_norm(pooled[:, 4:], (3,)))
    with pytest.raises(ValueError, match=r"'mean' and 'std' of 'observation.state' are missing"):
        features.set_statistics({})


@pytest.mark.parametrize(("fixed", "large", "small"), [(False, 0.6, 0.05), (True, 0.2, 0.2)])
def test_the_actors_deviation_stays_within_its_limits(fixed, large, small):
    actor = EditActor(7, 4, 2, 3, (16,), init_std=0.2, min_std=0.05, max_std=0.6, fixed_std=fixed)
    features, base = torch.randn(5, 7), torch.randn(5, 4, 3)
    for bias, expected in ((0.0, 0.2), (5.0, large), (-5.0, small)):
        with torch.no_grad():
            actor.head.bias.fill_(bias)
        torch.testing.assert_close(actor(features, base)[1], torch.full((5, 6), expected))


@given(st.integers(1, 6), st.integers(1, 12))
def test_steps_lie_between_their_knots(knots, steps):
    knots = min(knots, steps)
    weights = interpolation(knots, steps)
    assert weights.shape == (steps, knots)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(steps))
    assert ((weights > 1e-6).sum(-1) <= 2).all()
    if knots > 1:
        torch.testing.assert_close(weights[[0, -1]], torch.eye(knots)[[0, -1]])
    if knots == steps:
        torch.testing.assert_close(weights, torch.eye(steps))


def test_knots_follow_the_device_also_after_transformers_has_built_a_network(monkeypatch):
    """It puts another linspace in the place of PyTorch's for a while, and PyTorch remembers which functions make tensors when it is asked first."""
    remembered = torch.utils._device._device_constructors
    without = frozenset(remembered()) - {torch.linspace}
    monkeypatch.setattr(torch.utils._device, "_device_constructors", lambda: without)
    with torch.device("meta"):
        assert torch.linspace(0, 1, 3).device.type == "cpu"
        assert interpolation(3, 10).device.type == "meta"
