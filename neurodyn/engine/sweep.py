"""A compiled chunk over one stretch of a sequence: what each call reads and writes, and what goes from call to call."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..progress import Quiet
from .chunk import Folded
from .donation import apart
from .replay import AFTER, BEFORE, CHUNK, FIRST, LAST, Move, Rounds, numbered
from .rerun import Note


class Fixed:
    """Tensors that are the same for every chunk."""

    def at(self, tensors: Sequence[Tensor], i: int) -> Sequence[Tensor]:
        return tensors

    def moves(self, tensors: Sequence[Tensor]) -> list[Move]:
        return [Move(j) for j in range(len(tensors))]


@dataclass(frozen=True)
class Span:
    """Contiguous tensors with time in front, of which a chunk sees some steps as one tensor."""

    steps: int

    def at(self, tensors: Sequence[Tensor], i: int) -> Sequence[Tensor]:
        return [_steps(tensor, i, self.steps) for tensor in tensors]

    def moves(self, tensors: Sequence[Tensor]) -> list[Move]:
        return [Move(j, step=self.steps * _row(tensor)) for j, tensor in enumerate(tensors)]


@dataclass(frozen=True)
class Each:
    """The same, each step a tensor of its own."""

    steps: int

    def at(self, tensors: Sequence[Tensor], i: int) -> Sequence[Tensor]:
        spans = [_steps(tensor, i, self.steps).unbind(0) for tensor in tensors]
        return spans[0] if len(spans) == 1 else [row for step in zip(*spans, strict=True) for row in step]

    def moves(self, tensors: Sequence[Tensor]) -> list[Move]:
        rows = [(j, _row(tensor)) for j, tensor in enumerate(tensors)]
        return [Move(j, k * row, self.steps * row) for k in range(self.steps) for j, row in rows]


@dataclass(frozen=True)
class Listed:
    """Tensors that lie anywhere, `n` for each chunk."""

    n: int

    def at(self, tensors: Sequence[Tensor], i: int) -> Sequence[Tensor]:
        return tensors[i * self.n : (i + 1) * self.n]


class Carried:
    """What each chunk got from the one before: what the first one got, and as many tensors with a row for each other.

    The moves are for a backward pass, which comes to the first chunk last.
    """

    def at(self, tensors: Sequence[Tensor], i: int) -> Sequence[Tensor]:
        n = len(tensors) // 2
        return tensors[:n] if i == 0 else [rows[i - 1] for rows in tensors[n:]]

    def moves(self, tensors: Sequence[Tensor]) -> list[Move]:
        n = len(tensors) // 2
        rows = [tensor.nbytes for tensor in tensors[:n]]
        return [Move(n + j, -row, row, CHUNK, j, LAST) for j, row in enumerate(rows)]


class _Got:
    """Where each chunk reads what it got: as in `Carried`, but the rows may be two in turn."""

    def moves(self, tensors: Sequence[Tensor]) -> list[Move]:
        n = len(tensors) // 2
        return [Move(n + j, 0, tensor.nbytes, BEFORE, j, FIRST) for j, tensor in enumerate(tensors[:n])]


class _HandedOn:
    """Where each chunk writes what it hands on: the same rows, and tensors for what the last one does."""

    def moves(self, tensors: Sequence[Tensor]) -> list[Move]:
        n = len(tensors) // 2
        return [Move(j, 0, tensor.nbytes, AFTER, n + j, LAST) for j, tensor in enumerate(tensors[n:])]


#: How some of the inputs of a chunk lie in tensors: which are those of the i-th chunk, and how they move on.
Kind = Fixed | Span | Each | Listed | Carried
#: Tensors of a kind.
Part = tuple[Kind, Sequence[Tensor]]
FIXED, CARRIED, _GOT, _HANDED_ON = Fixed(), Carried(), _Got(), _HandedOn()


def sweep(
    folded: Folded,
    sizes: tuple[int, ...],
    kinds: tuple[Kind | None, ...],
    parts: tuple[Sequence[Tensor], ...],
    carry: Sequence[Tensor],
    chunks: range,
    keep: bool = False,
    steps: int = 0,
    progress: Any = Quiet(),
    notes: list[Note | None] | None = None,
) -> tuple[Sequence[Tensor], Part]:
    """Call a chunk once for each index in `chunks`.

    Args:
        folded: the compiled chunk, ``inputs -> carry``.
        sizes: the free ones, from which the shapes of all inputs follow.
        kinds: of its inputs; None for what comes from the chunk before. `Listed` only in front.
        parts: the tensors of each kind; those at None are not looked at.
        carry: what the first call gets in the place of None.
        chunks: indices for the parts, in the order of the calls.
        keep: keep what each call got in the place of None.
        steps: of a chunk, for the progress.
        notes: takes what was done, or None if it was more than calls of kernels.

    Returns:
        What the last call gave; and what was kept, by the number of the call.
    """

    def given(i: int) -> list[Tensor]:
        pairs = zip(kinds, parts, strict=True)
        return [tensor for kind, part in pairs for tensor in (carry if kind is None else kind.at(part, i))]

    if folded.tape is not None and not isinstance(kinds[0], Listed):
        plan = folded.tape.plan(sizes, carry, lambda: given(chunks[0]))
        if plan is not None:
            n = len(chunks) - 1 if keep else min(len(chunks) - 1, 2)
            rows = [tensor.new_empty((n, *tensor.shape)) for tensor in carry]
            last = list(map(torch.empty_like, carry))
            got, place = [*carry, *rows], kinds.index(None)
            moving: Any = *kinds[:place], _GOT, *kinds[place + 1 :], _HANDED_ON
            tensors = *parts[:place], got, *parts[place + 1 :], [*rows, *last]
            rounds = Rounds(chunks, max(n, 1), steps)
            if plan.replay(moving, tensors, keep, rounds, progress):
                if notes is not None:
                    moves = numbered(moving, tensors)
                    notes.append(Note(plan, moves, list(itertools.chain.from_iterable(tensors)), rounds))
                return last, (CARRIED, got)
            del rows, last, got, tensors  # nobody has written to them
    kept: list[Tensor] = []
    inputs = given(chunks[0])
    with folded.limited(inputs):
        for i in chunks:
            inputs = inputs if i == chunks[0] else given(i)
            kept += carry if keep else ()
            carry = [new.contiguous() for new in folded.chunk([*inputs])]  # which empties its list
            progress.update(steps)
    if notes is not None:
        notes.append(None)
    return apart(carry, inputs), (Listed(len(carry)), kept)


def _steps(tensor: Tensor, i: int, steps: int) -> Tensor:
    return tensor if tensor.shape[0] == steps else tensor[i * steps : (i + 1) * steps]


def _row(tensor: Tensor) -> int:
    return tensor.nbytes // tensor.shape[0]  # the stride of a single row may be anything
