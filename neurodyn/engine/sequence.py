"""A compiled program over a whole sequence, with its backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ..progress import Quiet
from .capture import in_a_graph, is_worth
from .chunks import Cut, chunks_for
from .donation import for_the_last_time
from .passes import Ahead, ahead, back, split
from .program import Program
from .prologue import Known
from .sweep import Each

#: Elements of values up to which they are kept for the backward pass. Where there are larger ones, such as packed
#: weights, none is kept: to compute the small ones again takes no time there, and they would lie between what is freed.
_SMALL = 2**12


class TimeLoop(torch.autograd.Function):
    """``(program, cut, progress, *states, *constants, *xs) -> (*outs, *states)``."""

    @staticmethod
    def forward(ctx: Any, program: Program, cut: Cut, progress: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        laid_out = [tensor.contiguous() for tensor in tensors]  # the layout that the program was traced with
        states, constants, xs = split(laid_out, len(program.states), len(program.constants))
        changing, known = [*states, *xs], {}
        outs, states, products, kept = maybe_in_a_graph(program, cut, changing, constants, known, progress)
        ctx.known = known if all(value.numel() <= _SMALL for value in known.values()) else {}
        ctx.program, ctx.cut, ctx.kept = program, cut, [part._replace(tensors=()) for part in kept]
        ctx.lengths = [len(kind) for kind in (xs, products, *(part.tensors for part in kept))]
        ctx.save_for_backward(*constants, *xs, *products, *(tensor for part in kept for tensor in part.tensors))
        return (*outs, *states)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        program, cut = ctx.program, ctx.cut
        if torch.is_grad_enabled():
            raise RuntimeError("unroll: the compiled loop has no second derivatives; use unroll(..., compile=False)")
        saved, n = [x.contiguous() for x in ctx.saved_tensors], len(program.constants)
        changing, constants = [*(grad.contiguous() for grad in grads), *saved[n:]], saved[:n]
        wanted = ctx.needs_input_grad[-len(program.xs) :]
        if cut.donated and not for_the_last_time():
            cut = cut._replace(donated=False)
        function = partial(back, program, cut, wanted, ctx.kept, ctx.lengths)
        stacked = all(isinstance(part, Each) for part in ctx.kept)
        worth = stacked and is_worth(cut.chunks.launches, changing, lambda: sum(grad.nbytes for grad in grads))
        found = in_a_graph(function, ("backward", cut.chunks), changing, constants) if worth else None
        grad_states, sums, grad_xs = function(changing, constants, dict(ctx.known)) if found is None else found
        by_constant, given = dict(zip(program.learned, sums, strict=True)), iter(grad_xs)
        return (
            None,
            None,
            None,
            *grad_states,
            *(by_constant.get(i) for i in range(n)),
            *(next(given) if want else None for want in wanted),
        )


def is_for_a_graph(program: Program, cut: Cut, changing: list[Tensor]) -> bool:
    """Whether `ahead` is worth a CUDA graph; this depends on sizes alone."""
    batch, T = changing[0].shape[: len(program.batch)], changing[-1].shape[0]
    return is_worth(cut.chunks.launches, changing, lambda: cut.chunks.nbytes(program, batch, T))


def maybe_in_a_graph(
    program: Program,
    cut: Cut,
    changing: list[Tensor],
    constants: Sequence[Tensor],
    known: Known | None = None,
    progress: Any = Quiet(),
) -> Ahead:
    """`ahead`, in a CUDA graph where that is worth it."""
    worth = is_for_a_graph(program, cut, changing)
    function = partial(ahead, program, cut, worth)  # as many tensors are saved in a graph as without
    found = in_a_graph(function, ("forward", cut.chunks), changing, constants) if worth else None
    if found is None:
        return function(changing, constants, known, progress)
    progress.update(len(changing[-1]))
    return found


def run(
    program: Program,
    net: nn.Module,
    states: list[Tensor],
    constants: list[Tensor],
    xs: list[Tensor],
    progress: Any,
    donated: bool,
):
    """Outputs and final states of `net` over the sequence `xs`; differentiable once.

    If `xs` are `donated`, so that nobody else reads them, their gradients may be written in their place.
    """
    tensors = (*states, *constants, *xs)
    differentiable = torch.is_grad_enabled() and any([t.requires_grad for t in tensors])
    wanted = tuple([x.requires_grad for x in xs]) if differentiable else None
    chunks = chunks_for(program, net, xs[0].shape[0], wanted)
    if not differentiable and forward_ad._current_level < 0:
        states, xs, constants = [[x.contiguous() for x in kind] for kind in (states, xs, constants)]
        return maybe_in_a_graph(program, chunks.whole, [*states, *xs], constants, None, progress)[:2]
    cut = chunks.cut(program, states[0].shape[: len(program.batch)], donated)
    results = TimeLoop.apply(program, cut, progress, *tensors)
    return results[: len(program.outs)], results[len(program.outs) :]
