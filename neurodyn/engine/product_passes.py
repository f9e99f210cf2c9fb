"""Matrix products in the graph of a chunk: large ones become operators of their own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Graph, Node

from ..ops.spike_products import LARGE, WIDE
from .graph_passes import add, computed_once, must_stay, shape_of

aten, ops = torch.ops.aten, torch.ops.neurodyn
PRODUCTS = aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default, aten.convolution.default


def is_called(target: Any) -> bool:
    """Whether Inductor calls an operator instead of writing it: a matrix product, or one of this library."""
    return target in PRODUCTS or getattr(target, "namespace", "") == "neurodyn"


def speed_up_products(graph: Graph, constants: list[Node]) -> None:
    """Compute large float32 products on CPUs by the operators of `neurodyn.ops.spike_products`.

    Sound: they compute the same products, with other rounding; `constants` keep their value during a call, so that a
    weight can be laid out for them once. Gain: a recurrent network of 512 neurons takes half of the time.
    """
    _add_outers(graph)
    once = computed_once(graph, constants)
    for node in list(graph.nodes):
        if node.target not in (aten.mm.default, aten.addmm.default) or node.kwargs:
            continue
        *bias, left, right = node.args
        if not _is_large(node, left.meta["val"].shape[1]) or any(not _is_bias(value, node) for value in bias):
            continue
        with graph.inserting_before(node):
            columns = _columns(graph, right) if right in once else None
            weight = _transposed(graph, right)
            if right in once and columns is None:
                weight = add(graph, ops.packed.default, (weight,), right.meta["val"].t().contiguous())
            arguments = left, weight, bias[0] if bias else None, columns
            product = add(graph, ops.linear.default, arguments, node.meta["val"])
        node.replace_all_uses_with(product)
        graph.erase_node(node)


def _add_outers(graph: Graph) -> None:
    """Make one operation of large products g.T @ x that are added up: the gradient of a weight over all steps."""
    for node in reversed(list(graph.nodes)):
        terms = _terms(node) if node.users else []
        if len(terms) < 2:
            continue
        xs, gs, rest = [], [], []
        for term in terms:
            if (pair := _outer(term)) is None:
                rest.append(term)
            else:
                xs.append(pair[0])
                gs.append(pair[1])
        if not xs:
            continue
        with graph.inserting_before(node):
            total = _transposed(graph, add(graph, ops.outer.default, (xs, gs), node.meta["val"].t().contiguous()))
            for term in rest:
                total = add(graph, aten.add.Tensor, (term, total), node.meta["val"])
        node.replace_all_uses_with(total)
        graph.eliminate_dead_code(must_stay)


def _terms(node: Node, outermost: bool = True) -> list[Node]:
    """What a node adds up, with the sums that nobody else uses opened."""
    is_sum = node.target is aten.add.Tensor and not node.kwargs and (outermost or len(node.users) == 1)
    if not is_sum or not all(isinstance(term, Node) and shape_of(term) == shape_of(node) for term in node.args):
        return [node]
    return [term for side in node.args for term in _terms(side, outermost=False)]  # type: ignore[arg-type]


def _outer(term: Node) -> tuple[Node, Node] | None:
    """x and g, if a term is a large product g.T @ x that nobody else uses."""
    flipped = False
    while _is_transposition(term) and len(term.users) == 1:
        term, flipped = term.args[0], not flipped  # type: ignore[assignment]
    if term.target is not aten.mm.default or len(term.users) > 1 or not _is_large(term):
        return None
    left, right = term.args
    if not _is_transposition(left):
        return None
    left = left.args[0]  # type: ignore[union-attr]
    return (left, right) if flipped else (right, left)  # type: ignore[return-value]


def _is_bias(value: Node, product: Node) -> bool:
    """Whether `value` is one row in float32, with an element for each column of `product`."""
    bias = value.meta["val"]
    return bias.dtype == torch.float32 and str(bias.shape) == str(product.meta["val"].shape[1:])


def _is_large(product: Node, *inner: Any) -> bool:
    """Whether a product is in float32 on the CPU and has a large matrix, whatever the batch is."""
    value = product.meta["val"]
    fixed = sorted((n for n in (*value.shape, *inner) if isinstance(n, int)), reverse=True)[:2]
    return value.device.type == "cpu" and value.dtype == torch.float32 and len(fixed) == 2 and math.prod(fixed) >= LARGE


def _is_transposition(node: Any) -> bool:
    if not isinstance(node, Node) or node.target not in (aten.permute.default, aten.t.default):
        return False
    return node.meta["val"].dim() == 2 and (len(node.args) == 1 or list(node.args[1]) in ([1, 0], [-1, -2]))  # type: ignore[arg-type]


def _transposed(graph: Graph, matrix: Node) -> Node:
    if _is_transposition(matrix):
        return matrix.args[0]  # type: ignore[return-value]
    return add(graph, aten.permute.default, (matrix, [1, 0]), matrix.meta["val"].permute(1, 0))


def _columns(graph: Graph, matrix: Node) -> Node | None:
    """A copy of a wide weight of shape (out, in) that was transposed; without that it is multiplied by gradients."""
    if matrix.meta["val"].is_contiguous() or matrix.meta["val"].shape[1] < WIDE:
        return None
    contiguous = torch.contiguous_format
    return add(graph, aten.clone.default, (matrix,), matrix.meta["val"].contiguous(), memory_format=contiguous)
