import math

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u


@pytest.mark.parametrize("dt", [2.0**-k for k in range(8)])
def test_constant_current_against_the_closed_form(dt):
    current = torch.tensor([0.4, 0.9, -2.0])
    lif = nd.LIF(3, tau=17 * u.ms, R=0.8 * u.Gohm, V_rest=-0.1 * u.mV, dt=dt * u.ms, V_initializer=0.3 * u.mV)
    lif.reset_state()
    last = 500 if dt > 0.02 else 100
    for step in range(1, int(last / dt) + 1):
        lif(current)
        if step * dt in (1.0, 5.0, 100.0, 500.0):
            exact = -0.1 + 0.8 * current + (0.4 - 0.8 * current) * math.exp(-step * dt / 17)
            assert (lif.V - exact).abs().max() <= 1e-12


@pytest.mark.parametrize("dt", [1.0, 0.1, 0.01])
def test_first_spike_on_the_exact_step(dt):
    current = torch.linspace(1.05, 9, 23)
    lif = nd.LIF(23, tau=20 * u.ms, R=1 * u.Gohm, dt=dt * u.ms)
    spikes = nd.unroll(lif, current.expand(int(100 / dt), 23), compile=False)
    first = spikes.argmax(0) + 1
    time = -20 * torch.log1p(-1 / current)  # V = I (1 - exp(-t / tau)) reaches 1 mV
    assert torch.equal(first, torch.ceil(time / dt).long())


@pytest.mark.parametrize("overshoot", [10.0, 1e9, math.inf])
@pytest.mark.parametrize("grad", [False, True])
def test_hard_reset_is_exact(overshoot, grad):
    lif = nd.LIF(2, reset="hard", V_reset=-0.1 * u.mV)
    current = torch.tensor([overshoot, 0.0], requires_grad=grad)
    spike = lif(current)
    assert spike.tolist() == [1.0, 0.0]
    assert lif.V[0].item() == -0.1
    if grad and math.isfinite(overshoot):
        lif.V.sum().backward()
        assert current.grad.isfinite().all()


def test_soft_reset_keeps_the_overshoot():
    lif = nd.LIF(1, V_th=1 * u.mV, V_reset=-0.5 * u.mV)
    lif.reset_state()
    lif(torch.zeros(1), delta=torch.tensor([1.2]))
    assert lif.V.item() == pytest.approx(1.2 - 1.5)


def test_threshold_is_inclusive_and_delta_is_not_decayed():
    lif = nd.LIF(2)
    lif.reset_state()
    assert lif(torch.zeros(2), delta=torch.tensor([1.0, 1 - 1e-12])).tolist() == [1.0, 0.0]


def test_gradients_of_both_resets():
    # One step from V0 with a spike: dV/dV0 by hand.
    slope = nd.surrogate.ReluGrad().slope
    for reset in ("soft", "hard"):
        lif = nd.LIF(1, R=1 * u.Gohm, reset=reset, V_reset=-0.5 * u.mV, surrogate=nd.surrogate.ReluGrad())
        V0 = torch.tensor([1.3], requires_grad=True)
        _, V1 = lif.step(torch.tensor([0.2]), V0)
        (grad,) = torch.autograd.grad(V1.sum(), V0)
        decay = math.exp(-1 / 5)
        V = 0.2 + (1.3 - 0.2) * decay
        spike_slope = slope(torch.tensor((V - 1) / 1.5)).item() / 1.5
        jump = 1.5 if reset == "soft" else V + 0.5
        assert grad.item() == pytest.approx(decay * (1 - jump * spike_slope), rel=1e-12)


def test_reset_must_be_known():
    with pytest.raises(ValueError, match="reset must be 'soft' or 'hard', got 'sotf'"):
        nd.LIF(1, reset="sotf")


def test_currents_add_and_depend_on_the_potential():
    g, I = torch.tensor([0.5, 2.0]), torch.tensor([0.1, -0.2])
    coba, cuba = nd.COBA(E=3 * u.mV), nd.CUBA(scale=2 * u.mV)
    V = torch.tensor([0.2, -0.3])
    total = I + coba(g) + cuba(g) + 1.0
    torch.testing.assert_close(total(V), I + g * (3 - V) + 2 * g + 1)
    lif = nd.LIF(2, tau=10 * u.ms, R=1 * u.Gohm, V_th=50 * u.mV)
    _, stepped = lif.step(coba(g) + I, V)
    a = (-1 - g) / 10
    exact = V + (torch.exp(a) - 1) / a * (-V + g * (3 - V) + I) / 10
    torch.testing.assert_close(stepped, exact, rtol=1e-13, atol=0)
