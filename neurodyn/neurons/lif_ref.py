"""Leaky integrate-and-fire with an absolute refractory period."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import units as u
from ..core.current import Current
from ..core.fields import Param, State, nonnegative, param, state
from ..core.solve import whole_steps
from ..surrogate import straight_through
from .base import Leaky, integrate


class LIFRef(Leaky):
    r"""Leaky integrate-and-fire neuron with an absolute refractory period.

    As `LIF`; after a spike V is held for a number of steps, in which inputs and ``delta`` are lost and the neuron
    cannot fire. A step k after the spike is held if $k\,dt < \tau_{ref}$, so that tau_ref = n dt holds n - 1 steps
    and spikes are at least n steps apart. The quotient tau_ref / dt counts as the whole number that it equals up to
    rounding: 0.3 ms at dt = 0.1 ms is 3. Any other one counts as the next whole number, without a warning: 2.05 ms at
    dt = 0.1 ms is 2.1 ms, and a tau_ref of dt or less holds no step, as 0 does.

    States: V in mV, and ``held``, the number of steps for which V is still held. The spike keeps its surrogate slope
    while V is held. Steps have no derivative, so that ``tau_ref`` and ``held`` cannot be learned.

    R is 1/(1 - exp(-dt/tau)) Gohm if it is not given: an input of 1 pA for one step moves V by 1 mV.

    Input: current I in pA (a tensor or a `Current`), and optionally ``delta`` in mV; ``(*batch, *size)``.
    Output: spikes, 0 or 1, of the same shape.

    Source: Gerstner, Kistler, Naud and Paninski (2014), Neuronal Dynamics, ch. 1.3.

    Example:
        >>> neuron = nd.LIFRef(2, R=1 * u.Gohm, tau_ref=torch.tensor([0.0, 20.0]) * u.ms)
        >>> I = torch.tensor([2.0, 2.0])
        >>> sum(neuron(I) for _ in range(100))
        tensor([26.,  5.])
    """

    tau_ref: Param = param(5 * u.ms, doc="refractory period, a number of steps", domain=nonnegative, learnable=False)
    V_th: Param = param(1 * u.mV, doc="threshold")
    V_reset: Param = param(0 * u.mV, doc="potential after a reset")
    V_rest: Param = param(0 * u.mV, doc="resting potential")

    V: State = state(default=0 * u.mV, alias="V_initializer")
    held: State = state(default=0.0, alias="held_initializer", learnable=False)

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(self, size: int | tuple[int, ...], **values: Any):
            super().__init__(size, **values)
            check_countable(self)

    @property
    def hold(self) -> Tensor:
        """The number of steps for which a spike holds V."""
        return steps_held(self.tau_ref, self.dt)

    def step(
        self, I: Tensor | Current, V: Tensor, held: Tensor, delta: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        new = integrate(V, I, V_rest=self.V_rest, R=self.R, tau=self.tau, dt=self.dt)
        if delta is not None:
            new = new + delta
        refractory = held > 0
        V = torch.where(refractory, V, new)
        spike, held = hold_after(self.fire(V - self.V_th), held, self.hold)
        return spike, self.reset_potential(V, spike, self.V_th, self.V_reset), held


def steps_held(tau_ref: Tensor, dt: float) -> Tensor:
    """The number of steps for which a spike holds V."""
    return (whole_steps(tau_ref, dt) - 1).clamp(min=0)


def hold_after(spike: Tensor, held: Tensor, hold: Tensor) -> tuple[Tensor, Tensor]:
    """The spikes of what is not held now, and for how many steps all is held from now on."""
    spike = straight_through(torch.where(held > 0, 0.0, spike), spike)
    return spike, torch.where(spike > 0, hold, (held - 1).clamp(min=0))


def check_countable(neuron: Any) -> None:
    """An error if `neuron` has more steps to hold than its dtype can count."""
    dtype = neuron.tau_ref.dtype
    limit = 1 / torch.finfo(dtype).eps
    if bool((neuron.hold > limit).any()):
        raise ValueError(
            f"{neuron._label()}: tau_ref / dt is more than {limit:g} steps, which {dtype} cannot "
            "count; use a larger dt or dtype=torch.float64"
        )
