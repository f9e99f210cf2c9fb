"""A program: the compiled chunks for one kind of module and of inputs, and a sequence cut into them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from ..tools.errors import NotCompilable
from ..tools.progress import compiling
from ..torch_private import tree_flatten, without_saved_tensor_hooks
from .chunk_graphs import StepParts, backward_graph, floating_states, forward_graph
from .compiled_chunk import COMPILING, CompiledChunk
from .places import Stretch
from .tracing import SizeSpecialised, TracedStep

#: (inputs and nodes of one forward step, steps in a chunk): shorter chunks for larger steps bound the compile time.
CHUNK = ((70, 8), (95, 4), (250, 2))
_SINGLE = tree_flatten(torch.empty(0))[1]
_REMEMBERED = 256  # lengths of sequences
_FOLLOWED = 64  # steps through which a gradient is followed from state to state


class Program:
    """The chunks of one traced step, each compiled when it is first needed.

    Args:
        step: traced; without gradients it has a forward pass only.

    Attributes:
        usual: the length of a chunk by its size.
        differentiable: whether any result has a gradient.
        steps: the length of most chunks, chosen at the first sequence that is long enough; 0 before.
        products: layouts of the matrix products that the forward pass keeps for the backward pass.
        proven: the lengths of chunks whose results have been compared with those of the plain step.
    """

    def __init__(self, step: TracedStep):
        self.step, self.parts = step, StepParts(step)
        size = len(self.parts.forward) + len(step.signature.inputs)
        self.usual = next((steps for nodes, steps in CHUNK if size <= nodes), 1)
        self.steps, self.differentiable = 0, bool(step.differentiable)
        self.proven: set[int] = set()  # lengths of chunks
        self.tries = 0
        self.failure = ""
        self.on_cpu = all(layout.device.type == "cpu" for layout in (*step.signature.inputs, *step.outs))
        try:
            kept = self.parts.products if step.differentiable else []
            self.products = [step.layout_of(node.meta["val"]) for node in kept]
        except SizeSpecialised:  # of sizes that are no free ones
            self.products = []
        self.single = step.output_spec == _SINGLE
        self._unreached: dict[tuple[tuple[int, ...], int], list[int]] = {}
        self.positions = self._positions()
        self.floating = floating_states(step.signature.states)
        self._stretches: dict[tuple[int, int], list[Stretch]] = {}
        self._chunks: dict[tuple[str, int], CompiledChunk] = {}

    def _positions(self) -> list[int]:
        """Where each source stands among states, learned constants and xs."""
        signature = self.step.signature
        n, m = len(signature.states), len(signature.states) + len(signature.constants)
        learned = signature.learned or ()
        places = {i: i for i in range(n)} | {n + i: n + k for k, i in enumerate(learned)}
        return [places.get(i, i - m + n + len(learned)) for i in signature.sources]

    def unreached(self, results: tuple[int, ...], T: int) -> list[int]:
        """The positions of sources whose gradient is None if the loss depends on these results of T steps alone."""
        key = results, min(T, _FOLLOWED)
        if (found := self._unreached.get(key)) is None:
            reached = zip(self.positions, self.parts.reached(*key), strict=True)
            found = self._unreached[key] = [i for i, reaches in reached if not reaches]
        return found

    def chunk(self, kind: str, steps: int) -> CompiledChunk:
        """A "forward" or "backward" chunk.

        Raises:
            NotCompilable: with the reason.
        """
        if self.failure:
            raise NotCompilable(self.failure)
        if (kind, steps) not in self._chunks:
            with COMPILING, without_saved_tensor_hooks(), torch.inference_mode(False):
                if (kind, steps) not in self._chunks:  # another thread may have been first
                    try:
                        self._chunks[kind, steps] = self._compiled(kind, steps)
                    except NotCompilable as reason:
                        self.failure = str(reason)
                        raise
        return self._chunks[kind, steps]

    def rings(self, stretches: Sequence[Stretch]) -> frozenset[int]:
        """The states that the forward chunks of these lengths may change where they are."""
        found = [frozenset(self.chunk("forward", stretch.steps).rings) for stretch in stretches]
        return frozenset.intersection(*found) if found else frozenset()

    def path(self) -> str:
        """How its chunks are called, for people."""
        chunks = sorted(self._chunks.items())
        lengths = " and ".join(str(steps) for steps in sorted({steps for (_, steps), _ in chunks}, reverse=True))
        because = sorted({chunk.why_not for _, chunk in chunks if chunk.why_not})
        kernels = f"called from Python, because {'; '.join(because)}" if because else "called by the loop in C++"
        return f"compiled chunks of {lengths} time steps, whose kernels are {kernels}"

    def _compiled(self, kind: str, steps: int) -> CompiledChunk:
        graph = forward_graph if kind == "forward" else backward_graph
        try:
            with compiling():
                return CompiledChunk(graph(self.parts, steps, self.products))
        except NotCompilable:
            raise
        except Exception as error:  # a private interface of torch that is not as it was
            raise NotCompilable(f"its chunk cannot be built ({type(error).__name__}: {error})") from error

    def stretches(self, T: int, steps: int = 0) -> list[Stretch]:
        """A sequence of T steps: as many long chunks as fit, then shorter ones.

        Where two rows take turns, chunk 0 reads row 0. On a GPU, where each call costs a launch, there are chunks of
        twice and half the usual length too.
        """
        if (found := self._stretches.get((T, steps))) is not None:
            return found
        if len(self._stretches) >= _REMEMBERED:
            self._stretches.clear()
        found = self._stretches[T, steps] = self._cut(T, steps or self._length(T))
        return found

    def _length(self, T: int) -> int:
        """That of most chunks, for one T always the same: a backward pass reads the rows of a forward pass."""
        if T < self.usual:
            return self.usual
        with COMPILING:  # of two threads the first one chooses
            self.steps = self.steps or self._dividing(T)
        return self.steps

    def _dividing(self, T: int) -> int:
        """A length near the usual one that leaves no single steps, which would be chunks to compile too."""
        near = range(-(-3 * self.usual // 4), 5 * self.usual // 4 + 1) if self.on_cpu else ()
        dividing = [n for n in near if T % n == 0]
        return min(dividing, key=lambda n: abs(n - self.usual), default=self.usual)

    def _cut(self, T: int, steps: int) -> list[Stretch]:
        lengths = (steps, 1) if self.on_cpu else (2 * steps, steps, steps // 2, 1)
        found, step, row = [], 0, 0
        for length in lengths:
            if n := (T - step) // length if length else 0:
                found.append(Stretch(step, row, range(n), row % 2, length))
                step, row = step + n * length, row + n
        return found

    def is_proven(self, T: int) -> bool:
        """Whether the results of all chunks that a sequence needs have been compared with the plain step's."""
        return all([stretch.steps in self.proven for stretch in self.stretches(T)])

    def sizes(self, inputs: Sequence[Tensor]) -> tuple[int, ...]:
        """The free sizes, as they are in states, constants, and xs with time in front."""
        return tuple([inputs[i].shape[dim] for i, dim in self.places])

    @functools.cached_property
    def places(self) -> list[tuple[int, int]]:
        """For each free size an input that has it, and its dimension."""
        signature = self.step.signature
        n = len(signature.states) + len(signature.constants)
        found: dict[int, tuple[int, int]] = {}
        for i, layout in enumerate(signature.inputs):
            for dim, size in enumerate(layout.shape):
                if size < 0:
                    found.setdefault(-1 - size, (i, dim + (i >= n)))
        return [found[k] for k in range(len(signature.sizes))]
