"""Spike times in continuous time, and their gradients, against finite differences and a fine grid."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.eventprop import spikes
from neurodyn.ops import native
from neurodyn.ops.event import PlainTorchWarning


def layer(inputs, outputs, tau, tau_s, **values):
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.uniform_(linear.weight, 1.5, 3.0)
    neuron = nd.LIF(outputs, tau=tau * u.ms, V_rest=-0.1 * u.mV, V_reset=-0.3 * u.mV, R=1 * u.Gohm, **values)
    return linear, nd.Expon(outputs, tau=tau_s * u.ms, learn="tau"), neuron


def network(tau, tau_s):
    delay = nd.Delay(4, 1.5 * u.ms, interpolation="linear", learn="delay")
    first = layer(3, 4, tau, tau_s, learn=("tau", "R", "V_th", "V_reset", "V_rest"))
    return nn.Sequential(*first, delay, *layer(4, 2, tau, tau_s))


@pytest.mark.parametrize(("tau", "tau_s"), [(10, 5), (8, 8), (5, 7)])
def test_gradients_are_those_of_finite_differences(tau, tau_s):
    net = network(tau, tau_s)
    with torch.no_grad():
        net[0].weight[0, 0] = -0.3  # one synapse inhibits
        net[0].weight.mul_(10 / (tau + tau_s))
    times = (15 * torch.rand(2, 3, 2)).requires_grad_()
    found = nd.spike_times(net, times, 25.0)
    counts = found.isfinite().sum(-1)
    assert int(counts.min()) >= 1
    assert int(counts.max()) >= 3
    weights = torch.randn_like(found)

    def total():
        found = nd.spike_times(net, times, 25.0)
        assert torch.equal(found.isfinite().sum(-1), counts)
        return (torch.where(found.isfinite(), found, 0.0) * weights).sum()

    total().backward()
    tensors = dict(net.named_parameters()) | {"times": times}
    assert all(bool(tensor.grad.any()) for tensor in tensors.values())
    # All at once, each with the same weight in the derivative.
    directions = {name: torch.randn_like(x) / x.grad.norm() for name, x in tensors.items()}
    starts, step, ends = {name: x.detach().clone() for name, x in tensors.items()}, 1e-4, {}
    with torch.no_grad():
        for k in (-2, -1, 0, 1, 2):
            for name, x in tensors.items():
                x.copy_(starts[name] + k * step * directions[name])
            ends[k] = total()
    wanted = (8 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12 * step)
    got = sum((tensors[name].grad * direction).sum() for name, direction in directions.items())
    assert abs(got - wanted) <= 1e-7 * sum((tensors[n].grad * d).sum().abs() for n, d in directions.items())


def test_a_grid_comes_to_the_same_times_as_it_gets_finer():
    """Each spike of a grid is up to a step late, and so are those that follow from it."""
    dt = 0.01
    net = nn.Sequential(*layer(3, 4, 10, 5))
    times = 15 * torch.rand(3, 2)
    exact = nd.spike_times(net, times, 40.0)
    neuron = nd.LIF(4, tau=10 * u.ms, V_rest=-0.1 * u.mV, V_reset=-0.3 * u.mV, R=1 * u.Gohm, dt=dt * u.ms)
    grid = nn.Sequential(net[0], nd.Expon(4, tau=5 * u.ms, dt=dt * u.ms), neuron)
    neuron.V = torch.full((4,), -0.1)
    xs = torch.zeros(4000, 3)
    for i in range(3):
        xs[(times[i] / dt).long(), i] = 1
    states = {"1.g": torch.zeros(4), "2.V": torch.full((4,), -0.1)}
    with torch.no_grad():
        spikes = nd.unroll(grid, xs, states=states, compile=False)
    for n in range(4):
        mine = exact[n][exact[n].isfinite()]
        theirs = dt * (1 + spikes[:, n].nonzero()[:, 0])
        assert len(mine) == len(theirs) >= 1
        assert (mine - theirs).abs().max() < 10 * dt


def test_the_same_times_in_any_order_and_batch():
    net = network(10, 5)
    times = 15 * torch.rand(2, 3, 3, 2)
    found = nd.spike_times(net, times, 40.0)
    torch.testing.assert_close(nd.spike_times(net, times.flip(-1), 40.0), found, rtol=0, atol=1e-12)
    one = nd.spike_times(net, times[1, 2], 40.0)
    torch.testing.assert_close(one, found[1, 2, :, : one.shape[-1]], rtol=0, atol=1e-12)
    padded = torch.cat((times, torch.full_like(times, math.inf)), -1)
    torch.testing.assert_close(nd.spike_times(net, padded, 40.0), found, rtol=0, atol=1e-12)
    assert bool((found[found.isfinite()] <= 40).all())
    shorter = nd.spike_times(net, times, 10.0)
    assert torch.equal(shorter.isfinite().sum(-1), (found <= 10).sum(-1))


@pytest.mark.parametrize(("tau", "tau_s"), [(10, 5), (8, 8), (5, 7)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_without_a_compiler_the_same_times_and_a_warning(tau, tau_s, dtype, tolerance, monkeypatch):
    net = network(tau, tau_s).to(dtype)
    with torch.no_grad():
        net[0].weight[0, 0] = -0.3
    times = 15 * torch.rand(5, 3, 2, dtype=dtype)
    times[1, 2, 1] = math.inf
    found = nd.spike_times(net, times, 25.0)
    assert int(found.isfinite().sum(-1).max()) >= 3

    def load(*_):
        raise native.NotAvailable("no compiler")

    monkeypatch.setattr(native, "load", load)
    spikes._library.cache_clear()
    with pytest.warns(PlainTorchWarning, match=r"nd\.spike_times runs in plain torch.*no compiler"):
        plain = nd.spike_times(net, times, 25.0)
    spikes._library.cache_clear()
    assert plain.shape == found.shape
    torch.testing.assert_close(plain, found, rtol=0, atol=tolerance)


def test_silence_has_gradients_of_zero():
    net = network(10, 5)
    with torch.no_grad():
        net[0].weight.mul_(1e-3)
    found = nd.spike_times(net, 15 * torch.rand(3, 2), 40.0)
    assert not bool(found.isfinite().any())
    torch.where(found.isfinite(), found, 0.0).sum().backward()
    assert all(p.grad is None or not bool(p.grad.any()) for p in net.parameters())


def test_wrong_networks_and_times():
    linear, synapse, neuron = layer(3, 4, 10, 5)
    with pytest.raises(TypeError, match=r"nn\.Linear\(bias=False\), nd\.Expon, nd\.LIF, .* got Linear, LIF"):
        nd.spike_times(nn.Sequential(linear, neuron), torch.rand(3, 1), 10.0)
    with pytest.raises(TypeError, match="got Linear, Expon, LIF"):
        nd.spike_times(nn.Sequential(nn.Linear(3, 4), synapse, neuron), torch.rand(3, 1), 10.0)
    with pytest.raises(ValueError, match=r"times has shape \(4, 1\), wanted \(\*batch, 3, K\)"):
        nd.spike_times(nn.Sequential(linear, synapse, neuron), torch.rand(4, 1), 10.0)
    neuron = nd.LIF(4, V_rest=2 * u.mV)
    with pytest.raises(ValueError, match=r"LIF\(4\) must have V_th above V_rest and V_reset"):
        nd.spike_times(nn.Sequential(linear, synapse, neuron), torch.rand(3, 1), 10.0)
