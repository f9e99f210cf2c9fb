"""The cortical microcircuit: four layers of excitatory and inhibitory neurons under 1 mm^2 of surface.

Source: Potjans and Diesmann (2014), The cell-type specific cortical microcircuit: relating structure and activity in a
full-scale spiking network model, Cerebral Cortex 24; start values, delays and weights as in the version that NEST
comes with.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.connections import csr

POPULATIONS = ("L23E", "L23I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I")
NEURONS = (20683, 5834, 21915, 5479, 4850, 1065, 14395, 2948)
#: Probability that a pair is connected at least once: rows are targets, columns sources.
PROBABILITY = (
    (0.1009, 0.1689, 0.0437, 0.0818, 0.0323, 0.0, 0.0076, 0.0),
    (0.1346, 0.1371, 0.0316, 0.0515, 0.0755, 0.0, 0.0042, 0.0),
    (0.0077, 0.0059, 0.0497, 0.135, 0.0067, 0.0003, 0.0453, 0.0),
    (0.0691, 0.0029, 0.0794, 0.1597, 0.0033, 0.0, 0.1057, 0.0),
    (0.1004, 0.0622, 0.0505, 0.0057, 0.0831, 0.3726, 0.0204, 0.0),
    (0.0548, 0.0269, 0.0257, 0.0022, 0.06, 0.3158, 0.0086, 0.0),
    (0.0156, 0.0066, 0.0211, 0.0166, 0.0572, 0.0197, 0.0396, 0.2252),
    (0.0364, 0.001, 0.0034, 0.0005, 0.0277, 0.008, 0.0658, 0.1443),
)
EXTERNAL = (1600, 1500, 2100, 1900, 2000, 1900, 2900, 2100)  # synapses of each neuron, each at 8 Hz
#: V at the start: mean and standard deviation in mV, near those of the running network.
START = (
    (-68.28, -63.16, -63.33, -63.45, -63.11, -61.66, -66.72, -61.43),
    (5.36, 4.57, 4.74, 4.94, 4.94, 4.55, 5.46, 4.48),
)
#: Rates in Hz of the full network, by which the mean input of a smaller one is kept.
RATES = (0.903, 2.965, 4.414, 5.876, 7.569, 8.633, 1.105, 7.829)
TAU, TAU_SYN, C, PSP, DT = 10.0, 0.5, 250.0, 0.15, 0.1  # ms, ms, pF, mV, ms


def peak_current(psp: float) -> float:
    """The jump of the synaptic current in pA whose potential peaks at `psp` mV."""
    a, b = 1 / TAU_SYN, 1 / TAU
    peak = math.log(a / b) / (a - b)
    return psp * C * (a - b) / (math.exp(-b * peak) - math.exp(-a * peak))


def synapses(scale: float, indegrees: float) -> list[list[int]]:
    """Numbers of synapses, rows are targets: so many that pairs are connected with the probabilities at full size."""
    return [
        [
            round(math.log1p(-p) / math.log1p(-1 / (n * m)) * scale * indegrees) if p else 0
            for p, n in zip(row, NEURONS, strict=True)
        ]
        for row, m in zip(PROBABILITY, NEURONS, strict=True)
    ]


class Microcircuit(nn.Module):
    """77,169 neurons with 299 million synapses at full size; dt = 0.1 ms, exact synapses.

    Weights have a standard deviation of a tenth of their mean, delays one of half of it: 1.5 ms from excitatory
    neurons, 0.75 ms from inhibitory ones. Each neuron gets Poisson spikes of its external synapses.

    Input: numbers from 0 to 1, one for each neuron, from which the external spikes of the step follow; see `external`.
    Output: spikes of the step, population after population, see `groups`.

    Args:
        scale: times the number of neurons.
        indegrees: times the synapses that each neuron receives; `scale` if not given. With less than 1 weights grow by
            1 / sqrt(indegrees), and a constant current replaces the mean input that is lost, so that mean and variance
            of the input stay; correlations grow. With 1 each neuron has all its synapses.
        seed: of the connections and the potentials at the start.
        device, dtype: as in torch.nn.
    """

    levels: Tensor
    constant: Tensor

    def __init__(
        self,
        scale: float = 1,
        *,
        indegrees: float | None = None,
        seed: int = 0,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        k = scale if indegrees is None else indegrees
        self.groups = {name: max(1, round(n * scale)) for name, n in zip(POPULATIONS, NEURONS, strict=True)}
        sizes = list(self.groups.values())
        random, factory = torch.Generator().manual_seed(seed), {"device": device, "dtype": dtype}
        of_each = torch.arange(8).repeat_interleave(torch.tensor(sizes))
        mean, deviation = (torch.tensor(values)[of_each] for values in START)
        J, n = peak_current(PSP) / math.sqrt(k), len(of_each)
        matrix, weight, delay = _connect(sizes, synapses(scale, k), J, random)
        with nd.default_dt(DT * u.ms):
            self.neurons = nd.LIFRef(
                n,
                tau=TAU * u.ms,
                R=TAU / C * u.Gohm,
                V_rest=-65 * u.mV,
                V_th=-50 * u.mV,
                V_reset=-65 * u.mV,
                tau_ref=(2 + DT) * u.ms,  # held for 2 ms after the step of the spike
                reset="hard",
                V_initializer=u.quantity(mean + deviation * torch.randn(n, generator=random), "mV"),
                **factory,
            )
            self.connection = nd.Sparse(matrix, (n, n), weight=weight, delay=delay, **factory)
            self.synapse, self.output = nd.Expon(n, tau=TAU_SYN * u.ms, exact=True, **factory), nd.CUBA(**factory)
        self.J = J
        like = self.neurons.V_th
        lost = torch.tensor(_lost_input(k))[of_each]
        self.register_buffer("constant", lost.to(like), persistent=False)
        counts = torch.tensor([_poisson_levels(e * k * 8e-3 * DT) for e in EXTERNAL]).t()
        self.register_buffer("levels", counts[:, of_each].to(like), persistent=False)

    def forward(self, uniform: Tensor) -> Tensor:
        spikes = self.neurons(self.output(self.synapse.read()) + self.constant.expand(uniform.shape))
        external = (uniform.unsqueeze(-2) > self.levels).to(uniform.dtype).sum(-2)
        self.synapse(self.connection(spikes) + self.J * external)
        return spikes

    def external(self, first: int, steps: int, generator: torch.Generator) -> Tensor:
        """The inputs of some steps."""
        V = self.neurons.V
        return torch.rand(steps, *self.neurons.size, generator=generator, dtype=V.dtype).to(V.device)


def run(net: Microcircuit, duration: Any = 1 * u.s, **options: Any) -> nd.Recording:
    """The spikes of `net` over `duration`; `options` are keywords of `neurodyn.simulate`."""
    return nd.simulate(net, duration, net.external, record=("spikes",), **options)


def _connect(sizes: list[int], numbers: list[list[int]], J: float, random: torch.Generator) -> tuple[csr.CSR, Any, Any]:
    """All synapses, source after source, with their weights in nS (1 nS is 1 pA of `CUBA`) and delays."""
    total = sum(map(sum, numbers))
    targets = torch.empty(total, dtype=torch.int32)
    weight, delay = torch.empty(total, dtype=torch.float32), torch.empty(total, dtype=torch.float32)
    counts, done = [], 0
    starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
    for source, n in enumerate(sizes):
        mean, late = (J, 1.5) if source % 2 == 0 else (-4 * J, 0.75)
        blocks = [csr.fixed_total(n, m, numbers[i][source], True, random, True) for i, m in enumerate(sizes)]
        count = torch.stack([block.indptr.diff().long() for block in blocks])
        free = count.sum(0).cumsum(0) - count.sum(0) + done
        for target, block in enumerate(blocks):
            own = count[target]
            shift = (free - (own.cumsum(0) - own)).repeat_interleave(own)
            place = shift.add_(torch.arange(len(block.indices)))
            targets[place] = block.indices + starts[target]
            strong = 2 * mean if (source, target) == (2, 0) else mean  # from L4E to L23E
            weight[place] = _normal(len(place), strong, 0.1, 0.0, random)
            delay[place] = (_normal(len(place), late, 0.5, DT / 2, random) / DT).round_().clamp_(min=1).mul_(DT)
            free += own
        counts.append(count.sum(0))
        done += int(count.sum())
    return csr.from_counts(torch.cat(counts), targets), u.quantity(weight, "nS"), u.quantity(delay, "ms")


def _normal(n: int, mean: float, relative: float, least: float, random: torch.Generator) -> Tensor:
    """Normally distributed, drawn anew where it is not beyond `least` on the side of its mean."""
    size = torch.randn(n, generator=random, dtype=torch.float32).mul_(relative * abs(mean)).add_(abs(mean))
    while len(wrong := (size <= least).nonzero()[:, 0]):
        size[wrong] = torch.randn(len(wrong), generator=random, dtype=torch.float32) * relative * abs(mean) + abs(mean)
    return size if mean > 0 else size.neg_()


def _lost_input(k: float) -> list[float]:
    """The mean current in pA that a neuron loses when it has k times its synapses, 1 / sqrt(k) times as strong."""
    J, numbers, lost = peak_current(PSP), synapses(1, 1), []
    for target, m in enumerate(NEURONS):
        strengths = [(2 if (i, target) == (2, 0) else 1) * (J if i % 2 == 0 else -4 * J) for i in range(8)]
        terms = zip(strengths, numbers[target], RATES, strict=True)
        recurrent = sum(strength * number / m * rate for strength, number, rate in terms)
        lost.append((1 - math.sqrt(k)) * TAU_SYN * 1e-3 * (recurrent + J * EXTERNAL[target] * 8))
    return lost


def _poisson_levels(mean: float, most: int = 24) -> list[float]:
    """P(count <= 0), P(count <= 1), ...: as many as a uniform number is above is a Poisson count."""
    probabilities = [math.exp(i * math.log(mean) - mean - math.lgamma(i + 1)) for i in range(most)]
    cumulative = torch.tensor(probabilities, dtype=torch.float64).cumsum(0)
    return [level if level < 1 - 1e-7 else 1.0 for level in cumulative.tolist()]
