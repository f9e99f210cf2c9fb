"""A compiled program over a whole sequence, with its backward pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ..progress import Quiet
from .capture import in_a_graph, is_worth
from .chunk import Folded
from .chunks import Chunks, chunks_for
from .pages import huge
from .program import Program
from .prologue import Known
from .sweep import Carried, Each, Fixed, Listed, Part, Span, sweep

#: Elements of values up to which they are kept for the backward pass. Where there are larger ones, such as packed
#: weights, none is kept: to compute the small ones again takes no time there, and they would lie between what is freed.
_SMALL = 2**12

#: Outputs, final states, matrix products, and the states before each chunk.
Ahead = tuple[list[Tensor], list[Tensor], list[Tensor], Sequence[Part]]


def onward(
    program: Program,
    chunks: Chunks,
    states: Sequence[Tensor],
    constants: Sequence[Tensor],
    xs: Sequence[Tensor],
    outs: Sequence[Tensor],
    values: Callable[[Folded], Sequence[Tensor]],
    products: Sequence[Tensor] = (),
    progress: Any = Quiet(),
) -> tuple[Sequence[Tensor], list[Part]]:
    """Write the outputs of all steps: the final states, and those before each chunk of each stretch, if kept.

    `values` gives what the prologue of a chunk makes of the constants.
    """
    kept: list[Part] = []
    sizes, keep = program.sizes(states, constants), bool(chunks.backward)
    for first, steps, n in chunks.stretches:
        folded = chunks.forward[steps]
        x, out, product = _between(first, first + steps * n, xs, outs, products)
        written = Each(out, steps), Each(product, steps), Fixed(chunks.unsaved(sizes, steps))
        parts = Carried, Fixed(constants), Span(x, steps), *written, Fixed(values(folded))
        states, some = sweep(folded, sizes, parts, states, range(n), keep, partial(_update, progress, steps))
        kept.append(some)
    return states, kept


class TimeLoop(torch.autograd.Function):
    """``(program, chunks, progress, *states, *constants, *xs) -> (*outs, *states)``."""

    @staticmethod
    def forward(ctx: Any, program: Program, chunks: Chunks, progress: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        laid_out = [tensor.contiguous() for tensor in tensors]  # the layout that the program was traced with
        states, constants, xs = _split(laid_out, len(program.states), len(program.constants))
        changing, known = [*states, *xs], {}
        outs, states, products, kept = maybe_in_a_graph(program, chunks, changing, constants, known, progress)
        ctx.known = known if all(value.numel() <= _SMALL for value in known.values()) else {}
        ctx.program, ctx.chunks, ctx.kept = program, chunks, [part._replace(tensors=()) for part in kept]
        ctx.lengths = [len(kind) for kind in (xs, products, *(part.tensors for part in kept))]
        ctx.save_for_backward(*constants, *xs, *products, *(tensor for part in kept for tensor in part.tensors))
        return (*outs, *states)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        program, chunks = ctx.program, ctx.chunks
        if torch.is_grad_enabled():
            raise RuntimeError("unroll: the compiled loop has no second derivatives; use unroll(..., compile=False)")
        saved, n = [x.contiguous() for x in ctx.saved_tensors], len(program.constants)
        changing, constants = [*(grad.contiguous() for grad in grads), *saved[n:]], saved[:n]
        wanted = ctx.needs_input_grad[-len(program.xs) :]
        back = partial(_back, program, chunks, wanted, ctx.kept, ctx.lengths)
        stacked = all(isinstance(part, Each) for part in ctx.kept)
        worth = stacked and is_worth(chunks.launches, changing, lambda: sum(grad.nbytes for grad in grads))
        found = in_a_graph(back, ("backward", chunks), changing, constants) if worth else None
        grad_states, sums, grad_xs = back(changing, constants, dict(ctx.known)) if found is None else found
        by_constant, given = dict(zip(program.learned, sums, strict=True)), iter(grad_xs)
        return (
            None,
            None,
            None,
            *grad_states,
            *(by_constant.get(i) for i in range(n)),
            *(next(given) if want else None for want in wanted),
        )


def is_for_a_graph(program: Program, chunks: Chunks, changing: list[Tensor]) -> bool:
    """Whether `ahead` is worth a CUDA graph; this depends on sizes alone."""
    batch, T = changing[0].shape[: len(program.batch)], changing[-1].shape[0]
    return is_worth(chunks.launches, changing, lambda: chunks.nbytes(program, batch, T))


def maybe_in_a_graph(
    program: Program,
    chunks: Chunks,
    changing: list[Tensor],
    constants: Sequence[Tensor],
    known: Known | None = None,
    progress: Any = Quiet(),
) -> Ahead:
    """`ahead`, in a CUDA graph where that is worth it."""
    worth = is_for_a_graph(program, chunks, changing)
    function = partial(ahead, program, chunks, worth)  # as many tensors are saved in a graph as without
    found = in_a_graph(function, ("forward", chunks), changing, constants) if worth else None
    if found is None:
        return function(changing, constants, known, progress)
    progress.update(len(changing[-1]))
    return found


def ahead(
    program: Program,
    chunks: Chunks,
    stacked: bool,
    changing: Sequence[Tensor],
    constants: Sequence[Tensor],
    known: Known | None = None,
    progress: Any = Quiet(),
) -> Ahead:
    """From states and xs: the outputs of all steps, the final states, and for the backward pass products and states.

    The latter lie each in a tensor of its own, or `stacked`. `known` takes what prologues have computed.
    """
    known = {} if known is None else known
    states, xs = _split(changing, len(program.states))
    batch, T = states[0].shape[: len(program.batch)], xs[0].shape[0]
    outs, products = [huge(layout.empty(batch, T)) for layout in program.outs], chunks.saved(batch, T)
    states, kept = onward(
        program,
        chunks,
        states,
        constants,
        xs,
        outs,
        lambda folded: folded.prologue(constants, known),
        products,
        progress,
    )
    if stacked:
        kept = [part.stacked() if isinstance(part, Listed) else part for part in kept]
    states = [s.clone() if any(s is other for other in states[:i]) else s for i, s in enumerate(states)]
    return outs, states, products, kept


def _back(
    program: Program,
    chunks: Chunks,
    wanted: Sequence[bool],
    kept: Sequence[Part],
    lengths: Sequence[int],
    changing: Sequence[Tensor],
    constants: Sequence[Tensor],
    known: Known | None = None,
) -> tuple[Any, ...]:
    """From the gradients of outputs and final states: those of the states, of learned constants, and of `wanted` xs."""
    known = {} if known is None else known
    n = len(program.outs)
    grad_outs, grad_states, xs, products, *starts, _ = _split(changing, n, len(program.states), *lengths)
    kept = [part._replace(tensors=start) for part, start in zip(kept, starts, strict=True)]
    grad_xs = [huge(torch.empty_like(x)) for x, want in zip(xs, wanted, strict=True) if want]
    sums, sizes = [torch.zeros_like(constants[i]) for i in program.learned], program.sizes(grad_states, constants)
    for (first, steps, n), start in zip(reversed(chunks.stretches), reversed(kept), strict=True):
        folded = chunks.backward[steps]
        x, grad_out, grad_x, product = _between(first, first + steps * n, xs, grad_outs, grad_xs, products)
        reads = Fixed(constants), Span(x, steps)
        writes = Span(grad_out, steps), Each(grad_x, steps), Fixed(sums), Each(product, steps)
        parts = start, *reads, Carried, *writes, Fixed(folded.prologue(constants, known))
        grad_states, _ = sweep(folded, sizes, parts, grad_states, range(n)[::-1])
    return list(grad_states), sums, grad_xs


def _update(progress: Any, steps: int, chunks: int) -> None:
    progress.update(steps * chunks)


def _between(first: int, last: int, *kinds: Sequence[Tensor]) -> list[list[Tensor]]:
    """The steps from `first` to `last` of tensors with time in front."""
    whole = last - first == kinds[0][0].shape[0]
    return [list(kind) if whole else [tensor[first:last] for tensor in kind] for kind in kinds]


def _split(tensors: Sequence[Tensor], *lengths: int) -> list[Sequence[Tensor]]:
    ends = [0, *itertools.accumulate(lengths), len(tensors)]
    return [tensors[start:end] for start, end in itertools.pairwise(ends)]


def run(
    program: Program,
    net: nn.Module,
    states: list[Tensor],
    constants: list[Tensor],
    xs: list[Tensor],
    progress: Any,
):
    """Outputs and final states of `net` over the sequence `xs`; differentiable once."""
    tensors = (*states, *constants, *xs)
    differentiable = torch.is_grad_enabled() and any([t.requires_grad for t in tensors])
    wanted = tuple([x.requires_grad for x in xs]) if differentiable else None
    chunks = chunks_for(program, net, xs[0].shape[0], wanted)
    if not differentiable and forward_ad._current_level < 0:
        states, xs, constants = [[x.contiguous() for x in kind] for kind in (states, xs, constants)]
        return maybe_in_a_graph(program, chunks, [*states, *xs], constants, None, progress)[:2]
    results = TimeLoop.apply(program, chunks, progress, *tensors)
    return results[: len(program.outs)], results[len(program.outs) :]
