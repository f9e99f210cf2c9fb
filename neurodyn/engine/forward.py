"""The time loop without gradients, for simulations."""

from __future__ import annotations

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
        on_cpu = all(x.device.type == "cpu" for x in self.states.values())
        times = 1 if on_cpu else 4  # a GPU waits for Python between two blocks
        self.block = max(1, block_length((*sample, *outs.values()), times) // self.chunk) * self.chunk
        self.outs = {name: x.new_empty((self.block, *x.shape)) for name, x in outs.items()}
        self.fixed = [x.contiguous() for x in constants(probe).values()]
        self.known: dict[str, Tensor] = {}  # of what is computed from these beforehand

    def __call__(self, rows: tuple[Tensor, ...], n: int) -> dict[str, Tensor]:
        outs = [out[:n] for out in self.outs.values()]
        with torch.inference_mode():
            try:
                if self.program is not None:
                    outs = self._chunks(self.program, rows, n, outs)
            except NotCompilable as reason:  # what the compiler said, before the first step
                _say(reason)
                self.program = None
            if self.program is None:
                self._eager(rows, n, outs)
        return dict(zip(self.outs, outs, strict=True))

    def _chunks(self, program: Any, rows: tuple[Tensor, ...], n: int, outs: list[Tensor]) -> list[Tensor]:
        from .chunks import chunks_for
        from .passes import onward
        from .sequence import is_for_a_graph, maybe_in_a_graph

        cut, first = chunks_for(program, self.probe, n, long=self.chunk).whole, next(iter(self.states.values()))
        states = [x.contiguous() for x in self.states.values()]
        xs = [x.contiguous() for x in rows or (first.new_empty(n, 0),)]
        if is_for_a_graph(program, cut, [*states, *xs]):
            outs, states, *_ = maybe_in_a_graph(program, cut, [*states, *xs], self.fixed)
        else:
            states, _ = onward(cut, program.sizes(states, self.fixed), states, self.fixed, xs, outs, self.known)
        self.states = dict(zip(self.states, states, strict=True))
        return outs

    def _eager(self, rows: tuple[Tensor, ...], n: int, outs: list[Tensor]) -> None:
        for t in range(n):
            y, self.states = self._step(self.states, tuple(x[t] for x in rows))
            for name, out in zip(self.outs, outs, strict=True):
                out[t] = y[name]

    def _step(self, states: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> tuple[Any, dict[str, Tensor]]:
        with torch.no_grad():
            return pure(self.probe, states, *inputs)

    def _compiled(self, sample: tuple[Tensor, ...]) -> Any:
        rows = list(sample) or [next(iter(self.states.values())).new_empty(1, 0)]
        _, spec = pytree.tree_flatten(tuple(rows))
        try:
            return program_of(self.probe, rows, spec)
        except NotCompilable as reason:
            _say(reason)
            return None


def _say(reason: NotCompilable) -> None:
    warnings.warn(f"simulate runs step by step in Python: {reason}", EagerWarning, stacklevel=5)
