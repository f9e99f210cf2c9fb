"""Delays: an input that comes back some steps later."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from . import units as u
from .dynamics import Dynamics, UnsetState
from .fields import Parametrised, State, nonnegative, param, show

Interpolation = Literal["none", "linear"]

_past = State("past_initializer")


class Delayed(Parametrised):
    """A delay, or one for each element of `size`, and its bounds in time steps.

    After `set_bounds`: `least` and `length` are the shortest and longest delay in whole steps, `whole` says whether all
    fixed delays are whole steps, and `steps` gives the delays in steps.
    """

    delay: Tensor = param(unit=u.ms, domain=nonnegative)
    _steps: Tensor

    def set_bounds(self, dt: float, interpolation: Interpolation, max_delay: Any) -> None:
        initial = self.delay.detach()
        if interpolation not in ("none", "linear"):
            raise ValueError(f"{self._label()}: interpolation must be 'none' or 'linear', got {interpolation!r}")
        steps = initial.double() / dt
        near = (steps - steps.round()).abs() <= 1e-6 * steps.clamp(min=1)  # whole up to the rounding of float32
        steps = torch.where(near, steps.round(), steps)
        self.learned = self.delay.requires_grad
        if interpolation == "none" and self.learned:
            raise ValueError(f"{self._label()}: a learned delay needs interpolation='linear'")
        if interpolation == "none" and not bool(near.all()):
            raise ValueError(
                f"{self._label()}: delay {show(initial[~near], u.registry.ms)} is no multiple of dt={dt:g} ms; "
                "round it, or pass interpolation='linear'"
            )
        if max_delay is not None and not self.learned:
            raise ValueError(f"{self._label()}: max_delay is the bound of a learned delay; pass learn='delay' with it")
        longest = float(steps.max()) if steps.numel() else 1.0
        if self.learned:
            limit = 2 * longest if max_delay is None else float(u.to_canonical(max_delay)) / dt
            if not 1 <= float(steps.min()) <= longest <= limit:
                raise ValueError(
                    f"{self._label()}: a learned delay lies between dt={dt:g} ms and max_delay={limit * dt:g} ms, got "
                    f"{show(initial, u.registry.ms)}"
                )
            longest = limit
        self.length = max(1, math.ceil(longest - 1e-6))
        self.least = math.floor(float(steps.min())) if steps.numel() else 1
        self.whole = not self.learned and bool((steps == steps.floor()).all())
        self._dt = dt
        self.register_buffer("_steps", steps.to(initial.dtype), persistent=False)

    @property
    def steps(self) -> Tensor:
        """The delays in steps; learned ones within their bounds."""
        return (self.delay / self._dt).clamp(1, self.length) if self.learned else self._steps

    def check_readable(self, dt: float) -> None:
        """Raise ValueError if a delayed value of the coming step depends on the input of that step."""
        if self.least < 1:
            raise ValueError(
                f"{self._label()}: read() needs delays of at least dt={dt:g} ms, the shortest is "
                f"{show(self.delay.detach().min(), u.registry.ms)}; call it with the input instead"
            )


class Delay(Delayed, Dynamics):
    r"""A delay line: $y_i = x_{i-k}$ with $k = delay/dt$, and `past_initializer` (0) for $i < k$.

    ``y = delay(x)`` takes the input of a step and gives the delayed one for the same step. ``delay.read()`` gives the
    same y before x is known: in a network that feeds back on itself, read, step the neurons, then call the delay with
    their output.

    Between two steps ``interpolation="linear"`` mixes the neighbours: $y = (1 - f)\,x_{i-\lfloor k \rfloor} +
    f\,x_{i-\lfloor k \rfloor-1}$ with $f = k - \lfloor k \rfloor$; with it a delay can be learned. A learned delay
    stays between dt and `max_delay`.

    The memory is one input for each step of the longest delay, each a state of its own, so that time passes without
    moving data.

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
        self.set_bounds(self.dt, interpolation, max_delay)
        self.fixed = float(self._steps) if self._steps.numel() == 1 and not self.learned else None
        self.states = {f"past{k}": _past for k in range(1, self.length + 1)}
        for name in self.states:
            self.register_buffer(name, None, persistent=False)

    def step(self, x: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        return self._at((x, *past)), x, *past[:-1]

    def read(self) -> Tensor:
        """The delayed value of the coming step.

        Raises:
            ValueError: a delay shorter than dt, whose value needs the input of the coming step.
            UnsetState: before `reset_state`.
        """
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
        line, steps = torch.stack((*inputs, inputs[-1]), -1 - len(self.size)), self.steps
        before = steps.detach().floor()
        value = self._taken(line, before)
        return value if self.whole else torch.lerp(value, self._taken(line, before + 1), steps - before)

    def _taken(self, line: Tensor, steps: Tensor) -> Tensor:
        dim = -1 - len(self.size)
        index = steps.long().expand(self.size)
        return torch.take_along_dim(line, index.view((1,) * (line.dim() - index.dim()) + self.size), dim).squeeze(dim)
