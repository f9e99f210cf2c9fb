"""Working memory in facilitated synapses: after its cue a population falls silent and yet comes back by itself.

Source: Mongillo, Barak and Tsodyks (2008), Synaptic theory of working memory, Science 319, with the values of its
supporting table S1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

POPULATIONS = 5


class WorkingMemory(nn.Module):
    """8,000 excitatory and 2,000 inhibitory neurons, connected with probability 0.2; dt = 0.1 ms.

    Five populations of a tenth of the excitatory neurons each hold an item: synapses inside them are potentiated, as is
    a tenth of the others. Excitatory synapses onto excitatory neurons facilitate and depress. Every synapse has a delay
    between 0.1 and 1 ms, after which a spike is a jump of V. At scale 1 the population that was cued fires in short
    bursts about every 0.3 s from then on.

    Input: standard normal noise, one number for each neuron; a factor of the mean input of the first population (the
    cue), and one of all excitatory neurons (the readout). Output: spikes of the step, excitatory neurons first.

    Args:
        scale: times the number of neurons; the weights grow by 1 / scale.
        background: mean input of the excitatory neurons, relative to rest.
        seed: of the connections.
        device, dtype: as in torch.nn.
    """

    noise: Tensor
    drive: Tensor
    cued: Tensor
    excitatory: Tensor

    def __init__(
        self,
        scale: float = 1,
        *,
        background: Any = 23.1 * u.mV,
        seed: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        exc, inh = round(8000 * scale), round(2000 * scale)
        self.exc, self.chosen = exc, exc // 10
        self.groups = {"E": exc, "I": inh}
        self.background = float(u.to_canonical(background))
        random = torch.Generator().manual_seed(seed)
        factory = {"device": device, "dtype": dtype}

        def connect(pre: int, post: int, weight: Any) -> nd.Sparse:
            delay = nd.init.Uniform(0.5, 10.5, random)
            pairs = nd.FixedProb(pre, post, 0.2, weight=1.0, generator=random)
            if weight is None:
                weight = self._excitatory(pairs, random)
            steps = delay((len(pairs.indices),)).magnitude.round().clamp(1, 10)
            index = (pairs.pre_index, pairs.post_index)
            return nd.Sparse(index, (pre, post), weight=weight / scale, delay=steps * 0.1 * u.ms, **factory)

        with nd.default_dt(0.1 * u.ms):
            V_reset = torch.tensor([16.0] * exc + [13.0] * inh) * u.mV
            tau = torch.tensor([15.0] * exc + [10.0] * inh) * u.ms
            self.neurons = nd.LIFRef(
                exc + inh,
                tau=tau,
                R=1 * u.Gohm,
                tau_ref=2 * u.ms,
                V_th=20 * u.mV,
                V_reset=V_reset,
                reset="hard",
                **factory,
            )
            stp = nd.STP(exc, U=0.2, tau_f=1500 * u.ms, tau_d=200 * u.ms, u_initializer=0.2, **factory)
            self.EE = nd.Projection(connect(exc, exc, None), plasticity=stp)
            self.EI = nd.Projection(connect(exc, inh, 0.135 * u.mV))
            self.IE = nd.Projection(connect(inh, exc, -0.25 * u.mV))
            self.II = nd.Projection(connect(inh, inh, -0.20 * u.mV))
        self.register_buffer("noise", math.sqrt(0.1) / self.neurons.tau.sqrt(), persistent=False)
        self.register_buffer("drive", torch.zeros_like(self.neurons.tau), persistent=False)
        self.drive[:exc], self.drive[exc:] = self.background, 20.5
        for name, n in (("cued", self.chosen), ("excitatory", exc)):
            self.register_buffer(name, (torch.arange(exc + inh) < n).to(self.drive), persistent=False)

    def _excitatory(self, pairs: nd.Sparse, random: torch.Generator) -> Any:
        """0.45 mV inside the populations and in a tenth of the other synapses, else 0.1 mV; u x scales both."""
        pre, post = pairs.pre_index // self.chosen, pairs.post_index // self.chosen
        inside = (pre == post) & (pre < POPULATIONS)
        potentiated = inside | (torch.rand(len(pre), generator=random) < 0.1)
        return torch.where(potentiated, 0.45, 0.1) * u.mV

    def forward(self, noise: Tensor, cue: Tensor, readout: Tensor) -> Tensor:
        to_E, to_I = self.EE.read() + self.IE.read(), self.EI.read() + self.II.read()
        delta = torch.cat((to_E, to_I), -1) + self.noise * noise  # type: ignore[arg-type]
        factor = 1 + (cue - 1) * self.cued + (readout - 1) * self.excitatory
        spikes = self.neurons(self.drive * factor, delta=delta)
        for projection in (self.EE, self.EI):
            projection.write(spikes[..., : self.exc])
        for projection in (self.IE, self.II):
            projection.write(spikes[..., self.exc :])
        return spikes


def run(net: WorkingMemory, duration: Any = 3 * u.s, *, record: Any = ("spikes",), **options: Any) -> nd.Recording:
    """The spikes of `net`: 0.5 s in, a cue of 350 ms to the first population; at 1.7 s, 100 ms of readout to all.

    Args:
        net: the network.
        duration: of the simulation.
        record, options: keywords of `neurodyn.simulate`.
    """

    def inputs(first: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        like = net.neurons.V
        noise = torch.randn(steps, *net.neurons.size, generator=generator, dtype=like.dtype)
        step = torch.arange(first, first + steps)
        cue = 1 + 0.15 * ((step >= 5000) & (step < 8500))
        readout = 1 + 0.05 * ((step >= 17000) & (step < 18000))
        return noise.to(like), cue.to(like), readout.to(like)

    return nd.simulate(net, duration, inputs, record, **options)
