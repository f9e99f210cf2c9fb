"""Passes over graphs: what each changes, and that values stay the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from paths import assert_same
from torch import Tensor, fx, nn

import neurodyn as nd
from neurodyn.engine import graph_passes, product_passes
from neurodyn.engine.graph_passes import aten, inputs_of
from neurodyn.engine.tracing import Layout
from neurodyn.torch_private import Sizes, traced


def graph_of(function: Callable[..., Any], *shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> fx.Graph:
    """A function of tensors as a graph, where -1 stands for a free size."""
    free = Sizes((3,))
    with free.mode:
        return traced(function, [Layout(s, dtype, torch.device("cpu")).empty(free.sizes) for s in shapes], True).graph


def calls(graph: fx.Graph) -> Counter:
    return Counter(node.target for node in graph.nodes if node.op == "call_function")


def run(graph: fx.Graph, *given: Tensor) -> list[Tensor]:
    found = fx.GraphModule({}, graph).forward(*given)
    return list(found) if isinstance(found, (list, tuple)) else [found]


def test_equal_expressions_are_computed_once() -> None:
    graph = graph_of(lambda x, y: [(x * y).sin() + (x * y).sin() * (y * x)], (-1, 4), (4,))
    graph_passes.merge_equal(graph)
    graph.eliminate_dead_code()
    assert calls(graph)[aten.sin.default] == 1
    assert calls(graph)[aten.mul.Tensor] == 3  # x * y and y * x are different ones
    x, y = torch.rand(3, 4), torch.rand(4)
    assert_same(run(graph, x, y), [(x * y).sin() + (x * y).sin() * (y * x)])


def test_arguments_that_python_finds_equal_are_not() -> None:
    graph = graph_of(lambda x: [torch.full_like(x, 1), torch.full_like(x, True), torch.full_like(x, 1.0)], (3,))
    graph_passes.merge_equal(graph)
    assert calls(graph).total() == 3


def test_detached_values_are_the_values() -> None:
    graph = graph_of(lambda x: [x.detach().sin() + x.sin()], (3,))
    graph_passes.remove_detached(graph)
    graph_passes.merge_equal(graph)
    assert calls(graph) == {aten.sin.default: 1, aten.add.Tensor: 1}


SUMS = {
    "plain": (lambda a, b: a.sum(0) + b.sum(0), 1),
    "negative": (lambda a, b: -a.sum(0) + -b.sum(0), 1),
    "scaled": (lambda a, b: 3 * a.sum(0) + 3 * b.sum(0), 1),
    "whole": (lambda a, b: a.sum() + b.sum(), 1),
    "three": (lambda a, b: a.sum(0) + b.sum(0) + (a * b).sum(0), 1),
    "other scales": (lambda a, b: 3 * a.sum(0) + 2 * b.sum(0), 2),
    "other dimensions": (lambda a, b: a.sum(0) + b.sum(-1)[:4], 2),
    "used twice": (lambda a, b: (a.sum(0) + b.sum(0)) * a.sum(0).sin(), 2),
    "kept": (lambda a, b: a.sum(0, keepdim=True) + b.sum(0, keepdim=True), 1),
}


@pytest.mark.parametrize("name", SUMS)
def test_values_are_added_before_they_are_summed(name: str) -> None:
    function, left = SUMS[name]
    graph = graph_of(lambda a, b: [function(a, b)], (4, 4), (4, 4))
    graph_passes.merge_equal(graph)
    graph_passes.add_before_summing(graph)
    graph.eliminate_dead_code()
    graph.lint()
    assert sum(calls(graph)[target] for target in graph_passes._SUMS) == left
    a, b = torch.rand(4, 4), torch.rand(4, 4)
    assert_same(run(graph, a, b), [function(a, b)])


def test_what_depends_on_constants_is_taken_out() -> None:
    graph = graph_of(lambda x, tau, w: [x * (-1 / tau).exp() + (w @ w.T).sum() * tau], (-1, 4), (4,), (4, 4))
    x, tau, w = torch.rand(3, 4), torch.rand(4) + 1, torch.rand(4, 4)
    wanted = run(graph, x, tau, w)
    before = graph_passes.take_out(graph, inputs_of(graph)[1:], on_cpu=True)
    assert before is not None
    graph.lint()
    assert not calls(graph).keys() & {aten.exp.default, aten.mm.default}
    assert_same(run(graph, x, tau, w, *run(before, tau, w)), wanted)


def test_what_is_larger_than_its_sources_stays() -> None:
    graph = graph_of(lambda x, a, b: [x + a[:, None] * b[None, :]], (40, 40), (40,), (40,))
    graph_passes.take_out(graph, inputs_of(graph)[1:], on_cpu=True)
    assert calls(graph)[aten.mul.Tensor] == 1
    graph = graph_of(lambda x, tau: [x * (-1 / tau).exp()], (-1, 4), (4,))
    assert graph_passes.take_out(graph, inputs_of(graph)[1:], on_cpu=False) is None  # small, on a GPU


@pytest.mark.parametrize("name", ["both", "forward"])
def test_large_products_become_operators(name: str) -> None:
    def both(x: Tensor, w: Tensor, g: Tensor) -> list[Tensor]:
        return [x @ w.t(), g.t() @ x + (2 * g).t() @ x.sin()]

    def forward(x: Tensor, w: Tensor, g: Tensor) -> list[Tensor]:
        return [torch.addmm(w[0], x, w.t()) + g]

    function = {"both": both, "forward": forward}[name]
    graph = graph_of(function, (-1, 256), (256, 256), (-1, 256), dtype=torch.float32)
    product_passes.speed_up_products(graph, inputs_of(graph)[1:2])
    graph.eliminate_dead_code(graph_passes.must_stay)
    graph.lint()
    assert not calls(graph).keys() & {aten.mm.default, aten.addmm.default}
    assert calls(graph)[torch.ops.neurodyn.outer.default] == (name == "both")
    given = [torch.rand(5, 256).float(), torch.rand(256, 256).float(), torch.rand(5, 256).float()]
    assert_same(run(graph, *given), function(*given), 1e-4)


def test_small_products_and_those_in_double_precision_stay() -> None:
    for shape, dtype in (((8, 8), torch.float32), ((256, 256), torch.float64)):
        graph = graph_of(lambda x, w: [x @ w], (-1, shape[0]), shape, dtype=dtype)
        product_passes.speed_up_products(graph, inputs_of(graph)[1:])
        assert calls(graph) == {aten.mm.default: 1}


def test_a_constant_is_rounded_to_its_dtype():
    """Inductor went on with 1 / 3 in float64."""

    class Third(nn.Module):
        def __init__(self):
            super().__init__()
            self.readout = nd.LeakyRateReadout(4, 4)

        def forward(self, x):
            return self.readout(x) * torch.full((4,), 1 / 3, dtype=torch.float32)

    net, xs = Third().double(), torch.rand(5, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(nd.unroll(net, xs), nd.unroll(net, xs, compile=False), rtol=1e-14, atol=0)
