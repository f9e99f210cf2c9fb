import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@DTYPES
@pytest.mark.parametrize("dt", [0.1, 0.125, 0.3, 0.01, 1 / 3])
def test_n_steps_of_refractoriness_hold_n_minus_one(dt: float, dtype: torch.dtype):
    n = torch.arange(1, 400)
    for tau_ref in (n.double() * dt, n.double() / (1 / dt), n.double() * (dt * 1e-3) * 1e3):
        neuron = nd.LIFRef(len(n), tau_ref=u.quantity(tau_ref, "ms"), dt=dt * u.ms, dtype=dtype)
        assert torch.equal(neuron.hold.long(), n - 1)


def test_low_precision_counts_whole_steps():
    n = torch.arange(1, 2000)
    tau_ref = u.quantity(n.double() * 0.1, "ms")
    for neuron in (
        nd.LIFRef(len(n), tau_ref=tau_ref, dt=0.1 * u.ms, dtype=torch.bfloat16),
        nd.LIFRef(len(n), tau_ref=tau_ref, dt=0.1 * u.ms, dtype=torch.float32).double(),
        nd.LIFRef(len(n), tau_ref=tau_ref, dt=0.1 * u.ms).half().float().bfloat16(),
    ):
        assert torch.equal(neuron.hold.long(), n - 1)


@DTYPES
def test_spikes_come_every_n_steps(dtype: torch.dtype):  # 0.3 ms at 0.1 ms held 2 or 3 steps
    n = torch.arange(1, 8)
    for quantity in (u.quantity(n.double() * 0.1, "ms"), u.quantity(n.double() * 100, "us")):
        neuron = nd.LIFRef(7, tau_ref=quantity, dt=0.1 * u.ms, reset="hard", dtype=dtype)
        spikes = torch.stack([neuron(torch.full((7,), 1e3, dtype=dtype)) for _ in range(400)])
        for k in range(7):
            times = spikes[:, k].nonzero().squeeze()
            assert (times.diff() == k + 1).all()


@pytest.mark.parametrize(("tau_ref", "steps"), [(0.0, 0), (0.05, 0), (0.1, 0), (0.11, 1), (0.25, 2), (0.3, 2)])
def test_steps_are_held_while_they_lie_inside(tau_ref: float, steps: int):
    assert nd.LIFRef(1, tau_ref=tau_ref * u.ms, dt=0.1 * u.ms).hold.item() == steps


def test_inputs_and_deltas_are_lost_while_v_is_held():
    neuron = nd.LIFRef(1, tau_ref=3 * u.ms, V_reset=-0.2 * u.mV, reset="hard")
    zero, lift = torch.zeros(1), torch.tensor([1.5])
    assert neuron(zero, delta=lift) == 1
    for _ in range(2):
        assert neuron(torch.tensor([7.0]), delta=lift) == 0
        assert neuron.V.item() == -0.2
    assert neuron(zero, delta=lift) == 1


def test_it_never_fires_while_refractory():  # a soft reset could leave V above the threshold
    neuron = nd.LIFRef(1, tau_ref=4 * u.ms)
    neuron(torch.zeros(1), delta=torch.tensor([3.5]))
    assert neuron.V.item() == 2.5
    fired = [neuron(torch.zeros(1)).item() for _ in range(4)]
    assert fired == [0, 0, 0, 1]
    assert neuron.V.item() == pytest.approx(2.5 * torch.exp(torch.tensor(-0.2)).item() - 1, abs=1e-15)


def test_the_slope_of_the_spike_is_kept_while_refractory():
    neuron = nd.LIFRef(1, tau_ref=4 * u.ms, surrogate=nd.surrogate.ReluGrad())
    V = torch.tensor([0.9], requires_grad=True)
    spike, *_ = neuron.step(torch.zeros(1), V, torch.tensor([2.0]))
    spike.sum().backward()
    assert V.grad.item() == pytest.approx(0.3 * 0.9, rel=1e-12)


def test_what_cannot_be_counted_is_an_error():
    with pytest.raises(ValueError, match="tau_ref must be zero or positive, got -1 ms"):
        nd.LIFRef(1, tau_ref=-1 * u.ms)
    with pytest.raises(ValueError, match=r"more than 8\.38861e\+06 steps, which torch\.float32 cannot count"):
        nd.LIFRef(1, tau_ref=1e7 * u.ms, dtype=torch.bfloat16)
    parameter = torch.nn.Parameter(torch.tensor(3.0))
    with pytest.raises(ValueError, match="tau_ref counts time steps and has no gradient"):
        nd.LIFRef(1, tau_ref=u.quantity(parameter, "ms"))
