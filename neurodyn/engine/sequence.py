"""A compiled program over a whole sequence, with its backward pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from ..progress import Quiet
from .capture import in_a_graph, is_worth
from .chunks import Cut, chunks_for
from .donation import for_the_last_time
from .passes import Ahead, ahead, back
from .program import Program
from .prologue import Known
from .sweep import Listed
from .trace import plain

_alive = torch._C._functorch.unwrap_if_dead  # type: ignore[attr-defined]  # what is left over from a transform


class Call(NamedTuple):
    """What a call depends on besides its tensors, and those that need no gradient.

    Attributes:
        final: a list for the final states, if nobody will ask for their gradient.
    """

    program: Program
    cut: Cut
    constants: Sequence[Tensor]
    known: Known | None
    progress: Any
    final: list[Tensor] | None


class TimeLoop(torch.autograd.Function):
    """``(call, *states, *learned, *xs) -> (*outs, *states)``; the learned ones are among the constants as well."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        program, cut, constants, known, progress, final = call
        n, m = len(program.states), len(program.states) + len(program.learned)
        changing = [*tensors[:n], *tensors[m:]]
        outs, states, products, kept = maybe_in_a_graph(program, cut, changing, constants, known, progress)
        ctx.program, ctx.cut, ctx.known, ctx.kinds = program, cut, known, [kind for kind, _ in kept]
        ctx.batch = tensors[0].shape[: len(program.batch)]
        parts = changing[n:], products, *[start for _, start in kept]
        ctx.lengths = [len(part) for part in parts]
        ctx.save_for_backward(*constants, *itertools.chain(*parts))
        if final is None:
            return (*outs, *states)
        final += states
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        program, cut = ctx.program, ctx.cut
        if torch.is_grad_enabled():
            raise RuntimeError("unroll: the compiled loop has no second derivatives; use unroll(..., compile=False)")
        saved, n = list(map(Tensor.contiguous, ctx.saved_tensors)), len(program.constants)  # a hook may have had them
        changing, constants = plain(grads), saved[:n]
        if len(grads) == len(program.outs):  # the final states have no gradient
            changing += program.zeros(ctx.batch)
        changing += saved[n:]
        wanted = ctx.needs_input_grad[-len(program.xs) :]
        if cut.donated and not for_the_last_time():
            cut = cut._replace(donated=False)
        function = partial(back, program, cut, wanted, ctx.kinds, ctx.lengths)
        found = None
        if not cut.chunks.on_cpu and not any(isinstance(kind, Listed) for kind in ctx.kinds):
            if is_worth(cut.chunks.launches, changing, lambda: sum(grad.nbytes for grad in grads)):
                found = in_a_graph(function, ("backward", cut.chunks), changing, constants)
        grad_states, sums, grad_xs = function(changing, constants, ctx.known) if found is None else found
        given = iter(grad_xs)
        return None, *grad_states, *sums, *[next(given) if want else None for want in wanted]


#: `TimeLoop.apply` without its steps for transforms of torch.func, in which it is not called.
_apply = super(torch.autograd.Function, TimeLoop).apply  # type: ignore[misc]


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
    if cut.chunks.on_cpu:
        return ahead(program, cut, False, changing, constants, known, progress)
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
    start: Callable[[], list[Tensor]],
    reset: bool,
    constants: list[Tensor],
    xs: list[Tensor],
    progress: Any,
    attached: bool,
    donated: bool,
):
    """Outputs and final states of `net` over the sequence `xs`; differentiable once, the states if `attached`.

    Args:
        start: gives the first states.
        reset: whether these are the initial ones of `net`.
        donated: nobody else reads `xs`, so that their gradients may be written in their place.
    """
    initial = program.initial if reset else None
    states = [] if initial else start()
    tensors = (*states, *constants, *xs)
    differentiable = torch.is_grad_enabled() and any([t.requires_grad for t in tensors])
    if forward_ad._current_level >= 0 and any(_has_tangent(t) for t in tensors):
        raise RuntimeError("unroll: the compiled loop has no forward derivatives; use unroll(..., compile=False)")
    wanted = tuple([x.requires_grad for x in xs]) if differentiable else None
    chunks = chunks_for(program, net, xs[0].shape[0], wanted)
    learned, constants = [constants[i] for i in program.learned], plain(constants)
    known = chunks.values.known(constants)
    states = initial.states(constants, xs, start) if initial else plain(states)
    xs = plain(map(_alive, xs))
    if not differentiable:
        return maybe_in_a_graph(program, chunks.whole, [*states, *xs], constants, known, progress)[:2]
    cut = chunks.cut(program, states[0].shape[: len(program.batch)], donated and any(wanted or ()))
    final: list[Tensor] | None = None if attached else []
    results = _apply(Call(program, cut, constants, known, progress, final), *states, *learned, *xs)
    return results[: len(program.outs)], results[len(program.outs) :] if final is None else final


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None
