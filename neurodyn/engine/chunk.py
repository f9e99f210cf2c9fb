"""A traced chunk of steps, compiled by Inductor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch._inductor import config as inductor
from torch._inductor.compile_fx import compile_fx_inner
from torch._inductor.virtualized import V
from torch.fx import GraphModule

from .background import Names, in_background, try_instruction_sets, wait_for
from .errors import NotCompilable
from .fold import fold
from .products import is_called
from .prologue import Prologue
from .rounds import limited
from .rules import rules_once
from .tape import Tape
from .threads import Work

_KNOWN = {"aten", "prims", "neurodyn"}

#: Held while a thread traces or compiles: torch does it in one thread at a time.
TRACING = threading.RLock()


class Folded(NamedTuple):
    """A compiled chunk, in two parts.

    ``prologue(constants, known) -> values`` computes what depends on the constants alone, once for a whole sequence;
    ``chunk([*inputs, *values]) -> states``. `tape` calls the chunk's kernels without Python, if that can be done.
    `work` is what it computes, if on a CPU; `launches` is about how many kernels it launches on a GPU, 0 if an operator
    may do anything else.
    """

    prologue: Prologue
    chunk: Callable[[list[Tensor]], Sequence[Tensor]]
    tape: Tape | None
    work: Work | None
    launches: int

    def limited(self, inputs: Sequence[Tensor]) -> AbstractContextManager[None]:
        """Inside, `chunk` takes no more threads than are worth it for these inputs."""
        return limited(self.work and self.work.threads(inputs))


class Pending:
    """A chunk whose kernels may still be compiled, in the background.

    Args:
        graph: functional, except for writes to its inputs.
        inputs: its fake inputs.
        constants: which of them keep their value from call to call.

    Raises:
        NotCompilable: Inductor fails.
    """

    def __init__(self, graph: GraphModule, inputs: list[Tensor], constants: range):
        self.prologue, graph, inputs = fold(graph, inputs, constants)
        mode = inputs[0].fake_mode  # type: ignore[attr-defined]
        self._folded: Folded | None = None
        self.launches = _launches(graph)
        on_cpu = all(tensor.device.type == "cpu" for tensor in inputs)  # elsewhere Inductor keeps what it waits for
        self.work = Work(graph, inputs) if on_cpu else None
        if on_cpu:
            try_instruction_sets()
        with inductor.patch(_options(graph)), rules_once(), in_background(on_cpu) as written, torch.no_grad():
            self.written: list[Names] = written
            try:
                with V.set_fake_mode(mode), tracing(TracingContext(mode)):
                    self.chunk = compile_fx_inner(graph, inputs)
            except Exception as error:
                raise NotCompilable(_explain(error)) from error

    def result(self) -> Folded:
        """The chunk, ready to be called.

        Raises:
            NotCompilable: with what the compiler said.
        """
        with TRACING:
            if self._folded is None:
                try:
                    wait_for(self.written)
                except Exception as error:
                    raise NotCompilable(_explain(error)) from error
                chunk = getattr(self.chunk, "current_callable", None) or self.chunk  # without Inductor's bookkeeping
                tape = Tape.of(self.chunk, self.work)
                self._folded = Folded(self.prologue, _below_autograd(chunk), tape, self.work, self.launches)
        return self._folded


def _launches(graph: GraphModule) -> int:
    """One for each operator that Inductor does not write itself, and one before and after each for the others."""
    values = [node.meta.get("val") for node in graph.graph.nodes]
    if len({value.device for value in values if isinstance(value, Tensor)}) > 1:  # a copy, which may wait
        return 0
    targets = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    if not {getattr(target, "namespace", "aten") for target in targets} <= _KNOWN:
        return 0
    return 1 + 2 * sum(map(is_called, targets))


def _options(graph: GraphModule) -> dict[str, Any]:
    """For Inductor. The engine lays every input out as traced, so that sizes and strides need not be checked.

    Loops take as many threads as a call is given. Where an index can be wrong they take what Inductor chooses, for
    small ones a single one: out of a loop of several threads no error can be raised.
    """
    options: dict[str, Any] = {"size_asserts": False}
    values = [node.meta.get("val") for node in graph.graph.nodes]
    if not any(isinstance(value, Tensor) and value.dtype in (torch.int32, torch.int64) for value in values):
        # For one thread Inductor leaves out what keeps several from doing the same work each (omp single).
        options |= {"cpp.dynamic_threads": True, "cpp.threads": max(2, torch.get_num_threads())}
    return options


def _below_autograd(chunk: Callable) -> Callable:
    """`chunk`, whose operators need not look for gradients, which takes them 5 us each."""

    def call(inputs: list[Tensor]) -> Sequence[Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            return chunk(inputs)

    return call


def _explain(error: Exception) -> str:
    if "InvalidCxxCompiler" in f"{type(error).__name__} {error}":
        return "there is no working C++ compiler; install one (apt-get install g++), or name it in the variable CXX"
    return f"Inductor failed ({type(error).__name__}: {error})"
