"""Threshold and reset of every neuron, and the bugs of brainstate 0.1.3 that they must not have."""

from __future__ import annotations

import math

import pytest
import torch
from catalogue import MODELS, Model

import neurodyn as nd
from neurodyn import units as u

FLAT = nd.surrogate.LeakyRelu(alpha=0.0, beta=0.0)
NEURONS = [model for model in MODELS if model.build.__module__.startswith("neurodyn.neurons")]
SOFT = [nd.IF, nd.LIF, nd.LIFRef, nd.ALIF, nd.AdLIF]
PEAKED = [nd.ExpIF, nd.AdEx, nd.QuaIF, nd.Izhikevich, nd.GIF]

neurons = pytest.mark.parametrize("model", NEURONS, ids=lambda model: model.name)
every_soft = pytest.mark.parametrize("model", SOFT)


@pytest.mark.parametrize("model", SOFT + PEAKED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("overshoot", [1e9, math.inf])
def test_hard_reset_is_exact(model: type, dtype: torch.dtype, overshoot: float):
    values = {"reset": "hard"} if model in SOFT else {}
    if model not in (nd.IF, nd.Izhikevich):
        values["V_reset"] = -71.3 * u.mV
    neuron = model(2, dtype=dtype, learn=("V_initializer",), **values)
    spike = neuron(torch.zeros(2, dtype=dtype), delta=torch.tensor([overshoot, 0.0], dtype=dtype))
    assert spike[0] == 1
    assert neuron.V[0] == neuron.V_reset
    neuron.V.sum().backward()
    assert neuron.V_initializer.grad.isfinite().all()


@pytest.mark.parametrize("model", [nd.ExpIF, nd.AdEx])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("Delta_T", [2.0, 0.5])
def test_an_upswing_is_finite_and_so_is_its_gradient(model: type, dtype: torch.dtype, Delta_T: float):
    # exp(dt * slope) would be inf here, and with the small Delta_T the slope itself in float32.
    V = (model((), dtype=dtype).V_T + torch.linspace(0, 99, 100)).to(dtype)
    values = {"V_th": 60 * u.mV, "Delta_T": Delta_T * u.mV, "V_initializer": u.quantity(V, "mV")}
    values["surrogate"] = nd.surrogate.ReluGrad()  # has no slope far from the threshold
    neuron = model(100, dtype=dtype, learn=("V_T", "V_initializer"), **values)
    neuron.reset_state()
    step, seen = neuron.reset_potential, []
    neuron.reset_potential = lambda V, spike: (seen.append(V), step(V, spike))[1]
    spike = neuron(torch.full((100,), 2000.0, dtype=dtype))
    assert spike[-60:].all()
    assert seen[0].isfinite().all()
    (neuron.V.sum() + spike.sum()).backward()
    assert all(p.grad.isfinite().all() for p in neuron.parameters())
    assert (neuron.V_initializer.grad[-60:] == 0).all()  # nothing passes the reset


def test_the_gradient_at_a_peak_counts_the_jump_from_the_threshold():
    neuron = nd.QuaIF(1, surrogate=nd.surrogate.LeakyRelu(alpha=0.5, beta=0.5), learn=("V_th", "V_reset"))
    V = torch.tensor([1e6], requires_grad=True)
    after = neuron.reset_potential(V, neuron.fire(V - neuron.V_th))
    assert after.item() == neuron.V_reset.item() == -68
    after.sum().backward()
    gap, excess = -30 + 68, 1e6 + 30
    assert V.grad.item() == pytest.approx(-0.5, rel=1e-12)
    assert neuron.V_th.grad.item() == pytest.approx(0.5 + 0.5 * excess / gap, rel=1e-12)
    assert neuron.V_reset.grad.item() == pytest.approx(1 - 0.5 * excess / gap, rel=1e-12)


JUMPS = [  # state, its jump at a spike
    (nd.ALIF, "a", lambda n: torch.ones(1)),
    (nd.AdLIF, "w", lambda n: n.b),
    (nd.BRF, "q", lambda n: torch.ones(1)),
    (nd.AdEx, "w", lambda n: n.b),
    (nd.Izhikevich, "u", lambda n: n.d),
    (nd.GIF, "I1", lambda n: n.R1 * 2 + n.A1 - 2),
    (nd.GIF, "I2", lambda n: n.R2 * 2 + n.A2 - 2),
    (nd.GIF, "Theta", lambda n: torch.tensor(5.0)),  # from -65 mV to Theta_r
]


@pytest.mark.parametrize(("model", "name", "jump"), JUMPS, ids=[f"{case[0].__name__}-{case[1]}" for case in JUMPS])
@pytest.mark.parametrize("fires", [False, True])
def test_what_jumps_at_a_spike_has_its_surrogate_gradient(model: type, name: str, jump, fires: bool):
    values = {"A1": 3 * u.pA, "A2": -4 * u.pA} if model is nd.GIF else {}
    neuron = model(1, surrogate=nd.surrogate.LeakyRelu(alpha=0.3, beta=0.3), dt=1e-12 * u.ms, **values)
    neuron.reset_state()
    if model is nd.GIF:
        nd.set_states(neuron, dict.fromkeys(("I1", "I2"), torch.tensor([2.0])) | {"Theta": torch.tensor([-65.0])})
    before = nd.get_states(neuron)[name].clone()
    delta = torch.tensor([500.0 if fires else -1.0], requires_grad=True)
    assert neuron(torch.zeros(1), delta=delta).item() == fires
    after = nd.get_states(neuron)[name]
    assert (after - before).item() == pytest.approx(fires * jump(neuron).item(), abs=1e-9)
    after.sum().backward()
    assert delta.grad.item() == pytest.approx((0.3 / neuron.gap.abs() * jump(neuron)).item(), rel=1e-9)


@every_soft
def test_soft_reset_keeps_the_overshoot(model: type):
    values = {} if model is nd.IF else {"V_reset": -0.5 * u.mV}
    neuron = model(1, **values)
    neuron(torch.zeros(1), delta=torch.tensor([1.2]))
    assert neuron.V.item() == pytest.approx(1.2 - 1 + (0.0 if model is nd.IF else -0.5), abs=1e-15)


@every_soft
def test_the_threshold_is_inclusive(model: type):
    below = math.nextafter(1.0, 0.0)
    assert model(2)(torch.zeros(2), delta=torch.tensor([1.0, below])).tolist() == [1.0, 0.0]


@every_soft
def test_an_unknown_reset_is_an_error(model: type):  # a typo meant "hard"
    with pytest.raises(ValueError, match=rf"{model.__name__}\(1\): reset must be 'soft' or 'hard', got 'Soft'"):
        model(1, reset="Soft")


@pytest.mark.parametrize("model", [nd.LIF, nd.LIFRef, nd.ALIF, nd.ExpIF, nd.AdEx, nd.QuaIF])
def test_a_threshold_below_the_reset_does_not_invert_the_spike(model: type):
    rest = "E_L" if model is nd.AdEx else "V_rest"
    named = {rest: model.params[rest].default, "V_initializer": -72 * u.mV}
    neuron = model(2, V_th=-70 * u.mV, V_reset=-50 * u.mV, **named)
    neuron.reset_state()
    _, V, *_ = neuron.step(torch.zeros(2), *nd.get_states(neuron).values(), delta=torch.zeros(2))
    lift = -70 - V if model in SOFT else torch.zeros(2)
    delta = lift + torch.tensor([-20.0, 20.0])
    assert neuron(torch.zeros(2), delta=delta).tolist() == [0.0, 1.0]


def test_a_negative_threshold_does_not_invert_the_spike():
    neuron = nd.IF(2, V_th=-1 * u.mV, V_initializer=0 * u.mV)
    assert neuron(torch.zeros(2), delta=torch.tensor([-1.1, -0.9])).tolist() == [0.0, 1.0]


@neurons
def test_no_gap_between_reset_and_threshold_is_an_error(model: Model):
    values = {
        "IF": {"V_th": 0 * u.mV},
        "BRF": {"V_th": 0 * u.mV},
        "HH": {"V_th": -54.387 * u.mV},
        "MorrisLecar": {"V_th": -60 * u.mV},
        "PinskyRinzel": {"V_th": -60 * u.mV},
        "GIF": {"Theta_inf": -70 * u.mV},
        "Izhikevich": {"c": 30 * u.mV},
    }.get(model.name, {"V_th": -7 * u.mV, "V_reset": -7 * u.mV})
    with pytest.raises(ValueError, match="no scale; give them different values"):
        model(3, **values)


@neurons
def test_a_batch_for_unbatched_states_is_an_error(model: Model):  # silently wrong numbers
    neuron = model(3)
    neuron.reset_state()
    with pytest.raises(ValueError, match=r"call reset_state\(2\)"):
        neuron(torch.zeros(2, 3))


@pytest.mark.filterwarnings("ignore::neurodyn.TimeStepWarning")  # of HH
@neurons
def test_a_current_that_ignores_the_potential_is_a_tensor(model: Model):
    spikes, states = [], []
    xs = model.input(60, 2, 5)
    for wrap in (lambda x: x, lambda x: nd.Current(lambda V: x, x)):
        neuron = model(5, dt=(0.1 if model.name == "PinskyRinzel" else 0.5) * u.ms)
        spikes.append(torch.stack([neuron(wrap(x), delta=0.1 * torch.ones_like(x)) for x in xs]))
        states.append(torch.stack(list(nd.get_states(neuron).values())))
    assert spikes[0].any()
    assert torch.equal(*spikes)
    torch.testing.assert_close(*states, rtol=1e-10, atol=1e-10)


@neurons
def test_delta_is_added_after_the_integration(model: Model):
    neuron = model(5)
    neuron.reset_state()
    states, x = list(nd.get_states(neuron).values()), model.input(5, drive=model.quiet)
    _, V, *_ = neuron.step(x, *states)
    _, lifted, *_ = neuron.step(x, *states, delta=torch.full((5,), 0.1))
    torch.testing.assert_close(lifted, V + 0.1, rtol=1e-14, atol=0)


def test_a_membrane_without_leak_has_a_gradient():  # NaN where the slope is 0
    neuron = nd.AdEx(1, g_L=0 * u.nS, C=10 * u.pF, learn=("C",), surrogate=FLAT)
    I = torch.tensor([5.0], requires_grad=True)
    neuron(I)
    assert neuron.V.item() == pytest.approx(-70.6 + 5 / 10, abs=1e-13)
    neuron.V.sum().backward()
    assert I.grad.item() == pytest.approx(1 / 10, rel=1e-13)
    assert neuron.raw_C.grad.item() == pytest.approx(-5 / 10, rel=1e-13)
