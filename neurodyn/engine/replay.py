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
from torch.fx import Graph, Node

#: What the function that Inductor wrote may use besides its kernels: it then does nothing but allocate and call them.
_PLAIN = {"clear", "size", "empty_strided_cpu", "torch"}

#: For each argument of a kernel, the address or number that it gets in every further call; None: always the same.
Columns = Mapping[int, Sequence[int] | None]

#: Functions, and what they were called with: tensors and integers.
Calls = list[tuple[Any, tuple[Any, ...]]]


class Tape:
    """The kernels that a compiled chunk calls, and with what."""

    def __init__(self, code: Any, runner: Any, scope: dict[str, Any]):
        self.code, self.runner, self.scope = code, runner, scope
        names = [name for name in code.co_names if name.startswith("cpp_fused")]
        self.functions = {name: ctypes.CDLL(scope[name].__self__.__file__)["kernel"] for name in names}

    @classmethod
    def of(cls, chunk: Any, graph: Graph) -> Tape | None:
        """The tape of a graph compiled by Inductor; None if it does anything but call CPU kernels that cannot fail."""
        call = getattr(chunk, "current_callable", None)
        function = getattr(call, "__func__", None)
        if function is None or any(_divides_integers(node) for node in graph.nodes):
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
                calls.append((self.functions[name], arguments))

            return kernel

        scope = self.scope | {name: watched(name) for name in self.functions}
        return FunctionType(self.code, scope)(self.runner, list(inputs)), calls


def _divides_integers(node: Node) -> bool:
    value = node.meta.get("val")
    divides = any(word in str(node.target) for word in ("div", "remainder", "fmod"))
    return divides and isinstance(value, Tensor) and not value.is_floating_point()


#: Arguments that a kernel may have at most.
MOST = 96
_SLAB = 64  # rounds between two looks at the keyboard
_SOURCE = Path(__file__).with_name("rounds.cpp")


@functools.cache
def _rounds() -> Any:
    from torch._inductor.codecache import CppCodeCache

    return CppCodeCache.load(_SOURCE.read_text().replace("MOST", str(MOST))).rounds


def replay(calls: Calls, columns: Columns, n: int, done: Callable[[], None]) -> None:
    """Make recorded calls `n` times more.

    Args:
        calls: functions and their arguments, tensors or integers.
        columns: for the address of a tensor that moves, its addresses in the further rounds.
        n: how many rounds.
        done: called for each round.
    """
    arguments = [argument for _, given in calls for argument in given]
    table = np.empty((n, len(arguments)), np.int64)
    for i, argument in enumerate(arguments):
        value = argument if isinstance(argument, int) else argument.data_ptr()
        column = None if isinstance(argument, int) else columns.get(value)
        table[:, i] = value if column is None else column
    kernels = (ctypes.c_void_p * len(calls))(*(ctypes.cast(function, ctypes.c_void_p).value for function, _ in calls))
    arity = (ctypes.c_int64 * len(calls))(*(len(given) for _, given in calls))
    word, rounds = ctypes.c_int64, _rounds()
    for first in range(0, n, _SLAB):
        size = min(_SLAB, n - first)
        start = table.ctypes.data + first * table.strides[0]
        rounds(word(size), word(len(calls)), kernels, arity, ctypes.c_void_p(start))
        for _ in range(size):
            done()


class Again:
    """Recorded calls, to be made again with some of their tensors elsewhere.

    Args:
        calls: see `Tape.record`.
        moving: the tensors that will lie elsewhere; calling the object takes their new addresses.
    """

    def __init__(self, calls: Calls, moving: Sequence[Tensor]):
        self.alive = [calls, moving]
        number = {tensor.data_ptr(): i for i, tensor in enumerate(moving)}
        self.calls = []
        for function, arguments in calls:
            function.argtypes, function.restype = [ctypes.c_int64] * len(arguments), None
            values = [a if isinstance(a, int) else a.data_ptr() for a in arguments]
            moved = [(i, number[value]) for i, value in enumerate(values) if value in number]
            self.calls.append((function, values, moved))

    @classmethod
    def of(cls, calls: Calls, moving: Sequence[Tensor], still: Sequence[Tensor]) -> Again | None:
        """None if two of the tensors lie at the same address or one is empty, so that it is not clear what moves."""
        addresses = {tensor.data_ptr() for tensor in moving}
        distinct = len(addresses) == len(moving) and addresses.isdisjoint({0, *(t.data_ptr() for t in still)})
        return cls(calls, moving) if distinct else None

    def __call__(self, addresses: Sequence[int]) -> None:
        for function, values, moved in self.calls:
            arguments = values.copy()
            for i, k in moved:
                arguments[i] = addresses[k]
            function(*arguments)
