"""A chunk's kernels and their arguments, told from one call in which the kernels do nothing."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...ops import native
from ...torch_private import written_function
from .kernels import Launched, NotRecordable, NotYet, Part, launcher, recorders
from .operators import OPERATORS, stand_ins

_MOST_ARGUMENTS = 96
_NOT_STARTED = b"kernels cannot be launched"
_CHUNKS_AT_ONCE = 64  # between two looks at whether the user has pressed Ctrl-C
_ALIGNED = 16  # bytes: Triton's kernels are compiled for tensors that begin at a multiple of these


class Column(NamedTuple):
    """How an argument moves: in chunk i it lies at ``bases[base] + offset + step * i``.

    In an alternating column it is ``step`` times 0 and 1 in turn.
    """

    base: int
    offset: int = 0
    step: int = 0
    alternates: int = 0


class _Call(NamedTuple):
    kernel: int
    arity: int
    blocks_x: int
    blocks_y: int
    blocks_z: int
    threads: int
    shared_bytes: int


class _Run(NamedTuple):
    """Some calls, as addresses of arrays and their lengths, and numbers; behind it lie the bases."""

    columns: int
    n_columns: int
    calls: int
    n_calls: int
    arguments: int
    n_arguments: int
    n_bases: int
    first: int
    last: int
    start: int
    stride: int
    turn: int
    threads: int
    launch: int
    stream: int


class Route(NamedTuple):
    """How all columns of a recording move along some tensors.

    Attributes:
        moves: the columns, which `lists` points to.
        lists: the first words of a run.
        aligned: whether a kernel of Triton's may be called along it.
    """

    moves: array[int]
    lists: list[int]
    aligned: bool


_FIRST, _LAST = _Run._fields.index("first"), _Run._fields.index("last")
_NOWHERE = contextlib.nullcontext()


@functools.cache
def _library() -> Any:
    """The functions of kernel_loop.cpp, which takes its structs and constants from here."""
    declared = {
        "COLUMN_FIELDS": ", ".join(Column._fields),
        "CALL_FIELDS": ", ".join(_Call._fields),
        "RUN_FIELDS": ", ".join(_Run._fields),
        "MOST_ARGUMENTS": _MOST_ARGUMENTS,
        "NOT_STARTED": f'"{_NOT_STARTED.decode()}"',
    }
    path = Path(__file__).with_name("kernel_loop.cpp")
    library = native.load(path, *[f"-D{name}={value}" for name, value in declared.items()])
    library.run_kernels.argtypes, library.run_kernels.restype = [ctypes.c_void_p], ctypes.c_char_p
    library.limit_threads.argtypes, library.limit_threads.restype = [ctypes.c_int], ctypes.c_int
    return library


@contextlib.contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Inside, no loop of OpenMP uses more threads than this."""
    if threads >= torch.get_num_threads():
        yield
        return
    before = _library().limit_threads(threads)
    try:
        yield
    finally:
        _library().limit_threads(before)


class Recording:
    """The kernels of a chunk for arguments of certain shapes.

    Args:
        calls: of kernels, in order.
        arguments: tensors that stand for the arguments of the chunk.
        threads: at most so many work on a kernel of the CPU.

    Attributes:
        routes: along which it has run; they point into this recording, and into no other.
    """

    def __init__(self, calls: Sequence[Launched], arguments: Sequence[Tensor], threads: int):
        self.threads, self.device = threads, arguments[0].device
        places = {tensor.data_ptr(): i for i, tensor in enumerate(arguments)}
        used = [_part(argument) for call in calls for argument in call.arguments]
        parts = [argument for argument in used if isinstance(argument, Part)]
        temporary = {a.tensor.data_ptr(): a.tensor for a in parts if a.tensor.data_ptr() not in places}
        self.temporary = [tensor.untyped_storage().nbytes() for tensor in temporary.values()]
        places |= {address: len(places) + i for i, address in enumerate(temporary)}
        self.numbers = [argument for argument in used if not isinstance(argument, Part)]
        inner = dict.fromkeys((places[a.tensor.data_ptr()], a.offset) for a in parts if a.offset)
        numbers, first = itertools.count(len(places)), len(places) + len(self.numbers)
        shifted = {place: first + i for i, place in enumerate(inner)}
        self.shifts = list(inner)
        columns = []
        for argument in used:
            if isinstance(argument, Part):
                place = places[argument.tensor.data_ptr()]
                columns.append(shifted[place, argument.offset] if argument.offset else place)
            else:
                columns.append(next(numbers))
        launches = [_Call(call.kernel, len(call.arguments), *call.launch) for call in calls]
        self.count, self.on_gpu = len(launches), self.device.type == "cuda"
        self.calls = array("q", itertools.chain.from_iterable(launches))
        self.arguments = array("q", columns)
        self.routes: dict[Any, Route] = {}
        self.run_kernels = _library().run_kernels

    def route(self, columns: Sequence[Column], bases: int) -> Route:
        """How all columns move, temporary tensors and numbers after the `columns` of the chunk's arguments.

        Args:
            columns: of the chunk's arguments.
            bases: how many tensors these move along.
        """
        still = [Column(bases + i) for i in range(len(self.temporary) + len(self.numbers))]
        aligned = all(column.offset % _ALIGNED == 0 and column.step % _ALIGNED == 0 for column in columns)
        every = [*columns, *still]
        every += [every[i]._replace(offset=every[i].offset + shift) for i, shift in self.shifts]
        moves = array("q", itertools.chain.from_iterable(every))
        lists = (moves, len(every)), (self.calls, self.count), (self.arguments, len(self.arguments))
        return Route(moves, [word for words, n in lists for word in (words.buffer_info()[0], n)], aligned)

    def run(
        self,
        route: Route,
        tensors: Sequence[Tensor],
        chunks: range,
        turn: int = 0,
        progress: Any = None,
        steps: int = 1,
    ) -> bool:
        """Call the kernels for the `chunks` in turn; False if nothing was done, as may be on a GPU.

        Args:
            route: of `route`, for these tensors.
            turn: of alternating columns, at the first chunk.
            progress: takes the `steps` of each chunk that is done.

        Raises:
            RuntimeError: what a kernel has thrown, such as an index out of range.
            ValueError: the same, of an operator of this library.
        """
        bases = [tensor.data_ptr() for tensor in tensors]
        launch, stream = 0, 0
        if self.on_gpu:
            if not route.aligned or any(address % _ALIGNED for address in bases):
                return False
            launch, stream = launcher(), torch.cuda.current_stream(self.device).cuda_stream
        rooms = [torch.empty(n, dtype=torch.uint8, device=self.device) for n in self.temporary]
        bases += [*[room.data_ptr() for room in rooms], *self.numbers]
        torch.get_num_threads()  # a new thread gets torch's number only now
        where = chunks.start, chunks.step, turn, self.threads, launch, stream
        words = array("q", (*route.lists, len(bases), 0, 0, *where, *bases))
        for first in range(0, len(chunks), _CHUNKS_AT_ONCE):
            words[_FIRST], words[_LAST] = first, min(first + _CHUNKS_AT_ONCE, len(chunks))
            with torch.cuda.device(self.device) if self.on_gpu else _NOWHERE:
                message = self.run_kernels(words.buffer_info()[0])
            if message == _NOT_STARTED and first == 0:
                return False
            if message is not None:
                text = message.decode().splitlines()[0]
                raise (ValueError if text.startswith("event_") else RuntimeError)(text)
            if progress is not None:
                progress.update(steps * (words[_LAST] - first))
        return True


def _part(argument: Any) -> Any:
    return Part(argument, tuple(argument.shape), 0) if isinstance(argument, Tensor) else argument


def record(
    compiled: Any,
    layouts: Sequence[tuple[Sequence[int], torch.dtype, torch.device]],
    threads: int,
    scattered: Sequence[int] = (),
) -> Recording:
    """The kernels that a compiled chunk calls for arguments of these shapes, dtypes and devices.

    Args:
        scattered: which arguments are not contiguous; Inductor's kernels know it, operators would not.

    Raises:
        NotRecordable: with the reason.
        NotYet: not before the chunk has been called.
    """
    if (written := written_function(compiled)) is None:
        raise NotRecordable("Inductor wrote something else than a Python function")
    code, scope, runner = written
    if any(0 in shape for shape, *_ in layouts):
        raise NotRecordable("an argument has no elements")
    tensors = [torch.empty((), dtype=dtype, device=device).expand(tuple(shape)) for shape, dtype, device in layouts]
    calls: list[Launched] = []
    on_cpu = tensors[0].device.type == "cpu"
    kernels = {name: make(calls) for name, make in recorders(code, scope, on_cpu, OPERATORS).items()}
    if on_cpu and not {"ops", "reinterpret_tensor"}.isdisjoint(code.co_names):
        kernels |= stand_ins(calls, {tensors[i].data_ptr() for i in scattered})
    results = FunctionType(code, scope | kernels)(runner, list(tensors))
    if len(results):
        raise NotRecordable("it returns tensors")
    if any(len(call.arguments) > _MOST_ARGUMENTS for call in calls):
        raise NotRecordable(f"a kernel has more than {_MOST_ARGUMENTS} arguments")
    return Recording(calls, tensors, threads)


__all__ = ["Column", "NotRecordable", "NotYet", "Recording", "limited_threads", "record"]
