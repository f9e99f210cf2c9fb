"""Exponential Euler against a solver of order 8.

It is of first order for systems, whose other variables it freezes in a step, and of second order for one equation with
a constant input, where it is the exponential Rosenbrock-Euler method of Hochbruck and Ostermann (2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy import cosh, exp, tanh
from scipy.integrate import solve_ivp

import neurodyn as nd
from neurodyn import units as u


def exp_if(V):
    return (-65 - V + 3.48 * exp((V + 59.9) / 3.48) + 3.0) / 10


def qua_if(V):
    return (0.07 * (V + 65) * (V + 50) + 3.0) / 10


def adex(V, w):
    return (30 * (-70.6 - V) + 30 * 2 * exp((V + 50.4) / 2) - w + 500) / 281, (4 * (V + 70.6) - w) / 144


def izhikevich(V, u):
    return 0.04 * V**2 + 5 * V + 140 - u + 3.0, 0.02 * (0.2 * V - u)


def gif(V, Theta, I1, I2):
    return -0.05 * (V + 70) + I1 + I2 + 0.5, 0.005 * (V + 70) - 0.01 * (Theta + 50), -0.2 * I1, -0.02 * I2


def linoid(x):
    return x / -math.expm1(-x) if x else 1.0


def hh(V, m, h, n):
    I = 20 - 120 * m**3 * h * (V - 50) - 36 * n**4 * (V + 77) - 0.3 * (V + 54.387)
    return (
        I,
        linoid((V + 40) / 10) * (1 - m) - 4 * exp(-(V + 65) / 18) * m,
        0.07 * exp(-(V + 65) / 20) * (1 - h) - h / (1 + exp(-(V + 35) / 10)),
        0.1 * linoid((V + 55) / 10) * (1 - n) - 0.125 * exp(-(V + 65) / 80) * n,
    )


def morris_lecar(V, w):
    I = 120 - 4.4 * (1 + tanh((V + 1.2) / 18)) / 2 * (V - 120) - 8 * w * (V + 84) - 2 * (V + 60)
    return I / 20, 0.04 * cosh((V - 2) / 60) * ((1 + tanh((V - 2) / 30)) / 2 - w)


CASES = [  # current (pA), duration (ms), time step (ms), start, equations
    (nd.ExpIF, 3.0, 8, 0.08, [-62.0], exp_if),
    (nd.QuaIF, 3.0, 8, 0.08, [-58.0], qua_if),
    (nd.AdEx, 500.0, 16, 0.16, [-70.6, 20.0], adex),
    (nd.Izhikevich, 3.0, 8, 0.04, [-70.0, -12.0], izhikevich),
    (nd.GIF, 0.5, 16, 0.16, [-68.0, -49.0, 1.5, -0.2], gif),
    (nd.HH, 20.0, 8, 0.02, [-65.0, 0.0529, 0.5961, 0.3177], hh),  # one spike
    (nd.MorrisLecar, 120.0, 80, 0.16, [-60.0, 0.015], morris_lecar),  # one spike
]


@pytest.mark.parametrize(
    ("model", "I", "T", "dt", "start", "equations"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_order(model: type, I: float, T: float, dt: float, start: list[float], equations: Callable):
    values = {"a": 0.005 / u.ms} if model is nd.GIF else {}
    solution = solve_ivp(lambda t, y: np.ravel(equations(*y)), (0, T), start, "DOP853", rtol=1e-12, atol=1e-12)
    exact, errors = torch.as_tensor(solution.y[:, -1]), []
    for step in (dt, dt / 2):
        neuron = model((), dt=step * u.ms, **values)
        neuron.reset_state()
        states = {name: torch.tensor(value) for name, value in zip(neuron.states, start, strict=True)}
        nd.set_states(neuron, states)
        with torch.no_grad():
            spikes = sum(neuron(torch.tensor(I)) for _ in range(round(T / step)))
        assert spikes == (model in (nd.HH, nd.MorrisLecar))
        found = torch.stack(list(nd.get_states(neuron).values()))
        errors.append((found - exact).abs() / (1 + exact.abs()))
    order = torch.log2(errors[0] / errors[1])
    solved_exactly = errors[1] < 1e-12  # I1 and I2
    assert errors[1].max() > 1e-9
    assert ((order - (2 if len(start) == 1 else 1)).abs() < 0.1)[~solved_exactly].all(), (order, errors)
