"""Matrix products in a traced chunk: those of the forward pass are kept, so that the backward pass has them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from ..dynamics import in_transform
from .fingerprint import hooked

aten = torch.ops.aten
_LARGE = 2**18
_PRODUCTS = aten.mm.default, aten.addmm.default, aten.bmm.default, aten.convolution.default

_library = torch.library.Library("neurodyn", "FRAGMENT")
_library.define("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")


@torch.library.impl(_library, "linear", "CPU")
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x @ weight.T + bias by oneDNN; Inductor takes the operator below for its own packed weights only."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@torch.library.register_fake("neurodyn::linear", lib=_library)
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


def _keep_inputs(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (x, weight), wanted = ctx.saved_tensors, ctx.needs_input_grad
    linear = torch.ops.neurodyn.linear
    return (
        linear(grad, weight.t(), None) if wanted[0] else None,
        linear(grad.t(), x.t(), None) if wanted[1] else None,
        grad.sum(0) if wanted[2] else None,
    )


torch.library.register_autograd("neurodyn::linear", _linear_backward, setup_context=_keep_inputs, lib=_library)


def linear(module: nn.Module, x: Tensor) -> Tensor | None:
    """What an ``nn.Linear`` makes of rows `x`, by oneDNN; None where the module itself has to be called."""
    if (
        type(module) is nn.Linear
        and x.dim() == 2
        and module.weight.numel() >= _LARGE
        and (x.device.type, x.dtype, module.weight.dtype) == ("cpu", torch.float32, torch.float32)
        and x.shape[1] == module.in_features
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not in_transform()
        and hooked(module) is None
    ):
        return torch.ops.neurodyn.linear(x, module.weight, module.bias)
    return None


def products(graph: Graph, varying: Iterable[int]) -> list[Node]:
    """The products in order, but for those of constants; `varying` are the inputs that differ from step to step."""
    inputs = _inputs(graph)
    changing, found = {inputs[i] for i in varying}, []
    for node in graph.nodes:
        if any(source in changing for source in node.all_input_nodes):
            changing.add(node)
            if node.target in _PRODUCTS:
                found.append(node)
    return found


def keep(graph: Graph, varying: Iterable[int], into: range) -> None:
    """Write the products to the inputs `into`."""
    buffers = _inputs(graph)[into.start : into.stop]
    with graph.inserting_before(graph.output_node()):
        for product, buffer in zip(products(graph, varying), buffers, strict=True):
            graph.call_function(aten.copy_.default, (buffer, product))


def reuse(graph: Graph, varying: Iterable[int], kept: range) -> None:
    """Replace the first products by the inputs `kept`."""
    buffers = _inputs(graph)[kept.start : kept.stop]
    for product, buffer in zip(products(graph, varying), buffers, strict=False):
        product.replace_all_uses_with(buffer)
        graph.erase_node(product)


def by_onednn(graph: Graph) -> None:
    """Compute large float32 products on CPUs by oneDNN, which on some is twice as fast as what torch takes.

    A call costs 10 us more; it pays from a matrix of about 512 x 512 elements on.
    """
    if not torch.backends.mkldnn.is_available():
        return
    for node in list(graph.nodes):
        if node.target not in (aten.mm.default, aten.addmm.default) or node.kwargs:
            continue
        *bias, left, right = node.args
        if bias and bias[0].meta["val"].dim() != 1:
            continue
        value, sizes = node.meta["val"], (*left.meta["val"].shape, right.meta["val"].shape[1])
        fixed = sorted((n for n in sizes if isinstance(n, int)), reverse=True)[:2]
        if value.device.type != "cpu" or value.dtype != torch.float32 or math.prod(fixed) < _LARGE or len(fixed) < 2:
            continue
        with graph.inserting_before(node):
            weight = _transposed(graph, right)
            product = graph.call_function(torch.ops.neurodyn.linear.default, (left, weight, bias[0] if bias else None))
        product.meta["val"] = value
        node.replace_all_uses_with(product)
        graph.erase_node(node)


def _transposed(graph: Graph, matrix: Node) -> Node:
    if matrix.target is aten.permute.default or matrix.target is aten.t.default:
        return matrix.args[0]  # type: ignore[return-value]
    weight = graph.call_function(aten.permute.default, (matrix, [1, 0]))
    weight.meta["val"] = matrix.meta["val"].permute(1, 0)
    return weight


def _inputs(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op == "placeholder"]
