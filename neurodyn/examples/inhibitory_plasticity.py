"""Inhibition that learns: from strong, synchronous activity to asynchronous irregular spikes at a target rate.

Source: Vogels, Sprekeler, Zenke, Clopath and Gerstner (2011), Inhibitory plasticity balances excitation and inhibition
in sensory pathways and memory networks, Science 334; a tenth of its neurons, and faster learning.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

BACKGROUND = 200.0  # pA, which alone would hold V at -40 mV, 10 mV above threshold


class InhibitoryPlasticity(nn.Module):
    """800 excitatory and 200 inhibitory neurons, each with 200 synapses (20 %) at random; dt = 0.1 ms.

    A constant current drives all neurons. Synapses from inhibitory to excitatory neurons begin at next to nothing and
    learn; the others have 0.3 nS and 3 nS. A spike reaches the conductances in the next step. Output: the spikes of the
    step, excitatory neurons first.

    Without learning all excitatory neurons fire together at 160 Hz. Within a second they come near their target, and
    the spikes become irregular and uncorrelated.

    Args:
        scale: times the number of neurons, with 200 synapses each all the same; 10 for those of the paper. The mean
            rate comes to rest a little above the target: 5.4 to 5.6 Hz at scale 1, 5.7 Hz at 2, 6.1 Hz at 10.
        rate: the target of the excitatory neurons.
        eta: change of a weight by one pair of spikes, at most 100 nS in all.
        seed: of the connections and the potentials at the start.
        device, dtype: as in torch.nn.
    """

    def __init__(
        self,
        scale: float = 1,
        *,
        rate: Any = 5 * u.Hz,
        eta: Any = 0.1 * u.nS,
        seed: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        self.exc, inh = round(800 * scale), round(200 * scale)
        n, w_max = self.exc + inh, 100 * u.nS
        self.groups = {"E": self.exc, "I": inh}
        random = torch.Generator().manual_seed(seed)
        factory = {"device": device, "dtype": dtype}

        def connect(pre: int, post: int, weight: Any) -> nd.FixedProb:
            return nd.FixedProb(pre, post, min(1, 200 / n), weight=weight, generator=random, **factory)

        with nd.default_dt(0.1 * u.ms):
            self.neurons = nd.LIFRef(
                n,
                tau=20 * u.ms,
                R=0.1 * u.Gohm,
                V_rest=-60 * u.mV,
                V_th=-50 * u.mV,
                V_reset=-60 * u.mV,
                tau_ref=5 * u.ms,
                reset="hard",
                V_initializer=nd.init.Uniform(-60 * u.mV, -50 * u.mV, random),
                **factory,
            )
            self.delay = nd.Delay(n, 0.1 * u.ms, **factory)
            self.E = nd.Projection(
                connect(self.exc, n, 0.3 * u.nS),
                synapse=nd.Expon(n, tau=5 * u.ms, **factory),
                output=nd.COBA(E=0 * u.mV, **factory),
            )
            self.IE = nd.VogelsSprekeler(
                connect(inh, self.exc, 1e-10 * u.nS), w_max=w_max, eta=eta / w_max, tau=20 * u.ms, rate=rate
            )
            self.II = connect(inh, inh, 3 * u.nS)
            self.I = nd.Receptor(nd.Expon(n, tau=10 * u.ms, **factory), nd.COBA(E=-80 * u.mV, **factory))

    def forward(self) -> Tensor:
        before = self.delay.read()
        E, I = before[..., : self.exc], before[..., self.exc :]
        inhibition = self.I(torch.cat((self.IE(I), self.II(I)), -1))
        spikes = self.neurons(self.E(E) + inhibition + BACKGROUND)
        self.IE.learn(spikes[..., : self.exc])
        self.delay(spikes)
        return spikes


def run(net: InhibitoryPlasticity, duration: Any = 10 * u.s, **options: Any) -> nd.Recording:
    """The spikes of `net` over `duration`; `options` are keywords of `neurodyn.simulate`."""
    return nd.simulate(net, duration, record=("spikes",), **options)
