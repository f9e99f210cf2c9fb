"""AdLIF against the matrix exponential, and what its adaptation does."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u
from neurodyn.neurons.adlif import exponential_pair


def spread(n, low, high):
    """From e^low to e^high."""
    return torch.exp(torch.empty(n).uniform_(low, high))


def exact(V, w, drive, *, leak, tau, tau_w, a, V_rest, dt):
    """V and w after dt, from the exponential of the matrix with the input in a third column; one neuron at a time."""
    M = torch.zeros(len(V), 3, 3)
    M[:, 0] = torch.stack([-leak / tau, -1 / tau, (V_rest + drive) / tau], -1)
    M[:, 1] = torch.stack([a / tau_w, -1 / tau_w, -a * V_rest / tau_w], -1)
    E = torch.from_numpy(np.stack([scipy.linalg.expm(dt * matrix) for matrix in M.numpy()]))
    new = (E @ torch.stack([V, w, torch.ones_like(V)], -1).unsqueeze(-1)).squeeze(-1)
    return new[:, 0], new[:, 1]


def without_spikes(n, dt=0.5, **values):
    given = {"tau": spread(n, -2, 6), "tau_w": spread(n, -2, 8), "a": spread(n, -5, 6)}
    units = {"tau": "ms", "tau_w": "ms", "a": "dimensionless"}
    named = {name: u.quantity(value, units[name]) for name, value in given.items()}
    layer = nd.AdLIF(n, **named, R=2 * u.Gohm, V_rest=-3 * u.mV, V_th=1e9 * u.mV, dt=dt * u.ms, **values)
    return layer, given


def test_the_propagator_is_the_matrix_exponential():
    n = 1000  # of which some oscillate, some do not, and some nearly do
    layer, given = without_spikes(n)
    V, w, I = torch.randn(3, n)
    _, new_V, new_w = layer.step(I, V, w)
    wanted_V, wanted_w = exact(V, w, 2 * I, leak=1.0, V_rest=-3.0, dt=0.5, **given)
    assert_close(new_V, wanted_V, rtol=1e-11, atol=1e-11)
    assert_close(new_w, wanted_w, rtol=1e-11, atol=1e-11)
    _, low_V, low_w = layer.float().step(I.float(), V.float(), w.float())
    assert_close(low_V.double(), wanted_V, rtol=3e-5, atol=3e-5)
    assert_close(low_w.double(), wanted_w, rtol=3e-5, atol=3e-5)


def test_a_conductance_is_a_part_of_the_system():
    n = 300
    layer, given = without_spikes(n)
    V, w, g = torch.randn(n), torch.randn(n), spread(n, -3, 3)
    _, new_V, new_w = layer.step(nd.COBA(E=5 * u.mV)(g) + 0.7, V, w)
    wanted_V, wanted_w = exact(V, w, 2 * (5 * g + 0.7), leak=1 + 2 * g, V_rest=-3.0, dt=0.5, **given)
    assert_close(new_V, wanted_V, rtol=1e-11, atol=1e-11)
    assert_close(new_w, wanted_w, rtol=1e-11, atol=1e-11)


def test_many_short_steps_are_one_long_one():
    torch.manual_seed(1)
    long, given = without_spikes(50, dt=8.0)
    named = {name: u.quantity(v, "dimensionless" if name == "a" else "ms") for name, v in given.items()}
    short = nd.AdLIF(50, **named, R=2 * u.Gohm, V_rest=-3 * u.mV, V_th=1e9 * u.mV, dt=0.5 * u.ms)
    I = torch.randn(50)
    long(I)
    for _ in range(16):
        short(I)
    assert_close(short.V, long.V, rtol=1e-10, atol=1e-10)
    assert_close(short.w, long.w, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("square", [-400.0, -1.0001, -1.0, -0.99, -1e-9, 0.0, 1e-9, 0.99, 1.0, 1.0001, 400.0])
def test_gradients_of_the_propagator(square):
    def numbers(mean, square):
        return exponential_pair(mean, square, mean * mean - square)

    mean = torch.tensor(-21.0 if square == 400 else -1.2, requires_grad=True)
    square = torch.tensor(square, requires_grad=True)
    for k in range(2):
        assert all(grad.isfinite() for grad in torch.autograd.grad(numbers(mean, square)[k], (mean, square)))
    same, other = numbers(mean, square)
    root = torch.complex(square.detach(), torch.zeros(())).sqrt()
    wanted = (torch.exp(mean) * torch.cosh(root)).real - 1
    assert_close(same, wanted, rtol=1e-13, atol=1e-14)
    # d cosh(sqrt s) / ds = sinh(sqrt s) / (2 sqrt s)
    assert_close(torch.autograd.grad(same, square)[0], other.detach() / 2, rtol=1e-11, atol=1e-15)


def test_without_coupling_it_is_a_lif():
    values = {"tau": 7 * u.ms, "V_rest": 0.2 * u.mV, "V_reset": -0.1 * u.mV}
    lif, adlif = nd.LIF(5, **values), nd.AdLIF(5, a=0.0, b=0 * u.mV, **values)
    xs = torch.rand(60, 5)
    spikes = nd.unroll(lif, xs, compile=False)
    assert spikes.sum() > 10
    assert torch.equal(nd.unroll(adlif, xs, compile=False), spikes)


def test_it_adapts_and_resonates():
    I = torch.full((400, 1), 3.0)
    spikes = nd.unroll(nd.AdLIF(1, R=1 * u.Gohm, a=0.2, b=0.2 * u.mV), I, compile=False)
    times = spikes[:, 0].nonzero().squeeze()
    assert times[1] - times[0] < times[-1] - times[-2]
    ringing = nd.AdLIF(1, a=50.0, tau=20 * u.ms, V_th=1e9 * u.mV, learn=("a", "tau", "tau_w"))
    nd.reset_states(ringing)
    V = torch.cat([(ringing(x), ringing.V)[1] for x in torch.cat([torch.ones(1, 1), torch.zeros(199, 1)])])
    crossings = ((V[1:] < 0) != (V[:-1] < 0)).nonzero().squeeze()
    omega = (50 / (20 * 100) - (1 / 20 - 1 / 100) ** 2 / 4) ** 0.5  # per ms
    assert float(crossings.diff().double().mean()) == pytest.approx(np.pi / omega, abs=0.5)
    V.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in ringing.parameters())


def test_it_cannot_run_away_however_long_the_step():
    layer = nd.AdLIF(3, a=torch.tensor([0.0, 1e3, 1e6]), dt=50 * u.ms, V_th=1e9 * u.mV)
    nd.reset_states(layer)
    layer(torch.ones(3))
    for _ in range(200):
        layer(torch.zeros(3))
    assert layer.V.abs().max() < 1e-3
    with pytest.raises(ValueError, match=r"AdLIF\(3\): a must be zero or positive, got -2"):
        nd.AdLIF(3, a=-2.0)


def test_inside_recurrent():
    layer = nd.Recurrent(nd.AdLIF(6, learn=("a", "b")), torch.nn.Linear(6, 6, bias=False))
    xs = 1.5 * torch.rand(30, 4, 6)
    ys = nd.unroll(layer, xs, compile=False)
    assert 0 < ys.mean() < 1
    ys.mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
