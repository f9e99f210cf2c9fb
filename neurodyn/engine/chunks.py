"""The compiled chunks that a sequence of some length is cut into."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .pages import huge
from .program import Program

_KEPT = 256  # lengths of sequences


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
        stretches: ``(first step, steps of a chunk, chunks)`` for each length of chunks, from the longest on.
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
        self.products = program.products if long is None else []
        steps, on_cpu = long or program.steps, all(state.device.type == "cpu" for state in program.states)
        self.stretches = _stretches(T, (steps, 1) if on_cpu or long else (2 * steps, steps, steps // 2, 1))
        kinds, keeping = {steps for _, steps, _ in self.stretches}, bool(self.products)
        if on_cpu and torch.get_num_threads() > 1:
            kinds.add(1)
        forward = {n: program.forward(net, n, keeping) for n in kinds}
        backward = {n: program.backward(net, n, wanted, keeping) for n in kinds} if wanted is not None else {}
        self.forward, self.backward = ({n: kind[n].result() for n in kind} for kind in (forward, backward))
        plain = all(folded.launches for kind in (self.forward, self.backward) for folded in kind.values())
        self.launches = plain * sum(n * self.forward[steps].launches for _, steps, n in self.stretches)

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
