"""The compiled chunks that a sequence of some length is cut into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .pages import huge
from .program import Program
from .rerun import Reruns

_KEPT = 256  # lengths of sequences
_LARGE = 2**25  # bytes of inputs from which on it pays to save memory
_STRETCH = 2**20  # bytes of the inputs of a stretch where memory is saved
_APART = 8  # steps between two states that are kept, at least, where the others can be computed again


class Cut(NamedTuple):
    """How a sequence is cut.

    Attributes:
        chunks: the compiled ones.
        stretches: ``(first step, steps of a chunk, chunks)`` one after the other.
        again: the backward pass computes states inside a stretch again.
        donated: it writes the gradients of the inputs in their place, stretch by stretch.
    """

    chunks: Chunks
    stretches: Sequence[tuple[int, int, int]]
    again: bool = False
    donated: bool = False


class Chunks:
    """The compiled chunks for T steps: as many long ones as fit, then single steps.

    On the CPU, with more than one thread, single steps are compiled with the first long chunks, so that no other T will
    have to be compiled for. On a GPU, where each call costs a launch, chunks of twice and half the length are used too.

    Args:
        program, net: see `Program`.
        T: number of steps.
        wanted: which inputs get a gradient; ``None`` when no backward pass can follow.
        long: the steps of a long chunk, if not those of the program, and then no matrix products are kept.

    Attributes:
        whole: a stretch for each length of chunks, from the longest on.
        values: what was computed beforehand for a call.
        reruns: passes over the `whole`.
        again: whether it is cheap to compute states again: chunks are short, and have no matrix products.
        launches: of kernels in the forward pass, about; 0 if a chunk does anything else.
    """

    def __init__(
        self,
        program: Program,
        net: nn.Module,
        T: int,
        wanted: tuple[bool, ...] | None = None,
        long: int | None = None,
    ):
        self.T, self.products = T, program.products if long is None else []
        steps = long or program.steps
        self.on_cpu = on_cpu = all(state.device.type == "cpu" for state in program.states)
        self.whole = Cut(self, _stretches(T, (steps, 1) if on_cpu or long else (2 * steps, steps, steps // 2, 1)))
        kinds, keeping = {steps for _, steps, _ in self.whole.stretches}, bool(self.products)
        if on_cpu and torch.get_num_threads() > 1:
            kinds.add(1)
        forward = {n: program.forward(net, n, keeping) for n in kinds}
        backward = {n: program.backward(net, n, wanted, keeping) for n in kinds} if wanted is not None else {}
        self.forward, self.backward = ({n: kind[n].result() for n in kind} for kind in (forward, backward))
        plain = all(folded.launches for kind in (self.forward, self.backward) for folded in kind.values())
        self.launches = plain * sum(n * self.forward[steps].launches for _, steps, n in self.whole.stretches)
        used = [folded.prologue.used for kind in (self.forward, self.backward) for folded in kind.values()]
        self.values = program.store([] if None in used else set().union(*used))  # type: ignore[arg-type]
        self.reruns = Reruns()
        self.again = on_cpu and program.steps < _APART and not self.products

    def cut(self, program: Program, batch: tuple[int, ...], donated: bool) -> Cut:
        """The sequence as a whole, or, where that saves much memory, in short stretches.

        Only on the CPU, where a stretch is worked on in the caches. States are computed again where chunks are short
        and have no matrix products, which are not cheap.
        """
        donated = donated and self.on_cpu
        if not self.backward or not (self.again or donated):
            return self.whole
        chunk = program.steps * sum(layout.nbytes(batch) for layout in program.xs)
        if self.T * chunk < _LARGE * program.steps:
            return self.whole
        most = max(_STRETCH // chunk, _APART // program.steps)
        return Cut(
            self,
            [
                (first + steps * i, steps, min(most, n - i))
                for first, steps, n in self.whole.stretches
                for i in range(0, n, most)
            ],
            self.again,
            donated,
        )

    def saved(self, batch: tuple[int, ...], T: int) -> list[Tensor]:
        """Room for the matrix products of `T` steps, if a backward pass can follow."""
        return [huge(layout.empty(batch, T)) for layout in self.products] if self.backward else []

    def nbytes(self, program: Program, batch: tuple[int, ...], T: int) -> int:
        """Bytes of outputs and matrix products of `T` steps."""
        return T * sum(layout.nbytes(batch) for layout in (*program.outs, *self.products))

    def unsaved(self, batch: tuple[int, ...], steps: int) -> list[Tensor]:
        """Room for the matrix products of one chunk, which nobody reads."""
        return [] if self.backward else [layout.empty(batch) for _ in range(steps) for layout in self.products]


def _stretches(T: int, lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    found, first = [], 0
    for steps in lengths:
        if n := (T - first) // steps if steps else 0:
            found.append((first, steps, n))
            first += n * steps
    return found


def chunks_for(
    program: Program, net: nn.Module, T: int, wanted: tuple[bool, ...] | None = None, long: int | None = None
) -> Chunks:
    """`Chunks`, the same for the same arguments."""
    key = T, wanted, long
    if (chunks := program.sequences.get(key)) is None:
        if len(program.sequences) >= _KEPT:
            program.sequences.clear()
        chunks = program.sequences[key] = Chunks(program, net, T, wanted, long)
    return chunks
