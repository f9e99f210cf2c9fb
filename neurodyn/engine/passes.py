"""The forward and the backward pass of a compiled program over a sequence, stretch by stretch."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..progress import Quiet
from .chunk import Folded
from .chunks import Cut
from .pages import huge
from .program import Program
from .prologue import Known
from .rerun import Note
from .sweep import CARRIED, FIXED, Each, Kind, Listed, Part, Span, sweep

#: Outputs, final states, matrix products, and what the backward pass of each stretch starts from.
Ahead = tuple[list[Tensor], list[Tensor], list[Tensor], list[Part]]


@functools.cache
def _forward(steps: int) -> tuple[Kind | None, ...]:
    """States, constants, xs, outs, products of each step, or room for these, and values."""
    return None, FIXED, Span(steps), Each(steps), Each(steps), FIXED, FIXED


@functools.cache
def _backward(steps: int, start: Kind) -> tuple[Kind | None, ...]:
    """Start, constants, xs, gradients of states, outs and xs, sums, products, and values."""
    return start, FIXED, Span(steps), None, Span(steps), Each(steps), FIXED, Each(steps), FIXED


def onward(
    cut: Cut,
    sizes: tuple[int, ...],
    states: Sequence[Tensor],
    constants: Sequence[Tensor],
    xs: Sequence[Tensor],
    outs: Sequence[Tensor],
    known: Known,
    products: Sequence[Tensor] = (),
    progress: Any = Quiet(),
    notes: list[Note | None] | None = None,
) -> tuple[Sequence[Tensor], list[Part]]:
    """Write the outputs of all steps: the final states, and for each stretch those that a backward pass starts from.

    These are the states before each chunk, or, if `cut` says that they are computed again, before the first one.
    `sizes` are the free ones; `known` takes what is computed from the constants beforehand, and `notes` what was done.
    """
    kept: list[Part] = []
    chunks = cut.chunks
    keep = bool(chunks.backward) and not cut.again
    for first, steps, n in cut.stretches:
        folded, before = chunks.forward[steps], states
        x, out, product = _between(first, first + steps * n, xs, outs, products)
        parts = (), constants, x, out, product, chunks.unsaved(sizes, steps), folded.prologue(constants, known)
        states, got = sweep(folded, sizes, _forward(steps), parts, states, range(n), keep, steps, progress, notes)
        kept.append((Listed(len(before)), before) if cut.again else got)
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

    The latter lie each in a tensor of its own, or `stacked`.
    """
    known = {} if known is None else known
    states, xs, chunks = changing[: len(program.states)], changing[len(program.states) :], cut.chunks
    sizes, T = program.sizes(states, constants), xs[0].shape[0]
    given, key = [*changing, *constants, *_values(chunks.forward, cut, constants, known)], ("ahead", sizes)
    again = cut is chunks.whole
    rerun = chunks.reruns.get(key) if again else None
    if rerun is not None and (found := rerun(given, progress)) is not None:
        outs, states, products, *got = found
        kept: list[Part] = [(CARRIED, tensors) for tensors in got]
    else:
        outs, products = [huge(layout.empty(sizes, T)) for layout in program.outs], chunks.saved(sizes, T)
        notes = chunks.reruns.notes(key) if again and rerun is None else None
        states, kept = onward(cut, sizes, states, constants, xs, outs, known, products, progress, notes)
        chunks.reruns.learn(key, notes, given, [outs, states, products, *[tensors for _, tensors in kept]])
    if stacked:
        kept = [_stacked(*start) for start in kept]
    return outs, list(states), products, kept


def _stacked(kind: Kind, tensors: Sequence[Tensor]) -> Part:
    """The same with a row for each chunk."""
    if not isinstance(kind, Listed):
        return kind, tensors
    return Each(1), [torch.stack(list(tensors[k :: kind.n])) for k in range(kind.n) if tensors]


def back(
    program: Program,
    cut: Cut,
    wanted: Sequence[bool],
    kinds: Sequence[Kind],
    lengths: Sequence[int],
    changing: Sequence[Tensor],
    constants: Sequence[Tensor],
    known: Known | None = None,
) -> tuple[Any, ...]:
    """From the gradients of outputs and final states: those of the states, of learned constants, and of `wanted` xs.

    Args:
        kinds: of what the stretches start from.
        lengths: how many xs, products, and tensors of each of these there are.
        changing: the gradients, xs, products, and these tensors.
    """
    known, chunks, n = {} if known is None else known, cut.chunks, len(program.outs)
    sums, sizes = [torch.zeros_like(constants[i]) for i in program.learned], program.sizes(changing[n:], constants)
    given, key = [*changing, *constants, *sums, *_values(chunks.backward, cut, constants, known)], ("back", sizes)
    again = cut is chunks.whole and all([kind is CARRIED for kind in kinds])
    rerun = chunks.reruns.get(key) if again else None
    if rerun is not None and (found := rerun(given, Quiet())) is not None:
        return found[0], sums, found[1]
    grad_outs, grad_states, xs, products, *starts = _split(changing, n, len(program.states), *lengths)
    selected = [x for x, want in zip(xs, wanted, strict=True) if want]
    notes = chunks.reruns.notes(key) if again and rerun is None else None
    grad_xs = [x.detach() if cut.donated else huge(torch.empty_like(x)) for x in selected]
    for (first, steps, n), kind, start in zip(cut.stretches[::-1], kinds[::-1], starts[::-1], strict=True):
        folded = chunks.backward[steps]
        x, grad_out, grad_x, product = _between(first, first + steps * n, xs, grad_outs, grad_xs, products)
        if cut.again:
            outs = [layout.empty(sizes, steps * n) for layout in program.outs]
            alone = Cut(chunks, [(0, steps, n)])
            _, ((kind, start),) = onward(alone, sizes, start, constants, x, outs, known)
        written = [torch.empty_like(grad) for grad in grad_x] if cut.donated else grad_x
        values = folded.prologue(constants, known)
        parts = start, constants, x, (), grad_out, written, sums, product, values
        grad_states, _ = sweep(folded, sizes, _backward(steps, kind), parts, grad_states, range(n)[::-1], notes=notes)
        if cut.donated:
            for grad, new in zip(grad_x, written, strict=True):
                grad.copy_(new)
    chunks.reruns.learn(key, notes, given, [grad_states, grad_xs])
    return list(grad_states), sums, grad_xs


def _values(kind: dict[int, Folded], cut: Cut, constants: Sequence[Tensor], known: Known) -> list[Tensor]:
    """What is computed from the constants beforehand, for all stretches; each tensor once."""
    found: list[Tensor] = []
    for _, steps, _ in cut.stretches:
        values = kind[steps].prologue(constants, known)
        found += [value for value in values if all(value is not other for other in found)] if found else values
    return found


def _between(first: int, last: int, *kinds: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """The steps from `first` to `last` of tensors with time in front."""
    if last - first == kinds[0][0].shape[0]:
        return list(kinds)
    return [[tensor[first:last] for tensor in kind] for kind in kinds]


def _split(tensors: Sequence[Tensor], *lengths: int) -> list[Sequence[Tensor]]:
    """`tensors` in parts of so many."""
    ends = [0, *itertools.accumulate(lengths)]
    return [tensors[start:end] for start, end in itertools.pairwise(ends)]
