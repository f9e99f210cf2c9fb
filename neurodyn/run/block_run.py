"""The time loop without gradients, block by block, for simulations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..core.states import get_states, layouts, set_states
from ..engine.program import Program
from ..engine.program_cache import program_for
from ..engine.proof import prove
from ..engine.time_loop import forward_pass, plain
from ..engine.tracing import Layout
from ..tools.errors import NotCompilable, warn_once
from ..torch_private import tree_flatten, tree_unflatten
from .calls import chunk_for
from .input_rows import block_length

#: Steps in one compiled chunk, by the length of the chunks that `unroll` would use for the same network.
CHUNK = {8: 20, 4: 20, 2: 10, 1: 5}


class Run:
    """A module under way whose output is a dict: a call runs some steps, at most `block`; `states` is where it is.

    What the module has of constants is taken as it is at the start, and anew after each `pause`.

    Args:
        probe: the module, its states set.
        sample: its inputs for one step, with time in front.
        compile: False runs step by step in Python.
        periods: pauses are at multiples of these numbers of steps.
    """

    def __init__(self, probe: nn.Module, sample: tuple[Tensor, ...], compile: bool, periods: tuple[int, ...] = ()):
        self.probe, self.states, self.sample = probe, get_states(probe), sample
        self.program: Program | None = None
        self.owned: frozenset[int] = frozenset()  # of the states, rings that nobody else has
        self.outs: dict[str, Tensor] = {}
        kinds: dict[str, Layout] = {}
        sizes: tuple[int, ...] = ()
        if compile:
            self._compile()
        if self.program is not None:
            step = self.program.step
            sizes = self.program.sizes([*self.states.values(), *self.fixed, *self._xs(sample, 1)])
            names = tree_unflatten([*range(len(step.outs))], step.output_spec)
            kinds = {name: step.outs[i] for name, i in names.items()}
        self.chunk = chunk_for(periods, CHUNK.get(self.program.usual, 1)) if self.program is not None else 1
        times = 1 if all(x.device.type == "cpu" for x in self.states.values()) else 4  # a GPU waits between two blocks
        nbytes = sum(x[0].nbytes for x in sample) + sum(kind.nbytes(sizes) for kind in kinds.values())
        self.block = max(1, block_length(nbytes, times) // self.chunk) * self.chunk
        self.outs = {name: kind.empty(sizes, self.block) for name, kind in kinds.items()}

    def __call__(self, rows: tuple[Tensor, ...], n: int) -> dict[str, Tensor]:
        """The outputs of `n` steps by name, which are overwritten by the next call."""
        with torch.no_grad():  # and not in inference mode, in which a step could take no derivative
            if self.program is not None:
                try:
                    self._chunks(self.program, rows, n)
                except NotCompilable as reason:  # what the compiler said, before the first step
                    _say(self.probe, reason)
                    self.program = None
            if self.program is None:
                self._plain(rows, n)
        return {name: out[:n] for name, out in self.outs.items()}

    def pause(self, function: Callable[[], None]) -> None:
        """Call `function` with the states in the module, which it may change, as it may change parameters."""
        self.states = {name: value.clone() for name, value in self.states.items()}  # one may write to them in place
        set_states(self.probe, self.states)
        before = layouts(self.probe)
        with torch.no_grad():
            function()
        self.states, self.owned = get_states(self.probe), frozenset()
        for name, (size, *found) in layouts(self.probe).items():
            old_size, *wanted = before.get(name, (None,))
            if size == old_size and found != wanted:  # longer delays change the size
                raise ValueError(
                    f"simulate: a function has changed {name.removeprefix('net.')} to shape {found[0]} of {found[1]}, "
                    f"wanted {wanted[0]} of {wanted[1]}"
                )
        if self.program is not None:
            self.program = None
            self._compile()

    @property
    def in_place(self) -> set[str]:
        """The states that the last block has changed where they were."""
        names = list(self.states)
        return {names[i] for i in self.owned}

    def _compile(self) -> None:
        xs = self._xs(self.sample, 1)
        _, self.spec = tree_flatten(tuple(xs))
        try:
            with torch.no_grad():
                ready = program_for(self.probe, xs, self.spec)
            self.program, self.fixed = ready.program, plain(ready.constants)
        except NotCompilable as reason:
            _say(self.probe, reason)

    def _xs(self, rows: tuple[Tensor, ...], n: int) -> list[Tensor]:
        """The inputs of `n` steps; for a module that takes none a tensor that it does not read."""
        return plain(rows) if rows else [next(iter(self.states.values())).new_zeros(n, 1)]

    def _chunks(self, program: Program, rows: tuple[Tensor, ...], n: int) -> None:
        states, xs = plain(self.states.values()), self._xs(rows, n)
        outs, stretches = [out[:n] for out in self.outs.values()], program.stretches(n, self.chunk)
        owned = {stretch.steps for stretch in stretches} <= program.proven  # a proof starts from the states of before
        rings = program.rings(stretches) if owned else frozenset[int]()
        states = [state.clone() if i in rings - self.owned else state for i, state in enumerate(states)]
        found = forward_pass(program, states, self.fixed, xs, steps=self.chunk, outs=outs, owned=owned)
        self.owned = rings
        if reason := prove(program, self.probe, states, xs, self.spec, self.chunk):
            program.failure = reason
            raise NotCompilable(reason)
        self.states = dict(zip(self.states, found.states, strict=True))

    def _plain(self, rows: tuple[Tensor, ...], n: int) -> None:
        set_states(self.probe, self.states)
        for t in range(n):
            y = self.probe(*[x[t] for x in rows])
            if not self.outs:
                self.outs = {name: value.new_empty((self.block, *value.shape)) for name, value in y.items()}
            for name, out in self.outs.items():
                out[t] = y[name]
        self.states = get_states(self.probe)


def _say(probe: nn.Module, reason: NotCompilable) -> None:
    warn_once(f"simulate runs step by step in Python: {reason}")
