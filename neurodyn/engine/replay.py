"""Kernels called again and again without Python in between: they move along their tensors."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..progress import Quiet
from .kernels import Call, launcher
from .rounds import NOT_STARTED, library

_SLAB = 64  # rounds between two looks at the keyboard
_ALIGNED = 16  # bytes: Triton's kernels are compiled for tensors that begin at a multiple of these

#: Turns, each a number for the k-th round: that of the chunk, ``(k - 1) % period`` and ``k % period``.
CHUNK, BEFORE, AFTER = range(3)
#: Rounds in which a tensor lies elsewhere.
NEVER, FIRST, LAST = range(3)


class Move(NamedTuple):
    """How a tensor moves: it lies `offset` + turn * `step` bytes behind `base`, or, `when` it is time, at `other`.

    Attributes:
        base, other: numbers among the tensors that are handed over together.
    """

    base: int
    offset: int = 0
    step: int = 0
    turn: int = CHUNK
    other: int = 0
    when: int = NEVER


class Moving(Protocol):
    """How some tensors move along a sequence."""

    def moves(self, tensors: Sequence[Tensor]) -> list[Move]: ...


class Plan:
    """Which kernels to call for inputs of certain shapes, and with what.

    Args:
        calls: one round.
        inputs, outputs: the tensors among the arguments that are given in each round; the others are temporary.
        threads: at most so many work on a kernel of the CPU.
    """

    launch = 0

    def __init__(self, calls: Sequence[Call], inputs: Sequence[Tensor], outputs: Sequence[Tensor], threads: int = 0):
        self.threads, self.device = threads, outputs[0].device
        arguments = [argument for call in calls for argument in call.arguments]
        given = {tensor.data_ptr(): i for i, tensor in enumerate((*inputs, *outputs))}
        others = {a.data_ptr(): a for a in arguments if isinstance(a, Tensor) and a.data_ptr() not in given}
        column = given | {address: len(inputs) + len(outputs) + i for i, address in enumerate(others)}
        first = len(inputs) + len(outputs) + len(others)
        numbered = itertools.count(first)
        columns = [column[a.data_ptr()] if isinstance(a, Tensor) else next(numbered) for a in arguments]
        self.temporary = [tensor.untyped_storage().nbytes() for tensor in others.values()]  # gaps too
        self.numbers = [argument for argument in arguments if not isinstance(argument, Tensor)]
        kernels, arity = [call.kernel for call in calls], [len(call.arguments) for call in calls]
        launches = [number for call in calls for number in call.launch]
        self.calls = array("q", kernels), array("q", arity), array("q", columns), array("q", launches)
        self.still = self._moving([Move(i) for i in range(len(inputs) + len(outputs))], len(inputs) + len(outputs))
        self.moving: dict[bool, Route] = {}  # along a sequence

    def replay(
        self,
        kinds: Sequence[Moving],
        parts: Sequence[Sequence[Tensor]],
        keep: bool,
        rounds: Rounds,
        progress: Any,
    ) -> bool:
        """Call the kernels along a sequence.

        Args:
            kinds, parts: the inputs and the outputs, in order. How they move is asked for once for each `keep`: without
                a backward pass to come, matrix products are written to one place.

        Returns:
            False if nothing was done, as `GpuPlan` may choose.

        Raises:
            RuntimeError: what a kernel has thrown.
        """
        bases = list(map(Tensor.data_ptr, itertools.chain.from_iterable(parts)))
        if keep not in self.moving:
            self.moving[keep] = self._moving(numbered(kinds, parts), len(bases))
        return self._run(self.moving[keep], rounds, bases, progress)

    def once(self, addresses: list[int]) -> bool:
        """Call the kernels, as in `replay`; `addresses` are those of the inputs and of the outputs."""
        return self._run(self.still, _ONCE, addresses, _QUIET)

    def route(self, moves: list[Move]) -> Route:
        """What the C++ loop needs: how inputs, outputs, temporary tensors and numbers move."""
        aligned = all(move.offset % _ALIGNED == 0 and move.step % _ALIGNED == 0 for move in moves)
        held = *(array("q", column) for column in zip(*moves, strict=True)), *self.calls
        plan = array("q", (len(moves), len(self.calls[0]), self.threads, self.launch, *map(_address_of, held)))
        return Route(_address_of(plan), (plan, held), aligned)

    def call(
        self,
        sweeps: Sequence[tuple[Route, Rounds]],
        addresses: list[int],
        numbers: list[int],
        progress: Any,
        stream: int = 0,
    ) -> bool:
        """Call kernels for one stretch after the other, which move among the same tensors and numbers."""
        words = array("q", [*addresses, *numbers])
        torch.get_num_threads()  # a new thread gets torch's number only now
        for i, (route, (chunks, period, steps)) in enumerate(sweeps):
            for k in range(0, len(chunks), _SLAB):
                last = min(k + _SLAB, len(chunks))
                these = k, last, len(chunks), chunks.start, chunks.step, period
                message = library().rounds(route.plan, *these, _address_of(words), stream)
                if message == NOT_STARTED and i == 0:
                    return False
                if message is not None:
                    raise RuntimeError(message.decode())
                progress.update(steps * (last - k))
        return True

    def _moving(self, moves: list[Move], bases: int) -> Route:
        """The route of inputs and outputs that move like this among so many tensors."""
        return self.route(moves + [Move(bases + i) for i in range(len(self.temporary) + len(self.numbers))])

    def _run(self, route: Route, rounds: Rounds, bases: list[int], progress: Any) -> bool:
        rooms = [torch.empty(n, dtype=torch.uint8, device=self.device) for n in self.temporary]
        return self.call([(route, rounds)], [*bases, *map(Tensor.data_ptr, rooms)], self.numbers, progress)


class GpuPlan(Plan):
    """The same for kernels of Triton.

    They are not called for tensors that begin in the middle of 16 bytes, in a thread that has not used the GPU yet, and
    without room for all temporary tensors at once.
    """

    @property
    def launch(self) -> int:  # type: ignore[override]
        return launcher()

    def call(
        self,
        sweeps: Sequence[tuple[Route, Rounds]],
        addresses: list[int],
        numbers: list[int],
        progress: Any,
        stream: int = 0,
    ) -> bool:
        if not all([route.aligned for route, _ in sweeps]) or any([base % _ALIGNED for base in addresses]):
            return False
        with torch.cuda._DeviceGuard(self.device.index):  # type: ignore[attr-defined]
            stream = torch._C._cuda_getCurrentRawStream(self.device.index)
            return super().call(sweeps, addresses, numbers, progress, stream)

    def _run(self, route: Route, rounds: Rounds, bases: list[int], progress: Any) -> bool:
        try:
            return super()._run(route, rounds, bases, progress)
        except torch.OutOfMemoryError:
            return False


class Rounds(NamedTuple):
    """For which chunks kernels are called, with the period of the turns, and how many steps of progress each is."""

    chunks: range
    period: int
    steps: int


_ONCE, _QUIET = Rounds(range(1), 1, 0), Quiet()


class Route(NamedTuple):
    """How the arguments of a plan move.

    Attributes:
        plan: the address of what the C++ loop needs, which lies in `held`.
        aligned: whether tensors that begin at a multiple of 16 bytes stay at such.
    """

    plan: int
    held: Any
    aligned: bool


def numbered(kinds: Sequence[Moving], parts: Sequence[Sequence[Tensor]]) -> list[Move]:
    """The moves of all parts, whose tensors come one after the other."""
    found, n = [], 0
    for kind, part in zip(kinds, parts, strict=True):
        found += [move._replace(base=n + move.base, other=n + move.other) for move in kind.moves(part)]
        n += len(part)
    return found


def _address_of(words: array[int]) -> int:
    return words.buffer_info()[0]
