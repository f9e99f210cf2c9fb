"""Compiled chunks of kernels, called again and again without Python in between: kernels move along their tensors."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .threads import Work

#: What the function that Inductor wrote may use besides its kernels: it then does nothing but allocate and call them.
_PLAIN = {"clear", "size", "empty_strided_cpu", "torch"}

_MOST = 96  # arguments of a kernel
_KEPT = 64  # plans for one chunk
_SLAB = 64  # rounds between two looks at the keyboard
_SOURCE = Path(__file__).with_name("rounds.cpp")

#: Addresses of kernels, and what they are called with: tensors and integers.
Calls = Sequence[tuple[int, tuple[Any, ...]]]

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


class Tape:
    """The kernels that a compiled chunk calls, and with what."""

    def __init__(self, code: Any, runner: Any, scope: dict[str, Any], work: Work):
        self.code, self.runner, self.scope, self.work = code, runner, scope, work
        names = [name for name in code.co_names if name.startswith("cpp_fused")]
        self.addresses = {name: _address(scope[name].__self__.__file__) for name in names}
        self.plans: dict[tuple[int, ...], Plan | None] = {}

    @classmethod
    def of(cls, chunk: Any, work: Work) -> Tape | None:
        """The tape of a chunk compiled by Inductor; None if it does anything but call CPU kernels."""
        call = getattr(chunk, "current_callable", None)
        function = getattr(call, "__func__", None)
        if function is None:
            return None
        names = [name for name in function.__code__.co_names if not name.startswith("cpp_fused")]
        if not all(name in _PLAIN or isinstance(getattr(torch, name, None), torch.dtype) for name in names):
            return None
        try:
            return cls(function.__code__, call.__self__, function.__globals__, work)  # type: ignore[union-attr]
        except (AttributeError, KeyError, OSError):  # another kind of kernel
            return None

    def plan(
        self, sizes: tuple[int, ...], carry: Sequence[Tensor], inputs: Callable[[], Sequence[Tensor]]
    ) -> Plan | None:
        """How to call the chunk's kernels; None if it must be called itself.

        Args:
            sizes: the free ones.
            carry: the inputs that the chunk before handed on, whose shapes are to be those of the outputs.
            inputs: gives inputs of the chunk, which are only looked at.
        """
        if sizes in (plans := self.plans):
            return plans[sizes]
        if len(plans) >= _KEPT:
            plans = self.plans = {}
        like = [torch.empty(x.shape, dtype=x.dtype) for x in inputs()]
        plan = plans[sizes] = self._learn(like, [x.shape for x in carry])
        return plan

    def _learn(self, inputs: list[Tensor], carried: list[torch.Size]) -> Plan | None:
        """Call the chunk with kernels that do nothing."""
        calls: list[tuple[int, tuple[Any, ...]]] = []
        scope = self.scope | {
            name: lambda *arguments, kernel=kernel: calls.append((kernel, arguments))
            for name, kernel in self.addresses.items()
        }
        outputs = FunctionType(self.code, scope)(self.runner, list(inputs))
        addresses = {tensor.data_ptr() for tensor in (*inputs, *outputs) if tensor.numel()}
        distinct = len(addresses) == sum(tensor.numel() > 0 for tensor in (*inputs, *outputs))
        plain = all(tensor.is_contiguous() and tensor.numel() for tensor in outputs)
        alike = [tensor.shape for tensor in outputs] == carried
        if not distinct or not plain or not alike or any(len(given) > _MOST for _, given in calls):
            return None
        return Plan(calls, inputs, outputs, self.work.threads(inputs))


class Plan:
    """Which kernels to call for inputs of certain shapes, and with what.

    Args:
        calls: one round.
        inputs, outputs: the tensors among the arguments that are given in each round; the others are temporary.
        threads: at most so many work on a kernel.
    """

    def __init__(self, calls: Calls, inputs: Sequence[Tensor], outputs: Sequence[Tensor], threads: int):
        self.threads = threads
        arguments = [argument for _, given in calls for argument in given]
        given = {tensor.data_ptr(): i for i, tensor in enumerate((*inputs, *outputs))}
        others = {a.data_ptr(): a for a in arguments if isinstance(a, Tensor) and a.data_ptr() not in given}
        column = given | {address: len(inputs) + len(outputs) + i for i, address in enumerate(others)}
        first = len(inputs) + len(outputs) + len(others)
        numbered = itertools.count(first)
        columns = [column[a.data_ptr()] if isinstance(a, Tensor) else next(numbered) for a in arguments]
        self.temporary = [tensor.nbytes for tensor in others.values()]
        self.numbers = [argument for argument in arguments if not isinstance(argument, Tensor)]
        self.fixed = len(others) + len(self.numbers)
        kernels, arity = [kernel for kernel, _ in calls], [len(given) for _, given in calls]
        self.calls = array("q", kernels), array("q", arity), array("q", columns)
        self.still = self._moving([Move(i) for i in range(len(inputs) + len(outputs))], len(inputs) + len(outputs))
        self.moving: dict[bool, Any] = {}  # along a sequence

    def replay(
        self,
        kinds: Sequence[Moving],
        parts: Sequence[Sequence[Tensor]],
        keep: bool,
        chunks: range,
        period: int,
        done: Callable[[int], None],
    ) -> None:
        """Call the kernels once for each of `chunks`.

        Args:
            kinds, parts: the inputs and the outputs, in order. How they move is asked for once for each `keep`: without
                a backward pass to come, matrix products are written to one place.
            period: of the turns.
            done: called with a number of rounds after these.

        Raises:
            RuntimeError: what a kernel has thrown.
        """
        bases = [tensor.data_ptr() for part in parts for tensor in part]
        if keep not in self.moving:
            self.moving[keep] = self._moving(_numbered(kinds, parts), len(bases))
        words, rooms = self._words(bases)
        for k in range(0, len(chunks), _SLAB):
            last = min(k + _SLAB, len(chunks))
            self._run(self.moving[keep], (k, last, len(chunks), chunks.start, chunks.step, period), words)
            done(last - k)
        del rooms

    def once(self, addresses: list[int]) -> None:
        """Call the kernels; `addresses` are those of the inputs and of the outputs."""
        words, rooms = self._words(addresses)
        self._run(self.still, (0, 1, 1, 0, 0, 1), words)
        del rooms

    def _moving(self, moves: list[Move], bases: int) -> tuple[int, Any]:
        """The address of what the C++ loop needs besides the `bases`, and what holds it."""
        moves = moves + [Move(bases + i) for i in range(self.fixed)]
        held = *(array("q", column) for column in zip(*moves, strict=True)), *self.calls
        plan = array("q", (len(moves), len(self.calls[0]), self.threads, *map(_address_of, held)))
        return _address_of(plan), (plan, held)

    def _words(self, bases: list[int]) -> tuple[array[int], list[Tensor]]:
        """The bases, and behind them the addresses of temporary tensors, which come with them, and the numbers."""
        rooms = [torch.empty(n, dtype=torch.uint8) for n in self.temporary]
        return array("q", [*bases, *[room.data_ptr() for room in rooms], *self.numbers]), rooms

    def _run(self, plan: tuple[int, Any], rounds: tuple[int, ...], words: array[int]) -> None:
        torch.get_num_threads()  # a new thread gets torch's number only now
        message = _library().rounds(plan[0], *rounds, _address_of(words))
        if message is not None:
            raise RuntimeError(message.decode())


def _numbered(kinds: Sequence[Moving], parts: Sequence[Sequence[Tensor]]) -> list[Move]:
    """The moves of all parts, whose tensors come one after the other."""
    found, n = [], 0
    for kind, part in zip(kinds, parts, strict=True):
        found += [move._replace(base=n + move.base, other=n + move.other) for move in kind.moves(part)]
        n += len(part)
    return found


@contextlib.contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Inside, no loop of OpenMP uses more threads than this, if given."""
    if threads is None or threads >= torch.get_num_threads():
        yield
        return
    before = _library().limit(threads)
    try:
        yield
    finally:
        _library().limit(before)


def _address_of(words: array[int]) -> int:
    return words.buffer_info()[0]


def _address(library: str) -> int:
    return ctypes.cast(ctypes.CDLL(library)["kernel"], ctypes.c_void_p).value  # type: ignore[return-value]


@functools.cache
def _library() -> Any:
    from torch._inductor.codecache import CppCodeCache

    library = CppCodeCache.load(_SOURCE.read_text().replace("MOST", str(_MOST)))
    library.rounds.argtypes = [ctypes.c_void_p, *6 * [ctypes.c_int64], ctypes.c_void_p]
    library.rounds.restype = ctypes.c_char_p
    library.limit.argtypes, library.limit.restype = [ctypes.c_int], ctypes.c_int
    return library
