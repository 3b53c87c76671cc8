"""Products by oneDNN, against PyTorch's own in 64 bits; also on processors where oneDNN would not be chosen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl.networks import affine as module
from lerobot_serl.networks.affine import LEAST_MULTIPLICATIONS, affine

DECIDED = module.ONE_DNN_IS_FASTER
LARGE, SMALL = (256, 128, 96), (3, 128, 96)
needs_one_dnn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


@pytest.fixture(scope="module", autouse=True)
def chosen():
    """oneDNN, wherever there is one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ONE_DNN_IS_FASTER", torch.backends.mkldnn.is_available())
        yield


def operands(rows, width, outputs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(shape, generator=generator, requires_grad=True) for shape in ((rows, width), (width, outputs), (outputs,))]
    return draw[0], draw[1], draw[2]


def by_one_dnn(result):
    return "OneDnn" in result.grad_fn.name()


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 600),
    width=st.integers(1, 300),
    outputs=st.integers(1, 300),
    has_bias=st.booleans(),
    transposed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_values_and_gradients_of_any_size(rows, width, outputs, has_bias, transposed, seed):
    inputs, weight, bias = operands(rows, width, outputs, seed)
    taken = weight.detach().t().contiguous().t().requires_grad_() if transposed else weight
    result = affine(inputs, taken, bias if has_bias else None)
    exact = inputs.double() @ weight.double() + (bias.double() if has_bias else 0.0)
    torch.testing.assert_close(result.double(), exact, atol=1e-3, rtol=1e-4)
    direction = torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed))
    result.backward(direction)
    wanted = torch.autograd.grad(exact, [inputs, weight, *([bias] if has_bias else [])], direction.double())
    actual = [inputs.grad, taken.grad, *([bias.grad] if has_bias else [])]
    for one, other in zip(actual, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-3)


@needs_one_dnn
def test_large_products_go_to_one_dnn_and_small_ones_do_not():
    assert by_one_dnn(affine(*operands(*LARGE)))
    assert not by_one_dnn(affine(*operands(*SMALL)))
    rows = LEAST_MULTIPLICATIONS // (128 * 64)
    assert by_one_dnn(affine(*operands(rows, 128, 64)))
    assert not by_one_dnn(affine(*operands(rows - 1, 128, 64)))


@needs_one_dnn
@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux's list of what the processor can do")
def test_the_processor_decides():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert ({"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags) == DECIDED


@pytest.mark.slow
def test_a_processor_without_avx512_is_left_to_pytorch():
    """PyTorch can be told to do without it."""
    code = "from lerobot_serl.networks import affine; print(affine.ONE_DNN_IS_FASTER)"
    told = {**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}
    assert subprocess.run([sys.executable, "-c", code], env=told, check=True, capture_output=True, text=True).stdout.strip() == "False"


def test_where_it_is_not_faster_everything_is_left_to_pytorch(monkeypatch):
    monkeypatch.setattr(module, "ONE_DNN_IS_FASTER", False)
    inputs, weight, bias = operands(*LARGE)
    result = affine(inputs, weight, bias)
    assert not by_one_dnn(result)
    torch.testing.assert_close(result.double(), inputs.double() @ weight.double() + bias.double(), atol=1e-3, rtol=1e-4)


def test_only_the_gradients_that_are_wanted():
    inputs, weight, bias = operands(*LARGE)
    affine(inputs, weight.detach(), bias.detach()).sum().backward()
    assert inputs.grad is not None
    inputs.grad = None
    affine(inputs.detach(), weight, None).sum().backward()
    assert weight.grad is not None
    assert (inputs.grad, bias.grad) == (None, None)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_pytorch(dtype):
    inputs, weight, bias = (operand.detach().to(dtype).requires_grad_() for operand in operands(*LARGE))
    result = affine(inputs, weight, bias)
    assert result.dtype == dtype
    assert not by_one_dnn(result)


def test_autocast_is_left_to_pytorch():
    with torch.autocast("cpu", torch.bfloat16):
        assert affine(*operands(*LARGE)).dtype == torch.bfloat16


@pytest.mark.parametrize("has_bias", [True, False])
def test_an_ensemble(has_bias):
    generator = torch.Generator().manual_seed(0)
    inputs, weight, bias = (torch.randn(shape, generator=generator) for shape in ((5, 4), (3, 4, 2), (3, 1, 2)))
    expected = torch.stack([inputs @ weight[i] + (bias[i] if has_bias else 0.0) for i in range(3)])
    torch.testing.assert_close(affine(inputs, weight, bias if has_bias else None), expected)
    many = torch.randn(3, 5, 4, generator=generator)
    torch.testing.assert_close(affine(many, weight), many @ weight)


def test_equal_products_are_equal_to_the_last_digit():
    operand = operands(*LARGE)
    assert torch.equal(affine(*operand), affine(*operand))
