"""The inputs of a simulation: rows for any span of steps, given or drawn block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BLOCK_BYTES, _LONGEST_BLOCK = 2**25, 1000


def block_length(nbytes: int, times: int = 1) -> int:
    """How many steps are held in memory at once, from the bytes of one step; `times` as many bytes as otherwise."""
    return max(1, min(_LONGEST_BLOCK, times * _BLOCK_BYTES // max(nbytes, 1)))


def blocks(first: int, last: int, *sizes: int) -> Iterator[tuple[int, int]]:
    """Spans that end at multiples of each size, so that they do not depend on where a simulation was stopped."""
    while first < last:
        n = min(last - first, *(size - first % size for size in sizes))
        yield first, n
        first += n


class Rows:
    """The rows of the inputs for any span of steps.

    A function is asked for whole blocks of rows, whose length follows from the size of a row alone, so that the numbers
    it draws depend neither on what is recorded nor on how the steps are run.
    """

    def __init__(self, given: Any, T: int, start: int, seed: int):
        """
        Args:
            given: from `neurodyn.run.reading.read_inputs`.
            T: number of steps.
            start: the first step.
            seed: of random rows, together with the step.
        """
        self.given, self.T, self.start, self.seed = given, T, start, seed
        self.generator, self.drawn = torch.Generator(), (-1, ())
        if callable(given):
            self.sample = self._draw(start, 1)
            self.block = block_length(sum(x.nbytes for x in self.sample))
        else:
            self.sample = tuple(x.value[:1] if x.varies else x.value.unsqueeze(0) for x in given)

    def __call__(self, first: int, n: int) -> tuple[Tensor, ...]:
        if callable(self.given):
            spans = [self._span(begin, size) for begin, size in blocks(first, first + n, self.block)]
            return spans[0] if len(spans) == 1 else tuple(torch.cat(parts) for parts in zip(*spans, strict=True))
        i = first - self.start
        return tuple(_rows_of(x, i, n) for x in self.given)

    def _span(self, first: int, n: int) -> tuple[Tensor, ...]:
        """Rows inside one block, which is drawn once."""
        i = first % self.block
        if self.drawn[0] != first - i:
            self.drawn = first - i, self._draw(first - i, self.block)
        return tuple(x[i : i + n] for x in self.drawn[1])

    def explain(self, error: Exception) -> None:
        """Add to an error of the first step how the inputs were understood."""
        if not callable(self.given) and not all(x.varies for x in self.given):
            shapes = ", ".join(str(tuple(x.value.shape)) for x in self.given if not x.varies)
            error.add_note(
                f"simulate took inputs of shape {shapes} as constant in time; those with a row for each step have "
                f"{self.T} rows"
            )

    def _draw(self, first: int, n: int) -> tuple[Tensor, ...]:
        self.generator.manual_seed((self.seed * 1_000_003 + first) % 2**63)
        rows = self.given(first, n, self.generator)
        found = [len(x) if x.dim() else 0 for x in rows]
        if any(length != n for length in found):
            raise ValueError(f"simulate: inputs({first}, {n}, ...) gave {found} rows, wanted {n}")
        return rows


def _rows_of(given: Any, i: int, n: int) -> Tensor:
    """The rows of n steps, the first of which is step i of the run."""
    if not given.varies:
        return given.value.expand(n, *given.value.shape).contiguous()
    if given.every == 1:
        return given.value[i : i + n]
    return given.value[torch.arange(i, i + n, device=given.value.device) // given.every]
