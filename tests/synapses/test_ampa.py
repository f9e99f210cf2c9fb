import math

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u


def pulses(model, spikes):
    """Whether transmitter is present, for each step."""
    model.reset_state()
    found = []
    for s in spikes:
        model(torch.tensor([s]))
        found.append(int(model.pulse.item() > 0))
    return found


@pytest.mark.parametrize("cls", [nd.AMPA, nd.GABAa])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("n", [1, 3, 6, 7, 12])
def test_pulse_of_n_dt_lasts_n_steps(cls, dtype, n):
    """0.3 ms at dt = 0.1 ms lasted 3 or 4 steps, by rounding."""
    model = cls(1, T_dur=n / 10 * u.ms, dt=0.1 * u.ms, dtype=dtype)
    spikes = torch.zeros(16, dtype=dtype)
    spikes[1] = 1
    model.reset_state()
    found = [int((model(s.view(1)), model.pulse)[1].item() > 0) for s in spikes]
    assert found == [0] + n * [1] + (15 - n) * [0]


@pytest.mark.filterwarnings("ignore::neurodyn.TimeStepWarning")
def test_a_fraction_of_a_step_counts_as_one():
    assert pulses(nd.AMPA(1, T_dur=0.55 * u.ms, dt=0.1 * u.ms), [1.0] + 8 * [0.0]) == 6 * [1] + 3 * [0]
    assert pulses(nd.AMPA(1, T_dur=1e-9 * u.ms, dt=0.1 * u.ms), [1.0, 0.0]) == [1, 0]


def test_any_input_but_zero_opens_and_a_second_spike_starts_anew():
    model = nd.AMPA(1, T_dur=3 * u.ms)
    assert pulses(model, [0.2, 0.0, -1.0, 0.0, 0.0, 0.0]) == [1, 1, 1, 1, 1, 0]


def test_exact_solution_of_one_pulse():
    model = nd.AMPA(1, T_dur=2 * u.ms, dt=0.25 * u.ms)
    xs = torch.zeros(40, 1)
    xs[0] = 1
    g = nd.unroll(model, xs, compile=False).squeeze()
    a, b = 0.98 * 0.5, 0.18
    top = a / (a + b) * -math.expm1(-(a + b) * 2)
    for i, value in enumerate(g.tolist()):
        t = (i + 1) * 0.25
        exact = a / (a + b) * -math.expm1(-(a + b) * t) if t <= 2 else top * math.exp(-b * (t - 2))
        assert abs(value - exact) < 1e-14


def test_fraction_stays_between_0_and_1():
    spikes = (torch.rand(300, 4, 6) < 0.7).double()
    g = nd.unroll(nd.GABAa(6, alpha=50 / (u.ms * u.mM), T_dur=3 * u.ms), spikes, compile=False)
    assert (g >= 0).all()
    assert (g <= 1).all()
    assert g.max() > 0.9


def test_reset_keeps_the_batch():
    """Resetting with a batch size gave unbatched states."""
    model = nd.AMPA(5, dt=0.5 * u.ms)
    model(torch.ones(3, 5))
    model.reset_state(3)
    assert model.g.shape == model.pulse.shape == (3, 5)
    assert not model.g.any()


def test_gradient_reaches_spikes_as_documented():
    model = nd.AMPA(2, T_dur=3 * u.ms)
    model.reset_state()
    spikes = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], requires_grad=True)
    g = nd.unroll(model, spikes, compile=False)
    g[-1].sum().backward()
    assert torch.equal(g.detach(), nd.unroll(nd.AMPA(2, T_dur=3 * u.ms), spikes.detach(), compile=False))
    # The first spike scales its own pulse: compare with the derivative by the concentration.
    T = torch.nn.Parameter(torch.tensor(0.5))
    other = nd.AMPA(2, T_dur=3 * u.ms, T=u.quantity(T, "mM"))
    nd.unroll(other, spikes.detach(), compile=False)[-1, 0].backward()
    assert abs(spikes.grad[0, 0].item() - 0.5 * T.grad.item()) < 1e-15
    assert (spikes.grad[1:3, 1] > 0).all()


def test_the_duration_cannot_be_learned():
    with pytest.raises(ValueError, match="T_dur counts time steps"):
        nd.AMPA(3, learn=("T_dur",))
    with pytest.raises(ValueError, match="T_dur counts time steps"):
        nd.GABAa(3, T_dur=u.quantity(torch.nn.Parameter(torch.ones(3)), "ms"))
