"""The time loop without gradients, for simulations."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..states import constants, get_states, pure
from .errors import EagerWarning, NotCompilable
from .late import program_of
from .rows import block_length

#: Steps in one compiled chunk, by the length of the chunks that `unroll` would use for the same network.
CHUNK = {8: 20, 4: 20, 2: 10, 1: 5}


class Run:
    """A module under way whose output is a dict: a call runs some steps, at most `block`; `states` is where it is.

    What the module has of constants is taken as it is at the start.
    """

    def __init__(self, probe: nn.Module, sample: tuple[Tensor, ...], compile: bool):
        self.probe, self.states = probe, get_states(probe)
        outs = self._step(self.states, tuple(x[0] for x in sample))[0]
        self.program = self._compiled(sample) if compile else None
        self.chunk = CHUNK[self.program.steps] if self.program else 1
        self.block = max(1, block_length((*sample, *outs.values())) // self.chunk) * self.chunk
        self.outs = {name: x.new_empty((self.block, *x.shape)) for name, x in outs.items()}
        self.fixed = fixed = [x.contiguous() for x in constants(probe).values()]
        self.values = functools.cache(lambda folded: folded.prologue(*fixed))
        self.chunks: dict[int, Any] = {}

    def __call__(self, rows: tuple[Tensor, ...], n: int) -> dict[str, Tensor]:
        outs = {name: out[:n] for name, out in self.outs.items()}
        with torch.inference_mode():
            try:
                if self.program is not None:
                    self._chunks(self.program, rows, n, outs)
            except NotCompilable as reason:  # what the C++ compiler said, before the first step
                _say(reason)
                self.program = None
            if self.program is None:
                self._eager(rows, n, outs)
        return outs

    def _chunks(self, program: Any, rows: tuple[Tensor, ...], n: int, outs: dict[str, Tensor]) -> None:
        from .sequence import Chunks, onward

        if n not in self.chunks:
            self.chunks[n] = Chunks(program, self.probe, n, long=self.chunk)
        states = [x.contiguous() for x in self.states.values()]
        xs = [x.contiguous() for x in rows or (torch.empty(n, 0),)]
        states, _ = onward(program, self.chunks[n], states, self.fixed, xs, list(outs.values()), self.values)
        self.states = dict(zip(self.states, states, strict=True))

    def _eager(self, rows: tuple[Tensor, ...], n: int, outs: dict[str, Tensor]) -> None:
        for t in range(n):
            y, self.states = self._step(self.states, tuple(x[t] for x in rows))
            for name, out in outs.items():
                out[t] = y[name]

    def _step(self, states: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> tuple[Any, dict[str, Tensor]]:
        with torch.no_grad():
            return pure(self.probe, states, *inputs)

    def _compiled(self, sample: tuple[Tensor, ...]) -> Any:
        step = [x[0] for x in sample] or [torch.empty(0)]
        _, spec = pytree.tree_flatten(tuple(step))
        try:
            return program_of(self.probe, step, spec)
        except NotCompilable as reason:
            _say(reason)
            return None


def _say(reason: NotCompilable) -> None:
    warnings.warn(f"simulate runs step by step in Python: {reason}", EagerWarning, stacklevel=5)
