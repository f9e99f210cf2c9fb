"""Brian2's example of STDP, recorded by reference/make_brian2_stdp.py: a neuron and its 1,000 synapses, 100 s."""

from pathlib import Path

import numpy as np
import pytest
import torch
from reference.stdp_inputs import G_MAX, N, inputs
from torch import nn

import neurodyn as nd
from neurodyn import units as u

FILE = Path(__file__).parents[1] / "reference" / "brian2_stdp.npz"


class PreFirst(nd.STDP):
    """Brian2 deals with the inputs' spikes before the output's of the same step, so that the two are a pair."""

    def change(self, pre, post, weight, x, y):
        x = nd.relax(x, 0.0, self.tau_plus, self.dt) + pre
        y = nd.relax(y, 0.0, self.tau_minus, self.dt)
        weight = self.add_pairs(weight, -self.A_minus * self.w_max * y, pre)
        weight = self.add_pairs(weight, post, self.A_plus * self.w_max * x)
        return weight, x, y + post


class Example(nn.Module):
    """Neurons first, then their inputs' spikes change g, as in Brian2. Input: spikes in bytes, to save memory."""

    def __init__(self, rule, start):
        super().__init__()
        with nd.default_dt(0.1 * u.ms):
            pairs = (torch.arange(N), torch.zeros(N, dtype=torch.long))
            connection = nd.Sparse(pairs, (N, 1), weight=torch.as_tensor(start) * u.nS)
            self.rule = rule(connection, w_max=G_MAX * u.nS, A_plus=0.01, A_minus=0.0105)
            self.g, self.output = nd.Expon(1, tau=5 * u.ms), nd.COBA(E=0 * u.mV)
            potentials = {"V_rest": -74 * u.mV, "V_th": -54 * u.mV, "V_reset": -60 * u.mV, "V_initializer": -74 * u.mV}
            self.neuron = nd.LIF(1, tau=10 * u.ms, R=1 * u.Gohm, reset="hard", **potentials)

    def forward(self, pre):
        spikes = self.neuron(self.output(self.g.read()))
        self.g(self.rule(pre.to(torch.float64)))
        self.rule.learn(spikes)
        return spikes


def run(rule, seconds, compile=True):
    """The network, the steps of its spikes, and Brian2's recording."""
    steps, sources, start = inputs()
    with np.load(FILE) as file:
        brian2 = dict(file)
    assert brian2["inputs"].tolist() == [len(steps), steps.sum(), sources.sum()]

    def rows(first, count, generator):
        low, high = np.searchsorted(steps, (first, first + count))
        dense = torch.zeros(count, N, dtype=torch.uint8)
        dense[steps[low:high] - first, sources[low:high]] = 1
        return dense

    net = Example(rule, start)
    spikes = nd.simulate(net, seconds * u.s, rows, ("spikes",), progress=False, compile=compile)["spikes"]
    return net, spikes.steps.numpy(), brian2


def test_first_spikes():
    _, spikes, brian2 = run(PreFirst, 0.2, compile=False)
    wanted = brian2["spikes"][brian2["spikes"] < 2_000]
    assert spikes.tolist() == wanted.tolist()
    assert len(wanted) > 3


@pytest.mark.long
def test_first_seconds():
    net, spikes, brian2 = run(PreFirst, 2)
    wanted = brian2["spikes"][brian2["spikes"] < 20_000]
    assert spikes.tolist() == wanted.tolist()
    assert len(wanted) > 30
    np.testing.assert_allclose(net.rule.weight.numpy(), brian2["w_20000"], rtol=1e-9, atol=1e-14)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [20, 100])
def test_to_the_end(seconds, long_chunks):
    net, spikes, brian2 = run(PreFirst, seconds)
    assert spikes.tolist() == brian2["spikes"][brian2["spikes"] < seconds * 10_000].tolist()
    found, wanted = net.rule.weight.numpy(), brian2[f"w_{seconds * 10_000}"]
    print(seconds, len(spikes), np.abs(found - wanted).max() / G_MAX)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-14)
