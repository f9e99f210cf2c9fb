"""Brunel's network: sparse excitation and inhibition with delays; its state depends on their balance and the input.

Source: Brunel (2000), Dynamics of sparsely connected networks of excitatory and inhibitory spiking neurons, Journal of
Computational Neuroscience 8, model A.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

#: g and external rate over threshold rate in the four panels of figure 8.
REGIMES = {
    "SR": (3.0, 2.0),  # synchronous, neurons fire regularly
    "SI fast": (6.0, 4.0),  # synchronous, neurons fire irregularly; fast oscillation
    "AI": (5.0, 2.0),  # asynchronous irregular
    "SI slow": (4.5, 0.9),  # as SI fast, with a slow oscillation
}


class Brunel(nn.Module):
    """10,000 excitatory and 2,500 inhibitory neurons that receive 10 % of each; dt = 0.1 ms.

    A spike arrives after 1.5 ms as a jump of V: J from excitatory neurons and from 1,000 external Poisson sources, -g J
    from inhibitory ones.

    Input: numbers from 0 to 1, one for each neuron, from which the external spikes of the step follow; see `external`.
    Output: spikes of the step, excitatory neurons first.

    Args:
        scale: times the number of neurons and of their synapses; J grows by 1 / scale.
        g: strength of inhibition relative to excitation.
        drive: external rate, relative to the rate that brings V to threshold without recurrent input.
        seed: of the connections.
        device, dtype: as in torch.nn.
    """

    def __init__(
        self,
        scale: float = 1,
        *,
        g: float = 5.0,
        drive: float = 2.0,
        seed: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.exc, inh = round(10_000 * scale), round(2_500 * scale)
        n, J = self.exc + inh, 0.1 / scale * u.mV
        self.groups = {"E": self.exc, "I": inh}
        random = torch.Generator().manual_seed(seed)
        factory = {"device": device, "dtype": dtype}
        with nd.default_dt(0.1 * u.ms):
            self.neurons = nd.LIFRef(
                n, tau=20 * u.ms, tau_ref=2 * u.ms, V_th=20 * u.mV, V_reset=10 * u.mV, reset="hard", **factory
            )
            self.delay = nd.Delay(n, 1.5 * u.ms, **factory)
        options = {"weight": J, "per": "post", "generator": random, **factory}
        self.E = nd.FixedNum(self.exc, n, self.exc // 10, **options)
        self.I = nd.FixedNum(inh, n, inh // 10, **options)
        self.J = float(u.to_canonical(J))
        self.set_regime(g, drive)

    def set_regime(self, g: float, drive: float) -> None:
        """Change the strength of inhibition and the external rate; the connections stay."""
        self.I.weight.fill_(-g * self.J)
        # At the threshold rate the mean external input is V_th / tau; counts have the Poisson distribution.
        mean = drive * 20 / self.J * 0.1 / 20
        cumulative = torch.tensor([k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(100)]).exp().cumsum(0)
        self.levels = tuple(level for level in cumulative.tolist() if level < 1 - 1e-7)

    def forward(self, uniform: Tensor) -> Tensor:
        before = self.delay.read()
        external = torch.zeros_like(uniform)
        for level in self.levels:  # the inverse of the distribution, at a uniform number
            external = external + (uniform > level)
        delta = self.E(before[..., : self.exc]) + self.I(before[..., self.exc :]) + self.J * external
        spikes = self.neurons(torch.zeros_like(uniform), delta=delta)
        self.delay(spikes)
        return spikes

    def external(self, first: int, steps: int, generator: torch.Generator) -> Tensor:
        """The inputs of some steps."""
        V = self.neurons.V
        return torch.rand(steps, *self.neurons.size, generator=generator, dtype=V.dtype).to(V.device)


def run(net: Brunel, duration: Any = 1 * u.s, **options: Any) -> nd.Recording:
    """The spikes of `net` over `duration`; `options` are keywords of `neurodyn.simulate`."""
    return nd.simulate(net, duration, net.external, record=("spikes",), **options)
