"""What a model says about its numbers: time constants that its dtype rounds away, steps longer than its own time."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

import neurodyn as nd
from neurodyn import units as u


def errors_of_tau(ratio: float) -> np.ndarray:
    """For starts from 1 to 2, the relative error of the time to 1/e in float32, tau = `ratio` dt.

    The time is the integral of dx over what `relax` takes from x in a step.
    """
    x = torch.linspace(1 / math.e - 0.001, 2, 600_001, dtype=torch.float64).float()
    taken = x.double() - nd.relax(x, 0.0, torch.tensor(ratio, dtype=torch.float32), 1.0).double()
    where = x.double()
    time = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(1 / taken, where)]).numpy()
    starts = np.linspace(1, 2, 65)
    at_start, at_end = (np.interp(y, where.numpy(), time) for y in (starts, starts / math.e))
    return (at_start - at_end) / ratio - 1


def test_the_error_of_a_slow_decay_in_float32_is_what_is_said():
    for ratio, error in ((1e6, 0.0012), (2e6, 0.0103), (3e6, 0.0198), (1e7, 0.146)):
        assert np.abs(errors_of_tau(ratio)).max() == pytest.approx(error, rel=0.06)
    for ratio in np.linspace(2e5, 1.9e6, 8):
        assert np.abs(errors_of_tau(ratio)).max() < 0.01


def test_the_integral_is_the_time_that_steps_take():
    tau, dtype = torch.tensor(2e3, dtype=torch.float16), torch.float16  # 0.23 / epsilon is 235 in float16
    x, steps = torch.tensor(1.0, dtype=dtype), 0
    while x > 1 / math.e:
        x, steps = nd.relax(x, 0.0, tau, 1.0), steps + 1
    ratio = 2e3 * 2.0**13  # as far from the epsilon of float32
    assert steps / 2e3 - 1 == pytest.approx(errors_of_tau(ratio)[0], abs=0.01)


def slow(tau, dtype=torch.float32, cls=nd.Expon, **values):
    return cls(3, tau=tau * u.s, dt=0.1 * u.ms, dtype=dtype, **values)


def test_a_slow_decay_in_float32_is_said():
    text = (
        r"Expon\(3\): tau=300000 ms is too slow for float32 at dt=0.1 ms: .* above 1.93e\+05 ms .* dtype=torch.float64"
    )
    with pytest.warns(UserWarning, match=text) as said:
        slow(300)
    assert [one.filename for one in said] == [__file__]
    with pytest.warns(UserWarning, match="tau="):
        slow(300, learn="tau")
    with warnings.catch_warnings(action="error"):
        slow(190), slow(300, torch.float64), slow(300, torch.float64, nd.LIF, R=1 * u.Gohm)
        slow(1e6, torch.float64)
        layer = slow(300, torch.float64)
    with pytest.warns(UserWarning, match="too slow for float32"):
        layer.float()
    with pytest.warns(UserWarning, match="tau_f=300000 ms is too slow"):
        nd.STP(3, tau_f=300 * u.s, dt=0.1 * u.ms, dtype=torch.float32)
    with warnings.catch_warnings(action="error"):
        nd.STP(3, tau_f=0 * u.s, dt=0.1 * u.ms, dtype=torch.float32)


SCALES = [
    (nd.AdEx, {}, 281 / 30 / 2),
    (nd.ExpIF, {"tau": 8 * u.ms}, 4.0),
    (nd.QuaIF, {"tau": torch.tensor([10.0, 6.0, 20.0]) * u.ms}, 6 / (0.07 * 15) / 2),
    (nd.Izhikevich, {}, 3.0),
    (nd.MorrisLecar, {"C": 10 * u.pF}, 2.5),
    (nd.GIF, {"A1": 10 * u.pA}, 2.5),
    (nd.GIF, {"A2": torch.tensor([0.0, -0.6, 0.0]) * u.pA}, 25.0),
    (nd.NMDA, {"tau_decay": 40 * u.ms}, 40.0),
    (nd.ThreeCompartments, {}, 2.0),
]


@pytest.mark.parametrize(("cls", "values", "scale"), SCALES)
def test_a_step_beyond_its_own_time_is_said(cls, values, scale):
    with pytest.warns(nd.TimeStepWarning, match=rf"its own time scale of {scale:g} ms"):
        cls(3, dt=1.01 * scale * u.ms, **values)
    with warnings.catch_warnings(action="error"):
        cls(3, dt=0.999 * scale * u.ms, **values)
        cls(3, dt=1 * u.ms, device="meta")
        for name in values:
            cls(3, dt=1 * u.ms, learn=name, **values)


def test_defaults_at_1_ms_say_nothing():
    models = (nd.AdEx, nd.ExpIF, nd.QuaIF, nd.Izhikevich, nd.MorrisLecar, nd.GIF, nd.NMDA, nd.ThreeCompartments)
    with warnings.catch_warnings(action="error"):
        for cls in models:
            cls(2, dt=1 * u.ms)
        nd.GIF(2, dt=20 * u.ms)  # without spike-induced currents it is exact
        nd.ThreeCompartments(2, dt=20 * u.ms, tau_ref=0 * u.ms)


def rate_of(neuron, I, T):
    """Spikes per ms."""
    spikes = nd.unroll(neuron, torch.full((round(T / neuron.dt),), I), compile=False).nonzero()[:, 0]
    return float((len(spikes) - 1) / (spikes[-1] - spikes[0]) / neuron.dt)


@pytest.mark.parametrize("cls", [nd.ExpIF, nd.QuaIF])
def test_beyond_it_the_rate_is_wrong(cls):
    def slope(V):
        if cls is nd.ExpIF:
            return (-65 - V + 3.48 * math.exp((V + 59.9) / 3.48) + 10) / 10
        return (0.07 * (V + 65) * (V + 50) + 10) / 10

    rate = 1 / quad(lambda V: 1 / slope(V), -68, -30, limit=200)[0]
    scale = float(cls(()).time_scale)
    with warnings.catch_warnings(action="ignore"):
        near, far = (rate_of(cls((), dt=part * scale * u.ms), 10.0, 300) / rate - 1 for part in (0.2, 2.0))
    assert abs(near) < 0.1
    assert far < -0.15


def test_beyond_it_a_muscle_fibre_loses_spikes():
    def slope(t, y):
        V, w = y
        ionic = 4.4 * (1 + np.tanh((V + 1.2) / 18)) / 2 * (V - 120) + 8 * w * (V + 84) + 2 * (V + 60)
        return (100 - ionic) / 20, 0.04 * np.cosh((V - 2) / 60) * ((1 + np.tanh((V - 2) / 30)) / 2 - w)

    def crossing(t, y):
        return y[0] - 10

    crossing.direction = 1
    exact = len(solve_ivp(slope, (0, 500), [-60, 0.015], "LSODA", events=crossing, rtol=1e-8).t_events[0])
    with warnings.catch_warnings(action="ignore"):
        neurons = [nd.MorrisLecar((), dt=dt * u.ms) for dt in (2.0, 20.0)]
    counts = [int(nd.unroll(n, torch.full((round(500 / n.dt),), 100.0), compile=False).sum()) for n in neurons]
    assert counts[0] == exact
    assert counts[1] < 0.8 * exact


@pytest.mark.parametrize("learn", [(), "tau"])
def test_a_parameter_that_is_set_later(learn):
    layer = nd.Expon(3, learn=learn, dtype=torch.float32)
    with pytest.warns(nd.TimeStepWarning, match="dt=1 ms is longer than its own time scale of 0.1 ms") as said:
        layer.tau = 0.1 * u.ms
    assert [one.filename for one in said] == [__file__]
    with pytest.warns(nd.TimeStepWarning, match="0.2 ms"):
        layer.tau = torch.tensor([5.0, 0.2, 3.0]).float() if not learn else torch.tensor(0.2)
    with pytest.warns(UserWarning, match="tau=1e\\+07 ms is too slow for float32"):
        layer.tau = 1e7 * u.ms
    with warnings.catch_warnings(action="error"):
        layer.tau = 2 * u.ms
        layer.g_initializer = 1 * u.nS
        nd.COBA(E=0 * u.mV).E = 1 * u.mV
    assert float(layer.tau.detach().max()) == pytest.approx(2)


def test_an_own_tensor_and_one_without_values():
    layer = nd.Expon(2)
    with pytest.warns(nd.TimeStepWarning):
        layer.tau = torch.nn.Parameter(torch.tensor(0.3))
    assert layer.tau.requires_grad
    with warnings.catch_warnings(action="error"):
        nd.Expon(2, device="meta").tau = torch.tensor(0.3, device="meta")


PLASTICITIES = [
    (nd.STP, {}),
    (nd.STP, {"tau_f": 0 * u.ms}),
    (nd.STP, {"rule": "brainstate"}),
    (nd.STD, {}),
    (nd.STD, {"rule": "brainstate"}),
    (nd.STPInactive, {}),
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.filterwarnings("ignore:.*tau_f=.* is too slow for bfloat16")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("cls", "values"), PLASTICITIES)
def test_graded_spikes_far_beyond_1_stay_finite(cls, values, dtype):
    for spikes in ([100.0], [-100.0], [100.0, -100.0], [-1.0]):
        layer = cls((), dtype=dtype, learn="U", **values)
        xs = torch.tensor(spikes).repeat(20).to(dtype).requires_grad_()
        release, states = nd.unroll(layer, xs, compile=False, return_states=True)
        found = [release, *states.values()]
        assert all(value.isfinite().all() for value in found)
        scale = 1e-4 if dtype == torch.float16 else 1.0  # as of a GradScaler
        total = scale * sum(value.double().sum() for value in found)
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(total, [xs, *layer.parameters()]))


def test_spikes_up_to_1_are_not_bounded():
    """The equations of the docstring, in numpy."""
    xs = torch.rand(60, generator=torch.Generator().manual_seed(1))
    used, x, expected = 0.0, 1.0, []
    for spike in xs.tolist():
        used, x = used * math.exp(-1 / 1500), 1 - (1 - x) * math.exp(-1 / 200)
        used += spike * 0.6 * (1 - used)
        expected.append(spike * used * x)
        x -= expected[-1]
    found = nd.unroll(nd.STP((), U=0.6), xs, compile=False)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_pyramidal_cell_in_float16_has_numbers_and_gradients():
    neuron = nd.PinskyRinzel(3, dt=0.05 * u.ms, dtype=torch.float16)
    I = torch.tensor([-250.0, 2.5, 1e4], dtype=torch.float16, requires_grad=True)
    V = []
    for _ in range(10):
        neuron(I)
        V.append(neuron.V)
    assert all(value.isfinite().all() for value in nd.get_states(neuron).values())
    (slope,) = torch.autograd.grad(1e-4 * torch.stack(V).double().sum(), I)
    assert slope.isfinite().all()
    exact = nd.PinskyRinzel(3, dt=0.05 * u.ms)
    for _ in range(10):
        exact(I.detach().double())
    torch.testing.assert_close(neuron.V[:2].double(), exact.V[:2], rtol=0.01, atol=0.5)
