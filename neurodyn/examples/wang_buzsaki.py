"""Gamma oscillation of interneurons: neurons that only inhibit each other fire together, about 40 times in a second.

Source: Wang and Buzsaki (1996), Gamma oscillation by synaptic inhibition in a hippocampal interneuronal network model,
Journal of Neuroscience 16. The membrane has 100 um^2, on which 1 uF/cm^2 is 1 pF, 1 mS/cm^2 is 1 nS and 1 uA/cm^2 is
1 pA: the numbers are the paper's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

from ..core.solve import exp_euler, gate
from ..neurons.base import RUNAWAY, Firing, bounded, current
from ..neurons.hh import rectified


class FastSpiking(Firing):
    r"""Wang and Buzsaki's fast-spiking neuron, whose sodium channels open at once.

    $C\,\dot V = -g_{Na} m_\infty^3(V)\,h\,(V - E_{Na}) - g_K n^4 (V - E_K) - g_L (V - E_L) + I$ with
    $m_\infty = \alpha_m / (\alpha_m + \beta_m)$, and $\dot x = \phi\,(\alpha_x(V)(1 - x) - \beta_x(V)\,x)$ for the
    gates h and n. All equations see V, h and n from before the step, and so does $m_\infty$, as in Brian2's method
    `exponential_euler`. A spike is the step in which V goes up through V_th; nothing is reset.

    Input: current I in pA, a tensor or a `Current`; ``(*batch, *size)``. Output: spikes, 0 or 1, of the same shape.
    States: V in mV, gates h and n, at rest. The rate at 1 pA is 3 % too low with dt = 0.01 ms, 6 % with 0.02 ms and
    13 % with 0.05 ms.
    """

    C: nd.Param = nd.param(1 * u.pF, doc="capacitance of the membrane", domain=nd.positive)
    g_Na: nd.Param = nd.param(35 * u.nS, doc="sodium conductance", domain=nd.nonnegative)
    g_K: nd.Param = nd.param(9 * u.nS, doc="potassium conductance", domain=nd.nonnegative)
    g_L: nd.Param = nd.param(0.1 * u.nS, doc="leak conductance", domain=nd.nonnegative)
    E_Na: nd.Param = nd.param(55 * u.mV, doc="reversal potential of sodium")
    E_K: nd.Param = nd.param(-90 * u.mV, doc="reversal potential of potassium")
    E_L: nd.Param = nd.param(-65 * u.mV, doc="reversal potential of the leak")
    phi: nd.Param = nd.param(5.0, doc="speed of the gates", domain=nd.positive)
    V_th: nd.Param = nd.param(0 * u.mV, doc="potential whose upward crossing is a spike")

    V: nd.State = nd.state(default=-64.0 * u.mV, alias="V_initializer")
    h: nd.State = nd.state(default=0.78, alias="h_initializer")
    n: nd.State = nd.state(default=0.09, alias="n_initializer")

    input_units = {"I": "pA"}

    @property
    def V_reset(self) -> Tensor:
        """The potential from which a spike starts."""
        return self.E_L

    def step(self, I: Tensor | nd.Current, V: Tensor, h: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        m, before = steady(*rates_of_m(V)), V
        g_Na, g_K = self.g_Na * m**3 * h, self.g_K * n**4

        def slope(v: Tensor) -> Tensor:
            ionic = g_Na * (v - self.E_Na) + g_K * (v - self.E_K) + self.g_L * (v - self.E_L)
            return (current(I, v) - ionic) / self.C

        V = exp_euler(slope, V, dt=self.dt, limit=RUNAWAY)
        h, n = (
            gate(x, self.phi * opening, self.phi * closing, self.dt)
            for x, (opening, closing) in zip((h, n), rates(before), strict=True)
        )
        return self.cross(before, V), V, h, n


class GABA(nd.Dynamics):
    r"""Wang and Buzsaki's GABA-A synapse, which opens as long as the neuron before it is above 0 mV.

    $\dot s = \alpha\,F(V)\,(1 - s) - \beta\,s$ with $F = 1/(1 + e^{-V/2})$, solved exactly for a V that is constant
    during the step. All synapses that a neuron makes have the same s.

    Input: potential V of the neuron before the synapse in mV, ``(*batch, *size)``. Output: the fraction s of open
    channels, of the same shape, which is also the state.
    """

    alpha: nd.Param = nd.param(12 / u.ms, doc="opening rate", domain=nd.positive)
    beta: nd.Param = nd.param(0.1 / u.ms, doc="closing rate", domain=nd.positive)

    s: nd.State = nd.state(default=0.0, alias="s_initializer")

    input_units = {"V": "mV"}

    def step(self, V: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        s = gate(s, self.alpha * torch.sigmoid(V / 2), self.beta, self.dt)
        return s, s


class WangBuzsaki(nn.Module):
    """100 fast-spiking interneurons, each with about 60 inhibitory inputs at random; dt = 0.01 ms.

    A constant current drives each neuron, another one for each. At the start potentials are between -70 and -50 mV,
    gates are at their steady states and synapses are closed; within some cycles the neurons find a common rhythm.
    Neurons and synapses make their step together, from the potentials before it. Output: the spikes of the step.

    Args:
        scale: times the number of neurons, with about 60 inputs each all the same, if there are so many others.
        mean, std: of the current of a neuron, which has a normal distribution.
        g_syn: conductance of all inputs of a neuron together, if all of them are open. Each has the same part of it.
            Were it divided by the mean number of inputs instead, those with few would fire faster, and the network
            would not find a common rhythm.
        seed: of the connections, currents and potentials at the start.
        device, dtype: as in torch.nn.
    """

    drive: Tensor

    def __init__(
        self,
        scale: float = 1,
        *,
        mean: Any = 1 * u.pA,
        std: Any = 0.03 * u.pA,
        g_syn: Any = 0.1 * u.nS,
        seed: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        n = round(100 * scale)
        random = torch.Generator().manual_seed(seed)
        factory = {"device": device, "dtype": dtype}
        V = -70 + 20 * torch.rand(n, generator=random, dtype=torch.float64)
        start = [steady(*of_gate) for of_gate in rates(V)]
        with nd.default_dt(0.01 * u.ms):
            self.neurons = FastSpiking(
                n, V_initializer=V * u.mV, h_initializer=start[0], n_initializer=start[1], **factory
            )
            self.synapses = GABA(n, **factory)
        others = max(n - 1, 1)
        pairs = nd.FixedProb(n, n, min(1, 60 / others), weight=1.0, include_self=False, generator=random)
        inputs = torch.bincount(pairs.post_index, minlength=n)[pairs.post_index]
        weight = float(u.to_canonical(g_syn)) / inputs.double() * u.nS
        self.connection = nd.Sparse((pairs.pre_index, pairs.post_index), (n, n), weight=weight, **factory)
        self.output = nd.COBA(E=-75 * u.mV, **factory)
        drive = nd.init.Normal(mean, std, random)((n,))
        self.register_buffer("drive", self.neurons.C.new_tensor(drive.to("pA").magnitude.tolist()), persistent=False)

    def forward(self) -> Tensor:
        if not (self.neurons.is_set and self.synapses.is_set):
            raise nd.UnsetState("WangBuzsaki has no states yet; call nd.reset_states(net, *batch) first")
        V, s = self.neurons.V, self.synapses.s
        spikes = self.neurons(self.output(self.connection(s)) + self.drive.expand_as(s))
        self.synapses(V)
        return spikes


def rates_of_m(V: Tensor) -> tuple[Tensor, Tensor]:
    """Opening and closing rate of m in 1/ms at V in mV."""
    return rectified((V + 35) / 10), 4 * torch.exp(bounded((-60 - V) / 18))


def rates(V: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Those of h and n, before they are multiplied by phi."""
    h = 0.07 * torch.exp(bounded((-58 - V) / 20)), torch.sigmoid((V + 28) / 10)
    return h, (0.1 * rectified((V + 34) / 10), 0.125 * torch.exp(bounded((-44 - V) / 80)))


def steady(opening: Tensor, closing: Tensor) -> Tensor:
    """The value at which a gate with these rates comes to rest."""
    return opening / (opening + closing)


def run(net: WangBuzsaki, duration: Any = 0.5 * u.s, **options: Any) -> nd.Recording:
    """The spikes of `net` over `duration`; `options` are keywords of `neurodyn.simulate`."""
    return nd.simulate(net, duration, record=("spikes",), **options)
