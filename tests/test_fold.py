"""What depends on constants alone: computed once, for both passes, and on a GPU only if it is large."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

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
