import mpmath
import pytest
import torch

import neurodyn as nd
from neurodyn import units as u
from neurodyn.neurons.hh import rates

SINGULAR = {"m": -40.0, "n": -55.0}


@pytest.mark.parametrize("offset", [0.0, 1e-300, 1e-12, -1e-9, 1e-6, -1e-3, 0.03, 0.7, -1.2, 30.0, -50.0])
@pytest.mark.parametrize("gate", SINGULAR)
def test_opening_rates_around_their_singular_point(gate: str, offset: float):
    mpmath.mp.dps = 50
    V = torch.tensor(SINGULAR[gate] + offset, requires_grad=True)
    scale = 1 if gate == "m" else mpmath.mpf(1) / 10

    def exact(v: mpmath.mpf) -> mpmath.mpf:
        x = (v - SINGULAR[gate]) / 10
        return scale * (x / -mpmath.expm1(-x) if x else 1)

    at = mpmath.mpf(V.item())
    step = mpmath.mpf(10) ** -15
    slope = (exact(at + step) - exact(at - step)) / (2 * step)
    alpha = rates(V)[0 if gate == "m" else 2][0]
    alpha.backward()
    assert alpha.item() == pytest.approx(float(exact(at)), rel=1e-14)
    assert V.grad.item() == pytest.approx(float(slope), rel=1e-12)


@pytest.mark.parametrize("V0", [-40.0, -55.0, -1000.0, 1000.0])
def test_a_step_from_a_singular_point_is_finite(V0: float):
    neuron = nd.HH(1, V_initializer=V0 * u.mV, learn=("V_initializer", "C", "g_Na"), dt=0.05 * u.ms)
    for _ in range(3):
        neuron(torch.zeros(1))
    states = nd.get_states(neuron).values()
    assert all(s.isfinite().all() for s in states)
    sum(s.sum() for s in states).backward()
    assert all(p.grad.isfinite().all() for p in neuron.parameters())


def test_it_starts_at_rest():
    neuron = nd.HH(1, dt=0.05 * u.ms)
    for _ in range(2000):
        neuron(torch.zeros(1))
    found = [value.item() for value in nd.get_states(neuron).values()]
    assert found == pytest.approx([-65, 0.0529, 0.5961, 0.3177], rel=2e-3)


@pytest.mark.parametrize(("model", "dt", "I"), [(nd.HH, 0.05, 15.0), (nd.MorrisLecar, 0.25, 120.0)])
def test_one_spike_for_each_upward_crossing(model: type, dt: float, I: float):
    neuron = model(1, dt=dt * u.ms)
    spikes, V = [], [neuron.V_initializer.item()]
    for _ in range(2000):
        spikes.append(neuron(torch.tensor([I])).item())
        V.append(neuron.V.item())
    above = torch.tensor(V) >= neuron.V_th
    assert torch.equal(torch.tensor(spikes).bool(), above[1:] & ~above[:-1])
    assert sum(spikes) > 3
    assert above.sum() > 5 * sum(spikes)


def test_a_spike_starts_below_the_threshold():
    V0 = torch.tensor([-1.0, -1e-9, 0.0, 1.0])
    neuron = nd.HH(4, dt=0.05 * u.ms, learn=("V_initializer",), V_initializer=u.quantity(V0, "mV"))
    spikes = neuron(torch.zeros(4), delta=torch.full((4,), 5.0))
    assert spikes.tolist() == [1.0, 1.0, 0.0, 0.0]
    spikes.sum().backward()
    assert (neuron.V_initializer.grad != 0).tolist() == [True, True, False, False]


def test_a_blocked_channel():
    neuron = nd.HH(1, g_Na=0 * u.nS, dt=0.05 * u.ms)
    assert sum(neuron(torch.tensor([20.0])).item() for _ in range(2000)) == 0
    with pytest.raises(ValueError, match="g_K must be zero or positive"):
        nd.HH(1, g_K=-1 * u.nS)
    with pytest.raises(ValueError, match="g_Na is learned, so it must lie strictly inside its domain"):
        nd.HH(1, g_Na=0 * u.nS, learn=("g_Na",))
