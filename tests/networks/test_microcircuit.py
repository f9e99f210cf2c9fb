"""The microcircuit: its numbers are those of the paper, and so is what it does."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import microcircuit
from neurodyn.examples.microcircuit import NEURONS, PROBABILITY, Microcircuit

REFERENCE = Path(__file__).parents[1] / "reference" / "nest_microcircuit.npz"


@pytest.fixture(scope="module")
def net() -> Microcircuit:
    return Microcircuit(0.03, indegrees=0.3, seed=2, dtype=torch.float64)


def blocks(net: Microcircuit, values: Tensor) -> list[list[Tensor]]:
    """The values of the synapses, by target and source."""
    bounds = torch.tensor(list(net.groups.values())).cumsum(0)
    source = torch.bucketize(net.connection.pre_index, bounds, right=True)
    target = torch.bucketize(net.connection.post_index, bounds, right=True)
    return [[values[(target == i) & (source == j)] for j in range(8)] for i in range(8)]


def test_as_many_synapses_as_published(net: Microcircuit) -> None:
    assert sum(NEURONS) == 77_169
    assert sum(map(sum, microcircuit.synapses(1, 1))) == pytest.approx(0.3e9, rel=0.01)
    one = torch.ones(len(net.connection.indices))
    for i, row in enumerate(blocks(net, one)):
        for j, found in enumerate(row):
            p = PROBABILITY[i][j]
            full = math.log1p(-p) / math.log1p(-1 / (NEURONS[i] * NEURONS[j])) if p else 0
            assert len(found) == round(full * 0.03 * 0.3)


def test_weights_and_delays(net: Microcircuit) -> None:
    J = microcircuit.peak_current(0.15)
    assert J == pytest.approx(87.8085, abs=1e-4)  # pA, NEST's PSC for 0.15 mV
    assert net.connection.delays is not None
    delays = blocks(net, net.connection.delays.delay)
    for i, row in enumerate(blocks(net, net.connection.weight)):
        for j, weight in enumerate(row):
            if len(weight) < 2000:
                continue
            mean = (1 if j % 2 == 0 else -4) * (2 if (i, j) == (0, 2) else 1) * J / math.sqrt(0.3)
            assert weight.mean().item() == pytest.approx(mean, rel=5 * 0.1 / len(weight) ** 0.5)
            assert weight.std().item() == pytest.approx(0.1 * abs(mean), rel=0.1)
            assert (weight.sign() == math.copysign(1, mean)).all()
            late = delays[i][j]
            assert late.mean().item() == pytest.approx(1.5 if j % 2 == 0 else 0.75, rel=0.06)
            assert late.min().item() == pytest.approx(0.1)
            assert (late / 0.1 - (late / 0.1).round()).abs().max() < 1e-4


def test_the_external_spikes_have_the_poisson_distribution(net: Microcircuit) -> None:
    uniform = torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0))
    first = [sum(list(net.groups.values())[:i]) for i in range(8)]
    counts = (uniform.unsqueeze(-2) > net.levels[:, first]).double().sum(-2)
    for count, number in zip(counts.unbind(-1), microcircuit.EXTERNAL, strict=True):
        mean = number * 0.3 * 8 * 1e-4
        assert abs(count.mean() - mean) < 5 * (mean / len(count)) ** 0.5
        assert count.var() / mean == pytest.approx(1, abs=0.06)


def test_a_smaller_number_of_synapses_keeps_mean_and_variance_of_the_input(net: Microcircuit) -> None:
    rates = torch.tensor(microcircuit.RATES) * 1e-3
    whole, part = ([torch.zeros(8), torch.zeros(8)] for _ in range(2))
    J = microcircuit.peak_current(0.15)
    for k, (mean, variance) in ((1.0, whole), (0.3, part)):
        numbers = torch.tensor(microcircuit.synapses(1, k)) / torch.tensor(NEURONS).unsqueeze(1)
        strength = torch.tensor([1.0, -4.0] * 4).repeat(8, 1) * J / math.sqrt(k)
        strength[0, 2] *= 2
        external = torch.tensor(microcircuit.EXTERNAL) * k * 8e-3
        constant = torch.tensor(microcircuit._lost_input(k))
        mean += 0.5 * ((numbers * strength * rates).sum(1) + J / math.sqrt(k) * external) + constant
        variance += (numbers * strength**2 * rates).sum(1) + J**2 / k * external
    torch.testing.assert_close(part[0], whole[0], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(part[1], whole[1], rtol=1e-3, atol=0)
    assert microcircuit._lost_input(1.0) == [0.0] * 8


def test_a_spike_moves_its_target_after_the_delay_as_in_nest() -> None:
    net = Microcircuit(0.001, seed=1, dtype=torch.float64)
    net.levels.fill_(2.0)  # no external spikes
    net.constant.zero_()
    nd.reset_states(net)
    n = len(net.levels[0])
    V = torch.full((n,), -65.0)
    pre = int(net.connection.pre_index[0])
    V[pre] = 0.0  # spikes in the first step
    nd.set_states(net, nd.get_states(net) | {"neurons.V": V})
    chosen = (net.connection.pre_index == pre).nonzero()[:, 0]
    steps = (net.connection.delays.delay[chosen] / 0.1).round().long()
    target = int(net.connection.post_index[chosen[steps.argmin()]])
    spikes, moved = [], []
    for _ in range(int(steps.min()) + 3):
        spikes.append(net(torch.zeros(n))[pre].item())
        moved.append(net.neurons.V[target].item() != -65.0)
    assert spikes[0] == 1
    assert moved.index(True) == int(steps.min()) + 1


@pytest.mark.long
def test_rates_of_the_layers_are_those_of_nest(long_chunks) -> None:
    """A fiftieth of the neurons with all their synapses, three networks each; the full one has other rates."""
    torch.set_default_dtype(torch.float32)
    nest, rates = np.load(REFERENCE), []
    for seed in range(3):
        net = Microcircuit(float(nest["scale"]), indegrees=1, seed=seed)
        spikes = microcircuit.run(net, 3 * u.s, seed=seed, progress=False)["spikes"]
        counts = torch.bincount(spikes.neurons[spikes.steps >= 2000], minlength=spikes.shape[0])
        rates.append([part.double().mean().item() / 2.8 for part in counts.split(list(net.groups.values()))])
    found, expected = np.array(rates), nest["rates"]
    error = np.sqrt((found.var(0, ddof=1) + expected.var(0, ddof=1)) / 3)
    assert np.all(np.abs(found.mean(0) - expected.mean(0)) < 3 * error + 0.03 * expected.mean(0))
