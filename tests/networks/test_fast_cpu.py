"""MLPs on a CPU with written-out gradients, against PyTorch's own; and products by oneDNN, also on processors where it would not be chosen."""

import copy
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl import sac
from lerobot_serl.networks import edit_gradients, fast_cpu
from lerobot_serl.networks.corrector import Corrector
from lerobot_serl.networks.critic import CriticEnsemble
from lerobot_serl.networks.edit_actor import EditActor
from lerobot_serl.networks.fast_cpu import LEAST_MULTIPLICATIONS, LEAST_ROWS, product

DECIDED = fast_cpu.ONE_DNN_IS_FASTER
LARGE, SMALL = (256, 128, 96), (3, 128, 96)
ACTIVATIONS = {"relu": torch.relu, "silu": F.silu, "tanh": torch.tanh}
needs_one_dnn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
one_and_two_candidates = pytest.mark.parametrize("candidates", [1, 2])


@pytest.fixture(scope="module", autouse=True)
def chosen():
    """oneDNN, wherever there is one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_cpu, "ONE_DNN_IS_FASTER", torch.backends.mkldnn.is_available())
        yield


def layers_of(sizes, members=None, dtype=torch.float64):
    """Weight, bias, LayerNorm's weight and bias of each hidden layer, weight and bias of the last; of several networks with a dimension in front."""
    front = () if members is None else (members,)
    generator, layers = torch.Generator().manual_seed(0), []
    for fan_in, fan_out in pairwise(sizes):
        shapes = [(fan_in, fan_out), *[(fan_out,)] * (1 if fan_out == sizes[-1] else 3)]
        layers.extend(0.5 * torch.randn(*front, *shape, generator=generator, dtype=dtype) for shape in shapes)
    return [layer.requires_grad_() for layer in layers]


def inputs_of(candidates=1, rows=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, 3, generator=generator, dtype=dtype)
    return features, torch.randn(rows * candidates, 2, generator=generator, dtype=dtype)


def plainly(activation, features, chunk, layers):
    """The MLP in PyTorch's own operations."""
    hidden = torch.cat([features.repeat_interleave(len(chunk) // len(features), 0), chunk], dim=-1)
    for weight, bias, scale, shift in zip(*(layers[i:-2:4] for i in range(4)), strict=True):
        hidden = ACTIVATIONS[activation](F.layer_norm(hidden @ weight + bias, scale.shape, scale, shift))
    return hidden @ layers[-2] + layers[-1]


@each_activation
@one_and_two_candidates
def test_the_gradient_of_one_network(activation, candidates):
    inputs, layers = [tensor.requires_grad_() for tensor in inputs_of(candidates)], layers_of((5, 6, 4, 3))

    def outputs(features, chunk, *layers):
        return fast_cpu.mlp(fast_cpu.Networks(activation, layers), features, chunk)

    torch.testing.assert_close(outputs(*inputs, *layers), plainly(activation, *inputs, layers))
    assert torch.autograd.gradcheck(outputs, (*inputs, *layers))


@each_activation
@one_and_two_candidates
def test_the_gradient_of_values_to_the_chunk(activation, candidates):
    features, chunk = inputs_of(candidates)
    layers = layers_of((5, 6, 4, 1), members=3)

    def outputs(chunk):
        return fast_cpu.values(fast_cpu.Networks(activation, layers), features, chunk, members=[2, 0])

    expected = torch.stack([plainly(activation, features, chunk, [layer[i] for layer in layers]).squeeze(-1) for i in (2, 0)])
    torch.testing.assert_close(outputs(chunk), expected)
    assert torch.autograd.gradcheck(outputs, (chunk.requires_grad_(),))


@each_activation
@pytest.mark.parametrize("contrast", [(1.0,), (-1.0, 1.0)])
def test_the_gradient_of_the_squared_error(activation, contrast):
    features, chunk = inputs_of(len(contrast))
    layers, target = layers_of((5, 6, 4, 1), members=3), torch.linspace(-1, 1, 5, dtype=torch.float64)

    wanted = [features.requires_grad_(), *layers]
    loss, values = fast_cpu.squared_error(fast_cpu.Networks(activation, layers), features, chunk, contrast, target)
    q = torch.stack([plainly(activation, features, chunk, [layer[i] for layer in layers]).view(5, -1) for i in range(3)])
    expected = sac.critic_loss(sum(factor * q[..., i] for i, factor in enumerate(contrast)), target)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(values, q.flatten(1).detach())
    pairs = zip(torch.autograd.grad(2.5 * loss, wanted, retain_graph=True), torch.autograd.grad(2.5 * expected, wanted), strict=True)
    for actual, other in pairs:
        torch.testing.assert_close(actual, other)
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


def test_the_gradient_of_an_edited_chunk():
    """Also where the box cuts it off."""
    generator = torch.Generator().manual_seed(0)
    base, edit, spread, scale = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 4, 2), (5, 6), (6, 8), (2,))
    )

    def chunk(edit):
        return edit_gradients.edited(base, edit, spread, scale)

    expected = sac.edit_chunk(base, (edit @ spread).view(5, 4, 2), scale)
    torch.testing.assert_close(chunk(edit), expected)
    assert 0 < (expected.abs() == 1).sum() < expected.numel()
    assert torch.autograd.gradcheck(chunk, (edit.requires_grad_(),))


def test_the_gradient_of_an_actors_gaussian():
    """Also where the limits of the deviation cut it off."""
    outputs = torch.linspace(-3, 3, 24, dtype=torch.float64).view(4, 6).requires_grad_()
    mean, std = edit_gradients.gaussian(outputs, -0.1, -1.0, 0.5)
    torch.testing.assert_close(mean, outputs[:, :3])
    torch.testing.assert_close(std, (outputs[:, 3:] - 0.1).clamp(-1.0, 0.5).exp())
    assert torch.autograd.gradcheck(lambda outputs: edit_gradients.gaussian(outputs, -0.1, -1.0, 0.5), (outputs,))


@pytest.fixture(params=["relu", "silu", "tanh"])
def critic(request):
    torch.manual_seed(0)
    made = CriticEnsemble(18, 8, (256, 256), 3, request.param)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def of_both_ways(network, loss_of, monkeypatch):
    """Loss and gradients, as they are on a CPU and as on any other device; both in 32 bits."""
    results = []
    for suits in (fast_cpu.suits, lambda chunk: False):
        monkeypatch.setattr(fast_cpu, "suits", suits)
        network.zero_grad()
        loss = loss_of(network)
        loss.backward()
        results.append([loss.detach(), *(parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None)])
    return results


def assert_equal(ones, others):
    assert len(ones) == len(others)
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=float(1e-5 * other.abs().max()))


@one_and_two_candidates
def test_the_critics_loss_is_that_of_other_devices(critic, candidates, monkeypatch):
    features, chunks = torch.randn(128, 18), torch.randn(128, candidates, 4, 2)
    chunk, contrast, target = (chunks[:, 0], (1.0,), torch.randn(128)) if candidates == 1 else (chunks, (-1.0, 1.0), 0.0)
    results = of_both_ways(critic, lambda network: 3.0 * network.squared_error(features, chunk, target, contrast)[0], monkeypatch)
    assert_equal(*results)
    assert len(results[0]) == 1 + len(list(critic.parameters()))


def test_a_frozen_critics_slope_is_that_of_other_devices(critic, monkeypatch):
    features, chunk = torch.randn(128, 18), torch.nn.Parameter(torch.randn(128, 4, 2))
    holder = torch.nn.ParameterList([chunk])
    assert_equal(*of_both_ways(holder, lambda _: critic(features, chunk, frozen=True).square().mean(), monkeypatch))
    assert all(parameter.grad is None for parameter in critic.parameters())


@each_activation
def test_the_actors_gradient_is_that_of_other_devices(activation, monkeypatch):
    torch.manual_seed(0)
    actor = EditActor(18, 4, 3, 2, (256, 256), 0.2, 0.05, 0.6, activation=activation)
    torch.nn.init.normal_(actor.head.weight, std=0.01)
    features, base = torch.randn(128, 18), torch.randn(128, 4, 2)
    assert_equal(*of_both_ways(actor, lambda network: sum(it.square().mean() for it in network(features, base)), monkeypatch))


def test_features_with_a_gradient_get_theirs(critic, monkeypatch):
    """Of an image encoder."""
    seen = torch.nn.ParameterList([torch.randn(128, 18)])
    chunk, target = torch.randn(128, 4, 2), torch.randn(128)
    assert_equal(*of_both_ways(seen, lambda held: critic.squared_error(held[0], chunk, target)[0], monkeypatch))


@pytest.mark.parametrize("rows", [LEAST_ROWS - 1, LEAST_ROWS])
def test_few_chunks_are_left_to_one_product_for_all(rows):
    assert fast_cpu.suits(torch.zeros(rows, 2)) == (rows >= LEAST_ROWS)
    assert not fast_cpu.suits(torch.zeros(rows, 2, device="meta"))


def test_a_copy_has_weights_of_its_own(critic):
    features, chunk = torch.randn(128, 18), torch.randn(128, 4, 2)
    before, other = critic(features, chunk, frozen=True), copy.deepcopy(critic)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(critic(features, chunk, frozen=True), before)
    assert not other(features, chunk, frozen=True).any()


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("make", [lambda: CriticEnsemble(18, 8, (256,), 2), lambda: Corrector(18, 4, 2, (256,))])
def test_weights_that_are_put_in_or_moved_elsewhere_are_the_ones_in_use(make, assign):
    features, chunk = torch.randn(128, 18), torch.randn(128, 4, 2)
    one, other = make(), make()
    with torch.no_grad():
        for parameter in (*one.parameters(), *other.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
        before, wanted = one(features, chunk), other(features, chunk)
        one.load_state_dict(copy.deepcopy(other.state_dict()), assign=assign)
        assert torch.equal(one(features, chunk), wanted)
        for parameter in one.parameters():
            parameter.data = torch.zeros_like(parameter)
        assert not torch.equal(before, wanted)
        assert not one(features, chunk).any()


def test_parameters_that_take_over_the_memory_of_others_get_the_gradient(critic):
    features, chunk = torch.randn(128, 18), torch.randn(128, 4, 2)
    critic.squared_error(features, chunk, 0.0)
    critic.head_weight = torch.nn.Parameter(critic.head_weight.data)
    critic.squared_error(features, chunk, 0.0)[0].backward()
    assert critic.head_weight.grad.any()


def test_weights_that_changed_in_between_are_refused():
    """As by PyTorch's own: the gradient would be of neither."""
    features, chunk = inputs_of()
    layers = layers_of((5, 6, 3))
    outputs = fast_cpu.mlp(fast_cpu.Networks("relu", layers), features, chunk)
    with torch.no_grad():
        layers[0].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def operands(rows, width, outputs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator) for shape in ((rows, width), (width, outputs), (outputs,)))


@pytest.fixture
def by_one_dnn(monkeypatch):
    """How often oneDNN was asked."""
    asked, real = [], fast_cpu.one_dnn_linear

    def linear(*arguments):
        asked.append(arguments[0].shape)
        return real(*arguments)

    monkeypatch.setattr(fast_cpu, "one_dnn_linear", linear)
    return asked


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 600),
    width=st.integers(1, 300),
    outputs=st.integers(1, 300),
    has_bias=st.booleans(),
    transposed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products_of_any_size(rows, width, outputs, has_bias, transposed, seed):
    inputs, weight, bias = operands(rows, width, outputs, seed)
    taken = weight.t().contiguous().t() if transposed else weight
    exact = inputs.double() @ weight.double() + (bias.double() if has_bias else 0.0)
    torch.testing.assert_close(product(inputs, taken, bias if has_bias else None).double(), exact, atol=1e-3, rtol=1e-4)


@needs_one_dnn
def test_large_products_go_to_one_dnn_and_small_ones_do_not(by_one_dnn):
    rows = LEAST_MULTIPLICATIONS // (128 * 64)
    for sizes, expected in ((LARGE, 1), (SMALL, 0), ((rows, 128, 64), 1), ((rows - 1, 128, 64), 0)):
        by_one_dnn.clear()
        product(*operands(*sizes))
        assert len(by_one_dnn) == expected


@needs_one_dnn
@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux's list of what the processor can do")
def test_the_processor_decides():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert ({"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags) == DECIDED


@pytest.mark.slow
def test_a_processor_without_avx512_is_left_to_pytorch():
    """PyTorch can be told to do without it."""
    code = "from lerobot_serl.networks import fast_cpu; print(fast_cpu.ONE_DNN_IS_FASTER)"
    told = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    assert subprocess.run([sys.executable, "-c", code], env=told, check=True, capture_output=True, text=True).stdout.strip() == "False"


def test_where_it_is_not_faster_everything_is_left_to_pytorch(monkeypatch, by_one_dnn):
    monkeypatch.setattr(fast_cpu, "ONE_DNN_IS_FASTER", False)
    inputs, weight, bias = operands(*LARGE)
    exact = inputs.double() @ weight.double() + bias.double()
    torch.testing.assert_close(product(inputs, weight, bias).double(), exact, atol=1e-3, rtol=1e-4)
    assert by_one_dnn == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_pytorch(dtype, by_one_dnn):
    assert product(*(operand.to(dtype) for operand in operands(*LARGE))).dtype == dtype
    assert by_one_dnn == []


def test_autocast_is_left_to_pytorch():
    with torch.autocast("cpu", torch.bfloat16):
        assert not fast_cpu.suits(torch.zeros(LEAST_ROWS, 2))


def test_equal_products_are_equal_to_the_last_digit():
    operand = operands(*LARGE)
    assert torch.equal(product(*operand), product(*operand))
