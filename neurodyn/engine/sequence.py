"""A compiled program over a whole sequence, with its backward pass."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..progress import Quiet
from .program import Program


class Chunks:
    """The compiled chunks for T steps: as many long ones as fit, then single steps.

    Args:
        program, net: see `Program`.
        T: number of steps.
        wanted: which inputs get a gradient; ``None`` when no backward pass can follow.
        keep: states are kept for the backward pass every `keep` steps (at least a chunk); others are computed again.
        long: the steps of a long chunk, if not those of the program.

    Attributes:
        progress: told about the steps done.
    """

    progress: Any = Quiet()

    def __init__(
        self,
        program: Program,
        net: nn.Module,
        T: int,
        wanted: tuple[bool, ...] | None = None,
        keep: int = 1,
        long: int | None = None,
    ):
        long = long or program.steps
        self.sizes = [long] * (T // long) + [1] * (T % long)
        self.stride = max(1, keep // long)
        kinds = set(self.sizes)
        self.forward = {n: program.forward(net, n) for n in kinds}
        self.backward = {n: program.backward(net, n, wanted) for n in kinds} if wanted is not None else {}

    def split(self, tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """The slices that each chunk reads."""
        slices = [tensor.split(self.sizes) for tensor in tensors]
        return list(zip(*slices, strict=True)) if slices else [()] * len(self.sizes)

    def rows(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """The slices that each chunk writes, of one step after the other."""
        steps = list(zip(*(tensor.unbind(0) for tensor in tensors), strict=True))
        starts = itertools.accumulate(self.sizes, initial=0)
        return [[x for row in steps[i : i + n] for x in row] for i, n in zip(starts, self.sizes, strict=False)]


class TimeLoop(torch.autograd.Function):
    """``(program, chunks, counts, *states, *constants, *xs) -> (*outs, *states)``."""

    @staticmethod
    def forward(ctx: Any, program: Program, chunks: Chunks, *tensors: Tensor) -> tuple[Tensor, ...]:
        states, constants, xs = _parts(program, tensors)
        batch = states[0].shape[: len(program.batch)]
        outs = [layout.empty(batch, sum(chunks.sizes)) for layout in program.outs]
        kept = []
        x_of, out_of = chunks.split(xs), chunks.rows(outs)
        forward = {n: folded.bind(constants) for n, folded in chunks.forward.items()}
        for i, size in enumerate(chunks.sizes):
            if i % chunks.stride == 0 and chunks.backward:
                kept.append(states)
            states = list(forward[size](*states, *constants, *x_of[i], *out_of[i]))
            chunks.progress.update(size)
        ctx.program, ctx.chunks, ctx.kept = program, chunks, kept
        ctx.save_for_backward(*constants, *xs)
        return (*outs, *states)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        program, chunks = ctx.program, ctx.chunks
        if torch.is_grad_enabled():
            raise RuntimeError("unroll: the compiled loop has no second derivatives; use unroll(..., compile=False)")
        n = len(program.outs)
        saved = ctx.saved_tensors
        constants, xs = saved[: len(program.constants)], saved[len(program.constants) :]
        wanted = ctx.needs_input_grad[-len(xs) :] if xs else ()
        grad_outs, grad_states = [g.contiguous() for g in grads[:n]], [g.contiguous() for g in grads[n:]]
        grad_xs = [torch.empty_like(x) for x, want in zip(xs, wanted, strict=True) if want]
        sums = [torch.zeros_like(constants[i]) for i in program.learned]
        x_of, grad_out_of, grad_x_of = chunks.split(xs), chunks.split(grad_outs), chunks.rows(grad_xs)
        forward = {n: folded.bind(constants) for n, folded in chunks.forward.items()} if chunks.stride > 1 else {}
        backward = {n: folded.bind(constants) for n, folded in chunks.backward.items()}
        for first in reversed(range(0, len(chunks.sizes), chunks.stride)):
            states = [ctx.kept.pop()]
            last = min(first + chunks.stride, len(chunks.sizes)) - 1
            for i in range(first, last):  # the states in between were not kept
                scratch = [torch.empty_like(grad) for row in zip(*grad_out_of[i], strict=True) for grad in row]
                states.append(list(forward[chunks.sizes[i]](*states[-1], *constants, *x_of[i], *scratch)))
            for i in range(last, first - 1, -1):
                inputs = *states.pop(), *constants, *x_of[i], *grad_states, *grad_out_of[i], *grad_x_of[i], *sums
                grad_states = list(backward[chunks.sizes[i]](*inputs))
        by_constant = dict(zip(program.learned, sums, strict=True))
        given = iter(grad_xs)
        return (
            None,
            None,
            *grad_states,
            *(by_constant.get(i) for i in range(len(constants))),
            *(next(given) if want else None for want in wanted),
        )


def _parts(program: Program, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    n, m = len(program.states), len(program.states) + len(program.constants)
    laid_out = [tensor.contiguous() for tensor in tensors]  # the layout that the program was traced with
    return laid_out[:n], laid_out[n:m], laid_out[m:]


def run(
    program: Program,
    net: nn.Module,
    states: list[Tensor],
    constants: list[Tensor],
    xs: list[Tensor],
    keep: int,
    progress: Any,
):
    """Outputs and final states of `net` over the sequence `xs`; differentiable once."""
    tensors = (*states, *constants, *xs)
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    wanted = tuple(x.requires_grad for x in xs) if differentiable else None
    chunks = Chunks(program, net, len(xs[0]), wanted, keep)
    chunks.progress = progress
    results = TimeLoop.apply(program, chunks, *tensors)
    return results[: len(program.outs)], results[len(program.outs) :]
