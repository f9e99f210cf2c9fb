"""A pass over a sequence in which nothing but kernels ran, run again for other tensors."""

from __future__ import annotations

import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._C._dynamo.guards import _empty_strided_cpu  # type: ignore[import-not-found]

from .pages import LARGE, huge
from .replay import NEVER, Move, Plan, Rounds

_KEPT = 32


class Note(NamedTuple):
    """The kernels of a stretch: how the `tensors` moved that they were called with, and in which rounds."""

    plan: Plan
    moves: Sequence[Move]
    tensors: Sequence[Tensor]
    rounds: Rounds


class Overlap(Exception):
    """Of two tensors that share memory, it cannot be told which one was meant."""


class Rerun:
    """``(given, progress) -> results`` for other tensors of the same shapes.

    What a kernel was called with is told by where it lay: in one of the tensors given, or in a fresh one.

    Args:
        notes: all that was done.
        given: the tensors that it was done for.
        results: in parts; some of those, and fresh ones.

    Raises:
        Overlap: two of the tensors do.
    """

    def __init__(self, notes: Sequence[Note], given: Sequence[Tensor], results: Sequence[Sequence[Tensor]]):
        table, self.plan = _Table(given), notes[0].plan
        self.results = [[table.whole(tensor) for tensor in part] for part in results]
        found = [[table.place(tensor) for tensor in note.tensors] for note in notes]
        table.check()
        self.fresh = [_like(tensor) for tensor in table.tensors[len(given) :]]
        rooms = [max(sizes) for sizes in itertools.zip_longest(*(n.plan.temporary for n in notes), fillvalue=0)]
        self.fresh += [partial(torch.empty, size, dtype=torch.uint8, device=self.plan.device) for size in rooms]
        self.numbers, self.sweeps = [], []
        for note, places in zip(notes, found, strict=True):
            room, number = len(table.tensors), len(table.tensors) + len(rooms) + len(self.numbers)
            moves = [_moved(move, places) for move in note.moves]
            moves += [Move(room + i) for i in range(len(note.plan.temporary))]
            moves += [Move(number + i) for i in range(len(note.plan.numbers))]
            self.sweeps.append((note.plan.route(moves), note.rounds))
            self.numbers += note.plan.numbers

    def __call__(self, given: Sequence[Tensor], progress: Any) -> list[list[Tensor]] | None:
        """The results in parts; None if nothing was done, as a `GpuPlan` may choose."""
        try:
            tensors = [*given, *[make() for make in self.fresh]]
        except torch.OutOfMemoryError:
            return None
        if not self.plan.call(self.sweeps, list(map(Tensor.data_ptr, tensors)), self.numbers, progress):
            return None
        return [[tensors[i] for i in part] for part in self.results]


class Reruns:
    """Passes that can be run again, by what they depend on besides their tensors; the last ones."""

    def __init__(self) -> None:
        self.found: OrderedDict[Hashable, Rerun | None] = OrderedDict()  # None for one that has come once, or cannot

    def get(self, key: Hashable) -> Rerun | None:
        """How to run a pass again, if that is known."""
        return self.found.get(key)

    def notes(self, key: Hashable) -> list[Note | None] | None:
        """A list for the notes of a pass, if it comes for the second time."""
        if key in self.found:
            return []
        self.found[key] = None
        if len(self.found) > _KEPT:
            self.found.popitem(last=False)
        return None

    def learn(
        self,
        key: Hashable,
        notes: Sequence[Note | None] | None,
        given: Sequence[Tensor],
        results: Sequence[Sequence[Tensor]],
    ) -> None:
        """From the notes of a pass how to run it again, if nothing but kernels ran."""
        if notes and None not in notes:
            with contextlib.suppress(Overlap):
                self.found[key] = Rerun(notes, given, results)  # type: ignore[arg-type]


class _Table:
    """Tensors that lie apart from each other."""

    def __init__(self, tensors: Sequence[Tensor]):
        self.tensors = [*tensors]

    def place(self, tensor: Tensor) -> tuple[int, int]:
        """The tensor that this one lies in, which it becomes itself if there is none, and how many bytes behind."""
        start, size = tensor.data_ptr(), tensor.nbytes
        for i, other in enumerate(self.tensors):
            shift = start - other.data_ptr()
            if other is tensor or (size and 0 <= shift <= other.nbytes - size):
                return i, shift
        self.tensors.append(tensor)
        return len(self.tensors) - 1, 0

    def whole(self, tensor: Tensor) -> int:
        """The place of a tensor that is no part of one."""
        i, _ = self.place(tensor)
        if self.tensors[i] is not tensor:
            raise Overlap
        return i

    def check(self) -> None:
        """See that no two of them overlap."""
        spans = sorted((x.data_ptr(), x.data_ptr() + x.nbytes) for x in self.tensors if x.nbytes)
        if any(end > start for (_, end), (start, _) in itertools.pairwise(spans)):
            raise Overlap


def _moved(move: Move, places: Sequence[tuple[int, int]]) -> Move:
    """`move` by the places of the tensors that it names."""
    (base, shift), (other, far) = places[move.base], places[move.other]
    if far and move.when != NEVER:
        raise Overlap
    return move._replace(base=base, offset=move.offset + shift, other=other)


def _like(tensor: Tensor) -> Callable[[], Tensor]:
    """Makes fresh tensors like this one."""
    kind = tuple(tensor.shape), tensor.stride(), tensor.dtype
    if not tensor.is_cpu:
        return partial(torch.empty_strided, *kind[:2], dtype=tensor.dtype, device=tensor.device)
    make = partial(_empty_strided_cpu, *kind)  # without the dispatcher, as code of Inductor does it
    return make if tensor.nbytes < LARGE else lambda: huge(make())
