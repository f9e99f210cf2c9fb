"""A compiled chunk of kernels, called again and again without Python in between: kernels move along their tensors."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: What the function that Inductor wrote may use besides its kernels: it then does nothing but allocate and call them.
_PLAIN = {"clear", "size", "empty_strided_cpu", "torch"}

#: For each argument of a kernel, the address or number that it gets in every further call; None: always the same.
Columns = Mapping[int, Sequence[int] | None]

#: Addresses of kernels, and what they were called with: tensors and integers.
Calls = list[tuple[int, tuple[Any, ...]]]


class Tape:
    """The kernels that a compiled chunk calls, and with what."""

    def __init__(self, code: Any, runner: Any, scope: dict[str, Any]):
        self.code, self.runner, self.scope = code, runner, scope
        names = [name for name in code.co_names if name.startswith("cpp_fused")]
        self.addresses = {name: _address(scope[name].__self__.__file__) for name in names}

    @classmethod
    def of(cls, chunk: Any) -> Tape | None:
        """The tape of a chunk compiled by Inductor; None if it does anything but call CPU kernels."""
        call = getattr(chunk, "current_callable", None)
        function = getattr(call, "__func__", None)
        if function is None:
            return None
        names = [name for name in function.__code__.co_names if not name.startswith("cpp_fused")]
        if not all(name in _PLAIN or isinstance(getattr(torch, name, None), torch.dtype) for name in names):
            return None
        try:
            return cls(function.__code__, call.__self__, function.__globals__)  # type: ignore[union-attr]
        except (AttributeError, KeyError, OSError):  # another kind of kernel
            return None

    def record(self, inputs: Sequence[Tensor]) -> tuple[Sequence[Tensor], Calls]:
        """Call the chunk: its outputs, and the calls that it made."""
        calls: Calls = []

        def watched(name: str) -> Any:
            def kernel(*arguments: Any) -> None:
                self.scope[name](*arguments)
                calls.append((self.addresses[name], arguments))

            return kernel

        scope = self.scope | {name: watched(name) for name in self.addresses}
        return FunctionType(self.code, scope)(self.runner, list(inputs)), calls


def _address(library: str) -> int:
    return ctypes.cast(ctypes.CDLL(library)["kernel"], ctypes.c_void_p).value  # type: ignore[return-value]


#: Arguments that a kernel may have at most.
MOST = 96
_SLAB = 64  # rounds between two looks at the keyboard
_SOURCE = Path(__file__).with_name("rounds.cpp")


@functools.cache
def _rounds() -> Any:
    from torch._inductor.codecache import CppCodeCache

    function = CppCodeCache.load(_SOURCE.read_text().replace("MOST", str(MOST))).rounds
    function.restype = ctypes.c_char_p
    return function


def fits(calls: Calls) -> bool:
    """Whether no kernel has too many arguments."""
    return all(len(given) <= MOST for _, given in calls)


class Kernels:
    """The kernels of recorded calls, to be called with rows of a table of arguments.

    Raises:
        RuntimeError: what a kernel has thrown.
    """

    def __init__(self, calls: Calls):
        n = self.count = len(calls)
        self.kernels, self.arity = (
            (ctypes.c_void_p * n)(*(kernel for kernel, _ in calls)),
            (ctypes.c_int64 * n)(*(len(given) for _, given in calls)),
        )
        self.rounds = _rounds()

    def __call__(self, rows: int, table: int) -> None:
        """Call all kernels once for each of `rows` rows, which lie at the address `table`."""
        word = ctypes.c_int64
        message = self.rounds(word(rows), word(self.count), self.kernels, self.arity, ctypes.c_void_p(table))
        if message is not None:
            raise RuntimeError(message.decode())


def replay(calls: Calls, columns: Columns, n: int, done: Callable[[], None]) -> None:
    """Make recorded calls `n` times more.

    Args:
        calls: see `Tape.record`.
        columns: for the address of a tensor that moves, its addresses in the further rounds.
        n: how many rounds.
        done: called for each round.
    """
    arguments = [argument for _, given in calls for argument in given]
    table = np.empty((n, len(arguments)), np.int64)
    for i, argument in enumerate(arguments):
        value = argument if isinstance(argument, int) else argument.data_ptr()
        column = None if isinstance(argument, int) else columns.get(value)
        if isinstance(column, range):  # numpy would go through it number by number
            column = np.arange(column.start, column.stop, column.step)
        table[:, i] = value if column is None else column
    kernels = Kernels(calls)
    for first in range(0, n, _SLAB):
        size = min(_SLAB, n - first)
        kernels(size, table.ctypes.data + first * table.strides[0])
        for _ in range(size):
            done()


class Again:
    """Recorded calls, to be made again with some of their tensors elsewhere.

    Args:
        calls: see `Tape.record`.
        moving: the tensors that will lie elsewhere; calling the object takes their new addresses.
    """

    def __init__(self, calls: Calls, moving: Sequence[Tensor]):
        self.alive, self.kernels = [calls, moving], Kernels(calls)
        number = {tensor.data_ptr(): i for i, tensor in enumerate(moving)}
        values = [a if isinstance(a, int) else a.data_ptr() for _, given in calls for a in given]
        self.moved = [(i, number[value]) for i, value in enumerate(values) if value in number]
        self.row = (ctypes.c_int64 * len(values))(*values)

    @classmethod
    def of(cls, calls: Calls, moving: Sequence[Tensor], still: Sequence[Tensor]) -> Again | None:
        """None if two of the tensors lie at the same address or one is empty, so that it is not clear what moves."""
        addresses = {tensor.data_ptr() for tensor in moving}
        distinct = (
            fits(calls) and len(addresses) == len(moving) and addresses.isdisjoint({0, *(t.data_ptr() for t in still)})
        )
        return cls(calls, moving) if distinct else None

    def __call__(self, addresses: Sequence[int]) -> None:
        row = type(self.row).from_buffer_copy(self.row)
        for i, k in self.moved:
            row[i] = addresses[k]
        self.kernels(1, ctypes.addressof(row))
