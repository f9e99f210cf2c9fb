"""What depends on constants alone: computed once, for both passes, and on a GPU only if it is large."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_unroll import assert_same, outcome
from torch import Tensor
from torch.fx import Graph, GraphModule

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine.fold import fold
from neurodyn.engine.prologue import Prologue
from neurodyn.engine.trace import Layout, trace


def folded(step: Any, *shapes: tuple[int, ...], device: str = "cpu") -> tuple[Prologue, GraphModule]:
    """``step(x, *constants)`` in two parts; x has a free size in front."""
    layouts = [Layout(shape, torch.float64, torch.device(device)) for shape in ((-1, 3), *shapes)]
    graph, fakes, _ = trace(lambda xs, cs: [step(*xs, *cs)], (4,), [(layouts[0], ())], [(c, ()) for c in layouts[1:]])
    return fold(graph, fakes, range(1, len(layouts)))[:2]


def run(parts: tuple[Prologue, GraphModule], x: Tensor, *constants: Tensor) -> Tensor:
    prologue, rest = parts
    return rest(x, *constants, *prologue(constants, {}))[0]


def names(parts: tuple[Prologue, GraphModule]) -> tuple[int, str]:
    return len(parts[0].values), parts[1].code


def decay(x: Tensor, tau: Tensor, gain: Tensor) -> Tensor:
    return x * (1 - torch.exp(-1 / tau)) + (gain - tau)


def test_single_values() -> None:
    """The exponential is computed once, sums and products of single values stay with the rest."""
    parts = folded(decay, (), ())
    n, code = names(parts)
    assert n == 1
    assert "exp" not in code
    assert "sub" in code
    x, tau, gain = torch.rand(5, 3), torch.tensor(3.0), torch.tensor(0.5)
    torch.testing.assert_close(run(parts, x, tau, gain), decay(x, tau, gain))


def test_vectors_are_computed_once() -> None:
    parts = folded(decay, (3,), (3,))
    n, code = names(parts)
    assert n == 2
    assert "exp" not in code
    assert code.count("sub") == 0
    x, tau, gain = torch.rand(5, 3), 1 + torch.rand(3), torch.rand(3)
    torch.testing.assert_close(run(parts, x, tau, gain), decay(x, tau, gain))


def test_on_a_gpu_only_large_values_are() -> None:
    """Meta tensors stand for those of a GPU."""

    def step(x: Tensor, tau: Tensor, matrix: Tensor) -> Tensor:
        scaled = matrix / matrix.abs().sum()
        return decay(x, tau, tau) + scaled.sum(0)[:3]

    n, code = names(folded(step, (), (1024, 1024), device="meta"))
    assert n == 1
    assert "exp" in code
    assert "abs" not in code


def test_both_passes_share_what_they_compute() -> None:
    ahead, back = folded(decay, (3,), (3,))[0], folded(lambda x, tau, gain: x / torch.exp(-1 / tau), (3,), (3,))[0]
    constants, known = (1 + torch.rand(3), torch.rand(3)), {}
    ahead(constants, known)
    computed = dict(known)
    (value,) = back(constants, known)
    assert any(value is other for other in computed.values())
    assert known.keys() == computed.keys()
    torch.testing.assert_close(value, torch.exp(-1 / constants[0]))


@pytest.mark.parametrize("other", [lambda x, a, b: x * torch.exp(b), lambda x, a, b: x * torch.exp(2 * a)])
def test_other_expressions_are_other_values(other: Any) -> None:
    constants, known = (torch.rand(3), torch.rand(3)), {}
    (first,) = folded(lambda x, a, b: x * torch.exp(a), (3,), (3,))[0](constants, known)
    (second,) = folded(other, (3,), (3,))[0](constants, known)
    torch.testing.assert_close(first, constants[0].exp())
    assert not torch.equal(first, second)


def test_what_is_written_in_place() -> None:
    """To a temporary tensor, as torch does in some derivatives; its value from before is used as well."""

    def step(x: Tensor, tau: Tensor) -> Tensor:
        before = torch.exp(tau)
        total = before + 1
        before.sub_(tau)
        return x * before + total

    def part(x: Tensor, tau: Tensor) -> Tensor:
        whole = torch.exp(tau)
        whole[:1].add_(tau[:1])
        return x * whole

    x, tau = torch.rand(2, 3), torch.rand(3)
    prologue, rest = folded(step, (3,))
    known: dict[str, Tensor] = {}
    for _ in range(2):
        torch.testing.assert_close(rest(x, tau, *prologue([tau], known))[0], step(x, tau))
    assert len(prologue.values) == 2
    torch.testing.assert_close(run(folded(part, (3,)), x, tau), part(x, tau))


def test_tensors_in_keywords() -> None:
    def step(x: Tensor, edges: Tensor, order: Tensor) -> Tensor:
        return x + torch.searchsorted(edges, edges * 0.9, sorter=order.long())

    edges, order = torch.rand(3), torch.tensor([2.0, 0.0, 1.0])
    x = torch.rand(2, 3)
    torch.testing.assert_close(run(folded(step, (3,), (3,)), x, edges, order), step(x, edges, order))


def test_deep_expressions() -> None:
    """Each value is used twice, which must not double the work."""

    def step(x: Tensor, tau: Tensor) -> Tensor:
        for _ in range(60):
            tau = torch.exp(tau) / tau
            tau = tau / tau.sum()
        return x * tau

    parts = folded(step, (3,))
    assert len(parts[0].steps) < 250
    x, tau = torch.rand(2, 3), torch.rand(3)
    torch.testing.assert_close(run(parts, x, tau), step(x, tau))


def test_values_are_found_again_by_what_the_constants_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    computed = Prologue._computed

    def counting(*call: Any) -> list[Tensor]:
        counted.append(1)
        return computed(*call)

    monkeypatch.setattr(Prologue, "_computed", counting)
    layer, xs = nd.LIF(4, tau=7 * u.ms, learn="tau"), torch.rand(19, 3, 4) * 2
    found = [outcome(layer, xs) for _ in range(3)]
    assert_same(found[0], found[2], tolerance=0)
    n = len(counted)
    outcome(layer, xs)
    assert len(counted) == n
    layer.raw_tau.data.add_(0.5)  # no version tells of this
    changed = outcome(layer, xs)
    assert len(counted) > n
    assert not torch.equal(changed[-1], found[0][-1])
    assert_same(changed, outcome(layer, xs, compile=False))
    layer.raw_tau.data.sub_(0.5)
    assert_same(outcome(layer, xs), found[0], tolerance=1e-12)


def test_a_value_that_is_part_of_a_constant_is_not_kept() -> None:
    graph = Graph()
    weight = graph.placeholder("weight")
    row = graph.call_function(torch.ops.aten.select.int, (weight, 0, 0))
    prologue = Prologue({weight: 0}, [row], [row])
    constant = torch.zeros(2, 3)
    prologue([constant], {})
    constant.add_(1)
    assert torch.equal(prologue([constant], {})[0], torch.ones(3))
    constant.data = torch.zeros(2, 3)
    assert torch.equal(prologue([constant], {})[0], torch.zeros(3))
