"""A chunk of time steps, compiled by Inductor, that runs along a sequence."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from ..ops import native
from ..purity.overwritten import memory_of
from ..tools.errors import NotCompilable, log_once
from ..torch_private import below_autograd, compiled
from . import kernel_loop
from .chunk_graphs import ChunkGraph
from .graph_passes import inputs_of, take_out
from .places import Place, Stretch
from .product_passes import is_called
from .threads import Work

#: Held while a thread traces or compiles: torch does it in one thread at a time.
COMPILING = threading.RLock()
_FEW = 256  # bytes of a constant, to compare which is quicker than to compute
_RECORDED = 64  # shapes for which the kernels of one chunk are remembered

#: The tensors of a sequence for each group of a chunk's arguments.
Tensors = Mapping[str, Sequence[Tensor]]


class ConstantValues:
    """What depends on the constants alone.

    Args:
        graph: from the constants to the values.
    """

    def __init__(self, graph: fx.Graph):
        self.compute = fx.GraphModule({}, graph).forward
        read = [(i, node.meta["val"]) for i, node in enumerate(inputs_of(graph)) if node.users]
        self.read = [(i, value.nbytes) for i, value in read]
        self.small = all([isinstance(n, int) and n <= _FEW for _, n in self.read]) and all(v.is_cpu for _, v in read)
        self.last: tuple[list[bytes], list[Tensor]] | None = None

    def __call__(self, constants: Sequence[Tensor]) -> list[Tensor]:
        """The values. Those of a few small constants are kept for as long as the bytes of these are the same."""
        held = [ctypes.string_at(constants[i].data_ptr(), n) for i, n in self.read] if self.small else []
        last = self.last  # read once: another thread may replace it
        if last is not None and held == last[0]:
            return last[1]
        with torch.no_grad(), below_autograd():
            values = self.compute(*constants)
        # A view would change with the constant of this call.
        memory = {memory_of(constants[i]) for i, _ in self.read}
        lasting = self.small and memory.isdisjoint(map(memory_of, values))
        self.last = (held, values) if lasting else None
        return values


class CompiledChunk:
    """A chunk, ready to be called.

    Args:
        chunk: its graph, which this changes.

    Attributes:
        rings: the states that may come out in the memory in which they go in.
        values: what it reads that depends on the constants alone.
        launches: about how many kernels it launches on a GPU; 0 if it may wait for the CPU, or calls other operators.
        why_not: why its kernels were called from Python in the last run, if they were.

    Raises:
        NotCompilable: Inductor fails.
    """

    def __init__(self, chunk: ChunkGraph):
        self.rings = chunk.rings
        self.steps = chunk.steps
        graph, free = chunk.graph, chunk.step.free
        self.device = chunk.step.signature.inputs[-1].device
        on_cpu = all(node.meta["val"].device.type == "cpu" for node in inputs_of(graph))
        constants = chunk.groups["constants"]
        before = take_out(graph, constants, on_cpu) if chunk.steps > 1 else None  # a call is a chunk, else
        self.values = (lambda constants: []) if before is None else ConstantValues(before)
        self.layouts = [node.meta["val"] for node in inputs_of(graph)]
        self.symbols = free.symbols
        self.work = Work(graph, free.symbols)
        self.launches = _launches(graph)
        self.why_not = ""
        self._recordings: dict[tuple[int, ...], kernel_loop.Recording | str] = {}
        self.call = compiled_graph(graph, self.layouts, free.mode)

    def run(
        self,
        tensors: Tensors,
        stretch: Stretch,
        sizes: tuple[int, ...],
        places: Mapping[str, Place],
        progress: Any = None,
    ) -> int:
        """Call the chunk along a sequence.

        Args:
            tensors: those of each group; with time in front, or a row for each chunk, as its place says.
            sizes: the free ones.
            places: where each argument lies in these tensors.
            progress: takes the steps that are done.

        Returns:
            Of two rows that take turns, the one written last.
        """
        recording = self._recorded(sizes)
        if isinstance(recording, str):
            self.why_not = recording
        else:
            replayed = self._replayed(recording, tensors, stretch, places, progress)
            self.why_not = "" if replayed else "a kernel cannot be launched for tensors at these addresses"
        if self.why_not:
            self._called(tensors, stretch, sizes, places, progress)
        return (stretch.turn + len(stretch.chunks)) % 2

    def once(self, arguments: list[Tensor], sizes: tuple[int, ...]) -> None:
        """Call a chunk of one step, with its arguments one by one."""
        recording = self._recorded(sizes)
        if not isinstance(recording, str):
            if (route := recording.routes.get(None)) is None:
                columns = [kernel_loop.Column(i) for i in range(len(arguments))]
                route = recording.routes[None] = recording.route(columns, len(columns))
            if recording.run(route, arguments, range(1)):
                return
        with self._as_compiled(sizes):
            self.call(arguments)

    def _replayed(
        self,
        recording: kernel_loop.Recording,
        tensors: Tensors,
        stretch: Stretch,
        places: Mapping[str, Place],
        progress: Any,
    ) -> bool:
        held = [*itertools.chain.from_iterable(map(tensors.__getitem__, places))]
        still = tuple([len(tensors["states"][i]) == 1 for i in self.rings])  # rings that stay where they are
        key = stretch, id(places), still
        if (route := recording.routes.get(key)) is None:
            columns, first = [], 0
            for group, place in places.items():
                columns += _columns(place, tensors[group], first, stretch)
                first += len(tensors[group])
            route = recording.route(columns, first)
            if len(recording.routes) >= _RECORDED:
                recording.routes.clear()
            recording.routes[key] = route
        return recording.run(route, held, stretch.chunks, stretch.turn, progress, self.steps)

    def _called(
        self, tensors: Tensors, stretch: Stretch, sizes: tuple[int, ...], places: Mapping[str, Place], progress: Any
    ) -> None:
        with self._as_compiled(sizes):
            for k, i in enumerate(stretch.chunks):
                arguments: list[Tensor] = []
                for group, place in places.items():
                    arguments += _arguments(place, tensors[group], stretch, i, (stretch.turn + k) % 2)
                self.call(arguments)
                if progress is not None:
                    progress.update(self.steps)

    @contextlib.contextmanager
    def _as_compiled(self, sizes: tuple[int, ...]) -> Iterator[None]:
        threads = self.work.threads(sizes) if self.device.type == "cpu" else torch.get_num_threads()
        with kernel_loop.limited_threads(threads), below_autograd(), torch.no_grad():
            yield

    def _recorded(self, sizes: tuple[int, ...]) -> kernel_loop.Recording | str:
        """The kernels for these sizes, or why they are called from Python. Two threads may both record them."""
        recordings = self._recordings
        if sizes in recordings:
            return recordings[sizes]
        known = dict(zip(self.symbols, sizes, strict=True))
        layouts = [([_size(n, known) for n in x.shape], x.dtype, x.device) for x in self.layouts]
        try:
            scattered = [i for i, x in enumerate(self.layouts) if not x.is_contiguous()]
            found = kernel_loop.record(self.call, layouts, self.work.threads(sizes), scattered)
        except kernel_loop.NotYet as reason:
            return str(reason)
        except Exception as reason:  # whatever torch keeps to itself is not as it was
            found = str(reason) or type(reason).__name__
            log_once(f"chunks of {self.steps} steps are called from Python: {found}")
        if len(recordings) >= _RECORDED:  # a new table, as another thread may read this one
            recordings = self._recordings = {}
        recordings[sizes] = found
        return found


def compiled_graph(graph: fx.Graph, layouts: Sequence[Tensor], mode: Any) -> Any:
    """A graph compiled by Inductor, called with a list of tensors that lie as the fake `layouts` do.

    Raises:
        NotCompilable: Inductor fails.
    """
    try:
        return compiled(fx.GraphModule({}, graph), layouts, mode, _options(graph))
    except Exception as error:
        raise NotCompilable(_explain(error)) from error


def _size(size: Any, known: Mapping[Any, int]) -> int:
    return size if isinstance(size, int) else known[size.node.expr]


def _columns(place: Place, tensors: Sequence[Tensor], base: int, stretch: Stretch) -> list[kernel_loop.Column]:
    """How the arguments of a group move, whose tensors start with number `base`: for the loop in C++."""
    if place is Place.WHOLE:
        return [kernel_loop.Column(base + j) for j in range(len(tensors))]
    first, step, in_turn = stretch.rows(place)
    # Not by its stride: that of a single row may be anything.
    sizes = [0 if in_turn and len(tensor) == 1 else tensor.nbytes // len(tensor) for tensor in tensors]
    return [
        kernel_loop.Column(base + j, row * size, step * size, in_turn) for row in first for j, size in enumerate(sizes)
    ]


def _arguments(place: Place, tensors: Sequence[Tensor], stretch: Stretch, chunk: int, turn: int) -> list[Tensor]:
    """The same arguments for one chunk: for the loop in Python."""
    if place is Place.WHOLE:
        return list(tensors)
    first, step, in_turn = stretch.rows(place)
    moved = step * (turn if in_turn else chunk)
    rows = [row + moved for row in first]
    if place is Place.STEPS:
        return [tensor[row : row + stretch.steps] for row in rows for tensor in tensors]
    return [tensor[min(row, len(tensor) - 1) if in_turn else row] for row in rows for tensor in tensors]


def _launches(graph: fx.Graph) -> int:
    """One for each operator that Inductor does not write itself, and one before and after each for the others."""
    values = [node.meta.get("val") for node in graph.nodes]
    if len({value.device for value in values if isinstance(value, Tensor)}) > 1:  # a copy, which may wait
        return 0
    targets = [node.target for node in graph.nodes if node.op == "call_function"]
    if not {getattr(target, "namespace", "aten") for target in targets} <= {"aten", "prims", "neurodyn", "_operator"}:
        return 0
    return 1 + 2 * sum(map(is_called, targets))


def _options(graph: fx.Graph) -> dict[str, Any]:
    """For Inductor. The engine lays every input out as traced, so that sizes and strides need not be checked.

    Loops take as many threads as a call is given. Where an index can be wrong they take what Inductor chooses, for
    small ones a single one: out of a loop of several threads no error can be raised.
    """
    options: dict[str, Any] = {"size_asserts": False}
    if native.has_vectors():
        options["cpp.vec_isa_ok"] = True
    values = [node.meta.get("val") for node in graph.nodes]
    if not any(isinstance(value, Tensor) and value.dtype in (torch.int32, torch.int64) for value in values):
        # For one thread Inductor leaves out what keeps several from doing the same work each (omp single).
        options |= {"cpp.dynamic_threads": True, "cpp.threads": max(2, torch.get_num_threads())}
    return options


def _explain(error: Exception) -> str:
    if "InvalidCxxCompiler" in f"{type(error).__name__} {error}":
        return "there is no working C++ compiler; install one (apt-get install g++), or name it in the variable CXX"
    first = str(error).strip().splitlines()[:1]
    return f"Inductor failed ({type(error).__name__}: {first[0] if first else ''})"
