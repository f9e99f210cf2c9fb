"""The backward pass of a program without its chunks: the traced step, run operator by operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from .chunk_graphs import floating_states
from .tracing import TracedStep


def interpreted_backward(
    step: TracedStep,
    constants: Sequence[Tensor],
    xs: Sequence[Tensor],
    states: Sequence[Tensor],
    grad_outs: Sequence[Tensor],
    grad_states: Sequence[Tensor],
) -> list[Tensor]:
    """The gradients of the signature's sources, for gradients that may stand for many each (torch.vmap).

    Time and memory go with T: the states before every step are kept. It is for ``torch.autograd.grad(...,
    is_grads_batched=True)``, whose gradients have no address that a compiled chunk could read.
    """
    signature, n, k, T = step.signature, len(step.signature.states), len(step.outs), len(xs[0])
    forward, backward = _first_results(step.graph, k + n), fx.GraphModule({}, step.graph)
    before = [list(states)]
    for t in range(T):
        results = forward(*before[-1], *constants, *[x[t] for x in xs], *[None] * len(step.differentiable))
        before.append(list(results[k:]))
    floating = floating_states(signature.states)
    carried = dict(zip(floating, grad_states, strict=True))
    sums: list[Tensor | None] = [None] * len(signature.learned or ())
    of_xs: list[list[Tensor]] = [[] for _ in signature.wanted]
    for t in reversed(range(T)):
        given = iter(grad_outs)
        grads = [next(given)[t] if i < k else carried[i - k] for i in step.differentiable]
        x = [value[t] for value in xs]
        pulled = iter(backward(*before[t], *constants, *x, *grads)[k + n :])
        for i in floating:
            grad = next(pulled)
            carried[i] = torch.zeros_like(before[t][i]) if grad is None else grad
        for i in range(len(sums)):
            grad = next(pulled)
            sums[i] = grad if sums[i] is None else sums[i] + grad
        for row, value in zip(of_xs, [x[i] for i in signature.wanted], strict=True):
            grad = next(pulled)
            row.insert(0, torch.zeros_like(value) if grad is None else grad)
    learned = [constants[i] for i in signature.learned or ()]
    totals = [torch.zeros_like(c) if total is None else total for c, total in zip(learned, sums, strict=True)]
    return [*carried.values(), *totals, *map(torch.stack, of_xs)]


def _first_results(graph: fx.Graph, n: int) -> fx.GraphModule:
    """The first n results of a graph."""
    copy = fx.Graph()
    results = copy.graph_copy(graph, {})
    copy.output(list(results)[:n])  # type: ignore[arg-type]
    copy.eliminate_dead_code()
    return fx.GraphModule({}, copy)
