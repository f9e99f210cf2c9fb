"""A decision between two alternatives: two populations gather evidence, compete, and one of them stays active.

Source: Wang (2002), Probabilistic decision making by slow reverberation in cortical circuits, Neuron 36; the network is
that of Brunel and Wang (2001), Journal of Computational Neuroscience 11, with two selective populations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

#: Conductances of single synapses in nS, onto excitatory and inhibitory neurons.
EXTERNAL, AMPA, NMDA, GABA = (2.1, 1.62), (0.05, 0.04), (0.165, 0.13), (1.3, 1.0)
BACKGROUND = 2.4  # external spikes of each neuron in a ms
WINDOW = 500  # steps for which the rate of a stimulus stays


class BetweenGroups(nn.Module):
    r"""All neurons of a group drive all neurons of another one with the same weight: $y_q = \sum_p w_{qp} \sum_i x_i$.

    The cost goes with the number of neurons, not with that of the pairs.

    Input: ``(*batch, sources)``, group after group. Output: ``(*batch, targets)``, in the unit of the weight.

    Args:
        sources, targets: sizes of the groups.
        weight: ``(groups of targets, groups of sources)``.
    """

    weight: Tensor
    group: Tensor

    def __init__(self, sources: list[int], targets: list[int], weight: Tensor):
        super().__init__()
        self.sources = sources
        self.register_buffer("weight", weight)
        self.register_buffer(
            "group", torch.arange(len(targets)).repeat_interleave(torch.tensor(targets)).to(weight.device)
        )

    def forward(self, x: Tensor) -> Tensor:
        sums = torch.stack([part.sum(-1) for part in x.split(self.sources, -1)], -1)
        return nn.functional.linear(sums, self.weight)[..., self.group]


class Decision(nn.Module):
    """1,600 excitatory and 400 inhibitory neurons, each connected with all; dt = 0.1 ms.

    Two populations A and B of 240 excitatory neurons each prefer one of the alternatives. Synapses inside them are
    `strength` times as strong as others, those to them from other excitatory neurons weaker, so that the mean stays.
    Excitatory synapses have AMPA and NMDA receptors, inhibitory ones GABA. A spike arrives after 0.5 ms. Each neuron
    gets external spikes at 2,400 Hz through AMPA receptors; a stimulus adds to those of A and B. The neurons are
    integrate-and-fire neurons, whose step is linearised at the potential before it.

    Input: numbers of external spikes in the step, one for each neuron; see `external`. Output: spikes of the step, in
    the order of `groups`: A, B, other excitatory neurons ("rest") and inhibitory ones.

    Args:
        scale: times the number of neurons; the weights of their synapses grow by 1 / scale.
        strength: of the synapses inside A and B.
        seed: of the potentials at the start, between -70 and -50 mV.
        device, dtype: as in torch.nn.
    """

    g_external: Tensor

    def __init__(
        self, scale: float = 1, *, strength: float = 1.7, seed: int = 0, device: Any = None, dtype: Any = None
    ):
        super().__init__()
        chosen, exc, inh = round(240 * scale), round(1600 * scale), round(400 * scale)
        self.groups = {"A": chosen, "B": chosen, "rest": exc - 2 * chosen, "I": inh}
        self.exc, n = exc, exc + inh
        factory = {"device": device, "dtype": dtype}
        V = -70 + 20 * torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

        def each(excitatory: float, inhibitory: float) -> Tensor:
            return torch.tensor([excitatory] * exc + [inhibitory] * inh, dtype=torch.float64)

        with nd.default_dt(0.1 * u.ms):
            self.neurons = nd.LIFRef(
                n,
                tau=each(20, 10) * u.ms,
                R=each(1 / 25, 1 / 20) * u.Gohm,
                V_rest=-70 * u.mV,
                V_th=-50 * u.mV,
                V_reset=-55 * u.mV,
                tau_ref=each(2, 1) * u.ms,
                reset="hard",
                V_initializer=V * u.mV,
                **factory,
            )
            # What is read acts on V in the same step, and a spike from the end of the sixth step before is 0.5 ms old.
            self.delay = nd.Delay(n, 0.6 * u.ms, **factory)
            self.AMPA = nd.Expon(n, tau=2 * u.ms, exact=True, **factory)
            self.NMDA = nd.NMDA(exc, **factory)  # one for all synapses that a neuron makes
            self.GABA = nd.Expon(n, tau=5 * u.ms, exact=True, **factory)
        self.block = nd.MgBlock(cc_Mg=1 * u.mM, **factory)
        self.excite, self.inhibit = nd.COBA(E=0 * u.mV, **factory), nd.COBA(E=-70 * u.mV, **factory)
        like, sizes = self.neurons.V_th, [*self.groups.values()]
        weaker = 1 - chosen / exc * (strength - 1) / (1 - chosen / exc)
        relative = torch.tensor([[strength, weaker, weaker], [weaker, strength, weaker], [1, 1, 1], [1, 1, 1]])

        def connection(sources: list[int], relative: Tensor, g: tuple[float, float]) -> BetweenGroups:
            weight = torch.tensor([g[0], g[0], g[0], g[1]])[:, None] * relative / scale
            return BetweenGroups(sources, sizes, weight.to(like))

        self.to_AMPA = connection(sizes[:3], relative, AMPA)
        self.to_NMDA = connection(sizes[:3], relative, NMDA)
        self.to_GABA = connection(sizes[3:], torch.ones(4, 1), GABA)
        self.register_buffer("g_external", each(*EXTERNAL).to(like), persistent=False)

    def forward(self, external: Tensor) -> Tensor:
        excitatory, inhibitory = self.delay.read().split([self.exc, self.groups["I"]], -1)
        fast = self.AMPA(self.to_AMPA(excitatory) + self.g_external * external)
        slow = self.to_NMDA(self.NMDA(excitatory))
        inhibition = self.GABA(self.to_GABA(inhibitory))
        spikes = self.neurons(self.excite(fast) + self.block(slow) + self.inhibit(inhibition))
        self.delay(spikes)
        return spikes

    def external(self, stimulus: Tensor, first_step: int) -> Callable[[int, int, torch.Generator], Tensor]:
        """A function that draws the inputs of some steps, for `neurodyn.simulate`.

        Args:
            stimulus: rates of the stimulus to a neuron of A and of B in 1/ms, ``(windows, *batch, 2)``, each for 50 ms.
            first_step: where the stimulus begins.
        """
        V, sizes = self.neurons.V, torch.tensor([*self.groups.values()])
        none = stimulus.new_zeros(1, *stimulus.shape[1:])
        of_window = torch.cat((none, stimulus.clamp(min=0)))

        def draw(first: int, steps: int, generator: torch.Generator) -> Tensor:
            window = torch.div(torch.arange(first, first + steps) - first_step, WINDOW, rounding_mode="floor")
            window = torch.where((window >= 0) & (window < len(stimulus)), window + 1, 0)
            of_group = nn.functional.pad(of_window[window], (0, 2)) + BACKGROUND
            rates = of_group.repeat_interleave(sizes, -1)
            return torch.poisson(0.1 * rates.float(), generator=generator).to(V)

        return draw


def stimulus(
    coherence: float,
    *,
    mean: Any = 40 * u.Hz,
    std: Any = 4 * u.Hz,
    duration: Any = 1 * u.s,
    batch: tuple[int, ...] = (),
    seed: int = 0,
) -> Tensor:
    """Rates in 1/ms of the inputs to A and B, ``(windows, *batch, 2)``, which change every 50 ms.

    Args:
        coherence: of the moving dots, from -100 to 100 %: the mean rate of A grows, and that of B falls, by so many
            per cent.
        mean, std: of the normal distribution of the rates without coherence.
        duration: of the stimulus, a multiple of 50 ms.
        batch: so many trials, each with rates of its own.
        seed: of the rates.
    """
    random = torch.Generator().manual_seed(seed)
    windows = round(float(u.to_canonical(duration)) / (0.1 * WINDOW))
    noise = torch.randn(windows, *batch, 2, generator=random, dtype=torch.float64)
    factor = 1 + coherence / 100 * torch.tensor([1.0, -1.0], dtype=torch.float64)
    return float(u.to_canonical(mean)) * factor + float(u.to_canonical(std)) * noise


def run(
    net: Decision,
    duration: Any = 2.5 * u.s,
    *,
    coherence: float = 25.6,
    onset: Any = 0.5 * u.s,
    batch: tuple[int, ...] = (),
    seed: int = 0,
    **options: Any,
) -> nd.Recording:
    """The spikes of `net` with a stimulus of 1 s from `onset` on; `options` are keywords of `neurodyn.simulate`.

    Args:
        net: the network.
        duration: of the simulation.
        coherence: of the stimulus in per cent; see `stimulus`.
        onset: when the stimulus begins.
        batch: so many trials at once.
        seed: of the stimulus and the external spikes.
        options: keywords of `neurodyn.simulate`.
    """
    rates = stimulus(coherence, batch=batch, seed=seed)
    inputs = net.external(rates, round(10 * float(u.to_canonical(onset))))
    return nd.simulate(net, duration, inputs, ("spikes",), batch=batch, seed=seed, **options)
