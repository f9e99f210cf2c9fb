"""A compiled chunk over one stretch of a sequence: what each call reads and writes, and what goes from call to call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from .program import Folded
from .replay import fits, replay

Addresses = Sequence[int] | None


class Part(Protocol):
    """Some of the inputs of a chunk."""

    def at(self, i: int) -> Sequence[Tensor]:
        """Those of the i-th chunk."""
        ...

    def addresses(self, chunks: range) -> Sequence[Addresses]:
        """Where each lies in memory, chunk after chunk; None where it stays."""
        ...


class Fixed(NamedTuple):
    """Tensors that are the same for every chunk."""

    tensors: Sequence[Tensor]

    def at(self, i: int) -> Sequence[Tensor]:
        return self.tensors

    def addresses(self, chunks: range) -> Sequence[Addresses]:
        return [None] * len(self.tensors)


class Listed(NamedTuple):
    """Other tensors for each chunk."""

    rows: Sequence[Sequence[Tensor]]

    def at(self, i: int) -> Sequence[Tensor]:
        return self.rows[i]

    def addresses(self, chunks: range) -> Sequence[Addresses]:
        return list(zip(*([tensor.data_ptr() for tensor in self.rows[i]] for i in chunks), strict=True))


class Span(NamedTuple):
    """Contiguous tensors with time in front, of which a chunk sees some steps as one tensor."""

    tensors: Sequence[Tensor]
    steps: int

    def at(self, i: int) -> Sequence[Tensor]:
        return [tensor[i * self.steps : (i + 1) * self.steps] for tensor in self.tensors]

    def addresses(self, chunks: range) -> Sequence[Addresses]:
        return [_along(tensor, self.steps, chunks) for tensor in self.tensors]


class Each(NamedTuple):
    """The same, each step a tensor of its own."""

    tensors: Sequence[Tensor]
    steps: int

    def at(self, i: int) -> Sequence[Tensor]:
        spans = [tensor[i * self.steps : (i + 1) * self.steps].unbind(0) for tensor in self.tensors]
        return [row for step in zip(*spans, strict=True) for row in step]

    def addresses(self, chunks: range) -> Sequence[Addresses]:
        return [_along(tensor, self.steps, chunks, k) for k in range(self.steps) for tensor in self.tensors]


class Carried:
    """The place of what a chunk gets from the one before."""


def sweep(
    folded: Folded,
    parts: Sequence[Part | type[Carried]],
    carry: Sequence[Tensor],
    chunks: range,
    keep: bool = False,
    done: Callable[[], None] = lambda: None,
) -> tuple[Sequence[Tensor], list[Sequence[Tensor]]]:
    """Call a chunk once for each index in `chunks`.

    Args:
        folded: the compiled chunk, ``inputs -> carry``.
        parts: its inputs.
        carry: what the first call gets in the place of `Carried`.
        chunks: indices for the parts, in the order of the calls.
        keep: keep what each call got in the place of `Carried`.
        done: called after each chunk.

    Returns:
        What the last call gave; what was kept.
    """
    kept, n, first = [], len(chunks), 0
    if folded.tape is not None and n > 2:
        given = [carry if isinstance(part, type) else part.at(chunks[0]) for part in parts]
        new, calls = folded.tape.record([tensor for part in given for tensor in part])
        done()
        slots = Slots(new, n, keep)
        columns = _columns(parts, given, new, slots, chunks[1:])
        if columns is not None and fits(calls):
            replay(calls, columns, n - 1, done)
            return slots.last(), [carry, *slots.given()] if keep else []
        kept, carry, first = [carry] if keep else [], [tensor.contiguous() for tensor in new], 1
    for i in chunks[first:]:
        if keep:
            kept.append(carry)
        given = [carry if isinstance(part, type) else part.at(i) for part in parts]
        carry = [new.contiguous() for new in folded.chunk([tensor for part in given for tensor in part])]
        done()
    return carry, kept


class Slots:
    """Where each chunk but the first writes what it hands on: to a place of its own if kept, or to one of two."""

    def __init__(self, first: Sequence[Tensor], n: int, keep: bool):
        self.first = first
        self.stacks = [tensor.new_empty((n - 1 if keep else 2, *tensor.shape)) for tensor in first]
        self.slots = [j if keep else j % 2 for j in range(n - 1)]

    def last(self) -> list[Tensor]:
        """What the last chunk hands on, in a place of its own."""
        return [stack[self.slots[-1]].clone() for stack in self.stacks]

    def given(self) -> list[Sequence[Tensor]]:
        """What each chunk but the first gets."""
        return [self.first, *zip(*(stack[:-1].unbind(0) for stack in self.stacks), strict=True)]

    def addresses(self) -> list[list[int]]:
        """Where the chunks from the second on write."""
        sizes = [(stack.data_ptr(), stack[0].nbytes) for stack in self.stacks]
        return [[start + slot * size for slot in self.slots] for start, size in sizes]


def _columns(parts: Any, given: Any, new: Sequence[Tensor], slots: Slots, chunks: range) -> dict[int, Addresses] | None:
    """Where each tensor of the first call lies in the others; None if one address would stand for two things."""
    columns: dict[int, Addresses] = {}
    written = slots.addresses()
    for part, tensors in zip(parts, given, strict=True):
        if isinstance(part, type):
            addresses = [[a.data_ptr(), *w[:-1]] for a, w in zip(new, written, strict=True)]
            if any(a.shape != b.shape or not a.is_contiguous() for a, b in zip(new, tensors, strict=True)):
                return None
        else:
            addresses = part.addresses(chunks)
        for tensor, column in zip(tensors, addresses, strict=True):
            if tensor.numel() and columns.setdefault(tensor.data_ptr(), column) != column:
                return None
    for tensor, column in zip(new, written, strict=True):
        if columns.setdefault(tensor.data_ptr(), column) is not column:
            return None
    return columns


def _along(tensor: Tensor, steps: int, chunks: range, first: int = 0) -> range:
    if not tensor.numel():
        return range(0)
    row = tensor.stride(0) * tensor.element_size()
    start, size = tensor.data_ptr() + first * row, steps * row
    return range(start + chunks.start * size, start + chunks.stop * size, chunks.step * size)
