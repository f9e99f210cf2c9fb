"""A synfire chain: a packet of spikes runs from group to group, and gets sharper or dies.

Source: Diesmann, Gewaltig and Aertsen (1999), Stable propagation of synchronous spiking in cortical neural networks,
Nature 402; the background of many small inputs as white noise.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

SIZE = 100
MEAN, NOISE = 25.27, 39.24  # of the background, mV/ms and mV/sqrt(ms)
PACKET, EVERY, FIRST = 85, 200.0, 50.0  # spikes of a packet; ms


class SynfireChain(nn.Module):
    """Groups of 100 neurons, each of which excites all neurons of the next group; dt = 0.1 ms, exact synapses.

    The synaptic current is an alpha function with a time constant of 0.325 ms, about three steps, so that it is held
    for a step with an error of 16 % and has to decay within it. The mean of the background is a constant current, which
    is exact, and its noise jumps of the synapse, whose charge is.

    Input: standard normal noise, one number for each neuron, and the spikes that the first group gets from outside in
    the step. Output: the spikes of the step, group after group.

    Args:
        scale: times the ten groups.
        weight: jump of a spike.
        seed: of the potentials at the start.
        device, dtype: as in torch.nn.
    """

    mean: Tensor

    def __init__(
        self, scale: float = 1, *, weight: Any = 4.86 * u.mV, seed: int = 0, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        self.chain = max(2, round(10 * scale))
        self.weight, n = float(u.to_canonical(weight)), self.chain * SIZE
        self.groups = {f"{i + 1}": SIZE for i in range(self.chain)}
        random, factory = torch.Generator().manual_seed(seed), {"device": device, "dtype": dtype}
        with nd.default_dt(0.1 * u.ms):
            self.neurons = nd.LIFRef(
                n,
                tau=10 * u.ms,
                R=1 * u.Gohm,
                V_rest=-70 * u.mV,
                V_reset=-70 * u.mV,
                V_th=-55 * u.mV,
                tau_ref=1 * u.ms,
                reset="hard",
                V_initializer=nd.init.Uniform(-70 * u.mV, -55 * u.mV, random),
                **factory,
            )
            self.synapse, self.output = nd.Alpha(n, tau=0.325 * u.ms, exact=True, **factory), nd.CUBA(**factory)
        self.register_buffer("mean", torch.full_like(self.neurons.V_th.expand(n), MEAN * 0.325), persistent=False)

    def forward(self, noise: Tensor, packet: Tensor) -> Tensor:
        current = self.output(self.synapse.read()) + self.mean.expand(noise.shape)
        spikes = self.neurons(current)
        of_group = spikes.unflatten(-1, (self.chain, SIZE)).sum(-1)
        arriving = torch.cat((packet.expand(*of_group.shape[:-1], 1), of_group[..., :-1]), -1)
        jump = self.weight * arriving.unsqueeze(-1).expand(*of_group.shape, SIZE).flatten(-2)
        self.synapse(jump + NOISE * math.sqrt(0.1) * noise)
        return spikes

    def inputs(self, spikes: int = PACKET, sigma: Any = 1 * u.ms, batch: tuple[int, ...] = ()) -> Any:
        """For `neurodyn.simulate`: noise, and packets of so many spikes with this width, from 50 ms on every 200 ms."""
        like, width = self.neurons.V_th, float(u.to_canonical(sigma))
        drawn = torch.randn(spikes, generator=torch.Generator().manual_seed(spikes)) * width
        period, first_step = round(EVERY / 0.1), FIRST / 0.1
        packet = torch.bincount(((first_step + drawn / 0.1).round().long() % period), minlength=period).to(like)

        def rows(first: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            noise = torch.randn(steps, *batch, *self.neurons.size, generator=generator, dtype=like.dtype)
            return noise.to(like.device), packet[torch.arange(first, first + steps) % period].unsqueeze(-1)

        return rows


def run(net: SynfireChain, duration: Any = 1 * u.s, **options: Any) -> nd.Recording:
    """The spikes of `net` over `duration`, with packets that survive; `options` are keywords of `neurodyn.simulate`."""
    return nd.simulate(net, duration, net.inputs(), record=("spikes",), **options)
