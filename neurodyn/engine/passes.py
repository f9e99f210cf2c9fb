"""The forward and the backward pass of a compiled program over a sequence, stretch by stretch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..progress import Quiet
from .chunk import Folded
from .chunks import Chunks, Cut
from .pages import huge
from .program import Program
from .prologue import Known
from .sweep import Carried, Each, Fixed, Listed, Part, Span, sweep

#: Outputs, final states, matrix products, and the states that the backward pass of each stretch starts from.
Ahead = tuple[list[Tensor], list[Tensor], list[Tensor], Sequence[Part]]


def onward(
    program: Program,
    cut: Cut,
    states: Sequence[Tensor],
    constants: Sequence[Tensor],
    xs: Sequence[Tensor],
    outs: Sequence[Tensor],
    values: Callable[[Folded], Sequence[Tensor]],
    products: Sequence[Tensor] = (),
    progress: Any = Quiet(),
) -> tuple[Sequence[Tensor], list[Part]]:
    """Write the outputs of all steps: the final states, and for each stretch those that a backward pass starts from.

    These are the states before each chunk, or, if `cut` says that they are computed again, before the first one.
    `values` gives what the prologue of a chunk makes of the constants.
    """
    kept: list[Part] = []
    chunks, sizes = cut.chunks, program.sizes(states, constants)
    keep = bool(chunks.backward) and not cut.again
    for first, steps, n in cut.stretches:
        folded, before = chunks.forward[steps], states
        x, out, product = _between(first, first + steps * n, xs, outs, products)
        written = Each(out, steps), Each(product, steps), Fixed(chunks.unsaved(sizes, steps))
        parts = Carried, Fixed(constants), Span(x, steps), *written, Fixed(values(folded))
        states, some = sweep(folded, sizes, parts, states, range(n), keep, partial(_update, progress, steps))
        kept.append(Listed(before, len(before)) if cut.again else some)
    return states, kept


def ahead(
    program: Program,
    cut: Cut,
    stacked: bool,
    changing: Sequence[Tensor],
    constants: Sequence[Tensor],
    known: Known | None = None,
    progress: Any = Quiet(),
) -> Ahead:
    """From states and xs: the outputs of all steps, the final states, and for the backward pass products and states.

    The latter lie each in a tensor of its own, or `stacked`. `known` takes what prologues have computed.
    """
    states, xs = split(changing, len(program.states))
    batch, T = states[0].shape[: len(program.batch)], xs[0].shape[0]
    outs, products = [huge(layout.empty(batch, T)) for layout in program.outs], cut.chunks.saved(batch, T)
    values = _values(constants, known)
    states, kept = onward(program, cut, states, constants, xs, outs, values, products, progress)
    if stacked:
        kept = [part.stacked() if isinstance(part, Listed) else part for part in kept]
    states = [s.clone() if any(s is other for other in states[:i]) else s for i, s in enumerate(states)]
    return outs, states, products, kept


def back(
    program: Program,
    cut: Cut,
    wanted: Sequence[bool],
    kept: Sequence[Part],
    lengths: Sequence[int],
    changing: Sequence[Tensor],
    constants: Sequence[Tensor],
    known: Known | None = None,
) -> tuple[Any, ...]:
    """From the gradients of outputs and final states: those of the states, of learned constants, and of `wanted` xs."""
    values, n = _values(constants, known), len(program.outs)
    grad_outs, grad_states, xs, products, *starts, _ = split(changing, n, len(program.states), *lengths)
    kept = [part._replace(tensors=start) for part, start in zip(kept, starts, strict=True)]
    selected = [x for x, want in zip(xs, wanted, strict=True) if want]
    grad_xs = [x.detach() if cut.donated else huge(torch.empty_like(x)) for x in selected]
    sums, sizes = [torch.zeros_like(constants[i]) for i in program.learned], program.sizes(grad_states, constants)
    for (first, steps, n), start in zip(reversed(cut.stretches), reversed(kept), strict=True):
        folded = cut.chunks.backward[steps]
        x, grad_out, grad_x, product = _between(first, first + steps * n, xs, grad_outs, grad_xs, products)
        if cut.again:
            outs = [layout.empty(sizes, steps * n) for layout in program.outs]
            alone = Cut(cut.chunks, [(0, steps, n)])
            _, (start,) = onward(program, alone, start.tensors, constants, x, outs, values)
        written = [torch.empty_like(grad) for grad in grad_x] if cut.donated else grad_x
        reads = Fixed(constants), Span(x, steps)
        writes = Span(grad_out, steps), Each(written, steps), Fixed(sums), Each(product, steps)
        parts = start, *reads, Carried, *writes, Fixed(values(folded))
        grad_states, _ = sweep(folded, sizes, parts, grad_states, range(n)[::-1])
        if cut.donated:
            for grad, new in zip(grad_x, written, strict=True):
                grad.copy_(new)
    return list(grad_states), sums, grad_xs


def _values(constants: Sequence[Tensor], known: Known | None) -> Callable[[Folded], Sequence[Tensor]]:
    known = {} if known is None else known
    return lambda folded: folded.prologue(constants, known)


def _update(progress: Any, steps: int, chunks: int) -> None:
    progress.update(steps * chunks)


def _between(first: int, last: int, *kinds: Sequence[Tensor]) -> list[list[Tensor]]:
    """The steps from `first` to `last` of tensors with time in front."""
    whole = last - first == kinds[0][0].shape[0]
    return [list(kind) if whole else [tensor[first:last] for tensor in kind] for kind in kinds]


def split(tensors: Sequence[Tensor], *lengths: int) -> list[Sequence[Tensor]]:
    ends = [0, *itertools.accumulate(lengths), len(tensors)]
    return [tensors[start:end] for start, end in itertools.pairwise(ends)]
