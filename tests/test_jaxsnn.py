"""Spike times and their gradients against jaxsnn, see reference/make_jaxsnn.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u

RECORDED = Path(__file__).parent / "reference" / "jaxsnn.npz"


def layer(weight: torch.Tensor) -> tuple[nn.Module, ...]:
    n, inputs = weight.shape
    linear = nn.Linear(inputs, n, bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight)
    neuron = nd.LIF(n, tau=10 * u.ms, R=1 * u.Gohm, V_th=1 * u.mV, V_reset=-0.2 * u.mV)
    return linear, nd.Expon(n, tau=5 * u.ms), neuron


def test_spike_times_and_gradients_are_those_of_jaxsnn():
    with np.load(RECORDED) as file:
        data = {key: torch.from_numpy(file[key]) for key in file.files}
    net = nn.Sequential(*layer(data["weight1"]), *layer(data["weight2"]))
    found = nd.spike_times(net, data["times"], 25.0)
    real = found.isfinite()
    spikes, order = found[real].sort()
    assert torch.equal(torch.arange(3)[:, None].expand_as(found)[real][order], data["neurons"])
    torch.testing.assert_close(spikes, data["spikes"], rtol=1e-10, atol=0)
    (spikes * data["factors"]).sum().backward()
    for linear, wanted in ((net[0], data["analytical1"]), (net[3], data["analytical2"])):
        assert linear.weight.grad is not None
        error = (linear.weight.grad - wanted).abs().max() / wanted.abs().max()
        assert error < 1e-10, error
