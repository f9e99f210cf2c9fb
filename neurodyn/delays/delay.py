"""Delays: an input that comes back some steps later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.dynamics import Dynamics, UnsetState
from ..core.fields import Keyword, Param, State, is_initialiser, keyword, param
from .delayed import Delayed, Interpolation
from .over_time import over_time

_past = State("past_initializer")
_FLAT, _STATES = 32, 16  # steps that are a state each, and the states that hold those of a longer delay


class Delay(Delayed, Dynamics):
    r"""A delay line: $y_i = x_{i-k}$ with $k = delay/dt$, and `past_initializer` (0) for $i < k$.

    ``y = delay(x)`` takes the input of a step and gives the delayed one for the same step. ``delay.read()`` gives the
    same y before x is known: in a network that feeds back on itself, read, step the neurons, then call the delay with
    their output.

    Between two steps ``interpolation="linear"`` mixes the neighbours: $y = (1 - f)\,x_{i-\lfloor k \rfloor} +
    f\,x_{i-\lfloor k \rfloor-1}$ with $f = k - \lfloor k \rfloor$; with it a delay can be learned. Its gradient sees
    no further than these neighbours, so it learns from inputs that are about one step away.

    ``interpolation="gaussian"``, for learned delays, takes all inputs of the last `max_delay` with weights
    $g_j \propto \exp(-(j - k)^2 dt^2 / 2 \sigma^2)$ for j = 1, 2, ..., which sum to 1. A wide kernel learns from far;
    narrow it during training, by ``delay.sigma = 2 * u.ms`` or `narrow_delays`. At sigma = dt / 4 it takes the nearest
    step nearly alone.

    A learned delay stays between dt and `max_delay`: trained is ``raw_delay``, the logit of the place between them, and
    ``delay.delay`` is what is used. At a bound there is no gradient, so one that starts there is moved inside by 1e-4
    of the range.

    The memory is one input for each step of the longest delay. Up to 32 steps each is a state of its own, so that time
    passes without moving data. A longer delay has at most 16 states, which hold every 16th input each, and a step
    writes one of them anew. It grows and shrinks with delays that are loaded or assigned. A Gaussian reads the whole
    memory in each step. Where `unroll` runs a delay as a layer of its own, it takes all steps at once, a shift along
    time, and a step costs next to the same for long and short delays.

    Input and output: ``(*batch, *size)``, in any unit.

    Args:
        size: shape of the input.
        delay: one for all, one for each neuron, or an initialiser (ms). Drawn ones are rounded to steps of dt, unless
            they are interpolated: to the nearest, and to one step what is shorter but not zero.
        interpolation: "none", for delays that are multiples of dt, "linear" or "gaussian".
        max_delay: the longest that a learned delay may become; twice the longest initial one if not given.
        sigma: the width of the Gaussian at the start (ms); half of `max_delay` if not given. A buffer.
        values: further keywords of `Dynamics`, such as ``learn="delay"``; ``past_initializer`` is the input before the
            start.

    Example:
        >>> delay = nd.Delay(1, 0.2 * u.ms, dt=0.1 * u.ms)
        >>> [delay(torch.tensor([x])).item() for x in (1.0, 2.0, 3.0, 4.0)]
        [0.0, 0.0, 1.0, 2.0]
        >>> delay.read().item()  # before the next input is known
        3.0

    Source of learned delays: Khalfaoui-Hassani, Pellegrini and Masquelier (2023), Dilated convolution with learnable
    spacings, ICLR; Hammouamri, Khalfaoui-Hassani and Masquelier (2024), Learning delays in spiking neural networks
    using dilated convolutions with learnable spacings, ICLR.
    """

    past_initializer: Param = param(0.0)

    if TYPE_CHECKING:
        delay: Keyword[Any, Tensor] = keyword(kw_only=False)
        interpolation: Interpolation = "none"
        max_delay: Keyword[Any, Tensor] = keyword(default=None)
        sigma: Keyword[Any, Tensor] = keyword(default=None)

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(
            self,
            size: int | tuple[int, ...],
            delay: Any,
            *,
            interpolation: Interpolation = "none",
            max_delay: Any = None,
            sigma: Any = None,
            **values: Any,
        ):
            self.states: dict[str, State] = {"past1": _past}  # as many as needed are made below
            super().__init__(size, delay=delay, **values)
            self.depth = 1
            self.set_bounds(self.dt, interpolation, max_delay, sigma, is_initialiser(delay))

    def derive(self, tolerance: float = 0.0) -> None:
        super().derive(tolerance)
        before, late = self._before, self._late
        self.fixed = None
        if before is not None and before.numel() == 1:
            self.fixed = float(before) + (0.0 if late is None else float(late))
        self._resize()

    def state_size(self, name: str) -> tuple[int, ...]:
        """State j of K holds the inputs of j, j + K, j + 2 K, ... steps ago, `depth` of them."""
        return self.size if self.depth == 1 else (self.depth, *self.size)

    def _resize(self, flat: int = _FLAT) -> None:
        """Remember as many inputs as the longest delay needs; older ones than are known are those before the start."""
        depth = 1 if self.length <= flat else -(-self.length // _STATES)
        names = [f"past{k}" for k in range(1, -(-self.length // depth) + 1)]
        if list(self.states) == names and depth == self.depth:
            return
        held = [self._buffers.pop(name) for name in self.states]
        self._non_persistent_buffers_set.difference_update(self.states)
        self._buffers.states.clear()  # type: ignore[attr-defined]
        new: list[Tensor | None] = [None] * len(names)
        if held and held[0] is not None:
            lags = self._lags(held, len(names) * depth)  # type: ignore[arg-type]
            new = [torch.stack(lags[k :: len(names)], self._dim) if depth > 1 else lags[k] for k in range(len(names))]
        vars(self)["states"], self.depth = dict.fromkeys(names, _past), depth
        for name, value in zip(names, new, strict=True):
            self._register_state(name, value)

    def _lags(self, held: list[Tensor], n: int) -> list[Tensor]:
        """The inputs of 1 to n steps ago, from the states as they are laid out now."""
        known = [self._lag(held, k) for k in range(1, min(n, len(held) * self.depth) + 1)]
        before = self.past_initializer.expand(known[0].shape)
        return known + [before.clone() for _ in range(n - len(known))]

    @property
    def _dim(self) -> int:
        """The dimension of a state along which older inputs lie."""
        return -1 - len(self.size)

    def forward(self, input: Any, **inputs: Any) -> Tensor:
        self.settle()
        return super().forward(input, **inputs)

    @property
    def better_alone(self) -> bool:
        """Whether `over_time` is faster than the steps as a part of the program of its neighbours."""
        return self.depth > 1 or self.fixed is None

    def over_time(self, xs: Tensor, reset: bool) -> Tensor | None:
        """All steps at once, see `neurodyn.delays.over_time`; None for a class with another step."""
        own = (type(self).step, type(self).forward, type(self).advance) == (Delay.step, Delay.forward, Dynamics.advance)
        return over_time(self, xs, reset) if own and not {"step", "advance"} & vars(self).keys() else None

    def step(self, x: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        newest = x
        if self.depth > 1:  # the oldest of the states is next to be the newest
            newest = torch.cat((x.unsqueeze(self._dim), past[-1].narrow(self._dim, 0, self.depth - 1)), self._dim)
        return self._at(x, past), newest, *past[:-1]

    def read(self) -> Tensor:
        """The delayed value of the coming step.

        Raises:
            ValueError: a delay shorter than dt, whose value needs the input of the coming step.
            UnsetState: before `reset_state`.
        """
        self.settle()
        self.check_readable(self.dt)
        past = tuple(self._buffers[name] for name in self.states)
        if past[0] is None:
            raise UnsetState(f"{self._label()} has no state yet; call reset_state(*batch) first")
        return self._at(self._lag(past, 1), past)  # type: ignore[arg-type]

    def _at(self, x: Tensor, past: Sequence[Tensor]) -> Tensor:
        """The delayed value of a step with the input x."""
        if self.fixed is not None:
            k = math.floor(self.fixed)
            value = x if k == 0 else self._lag(past, k)
            return value if self.whole else torch.lerp(value, self._lag(past, k + 1), self.fixed - k)
        if self.interpolation == "gaussian":
            line = torch.stack(tuple(past), self._dim)
            line = line if self.depth == 1 else line.flatten(self._dim - 1, self._dim)
            kernel = self.kernel()
            kernel = kernel.view(self.length, *[1] * (len(self.size) + 1 - kernel.dim()), *kernel.shape[1:])
            return (line.narrow(self._dim, 0, self.length) * kernel.to(line.dtype)).sum(self._dim)
        before, late = self.parts()
        value = self._taken(x, past, before)
        if late is None:
            return value
        return torch.lerp(value, self._taken(x, past, (before + 1).clamp(max=self.length)), late.to(value.dtype))

    def _lag(self, past: Sequence[Tensor], k: int) -> Tensor:
        """The input of k steps ago, k at least 1."""
        i, j = divmod(k - 1, len(past))
        return past[j] if self.depth == 1 else past[j].select(self._dim, i)

    def _taken(self, x: Tensor, past: Sequence[Tensor], steps: Tensor) -> Tensor:
        """The inputs of so many steps ago, for each element; it reads one of each state, however long they are."""
        dim, K, back = self._dim, len(past), steps.long().expand(self.size) - 1
        if self.depth == 1:
            line = torch.stack((x, *past), dim)
            return _along(line, back + 1, dim)
        index = back.clamp(min=0) // K
        found = x
        for j, state in enumerate(past):
            one = _along(state, index.clamp(max=state.shape[dim] - 1), dim)
            found = torch.where(back % K == j, one, found)
        return torch.where(back < 0, x, found)


def _along(line: Tensor, index: Tensor, dim: int) -> Tensor:
    """The value at an index for each neuron; ``torch.take_along_dim`` would fix the batch of an exported program."""
    index = index.unsqueeze(0).expand(*line.shape[:dim], 1, *index.shape)
    return torch.gather(line, dim, index).squeeze(dim)
