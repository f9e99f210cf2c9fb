"""COBAHH: the network of COBA with Hodgkin-Huxley neurons, which keep each other firing without input.

Source: Brette et al. (2007), Simulation of networks of spiking neurons: a review of tools and strategies, Journal of
Computational Neuroscience 23, benchmark 3; with the conductances, the start and the detection of spikes of COBAHH among
the examples of Brian2's documentation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import neurodyn as nd
from neurodyn import units as u

from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import exp_euler, gate
from ..neurons.base import RUNAWAY, Firing, bounded, current
from ..neurons.hh import rectified
from ..neurons.lif_ref import hold_after, steps_held
from .vogels_abbott import VogelsAbbott


class TraubMiles(Firing):
    r"""Hodgkin-Huxley neuron with the sodium and potassium channels of Traub and Miles.

    $C\,\dot V = g_L (E_L - V) - g_{Na} m^3 h (V - E_{Na}) - g_K n^4 (V - E_K) + I$, and
    $\dot x = \alpha_x(V)(1 - x) - \beta_x(V)\,x$ for the gates m, h and n. With $v = V - V_T$ in mV the rates in 1/ms
    are

    - $\alpha_m = 0.32\,(v - 13) / (1 - e^{(13 - v)/4})$ and $\beta_m = 0.28\,(40 - v) / (1 - e^{(v - 40)/5})$,
    - $\alpha_h = 0.128\,e^{(17 - v)/18}$ and $\beta_h = 4 / (1 + e^{(40 - v)/5})$,
    - $\alpha_n = 0.032\,(v - 15) / (1 - e^{(15 - v)/5})$ and $\beta_n = 0.5\,e^{(10 - v)/40}$.

    All equations see V, m, h and n from before the step. A spike is a step after which V is at or above V_th, tau_ref
    or more after the spike before. So an action potential, which is shorter, counts once, and V that stays above V_th
    counts again. Nothing is reset or held.

    At dt = 0.1 ms, that of the benchmark, spikes under a constant current are 6 to 10 % further apart than those of the
    equations; the error shrinks with dt.

    Input: current I in pA (a tensor or a `Current`), ``(*batch, *size)``. Output: spikes, 0 or 1, of the same shape.
    States: V in mV, the gates m, h and n, closed at the start, and ``held``, the number of steps for which a spike does
    not count yet.

    Source: Traub and Miles (1991), Neuronal Networks of the Hippocampus, in the form of Brette et al. (2007). The
    membrane has 20,000 um^2.

    Example:
        >>> neuron = TraubMiles(2, dt=0.1 * u.ms)
        >>> I = torch.tensor([100.0, 300.0])
        >>> sum(neuron(I) for _ in range(1000))
        tensor([3., 6.])
    """

    C: Param = param(200 * u.pF, doc="capacitance of the membrane", domain=positive)
    g_Na: Param = param(20 * u.uS, doc="sodium conductance", domain=nonnegative)
    g_K: Param = param(6 * u.uS, doc="potassium conductance", domain=nonnegative)
    g_L: Param = param(10 * u.nS, doc="leak conductance", domain=nonnegative)
    E_Na: Param = param(50 * u.mV, doc="reversal potential of sodium")
    E_K: Param = param(-90 * u.mV, doc="reversal potential of potassium")
    E_L: Param = param(-60 * u.mV, doc="reversal potential of the leak")
    V_T: Param = param(-63 * u.mV, doc="shift of the rates, which sets where spikes start")
    V_th: Param = param(-20 * u.mV, doc="potential from which on there is a spike")
    tau_ref: Param = param(
        3 * u.ms, doc="least time between two spikes, a number of steps", domain=nonnegative, learnable=False
    )

    V: State = state(default=-65 * u.mV, alias="V_initializer")
    m: State = state(default=0.0, alias="m_initializer")
    h: State = state(default=0.0, alias="h_initializer")
    n: State = state(default=0.0, alias="n_initializer")
    held: State = state(default=0.0, alias="held_initializer", learnable=False)

    fires_while_above = True

    @property
    def V_reset(self) -> Tensor:
        """The potential from which a spike starts."""
        return self.E_L

    def step(
        self, I: Tensor | nd.Current, V: Tensor, m: Tensor, h: Tensor, n: Tensor, held: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        g_Na, g_K, before = self.g_Na * m**3 * h, self.g_K * n**4, V

        def slope(v: Tensor) -> Tensor:
            ionic = g_Na * (v - self.E_Na) + g_K * (v - self.E_K) + self.g_L * (v - self.E_L)
            return (current(I, v) - ionic) / self.C

        V = exp_euler(slope, V, dt=self.dt, limit=RUNAWAY)
        m, h, n = (gate(x, a, b, self.dt) for x, (a, b) in zip((m, h, n), rates(before - self.V_T), strict=True))
        spike, held = hold_after(self.fire(V - self.V_th), held, steps_held(self.tau_ref, self.dt))
        return spike, V, m, h, n, held


def rates(v: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    r"""Opening and closing rates $\alpha, \beta$ of m, h and n in 1/ms at v mV above V_T, finite at every v."""
    m = 1.28 * rectified((v - 13) / 4), 1.4 * rectified((40 - v) / 5)
    h = 0.128 * torch.exp(bounded((17 - v) / 18)), 4 * torch.sigmoid((v - 40) / 5)
    n = 0.16 * rectified((v - 15) / 5), 0.5 * torch.exp(bounded((10 - v) / 40))
    return m, h, n


class CobaHH(VogelsAbbott):
    """4,000 `TraubMiles` neurons, 3,200 excitatory, each with 80 synapses (2 %) at random; dt = 0.1 ms.

    Connections, conductances and the start of V are those of `coba`: a spike adds 6 nS, which decay within 5 ms towards
    0 mV, or 67 nS within 10 ms towards -80 mV, from the next step on. Output: the spikes of the step.

    Args:
        scale: times the number of neurons, with 80 synapses each all the same.
        seed: of the connections and the initial values.
        device, dtype: as in torch.nn.
    """

    def __init__(self, scale: float = 1, *, seed: int = 0, device: Any = None, dtype: Any = None):
        super().__init__(scale, coba=True, seed=seed, device=device, dtype=dtype)

    def population(self, n: int, start: Any, coba: bool, factory: dict[str, Any]) -> TraubMiles:
        return TraubMiles(n, V_initializer=start, **factory)
