"""BRF against a loop over Python numbers, with the equations of the source as they are printed there."""

import math
import random

import pytest
import torch
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u


def source(xs, omega, b_offset, dt=0.01, theta=1.0):
    """Higuchi et al. (2024): spikes, and the last complex number u and refractory q."""
    z, q, spikes = 0j, 0.0, []
    for x in xs:
        b = (-1 + math.sqrt(1 - (dt * omega) ** 2)) / dt - b_offset - q
        z = z + dt * ((b + 1j * omega) * z + x)
        spike = float(z.real - theta - q >= 0)
        q = 0.9 * q + spike
        spikes.append(spike)
    return spikes, z, q


@pytest.mark.parametrize(("omega", "b_offset"), [(10.0, 1.0), (30.0, 0.1), (5.0, 0.0), (90.0, 3.0)])
def test_it_is_the_equation_of_the_source(omega, b_offset):
    generator = random.Random(0)
    xs = [40 * math.sin(math.asin(0.01 * omega) * t) * generator.random() for t in range(500)]
    spikes, z, q = source(xs, omega, b_offset)
    assert 5 < sum(spikes) < 400
    neuron = nd.BRF(1, omega=omega / 100 / u.ms, b_offset=b_offset / 100 / u.ms, C=100 * u.pF)
    got, states = nd.unroll(neuron, torch.tensor(xs).unsqueeze(-1), compile=False, return_states=True)
    assert got.squeeze(-1).tolist() == spikes
    last = [states[name].item() for name in ("V", "w", "q")]
    assert last == pytest.approx([z.real, z.imag, q], rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("omega", [0.01, 0.1, 0.5, 0.98])
def test_the_boundary_of_divergence(omega):
    """Without offset the oscillation keeps its size for ever, with one it decays by its rate."""
    for offset in (0.0, 0.001):
        neuron = nd.BRF(1, omega=omega / u.ms, b_offset=offset / u.ms, V_th=1e9 * u.mV, V_initializer=1 * u.mV)
        nd.reset_states(neuron)
        for _ in range(1000):
            neuron(torch.zeros(1))
        size = torch.hypot(neuron.V, neuron.w).item()
        if offset == 0:
            assert size == pytest.approx(1, abs=1e-12)
        else:
            c = math.sqrt(1 - omega**2) - offset
            assert size == pytest.approx((c * c + omega**2) ** 500, rel=1e-10)
            assert size < 0.9


def test_omega_stays_below_one_radian_a_step():
    wanted = r"BRF\(2\): omega must be positive and below 1/dt = 1 / ms, got 1.2"
    with pytest.raises(ValueError, match=wanted):
        nd.BRF(2, omega=1.2 / u.ms)
    assert nd.BRF(2, omega=1.2 / u.ms, dt=0.5 * u.ms).dt == 0.5
    neuron = nd.BRF(2, learn="omega")
    with pytest.raises(ValueError, match=wanted):
        neuron.omega = 1.2 / u.ms
    neuron.omega = 0.5 / u.ms
    neuron.raw_omega.data.fill_(3.0)  # as training may do
    assert neuron.omega.item() > 1
    ys = nd.unroll(neuron, torch.ones(20, 2), compile=False, return_states=True)[1]["V"]
    ys.sum().backward()
    assert neuron.raw_omega.grad.isfinite().all()
    assert neuron.raw_omega.grad.abs() > 0


def test_a_spike_makes_the_next_ones_harder():
    neuron = nd.BRF(1)
    neuron(torch.tensor([1.0]))  # to the threshold, which is inclusive
    assert neuron.q.item() == 1
    assert neuron(torch.tensor([0.9])).item() == 0
    assert_close(neuron.q, torch.tensor([0.9]))


def test_learns_inside_recurrent():
    values = {"omega": nd.init.Uniform(0.05 / u.ms, 0.2 / u.ms), "b_offset": nd.init.Uniform(0.001 / u.ms, 0.01 / u.ms)}
    layer = nd.Recurrent(nd.BRF(6, learn=("omega", "b_offset"), **values), torch.nn.Linear(6, 6, bias=False))
    ys = nd.unroll(layer, torch.rand(40, 4, 6), compile=False)
    assert 0 < ys.mean() < 1
    ys.mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
