"""Compiled chunks of kernels, called again and again without Python in between: kernels move along their tensors."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

#: What the function that Inductor wrote may use besides its kernels: it then does nothing but allocate and call them.
_PLAIN = {"clear", "size", "empty_strided_cpu", "torch"}

_MOST = 96  # arguments of a kernel
_KEPT = 64  # plans for one chunk
_SLAB = 64  # rounds between two looks at the keyboard
_SOURCE = Path(__file__).with_name("rounds.cpp")

#: Addresses of kernels, and what they are called with: tensors and integers.
Calls = Sequence[tuple[int, tuple[Any, ...]]]

Shapes = tuple[torch.Size, ...]

#: Where a tensor lies: ``(start, step, kind)`` means at ``start + turn * step``; by its kind the turn of the k-th round
#: is the number of the chunk, ``k % period`` or ``(k + 1) % period``.
Place = tuple[int, int, int]


class Tape:
    """The kernels that a compiled chunk calls, and with what."""

    def __init__(self, code: Any, runner: Any, scope: dict[str, Any]):
        self.code, self.runner, self.scope = code, runner, scope
        names = [name for name in code.co_names if name.startswith("cpp_fused")]
        self.addresses = {name: _address(scope[name].__self__.__file__) for name in names}
        self.plans: dict[tuple[Shapes, Shapes], Plan | None] = {}

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

    def plan(self, fixed: Shapes, carried: Shapes, inputs: Callable[[], Sequence[Tensor]]) -> Plan | None:
        """How to call the chunk's kernels; None if it must be called itself.

        Args:
            fixed: shapes of the inputs that are the same for every chunk.
            carried: shapes of those that the chunk before handed on, which are to be those of the outputs.
            inputs: gives inputs of the chunk, which are only looked at.
        """
        shapes = fixed, carried
        if shapes in (plans := self.plans):
            return plans[shapes]
        if len(plans) >= _KEPT:
            plans = self.plans = {}
        plan = plans[shapes] = self._learn([torch.empty(x.shape, dtype=x.dtype) for x in inputs()], carried)
        return plan

    def _learn(self, inputs: list[Tensor], carried: Shapes) -> Plan | None:
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
        alike = tuple(tensor.shape for tensor in outputs) == carried
        if not distinct or not plain or not alike or any(len(given) > _MOST for _, given in calls):
            return None
        return Plan(calls, inputs, outputs)


class Plan:
    """Which kernels to call for inputs of certain shapes, and with what.

    Args:
        calls: one round.
        inputs, outputs: the tensors among the arguments that are given in each round; the others are temporary.
    """

    def __init__(self, calls: Calls, inputs: Sequence[Tensor], outputs: Sequence[Tensor]):
        arguments = [argument for _, given in calls for argument in given]
        given = {tensor.data_ptr(): i for i, tensor in enumerate((*inputs, *outputs))}
        others = {a.data_ptr(): a for a in arguments if isinstance(a, Tensor) and a.data_ptr() not in given}
        column = given | {address: len(inputs) + len(outputs) + i for i, address in enumerate(others)}
        first = len(inputs) + len(outputs) + len(others)
        numbered = itertools.count(first)
        columns = [column[a.data_ptr()] if isinstance(a, Tensor) else next(numbered) for a in arguments]
        self.temporary = [tensor.nbytes for tensor in others.values()]
        self.numbers = [argument for argument in arguments if not isinstance(argument, Tensor)]
        self.zeros = _words([0] * (first + len(self.numbers)))
        self.calls = (
            len(calls),
            _words([kernel for kernel, _ in calls]),
            _words([len(given) for _, given in calls]),
            _words(columns),
        )

    def replay(self, places: Iterable[Place], chunks: range, period: int, done: Callable[[], None]) -> None:
        """Call the kernels once for each of `chunks`.

        Args:
            places: those of the inputs and of the outputs; `Place` tells what `period` is for.
            done: called after each round.

        Raises:
            RuntimeError: what a kernel has thrown.
        """
        start, step, kind = zip(*places, strict=True)
        rest = [0] * (len(self.zeros) - len(start))
        step, kind = _words((*step, *rest)), _words((*kind, *rest))
        for k in range(0, len(chunks), _SLAB):
            last = min(k + _SLAB, len(chunks))
            self._run((k, last, chunks.start, chunks.step, period), start, step, kind)
            for _ in range(k, last):
                done()

    def once(self, addresses: Sequence[int]) -> None:
        """Call the kernels; `addresses` are those of the inputs and of the outputs."""
        self._run((0, 1, 0, 0, 1), addresses, self.zeros, self.zeros)

    def _run(self, rounds: tuple[int, ...], start: Sequence[int], step: Any, kind: Any) -> None:
        room = [torch.empty(n, dtype=torch.uint8) for n in self.temporary]
        start = _words((*start, *(x.data_ptr() for x in room), *self.numbers))
        message = _rounds()(*rounds, start, step, kind, *self.calls)
        if message is not None:
            raise RuntimeError(message.decode())


def _words(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


def _address(library: str) -> int:
    return ctypes.cast(ctypes.CDLL(library)["kernel"], ctypes.c_void_p).value  # type: ignore[return-value]


@functools.cache
def _rounds() -> Any:
    from torch._inductor.codecache import CppCodeCache

    function = CppCodeCache.load(_SOURCE.read_text().replace("MOST", str(_MOST))).rounds
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    function.argtypes, function.restype = [*5 * [number], *3 * [pointer], number, *3 * [pointer]], ctypes.c_char_p
    return function
