"""Delays: an input that comes back some steps later."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .delayed import Delayed, Interpolation
from .dynamics import Dynamics, UnsetState
from .fields import State, param

_past = State("past_initializer")


class Delay(Delayed, Dynamics):
    r"""A delay line: $y_i = x_{i-k}$ with $k = delay/dt$, and `past_initializer` (0) for $i < k$.

    ``y = delay(x)`` takes the input of a step and gives the delayed one for the same step. ``delay.read()`` gives the
    same y before x is known: in a network that feeds back on itself, read, step the neurons, then call the delay with
    their output.

    Between two steps ``interpolation="linear"`` mixes the neighbours: $y = (1 - f)\,x_{i-\lfloor k \rfloor} +
    f\,x_{i-\lfloor k \rfloor-1}$ with $f = k - \lfloor k \rfloor$; with it a delay can be learned. A learned delay
    stays between dt and `max_delay`.

    The memory is one input for each step of the longest delay, each a state of its own, so that time passes without
    moving data. It grows and shrinks with delays that are loaded or assigned.

    Input and output: ``(*batch, *size)``, in any unit.

    Args:
        size: shape of the input.
        delay: one for all, or one for each neuron (ms).
        interpolation: "none", for delays that are multiples of dt, or "linear".
        max_delay: the longest that a learned delay may become; twice the longest initial one if not given.
        values: further keywords of `Dynamics`, such as ``learn="delay"``; ``past_initializer`` is the input before the
            start.

    Example:
        >>> delay = nd.Delay(1, 0.2 * u.ms, dt=0.1 * u.ms)
        >>> [delay(torch.tensor([x])).item() for x in (1.0, 2.0, 3.0, 4.0)]
        [0.0, 0.0, 1.0, 2.0]
        >>> delay.read().item()  # before the next input is known
        3.0

    Source of learned delays: Hammouamri, Khalfaoui-Hassani and Masquelier (2024), Learning delays in spiking neural
    networks using dilated convolutions with learnable spacings, ICLR.
    """

    past_initializer: Tensor = param(0.0)

    def __init__(
        self,
        size: int | tuple[int, ...],
        delay: Any,
        *,
        interpolation: Interpolation = "none",
        max_delay: Any = None,
        **values: Any,
    ):
        super().__init__(size, delay=delay, **values)
        self.states: dict[str, State] = {}
        self.set_bounds(self.dt, interpolation, max_delay)

    def derive(self, tolerance: float = 0.0) -> None:
        super().derive(tolerance)
        before, late = self._before, self._late
        self.fixed = None
        if before is not None and before.numel() == 1:
            self.fixed = float(before) + (0.0 if late is None else float(late))
        self._resize()

    def _resize(self) -> None:
        """Remember as many inputs as the longest delay needs; older ones than are known are those before the start."""
        names = [f"past{k}" for k in range(1, self.length + 1)]
        if list(self.states) == names:
            return
        known = {name: self._buffers.pop(name) for name in self.states}
        value = known.get("past1")
        if value is not None:
            value = self.past_initializer.expand(value.shape)
        self.states = dict.fromkeys(names, _past)
        for name in names:
            old = known.get(name)
            self.register_buffer(name, value.clone() if old is None and value is not None else old, persistent=False)
        self._non_persistent_buffers_set.difference_update(known.keys() - self.states.keys())

    def forward(self, input: Any, **inputs: Any) -> Tensor:
        self.settle()
        return super().forward(input, **inputs)

    def step(self, x: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        return self._at((x, *past)), x, *past[:-1]

    def read(self) -> Tensor:
        """The delayed value of the coming step.

        Raises:
            ValueError: a delay shorter than dt, whose value needs the input of the coming step.
            UnsetState: before `reset_state`.
        """
        self.settle()
        self.check_readable(self.dt)
        past = [self._buffers[name] for name in self.states]
        if past[0] is None:
            raise UnsetState(f"{self._label()} has no state yet; call reset_state(*batch) first")
        return self._at((past[0], *past))  # type: ignore[arg-type]

    def _at(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The delayed value; ``inputs[k]`` is the input of k steps ago."""
        if self.fixed is not None:
            k = math.floor(self.fixed)
            return inputs[k] if self.whole else torch.lerp(inputs[k], inputs[k + 1], self.fixed - k)
        line = torch.stack((*inputs, inputs[-1]), -1 - len(self.size))
        before, late = self.parts()
        value = self._taken(line, before)
        return value if late is None else torch.lerp(value, self._taken(line, before + 1), late.to(value.dtype))

    def _taken(self, line: Tensor, steps: Tensor) -> Tensor:
        dim = -1 - len(self.size)
        index = steps.long().expand(self.size)
        return torch.take_along_dim(line, index.view((1,) * (line.dim() - index.dim()) + self.size), dim).squeeze(dim)
