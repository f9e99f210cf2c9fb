"""What spiking neurons share: threshold, reset, and how a current enters an equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from .. import surrogate as surrogates
from ..current import Current
from ..dynamics import Dynamics
from ..solve import exp_euler, relax


class Spiking(Dynamics):
    """A neuron that spikes: `surrogate` is its spike function, `reset` what follows a spike.

    Args:
        surrogate: slope of the spike in the backward pass, one of `neurodyn.surrogate`.
        reset: "soft" subtracts V_th - V_reset and keeps the overshoot; "hard" sets V to V_reset. A hard reset passes
            the gradient of V straight through, as if the subtracted V were a constant.
    """

    def __init__(
        self,
        size: int | tuple[int, ...],
        *,
        surrogate: Callable[[Tensor], Tensor] = surrogates.ReluGrad(),
        reset: Literal["soft", "hard"] = "soft",
        **values: Any,
    ):
        super().__init__(size, **values)
        if reset not in ("soft", "hard"):
            raise ValueError(f"{self._label()}: reset must be 'soft' or 'hard', got {reset!r}")
        self.surrogate, self.reset = surrogate, reset

    def reset_potential(self, V: Tensor, spike: Tensor, V_th: Tensor, V_reset: Tensor) -> Tensor:
        """V after the reset that follows `spike`; a hard reset gives exactly V_reset, however far V overshot."""
        if self.reset == "soft":
            return V - (V_th - V_reset) * spike
        after = torch.where(spike > 0, V_reset, V)
        if not torch.is_grad_enabled():
            return after
        V = surrogates.clip_finite(V)
        return surrogates.straight_through(after, V - (V.detach() - V_reset) * spike)


def integrate(V: Tensor, I: Tensor | Current, *, V_rest: Tensor | float, R: Tensor, tau: Tensor, dt: float) -> Tensor:
    r"""One step of the leaky membrane $\tau\,\dot V = V_{rest} - V + R\,I(V)$."""
    if isinstance(I, Current):
        return exp_euler(lambda v: (V_rest - v + R * I(v)) / tau, V, dt=dt)
    return relax(V, V_rest + R * I, tau, dt)
