"""The neuron of Pinsky and Rinzel against scipy, and what its coupling is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u
from neurodyn.core.coupled import coupled_exp_euler

STATES = ("V", "V_d", "h", "n", "s", "c", "q", "Ca")
REST = [-64.6, -64.5, 0.999, 0.001, 0.009, 0.007, 0.01, 0.2]


def slope(_: float, y: np.ndarray, I: float, I_d: float) -> np.ndarray:
    """The equations as the paper has them, with potentials from -60 mV."""
    v, w, h, n, s, c, q, Ca = y - np.array([-60, -60, 0, 0, 0, 0, 0, 0])
    a_m, b_m = 0.32 * (13.1 - v) / np.expm1((13.1 - v) / 4), 0.28 * (v - 40.1) / np.expm1((v - 40.1) / 5)
    a_n, b_n = 0.016 * (35.1 - v) / np.expm1((35.1 - v) / 5), 0.25 * np.exp(0.5 - 0.025 * v)
    a_h, b_h = 0.128 * np.exp((17 - v) / 18), 4 / (1 + np.exp((40 - v) / 5))
    a_s, b_s = 1.6 / (1 + np.exp(-0.072 * (w - 65))), 0.02 * (w - 51.1) / np.expm1((w - 51.1) / 5)
    a_c, total = np.exp((w - 10) / 11 - (w - 6.5) / 27) / 18.975, 2 * np.exp((6.5 - w) / 27)
    a_c = a_c if w <= 50 else total
    I_Ca, m, chi = 10 * s**2 * (w - 140), a_m / (a_m + b_m), min(Ca / 250, 1)
    dv = -0.1 * v - 30 * m**2 * h * (v - 120) - 15 * n * (v + 15) + 2.1 / 0.5 * (w - v) + I / 0.5
    dw = -0.1 * w - I_Ca - 0.8 * q * (w + 15) - 15 * c * chi * (w + 15) + 2.1 / 0.5 * (v - w) + I_d / 0.5
    gates = [(a_h, b_h, h), (a_n, b_n, n), (a_s, b_s, s), (a_c, total - a_c, c), (min(2e-5 * Ca, 0.01), 0.001, q)]
    return np.array([dv / 3, dw / 3, *(a * (1 - x) - b * x for a, b, x in gates), -0.13 * I_Ca - 0.075 * Ca])


@pytest.mark.parametrize(("I", "I_d"), [(2.5, 0.0), (-0.5, 3.0)])
def test_from_everywhere_on_the_path_of_scipy_with_first_order(I: float, I_d: float) -> None:
    times = np.arange(0, 50, 0.25)
    path = solve_ivp(slope, (0, 50), REST, "LSODA", times, args=(I, I_d), rtol=1e-9, atol=1e-9, max_step=0.1).y
    assert ((path[0, 1:] > -20) & (path[0, :-1] <= -20)).sum() >= 2
    ahead, errors = 2, []
    for dt in (0.025, 0.0125):
        neuron = nd.PinskyRinzel((), dt=dt * u.ms)
        nd.set_states(neuron, {name: torch.tensor(x[:-ahead]) for name, x in zip(STATES, path, strict=True)})
        like = torch.ones(len(times) - ahead)
        for _ in range(round(0.25 * ahead / dt)):
            neuron(I * like, dendrite=I_d * like)
        found = torch.stack([nd.get_states(neuron)[name] for name in STATES])
        errors.append((found - torch.tensor(path[:, ahead:])).abs().mean(1) / torch.tensor(path).std(1))
    assert errors[0].max() < 0.03
    assert_close(errors[1] / errors[0], torch.full((8,), 0.5), rtol=0, atol=0.1)


def test_soma_and_dendrite_are_one_for_a_strong_coupling() -> None:
    neuron = nd.PinskyRinzel(2, g_c=torch.tensor([1e-9, 1e6]) * u.nS, V_d_initializer=-40 * u.mV, dt=0.05 * u.ms)
    neuron(torch.zeros(2))
    apart = (neuron.V - neuron.V_d).abs()
    assert apart[0] > 20
    assert apart[1] < 1e-3
    for _ in range(200):
        neuron(torch.full((2,), 2.0), dendrite=torch.zeros(2))
    assert (neuron.V - neuron.V_d)[1].abs() < 1e-3
    assert torch.stack(list(nd.get_states(neuron).values())).isfinite().all()


def test_each_compartment_sees_the_potential_of_its_own_in_a_current() -> None:
    seen = nd.PinskyRinzel(1, dt=0.05 * u.ms)
    held = nd.PinskyRinzel(1, dt=0.05 * u.ms, V_d_initializer=-64.5 * u.mV)
    seen(nd.Current(lambda V: 0 * V, torch.zeros(1)), dendrite=nd.Current(lambda V: 3 * (0 - V), torch.zeros(1)))
    held(torch.zeros(1), dendrite=torch.full((1,), 3 * 64.5))
    assert 0 < (held.V_d - seen.V_d).item() < 0.5  # the driving force falls within the step


def test_a_step_of_two_coupled_equations_is_the_matrix_exponential() -> None:
    generator = torch.Generator().manual_seed(1)
    a, d, b, c, x, y, f, g = 4 * torch.randn(8, 500, generator=generator)
    a, d = -a.abs(), torch.where(torch.arange(500) < 100, -a.abs(), d)
    b, c = b.abs(), c.abs()
    b[:50], c[:50] = 1e-5 * b[:50], 0.0  # hardly coupled, and alike
    J = torch.stack((torch.stack((a, b), -1), torch.stack((c, d), -1)), -2)
    whole = torch.zeros(500, 3, 3)
    whole[:, :2, :2], whole[:, 0, 2], whole[:, 1, 2] = 0.3 * J, 0.3 * f, 0.3 * g
    expected = torch.linalg.matrix_exp(whole)[:, :2, 2]  # phi(dt J) dt f
    found = coupled_exp_euler((x, y), (f, g), (a, d), (b, c), 0.3, 1e3)
    assert_close(torch.stack((found[0] - x, found[1] - y), -1), expected, rtol=1e-7, atol=1e-9)
