"""COBA and CUBA: excitatory and inhibitory neurons that keep each other firing irregularly, without input.

Source: Vogels and Abbott (2005), Signal propagation and logic gating in networks of integrate-and-fire neurons, Journal
of Neuroscience 25; in the form of Brette et al. (2007), Simulation of networks of spiking neurons, Journal of
Computational Neuroscience 23, benchmarks 1 and 2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u


class VogelsAbbott(nn.Module):
    """4,000 neurons, four of five excitatory, each with 80 synapses (2 %) at random; dt = 0.1 ms.

    A spike reaches the conductances in the next step. Output: the spikes of the step.

    Args:
        scale: times the number of neurons, with 80 synapses each all the same.
        coba: conductances with reversal potentials, or currents.
        seed: of the connections and the initial values.
        device, dtype: as in torch.nn.
    """

    def __init__(self, scale: float = 1, *, coba: bool, seed: int = 0, device: Any = None, dtype: Any = None):
        super().__init__()
        n, self.exc = round(4000 * scale), round(3200 * scale)
        self.groups = {"E": self.exc, "I": n - self.exc}
        random = torch.Generator().manual_seed(seed)
        factory = {"device": device, "dtype": dtype}
        start = (
            nd.init.Normal(-65 * u.mV, 5 * u.mV, random) if coba else nd.init.Uniform(-60 * u.mV, -50 * u.mV, random)
        )

        def projection(pre: int, weight: Any, tau: Any, output: Any, g: Any) -> nd.Projection:
            return nd.Projection(
                nd.FixedProb(pre, n, 80 / n, weight=weight, generator=random, **factory),
                synapse=nd.Expon(n, tau=tau, g_initializer=g, **factory),
                output=output,
            )

        with nd.default_dt(0.1 * u.ms):
            self.neurons = self.population(n, start, coba, factory)
            self.delay = nd.Delay(n, 0.1 * u.ms, **factory)
            if coba:
                g_E, g_I = (nd.init.Normal(mean * u.nS, std * u.nS, random) for mean, std in ((40, 15), (200, 120)))
                self.E = projection(self.exc, 6 * u.nS, 5 * u.ms, nd.COBA(E=0 * u.mV, **factory), g_E)
                self.I = projection(n - self.exc, 67 * u.nS, 10 * u.ms, nd.COBA(E=-80 * u.mV, **factory), g_I)
            else:
                self.E = projection(self.exc, 16.2 * u.nS, 5 * u.ms, nd.CUBA(**factory), 0 * u.nS)
                self.I = projection(n - self.exc, -90 * u.nS, 10 * u.ms, nd.CUBA(**factory), 0 * u.nS)

    def population(self, n: int, start: Any, coba: bool, factory: dict[str, Any]) -> nd.Dynamics:
        """The neurons, whose potentials begin at `start`."""
        return nd.LIFRef(
            n,
            tau=20 * u.ms,
            R=0.1 * u.Gohm,
            V_rest=(-60 if coba else -49) * u.mV,
            V_th=-50 * u.mV,
            V_reset=-60 * u.mV,
            tau_ref=5 * u.ms,
            reset="hard",
            V_initializer=start,
            **factory,
        )

    def forward(self) -> Tensor:
        before = self.delay.read()
        spikes = self.neurons(self.E(before[..., : self.exc]) + self.I(before[..., self.exc :]))
        self.delay(spikes)
        return spikes


def coba(scale: float = 1, **options: Any) -> VogelsAbbott:
    """The network with conductance-based synapses."""
    return VogelsAbbott(scale, coba=True, **options)


def cuba(scale: float = 1, **options: Any) -> VogelsAbbott:
    """The network with current-based synapses."""
    return VogelsAbbott(scale, coba=False, **options)


def run(net: VogelsAbbott, duration: Any = 1 * u.s, **options: Any) -> nd.Recording:
    """The spikes of `net` over `duration`; `options` are keywords of `neurodyn.simulate`."""
    return nd.simulate(net, duration, record=("spikes",), **options)
