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


class Stacked(NamedTuple):
    """A row of each tensor for each chunk."""

    tensors: Sequence[Tensor]

    def at(self, i: int) -> Sequence[Tensor]:
        return [tensor[i] for tensor in self.tensors]

    def addresses(self, chunks: range) -> Sequence[Addresses]:
        return [_along(tensor, 1, chunks) for tensor in self.tensors]


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
    kept, n, first = [], len(chunks), 0
    if folded.tape is not None and n > 2:
        given = [carry if isinstance(part, type) else part.at(chunks[0]) for part in parts]
        new, calls = folded.tape.record([tensor for part in given for tensor in part])
        done()
        if _alike(carry, new) and fits(calls):
            slots = Slots(carry, new, n, keep)
            columns = _columns(parts, given, new, slots, chunks[1:])
            if columns is not None:
                replay(calls, columns, n - 1, done)
                return slots.last(), slots.kept()
        kept, carry, first = [carry] if keep else [], [tensor.contiguous() for tensor in new], 1
    for i in chunks[first:]:
        if keep:
            kept.append(carry)
        given = [carry if isinstance(part, type) else part.at(i) for part in parts]
        carry = [new.contiguous() for new in folded.chunk([tensor for part in given for tensor in part])]
        done()
    return carry, Listed(kept)


class Slots:
    """Where the chunks find what the one before hands on: each in a row of its own if all is kept, or in one of two.

    Args:
        carry, first: what the first and the second chunk get.
        n: the number of chunks.
        keep: whether all is kept.
    """

    def __init__(self, carry: Sequence[Tensor], first: Sequence[Tensor], n: int, keep: bool):
        self.stacks = [tensor.new_empty((n + 1 if keep else 2, *tensor.shape)) for tensor in first]
        self.rows = range(n + 1) if keep else [i % 2 for i in range(n + 1)]
        for stack, zeroth, tensor in zip(self.stacks, carry, first, strict=True):
            stack[1] = tensor
            if keep:
                stack[0] = zeroth

    def last(self) -> list[Tensor]:
        """What the last chunk hands on, in a place of its own."""
        return [stack[self.rows[-1]].clone() for stack in self.stacks]

    def kept(self) -> Stacked:
        """What each chunk got."""
        return Stacked([stack[:-1] for stack in self.stacks])

    def addresses(self, after: int) -> list[Sequence[int]]:
        """Where the chunks from the second on find what they get, or with `after` of 1 write what they hand on."""
        rows = self.rows[1 + after : len(self.rows) - 1 + after]
        sizes = [(stack.data_ptr(), stack[0].nbytes) for stack in self.stacks]
        if isinstance(rows, range):
            return [range(start + rows.start * size, start + rows.stop * size, size) for start, size in sizes]
        return [[start + row * size for row in rows] for start, size in sizes]


def _alike(carry: Sequence[Tensor], new: Sequence[Tensor]) -> bool:
    return all(a.shape == b.shape and a.is_contiguous() and a.numel() for a, b in zip(new, carry, strict=True))


def _columns(parts: Any, given: Any, new: Sequence[Tensor], slots: Slots, chunks: range) -> dict[int, Addresses] | None:
    """Where each tensor of the first call lies in the others; None if one address would stand for two things."""
    columns: dict[int, Addresses] = {}
    for part, tensors in zip(parts, given, strict=True):
        addresses = slots.addresses(0) if isinstance(part, type) else part.addresses(chunks)
        for tensor, column in zip(tensors, addresses, strict=True):
            if tensor.numel() and columns.setdefault(tensor.data_ptr(), column) != column:
                return None
    for tensor, column in zip(new, slots.addresses(1), strict=True):
        if columns.setdefault(tensor.data_ptr(), column) is not column:
            return None
    return columns


def _along(tensor: Tensor, steps: int, chunks: range, first: int = 0) -> range:
    if not tensor.numel():
        return range(0)
    row = tensor.stride(0) * tensor.element_size()
    start, size = tensor.data_ptr() + first * row, steps * row
    return range(start + chunks.start * size, start + chunks.stop * size, chunks.step * size)
