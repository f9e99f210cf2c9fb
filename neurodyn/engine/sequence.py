"""A compiled program over a whole sequence, with its backward pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..progress import Quiet
from .capture import in_a_graph, is_worth
from .chunk import Folded
from .pages import huge
from .program import Program
from .prologue import Known
from .sweep import Carried, Each, Fixed, Listed, Part, Span, sweep

_KEPT = 256  # lengths of sequences

#: Outputs, final states, matrix products, and the states before each chunk.
Ahead = tuple[list[Tensor], list[Tensor], list[Tensor], Sequence[Part]]


class Chunks:
    """The compiled chunks for T steps: as many long ones as fit, then single steps.

    On the CPU, with more than one thread, single steps are compiled with the first long chunks, so that no other T will
    have to be compiled for. On a GPU, where each call costs a launch, chunks of twice and half the length are used too.

    Args:
        program, net: see `Program`.
        T: number of steps.
        wanted: which inputs get a gradient; ``None`` when no backward pass can follow.
        long: the steps of a long chunk, if not those of the program, and then no matrix products are kept.

    Attributes:
        stretches: ``(first step, steps of a chunk, chunks)`` for each length of chunks, from the longest on.
        launches: of kernels in the forward pass, about; 0 if a chunk does anything else.
    """

    def __init__(
        self,
        program: Program,
        net: nn.Module,
        T: int,
        wanted: tuple[bool, ...] | None = None,
        long: int | None = None,
    ):
        self.products = program.products if long is None else []
        steps, on_cpu = long or program.steps, all(state.device.type == "cpu" for state in program.states)
        self.stretches = _stretches(T, (steps, 1) if on_cpu or long else (2 * steps, steps, steps // 2, 1))
        kinds, keeping = {steps for _, steps, _ in self.stretches}, bool(self.products)
        if on_cpu and torch.get_num_threads() > 1:
            kinds.add(1)
        forward = {n: program.forward(net, n, keeping) for n in kinds}
        backward = {n: program.backward(net, n, wanted, keeping) for n in kinds} if wanted is not None else {}
        self.forward, self.backward = ({n: kind[n].result() for n in kind} for kind in (forward, backward))
        plain = all(folded.launches for kind in (self.forward, self.backward) for folded in kind.values())
        self.launches = plain * sum(n * self.forward[steps].launches for _, steps, n in self.stretches)

    def saved(self, batch: tuple[int, ...], T: int) -> list[Tensor]:
        """Room for the matrix products of `T` steps, if a backward pass can follow."""
        return [huge(layout.empty(batch, T)) for layout in self.products] if self.backward else []

    def unsaved(self, batch: tuple[int, ...], steps: int) -> list[Tensor]:
        """Room for the matrix products of one chunk, which nobody reads."""
        return [] if self.backward else [layout.empty(batch) for _ in range(steps) for layout in self.products]


def _stretches(T: int, lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    found, first = [], 0
    for steps in lengths:
        if n := (T - first) // steps if steps else 0:
            found.append((first, steps, n))
            first += n * steps
    return found


def chunks_for(
    program: Program, net: nn.Module, T: int, wanted: tuple[bool, ...] | None = None, long: int | None = None
) -> Chunks:
    """`Chunks`, the same for the same arguments."""
    key = T, wanted, long
    if (chunks := program.sequences.get(key)) is None:
        if len(program.sequences) >= _KEPT:
            program.sequences.clear()
        chunks = program.sequences[key] = Chunks(program, net, T, wanted, long)
    return chunks


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
    batch, keep = states[0].shape[: len(program.batch)], bool(chunks.backward)
    for first, steps, n in chunks.stretches:
        folded = chunks.forward[steps]
        x, out, product = _between(first, first + steps * n, xs, outs, products)
        written = Each(out, steps), Each(product, steps), Fixed(chunks.unsaved(batch, steps))
        parts = Carried, Fixed(constants), Span(x, steps), *written, Fixed(values(folded))
        states, some = sweep(folded, parts, states, range(n), keep, partial(progress.update, steps))
        kept.append(some)
    return states, kept


class TimeLoop(torch.autograd.Function):
    """``(program, chunks, progress, *states, *constants, *xs) -> (*outs, *states)``."""

    @staticmethod
    def forward(ctx: Any, program: Program, chunks: Chunks, progress: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        laid_out = [tensor.contiguous() for tensor in tensors]  # the layout that the program was traced with
        states, constants, xs = _split(laid_out, len(program.states), len(program.constants))
        ctx.known = {}  # for the backward pass
        changing = [*states, *xs]
        outs, states, products, kept = maybe_in_a_graph(program, chunks, changing, constants, ctx.known, progress)
        states = [s.clone() if any(s is other for other in states[:i]) else s for i, s in enumerate(states)]
        ctx.program, ctx.chunks, ctx.kept = program, chunks, [part._replace(tensors=()) for part in kept]
        ctx.lengths = [len(kind) for kind in (constants, xs, products, *(part.tensors for part in kept))]
        ctx.save_for_backward(*constants, *xs, *products, *(tensor for part in kept for tensor in part.tensors))
        return (*outs, *states)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        program, chunks = ctx.program, ctx.chunks
        if torch.is_grad_enabled():
            raise RuntimeError("unroll: the compiled loop has no second derivatives; use unroll(..., compile=False)")
        constants, xs, products, *starts, _ = _split([x.contiguous() for x in ctx.saved_tensors], *ctx.lengths)
        kept = [part._replace(tensors=start) for part, start in zip(ctx.kept, starts, strict=True)]
        laid_out = [grad.contiguous() for grad in grads]
        wanted = ctx.needs_input_grad[-len(xs) :]
        lengths = len(laid_out), len(xs), len(products)
        back = partial(_back, program, chunks, wanted, lengths, kept)
        changing, kind = [*laid_out, *xs, *products, *itertools.chain(*starts)], ("backward", chunks)
        worth = all(isinstance(part, Each) for part in kept) and is_worth(chunks.launches, changing)
        found = in_a_graph(back, kind, changing, constants) if worth else None
        grad_states, sums, grad_xs = back(changing, constants, ctx.known) if found is None else found
        by_constant, given = dict(zip(program.learned, sums, strict=True)), iter(grad_xs)
        return (
            None,
            None,
            None,
            *grad_states,
            *(by_constant.get(i) for i in range(len(constants))),
            *(next(given) if want else None for want in wanted),
        )


def maybe_in_a_graph(
    program: Program,
    chunks: Chunks,
    changing: list[Tensor],
    constants: Sequence[Tensor],
    known: Known | None = None,
    progress: Any = Quiet(),
) -> Ahead:
    """`ahead`, in a CUDA graph where that is worth it."""
    worth = is_worth(chunks.launches, changing)
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
    batch, T = states[0].shape[: len(program.batch)], len(xs[0])
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
    return outs, list(states), products, kept


def _back(
    program: Program,
    chunks: Chunks,
    wanted: Sequence[bool],
    lengths: Sequence[int],
    kept: Sequence[Part],
    changing: Sequence[Tensor],
    constants: Sequence[Tensor],
    known: Known | None = None,
) -> tuple[Any, ...]:
    """From the gradients of outputs and final states: those of the states, of learned constants, and of `wanted` xs."""
    known = {} if known is None else known
    grads, xs, products, *starts, _ = _split(changing, *lengths, *(len(part.tensors) for part in kept))
    kept = [part._replace(tensors=start) for part, start in zip(kept, starts, strict=True)]
    grad_outs, grad_states = _split(grads, len(program.outs))
    grad_xs = [huge(torch.empty_like(x)) for x, want in zip(xs, wanted, strict=True) if want]
    sums = [torch.zeros_like(constants[i]) for i in program.learned]
    for (first, steps, n), start in zip(reversed(chunks.stretches), reversed(kept), strict=True):
        folded = chunks.backward[steps]
        x, grad_out, grad_x, product = _between(first, first + steps * n, xs, grad_outs, grad_xs, products)
        reads = Fixed(constants), Span(x, steps)
        writes = Span(grad_out, steps), Each(grad_x, steps), Fixed(sums), Each(product, steps)
        parts = start, *reads, Carried, *writes, Fixed(folded.prologue(constants, known))
        grad_states, _ = sweep(folded, parts, grad_states, range(n)[::-1])
    return list(grad_states), sums, grad_xs


def _between(first: int, last: int, *kinds: Sequence[Tensor]) -> list[list[Tensor]]:
    """The steps from `first` to `last` of tensors with time in front."""
    return [[tensor if last - first == len(tensor) else tensor[first:last] for tensor in kind] for kind in kinds]


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
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    wanted = tuple(x.requires_grad for x in xs) if differentiable else None
    chunks = chunks_for(program, net, len(xs[0]), wanted)
    results = TimeLoop.apply(program, chunks, progress, *tensors)
    return results[: len(program.outs)], results[len(program.outs) :]
