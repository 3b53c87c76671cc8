"""MLPs on a CPU, forwards and backwards in few operations. Other devices never come here; the numbers are those of PyTorch's own way.

What costs a CPU time, beside the products, is beginning an operation, and memory that its cache does not hold. So critics are gone through one after
the other, each forwards and at once backwards, in the memory that the one before let go of. The gradient is written out, in place where that
is possible, without the views, sums and copies of PyTorch's own bookkeeping.

Products go to oneDNN on processors with AVX-512. PyTorch gives them to MKL, which does without AVX-512 on AMD's processors: 256 x 256 x 256 take 330
microseconds, by oneDNN 150 (one thread of an EPYC of 2024). Without AVX-512 (an EPYC of 2021) MKL takes 410 and oneDNN 450, and of 256 x 22 x 256 MKL
takes 54 and oneDNN 85. PyTorch ships oneDNN too; its ``torch.compile`` calls the same operator as here.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# By what the processor can do and not by a clock, so that a seed fixes a run.
ONE_DNN_IS_FASTER = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
# Multiplications of a product from which oneDNN is worth its overhead of 15 microseconds.
LEAST_MULTIPLICATIONS = 1 << 19
# Chunks from which networks are faster one after the other; with six, all at once are twice as fast.
LEAST_ROWS = 64
EPSILON = 1e-5
# PyTorch's own, looked up once.
one_dnn_linear: Any = torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() else None
_relu_gradient, _tanh_gradient, _silu_gradient = (
    getattr(torch.ops.aten, f"{name}_backward").grad_input for name in ("threshold", "tanh", "silu")
)
_layer_norm_gradient = torch.ops.aten.native_layer_norm_backward.default
# name -> the activation, in place where its gradient needs only what comes out; and the gradient, in place, from what is there afterwards.
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "relu": (torch.relu_, lambda gradient, result: _relu_gradient(gradient, result, 0, grad_input=gradient)),
    "tanh": (torch.tanh_, lambda gradient, result: _tanh_gradient(gradient, result, grad_input=gradient)),
    "silu": (F.silu, lambda gradient, normed: _silu_gradient(gradient, normed, grad_input=gradient)),
}


def suits(chunk: Tensor) -> bool:
    """Whether chunks ``(N, A)`` are worth it."""
    return chunk.is_cpu and len(chunk) >= LEAST_ROWS and not torch.is_autocast_enabled("cpu")


class Networks:
    """The weights of one MLP, or of several alike, as views that are made once and not at every call.

    Args:
        activation: ``relu``, ``silu`` or ``tanh``.
        layers: weight ``(in, out)``, bias, LayerNorm's weight and bias, ``(out)``, of each hidden layer; weight and bias of the last. Of
            an ensemble, with a dimension for ``E`` members in front, and vectors ``(E, 1, out)`` or ``(E, out)``.
        turned: of one network, whose weights are ``(out, in)``, as those of ``nn.Linear``.
    """

    def __init__(self, activation: str, layers: Sequence[Tensor], turned: bool = False) -> None:
        self.layers, self.turned = tuple(layers), turned
        self._places = [layer.data_ptr() for layer in layers]
        own = [layer.detach() for layer in layers]
        members = len(own[0]) if own[0].dim() == 3 else 1
        each = [layer.view(members, *layer.shape[-2:]) if index % 4 == 0 else layer.view(members, -1) for index, layer in enumerate(own)]
        rows = zip(*(layer.unbind() for layer in each), strict=True)
        self.members = [_Network(activation, [it.t() if turned and it.dim() == 2 else it for it in row]) for row in rows]

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy of a module has other weights: it has to look at its own."""
        return type(None), ()

    def are_of(self, layers: Sequence[Tensor]) -> bool:
        """Whether these are the same tensors, in the same memory; what is in it may have changed."""
        return all(map(operator.is_, layers, self.layers)) and [layer.data_ptr() for layer in layers] == self._places


def mlp(networks: Networks, features: Tensor, chunk: Tensor) -> Tensor:
    """Outputs of an MLP with a LayerNorm after each hidden layer.

    Args:
        networks: one.
        features: ``(B, F)``.
        chunk: ``(B * C, A)``, ``C`` candidates for each row of the features.

    Returns:
        ``(B * C, out)``.
    """
    if not torch.is_grad_enabled():
        return networks.members[0].forward(_Inputs(features, chunk))
    result: Tensor = _Mlp.apply(networks, features, chunk, *networks.layers)
    return result


def values(networks: Networks, features: Tensor, chunk: Tensor, members: Sequence[int] | None = None) -> Tensor:
    """Values by an ensemble of MLPs, with gradient to the chunk only.

    Args:
        networks: ``E`` of them.
        features, chunk: see :func:`mlp`.
        members: which of them; all if None.

    Returns:
        ``(E', B * C)``.
    """
    asked = networks.members if members is None else [networks.members[index] for index in members]
    if torch.is_grad_enabled() and chunk.requires_grad:
        result: Tensor = _Values.apply(asked, features, chunk)
        return result
    inputs = _Inputs(features, chunk)
    return torch.cat([network.forward(inputs) for network in asked], dim=-1).t()


def squared_error(
    networks: Networks, features: Tensor, chunk: Tensor, contrast: Sequence[float], target: Tensor | float, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mean over members and rows of ``weight (sum_c contrast_c Q(c) - target)^2``, with gradient to layers and features.

    Args:
        networks, features, chunk: see :func:`values`.
        contrast: ``C`` numbers.
        target: ``(B,)`` or a number.
        weight: ``(B,)``; None: 1.

    Returns:
        () loss, and the values ``(E, B * C)`` without gradient.
    """
    loss, q = _SquaredError.apply(networks, features, chunk, contrast, target, weight, *networks.layers)
    return loss, q


def product(left: Tensor, right: Tensor, bias: Tensor | None = None, turned: Tensor | None = None) -> Tensor:
    """``left @ right + bias`` of matrices; ``turned`` is the right one's transpose, if there is one already."""
    if ONE_DNN_IS_FASTER and left.numel() * right.shape[1] >= LEAST_MULTIPLICATIONS and left.dtype == right.dtype == torch.float32:
        result: Tensor = one_dnn_linear(left, right.t() if turned is None else turned, bias, "none", [], "")
        return result
    return left @ right if bias is None else torch.addmm(bias, left, right)


class _Mlp(torch.autograd.Function):
    """One network forwards, later backwards."""

    @staticmethod
    def forward(ctx: Any, networks: Networks, features: Tensor, chunk: Tensor, *layers: Tensor) -> Tensor:
        ctx.save_for_backward(features, chunk, *layers)
        ctx.networks = networks
        ctx.inputs = _Inputs(features, chunk)
        ctx.path = []
        return networks.members[0].forward(ctx.inputs, ctx.path if any(ctx.needs_input_grad) else None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors  # PyTorch says so here if one of them has changed since
        _, of_features, of_chunk, *of_layers = ctx.needs_input_grad
        found = ctx.networks.members[0].backward(ctx.inputs, ctx.path, gradient, _Wanted(of_features, of_chunk, any(of_layers)))
        if ctx.networks.turned and any(of_layers):
            found[2::4] = [of_weight.t() for of_weight in found[2::4]]
        return None, *found


class _Values(torch.autograd.Function):
    """A row's value depends on no other row's chunk: so its slope is known before the loss is, and each network is done with at once."""

    @staticmethod
    def forward(ctx: Any, networks: Sequence["_Network"], features: Tensor, chunk: Tensor) -> Tensor:
        inputs, slopes, outputs = _Inputs(features, chunk), [], []
        one = torch.ones(len(chunk), 1, dtype=chunk.dtype)
        for network in networks:
            path: list[_Step] = []
            outputs.append(network.forward(inputs, path))
            slopes.append(network.backward(inputs, path, one, _Wanted(features=False, chunk=True, layers=False))[1])
        ctx.slopes = slopes
        return torch.cat(outputs, dim=-1).t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, (torch.stack(ctx.slopes) * gradient.unsqueeze(-1)).sum(0)


class _SquaredError(torch.autograd.Function):
    """The gradient of each network is taken as soon as its values are known, and waits for what it will be multiplied by."""

    @staticmethod
    def forward(
        ctx: Any, networks: Networks, features: Tensor, chunk: Tensor, contrast: Sequence[float], target: Tensor | float,
        weight: Tensor | None, *layers: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        inputs, count = _Inputs(features, chunk), len(networks.members) * len(features)
        wanted = _Wanted(features=ctx.needs_input_grad[1], chunk=False, layers=True)
        factors = None if tuple(contrast) == (1.0,) else torch.tensor(contrast, dtype=chunk.dtype)
        outputs, squares, gradients = [], [], []
        for network in networks.members:
            path: list[_Step] = []
            outputs.append(network.forward(inputs, path))
            error = (outputs[-1].squeeze(-1) if factors is None else outputs[-1].view(-1, len(factors)) @ factors) - target
            weighted = error if weight is None else weight * error
            squares.append(weighted * error)
            slope = weighted if factors is None else torch.outer(weighted, factors).view(-1)
            gradients.append(network.backward(inputs, path, (slope * (2 / count)).unsqueeze(-1), wanted))
        of_features, _, *of_layers = zip(*gradients, strict=True)
        ctx.of_features = torch.stack(of_features).sum(0) if wanted.features else None
        ctx.of_layers = [torch.stack(each).view_as(layer) for each, layer in zip(of_layers, layers, strict=True)]
        q = torch.cat(outputs, dim=-1).t()
        ctx.mark_non_differentiable(q)
        return torch.stack(squares).mean(), q

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.of_layers is None:
            raise RuntimeError("The gradient of this squared error is asked for a second time; compute the loss again.")
        # Given away: PyTorch copies a gradient that something else still holds.
        of_features = ctx.of_features
        of_layers = ctx.of_layers
        ctx.of_features = None
        ctx.of_layers = None
        torch._foreach_mul_([*of_layers, *([] if of_features is None else [of_features])], factor)
        return None, of_features, None, None, None, None, *of_layers


class _Wanted(NamedTuple):
    """Gradients."""

    features: bool
    chunk: bool
    layers: bool


class _Step(NamedTuple):
    """What the gradient needs of a hidden layer: its product, mean and 1 / deviation of that, LayerNorm's result and the activation's."""

    hidden: Tensor
    mean: Tensor
    rstd: Tensor
    normed: Tensor
    result: Tensor


class _Inputs:
    """``features (B, F)`` and ``chunk (B * C, A)``, side by side if there is one candidate for each row."""

    def __init__(self, features: Tensor, chunk: Tensor) -> None:
        self.features, self.chunk = features, chunk
        self.joined = torch.cat([features, chunk], dim=-1) if len(features) == len(chunk) else None

    def forward(self, weight: Tensor, bias: Tensor, turned: Tensor) -> Tensor:
        """The first layer's product ``(B * C, out)``; the features' share of it is the same for every candidate."""
        if self.joined is not None:
            return product(self.joined, weight, bias, turned)
        size = self.features.shape[1]
        result, shared = product(self.chunk, weight[size:]), product(self.features, weight[:size], bias)
        result.unflatten(0, (len(shared), -1)).add_(shared.unsqueeze(1))
        return result

    def backward(self, weight: Tensor, gradient: Tensor, wanted: _Wanted) -> list[Tensor | None]:
        """Gradient of features, chunk, weight and bias."""
        size, of_weight = self.features.shape[1], None
        by_row = gradient if self.joined is not None else gradient.unflatten(0, (len(self.features), -1)).sum(1)
        if wanted.layers and self.joined is not None:
            of_weight = _of_weight(weight, self.joined, gradient)
        elif wanted.layers:
            of_weight = torch.cat([_of_weight(weight, self.features, by_row), _of_weight(weight, self.chunk, gradient)])
        return [
            product(by_row, weight[:size].t()) if wanted.features else None,
            product(gradient, weight[size:].t()) if wanted.chunk else None,
            of_weight,
            by_row.sum(0) if wanted.layers else None,
        ]


class _Network:
    """One network; its last layer has no LayerNorm."""

    def __init__(self, activation: str, layers: Sequence[Tensor]) -> None:
        self.activate, self.deactivate = _ACTIVATIONS[activation]
        self.weights, self.biases, self.norm_weights, self.norm_biases = (layers[i::4] for i in range(4))
        self.turned = [weight.t() for weight in self.weights]
        self.shapes = [tuple(scale.shape) for scale in self.norm_weights]

    def forward(self, inputs: _Inputs, path: list[_Step] | None = None) -> Tensor:
        """``(B * C, out)``; adds to ``path`` what the gradient needs."""
        hidden = inputs.forward(self.weights[0], self.biases[0], self.turned[0])
        for depth, shape in enumerate(self.shapes):
            normed, mean, rstd = torch.native_layer_norm(hidden, shape, self.norm_weights[depth], self.norm_biases[depth], EPSILON)
            result = self.activate(normed)
            if path is not None:
                path.append(_Step(hidden, mean, rstd, normed, result))
            hidden = product(result, self.weights[depth + 1], self.biases[depth + 1], self.turned[depth + 1])
        return hidden

    def backward(self, inputs: _Inputs, path: list[_Step], gradient: Tensor, wanted: _Wanted) -> list[Tensor | None]:
        """Gradient of features, chunk and layers, in their order."""
        found: list[Tensor | None] = []
        mask = [True, wanted.layers, wanted.layers]
        for depth in reversed(range(len(path))):
            step, weight = path[depth], self.weights[depth + 1]
            of_weight, of_bias = (_of_weight(weight, step.result, gradient), gradient.sum(0)) if wanted.layers else (None, None)
            gradient = self.deactivate(product(gradient, self.turned[depth + 1], turned=weight), step.normed)
            gradient, of_scale, of_shift = _layer_norm_gradient(
                gradient, step.hidden, self.shapes[depth], step.mean, step.rstd, self.norm_weights[depth], self.norm_biases[depth], mask
            )
            found = [*((of_scale, of_shift) if wanted.layers else (None, None)), of_weight, of_bias, *found]
        return [*inputs.backward(self.weights[0], gradient, wanted), *found]


def _of_weight(weight: Tensor, inputs: Tensor, gradient: Tensor) -> Tensor:
    """A weight's gradient, in memory as the weight is."""
    if weight.is_contiguous():
        return product(inputs.t(), gradient)
    return product(gradient.t(), inputs).t()
