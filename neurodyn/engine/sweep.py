"""A compiled chunk over one stretch of a sequence: what each call reads and writes, and what goes from call to call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .chunk import Folded
from .replay import Place


class Fixed(NamedTuple):
    """Tensors that are the same for every chunk."""

    tensors: Sequence[Tensor]

    def at(self, i: int) -> Sequence[Tensor]:
        return self.tensors

    def places(self) -> list[Place]:
        return [(tensor.data_ptr(), 0, 0) for tensor in self.tensors]


class Span(NamedTuple):
    """Contiguous tensors with time in front, of which a chunk sees some steps as one tensor."""

    tensors: Sequence[Tensor]
    steps: int

    def at(self, i: int) -> Sequence[Tensor]:
        return [_steps(tensor, i, self.steps) for tensor in self.tensors]

    def places(self) -> list[Place]:
        return [(tensor.data_ptr(), self.steps * _row(tensor), 0) for tensor in self.tensors]


class Each(NamedTuple):
    """The same, each step a tensor of its own."""

    tensors: Sequence[Tensor]
    steps: int

    def at(self, i: int) -> Sequence[Tensor]:
        spans = [_steps(tensor, i, self.steps).unbind(0) for tensor in self.tensors]
        return spans[0] if len(spans) == 1 else [row for step in zip(*spans, strict=True) for row in step]

    def places(self) -> list[Place]:
        rows = [(tensor.data_ptr(), _row(tensor)) for tensor in self.tensors]
        return [(start + k * row, self.steps * row, 0) for k in range(self.steps) for start, row in rows]


class Listed(NamedTuple):
    """Tensors that lie anywhere, `n` for each chunk."""

    tensors: Sequence[Tensor]
    n: int

    def at(self, i: int) -> Sequence[Tensor]:
        return self.tensors[i * self.n : (i + 1) * self.n]

    def stacked(self) -> Each:
        """The same with a row for each chunk."""
        return Each([torch.stack(list(self.tensors[k :: self.n])) for k in range(self.n) if self.tensors], 1)


class Carried:
    """The place of what a chunk gets from the one before."""


#: Some of the inputs of a chunk: those of the i-th one, and where they lie if the turn is the number of the chunk.
Part = Fixed | Span | Each | Listed


def sweep(
    folded: Folded,
    parts: Sequence[Part | type[Carried]],
    carry: Sequence[Tensor],
    chunks: range,
    keep: bool = False,
    done: Callable[[], None] = lambda: None,
) -> tuple[Sequence[Tensor], Part]:
    """Call a chunk once for each index in `chunks`.

    Args:
        folded: the compiled chunk, ``inputs -> carry``.
        parts: its inputs.
        carry: what the first call gets in the place of `Carried`.
        chunks: indices for the parts, in the order of the calls.
        keep: keep what each call got in the place of `Carried`.
        done: called after each chunk.

    Returns:
        What the last call gave; what was kept, by the number of the call.
    """

    def given(i: int) -> list[Tensor]:
        return [tensor for part in parts for tensor in (carry if isinstance(part, type) else part.at(i))]

    plan, placed = None, [part for part in parts if not isinstance(part, Listed)]
    if folded.tape is not None and len(placed) == len(parts):
        fixed = tuple(tensor.shape for part in parts if isinstance(part, Fixed) for tensor in part.tensors)
        plan = folded.tape.plan(fixed, tuple(tensor.shape for tensor in carry), lambda: given(chunks[0]))
    if plan is not None:
        slots = Slots(carry, len(chunks), keep)
        places = [slots.places(1) if isinstance(part, type) else part.places() for part in placed]
        plan.replay(itertools.chain(*places, slots.places(2)), chunks, slots.rows, done)
        return slots.last(), slots.kept()
    kept: list[Tensor] = []
    for i in chunks:
        kept += carry if keep else ()
        carry = [new.contiguous() for new in folded.chunk(given(i))]
        done()
    return carry, Listed(kept, len(carry))


class Slots:
    """Where the chunks find what the one before hands on: each in a row of its own if all is kept, or in one of two.

    Args:
        carry: what the first chunk gets.
        n: the number of chunks.
        keep: whether all is kept.
    """

    def __init__(self, carry: Sequence[Tensor], n: int, keep: bool):
        self.rows, self.n = n + 1 if keep else 2, n
        self.stacks = [tensor.new_empty((self.rows, *tensor.shape)) for tensor in carry]
        for stack, first in zip(self.stacks, carry, strict=True):
            stack[0].copy_(first)

    def last(self) -> list[Tensor]:
        """What the last chunk hands on, in a place of its own."""
        return [stack[self.n % self.rows].clone() for stack in self.stacks]

    def kept(self) -> Each:
        """What each chunk got."""
        return Each([stack[:-1] for stack in self.stacks], 1)

    def places(self, kind: int) -> list[Place]:
        """Of what a chunk gets, for `kind` 1, or of what it hands on, for `kind` 2."""
        return [(stack.data_ptr(), _row(stack), kind) for stack in self.stacks]


def _steps(tensor: Tensor, i: int, steps: int) -> Tensor:
    return tensor if len(tensor) == steps else tensor[i * steps : (i + 1) * steps]


def _row(tensor: Tensor) -> int:
    return tensor.stride(0) * tensor.element_size()
