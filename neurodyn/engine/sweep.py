"""A compiled chunk over one stretch of a sequence: what each call reads and writes, and what goes from call to call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .chunk import Folded
from .replay import Move


class Fixed(NamedTuple):
    """Tensors that are the same for every chunk."""

    tensors: Sequence[Tensor]

    def at(self, i: int) -> Sequence[Tensor]:
        return self.tensors

    def starts(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self.tensors]

    def moves(self) -> list[Move]:
        return [(0, 0)] * len(self.tensors)


class Span(NamedTuple):
    """Contiguous tensors with time in front, of which a chunk sees some steps as one tensor."""

    tensors: Sequence[Tensor]
    steps: int

    def at(self, i: int) -> Sequence[Tensor]:
        return [_steps(tensor, i, self.steps) for tensor in self.tensors]

    def starts(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self.tensors]

    def moves(self) -> list[Move]:
        return [(self.steps * _row(tensor), 0) for tensor in self.tensors]


class Each(NamedTuple):
    """The same, each step a tensor of its own."""

    tensors: Sequence[Tensor]
    steps: int

    def at(self, i: int) -> Sequence[Tensor]:
        spans = [_steps(tensor, i, self.steps).unbind(0) for tensor in self.tensors]
        return spans[0] if len(spans) == 1 else [row for step in zip(*spans, strict=True) for row in step]

    def starts(self) -> list[int]:
        rows = [(tensor.data_ptr(), _row(tensor)) for tensor in self.tensors]
        return [start + k * row for k in range(self.steps) for start, row in rows]

    def moves(self) -> list[Move]:
        return [(self.steps * _row(tensor), 0) for _ in range(self.steps) for tensor in self.tensors]


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


#: Some of the inputs of a chunk: those of the i-th one; where the first ones lie, and how they move on.
Part = Fixed | Span | Each | Listed


def sweep(
    folded: Folded,
    sizes: tuple[int, ...],
    parts: Sequence[Part | type[Carried]],
    carry: Sequence[Tensor],
    chunks: range,
    keep: bool = False,
    done: Callable[[int], None] = lambda n: None,
) -> tuple[Sequence[Tensor], Part]:
    """Call a chunk once for each index in `chunks`.

    Args:
        folded: the compiled chunk, ``inputs -> carry``.
        sizes: the free ones, from which the shapes of all inputs follow.
        parts: its inputs.
        carry: what the first call gets in the place of `Carried`.
        chunks: indices for the parts, in the order of the calls.
        keep: keep what each call got in the place of `Carried`.
        done: called with a number of chunks after these.

    Returns:
        What the last call gave; what was kept, by the number of the call.
    """

    def given(i: int) -> list[Tensor]:
        return [tensor for part in parts for tensor in (carry if part is Carried else part.at(i))]  # type: ignore[union-attr]

    if folded.tape is not None and not any([isinstance(part, Listed) for part in parts]):
        plan = folded.tape.plan(sizes, carry, lambda: given(chunks[0]))
        if plan is not None:
            slots = Slots(carry, len(chunks), keep)
            placed: Any = [slots if part is Carried else part for part in parts]
            starts = [start for part in (*placed, slots) for start in part.starts()]

            def moves() -> list[Move]:
                return [*(move for part in placed for move in part.moves()), *slots.moves(2)]

            plan.replay(starts, moves, keep, chunks, slots.rows, done)
            return slots.last(), slots.kept()
    kept: list[Tensor] = []
    with folded.limited(given(chunks[0])):
        for i in chunks:
            kept += carry if keep else ()
            carry = [new.contiguous() for new in folded.chunk(given(i))]
            done(1)
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
        """What each chunk got, and what the last one handed on."""
        return Each(self.stacks, 1)

    def starts(self) -> list[int]:
        return [stack.data_ptr() for stack in self.stacks]

    def moves(self, kind: int = 1) -> list[Move]:
        """Of what a chunk gets, for `kind` 1, or of what it hands on, for `kind` 2."""
        return [(_row(stack), kind) for stack in self.stacks]


def _steps(tensor: Tensor, i: int, steps: int) -> Tensor:
    return tensor if tensor.shape[0] == steps else tensor[i * steps : (i + 1) * steps]


def _row(tensor: Tensor) -> int:
    return tensor.nbytes // tensor.shape[0]  # the stride of a single row may be anything
