"""A state that becomes NaN in a simulation is said: which, of which model, and in which step."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from ..core.not_a_number import nan_in, say_nan
from ..core.states import get_states, set_states
from ..tools.generators import generators_kept


class Watch:
    """Looks at the states of a network after each block of steps, until one of them is NaN.

    Args:
        net: names the layers; its states are those to begin with.
        dt: time step in ms.
    """

    def __init__(self, net: nn.Module, dt: float):
        self.net, self.dt, self.over = net, dt, False
        self.from_the_start = nan_in(get_states(net))

    def __call__(
        self,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        rows: tuple[Tensor, ...],
        first: int,
        n: int,
        in_place: Collection[str] = (),
    ) -> None:
        """Say it, if a state is NaN `after` the `n` steps from `first` on, whose inputs are `rows`.

        Which step it was is found by running them again, one by one, unless some states are no longer as they were
        before, as they were changed `in_place`. These are not looked at: what arrives of them shows in the others.
        """
        after = {name: value for name, value in after.items() if name not in in_place}
        if self.over or not self._new(after):
            return
        self.over = True
        step, states = (n, after) if in_place else self._find(before, rows, n)
        which = f"from step {first + step} on, at {(first + step + 1) * self.dt:g} ms,"
        if step == n:  # it draws random numbers of its own, and has drawn others, or is not run again
            which, states = f"after step {first + n - 1}, at {(first + n) * self.dt:g} ms,", after
        hint = "look at its input in that step, and at dt"
        say_nan("simulate", self.net, states, self._new(states), which, hint)

    def _new(self, states: Mapping[str, Tensor]) -> list[str]:
        return [name for name in nan_in(states) if name not in self.from_the_start]

    def _find(self, before: Mapping[str, Tensor], rows: tuple[Tensor, ...], n: int) -> tuple[int, Mapping[str, Tensor]]:
        """The first of `n` steps after which a state is NaN, or `n`; and the states after it."""
        held, states = get_states(self.net), dict(before)
        set_states(self.net, states)
        try:
            with torch.no_grad(), generators_kept():  # not in inference mode: a step may take a derivative
                for t in range(n):
                    self.net(*[x[t] for x in rows])
                    if self._new(states := get_states(self.net)):
                        return t, states
        finally:
            set_states(self.net, held)
        return n, states
