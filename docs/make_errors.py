"""Prints the tables of docs/errors.md: the error of each model's scheme against the time step.

``python docs/make_errors.py`` takes some minutes, most of them to compile, and needs scipy.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy import cosh, exp, tanh
from scipy.integrate import quad, solve_ivp

import neurodyn as nd
from neurodyn import units as u

STEPS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)  # ms


def _linoid(x: float) -> float:
    return x / -math.expm1(-x) if x else 1.0


def _hh(V: float, m: float, h: float, n: float, I: float) -> tuple[float, ...]:
    return (
        I - 120 * m**3 * h * (V - 50) - 36 * n**4 * (V + 77) - 0.3 * (V + 54.387),
        _linoid((V + 40) / 10) * (1 - m) - 4 * exp(-(V + 65) / 18) * m,
        0.07 * exp(-(V + 65) / 20) * (1 - h) - h / (1 + exp(-(V + 35) / 10)),
        0.1 * _linoid((V + 55) / 10) * (1 - n) - 0.125 * exp(-(V + 65) / 80) * n,
    )


def _morris_lecar(V: float, w: float, I: float) -> tuple[float, float]:
    ionic = 4.4 * (1 + tanh((V + 1.2) / 18)) / 2 * (V - 120) + 8 * w * (V + 84) + 2 * (V + 60)
    return (I - ionic) / 20, 0.04 * cosh((V - 2) / 60) * ((1 + tanh((V - 2) / 30)) / 2 - w)


def _pinsky_rinzel(V: float, V_d: float, *rest: float) -> tuple[float, ...]:
    h, n, s, c, q, Ca, I = rest
    v, v_d = V + 60, V_d + 60
    m = 1 / (1 + 1.4 * _linoid((40.1 - v) / 5) / (1.28 * _linoid((v - 13.1) / 4)))
    calcium = 10 * s**2 * (V_d - 80)
    soma = 2 * I + 4.2 * (V_d - V) - 0.1 * (V + 60) - 30 * m**2 * h * (V - 60) - 15 * n * (V + 75)
    branch = 4.2 * (V - V_d) - 0.1 * (V_d + 60) - calcium - (0.8 * q + 15 * c * min(Ca / 250, 1)) * (V_d + 75)
    total = 2 * exp((6.5 - v_d) / 27)
    opening = total if v_d > 50 else exp((v_d - 10) / 11 - (v_d - 6.5) / 27) / 18.975
    return (
        soma / 3,
        branch / 3,
        0.128 * exp((17 - v) / 18) * (1 - h) - 4 * h / (1 + exp((40 - v) / 5)),
        0.08 * _linoid((v - 35.1) / 5) * (1 - n) - 0.25 * exp(0.5 - 0.025 * v) * n,
        1.6 * (1 - s) / (1 + exp(-0.072 * (v_d - 65))) - 0.1 * _linoid((51.1 - v_d) / 5) * s,
        opening - total * c,
        min(2e-5 * Ca, 0.01) * (1 - q) - 0.001 * q,
        -0.13 * calcium - 0.075 * Ca,
    )


def _three_compartments(V: float, V_p: float, V_d: float, held: float, I: float) -> tuple[float, ...]:
    return (
        (I - 10 * (V + 60) + 15 * (V_p - V)) / 200,
        (-2.5 * (V_p + 60) + 15 * (V - V_p) + 10 * (V_d - V_p)) / 50,
        (-2.5 * (V_d + 60) + 10 * (V_p - V_d)) / 50,
        0.0,
    )


#: Current without a spike (pA), for HH and MorrisLecar with one; duration (ms); current that makes it fire; equations.
NEURONS: dict[type, tuple[float, float, float, Callable[..., tuple[float, ...]]]] = {
    nd.LIF: (0.9, 20, 1.5, lambda V, I: ((I - V) / 5,)),
    nd.IF: (0.9, 20, 1.5, lambda V, I: ((I - V) / 5,)),
    nd.LIFRef: (0.9, 20, 1.5, lambda V, held, I: ((I - V) / 5, 0.0)),
    nd.ALIF: (0.9, 20, 1.5, lambda V, a, I: ((I - V) / 5, -a / 100)),
    nd.AdLIF: (0.9, 20, 3.0, lambda V, w, I: ((I - V - w) / 5, (V - w) / 100)),
    nd.ExpIF: (3.0, 20, 10.0, lambda V, I: ((-65 - V + 3.48 * exp((V + 59.9) / 3.48) + I) / 10,)),
    nd.QuaIF: (3.0, 20, 20.0, lambda V, I: ((0.07 * (V + 65) * (V + 50) + I) / 10,)),
    nd.AdEx: (
        500.0,
        20,
        1000.0,
        lambda V, w, I: (
            (30 * (-70.6 - V) + 60 * exp((V + 50.4) / 2) - w + I) / 281,
            (4 * (V + 70.6) - w) / 144,
        ),
    ),
    nd.Izhikevich: (1.0, 20, 10.0, lambda V, w, I: (0.04 * V**2 + 5 * V + 140 - w + I, 0.02 * (0.2 * V - w))),
    nd.GIF: (
        0.5,
        20,
        2.0,
        lambda V, Theta, I1, I2, I: (
            -0.05 * (V + 70) + I1 + I2 + I,
            0.005 * (V + 70) - 0.01 * (Theta + 50),
            -0.2 * I1,
            -0.02 * I2,
        ),
    ),
    nd.HH: (2.0, 20, 10.0, _hh),
    nd.MorrisLecar: (60.0, 40, 120.0, _morris_lecar),
    nd.PinskyRinzel: (0.5, 20, 2.5, _pinsky_rinzel),
    nd.ThreeCompartments: (200.0, 20, 400.0, _three_compartments),
}


def build(cls: type, dt: float) -> nd.Dynamics:
    """With its defaults; R = 1 Gohm, which otherwise follows dt."""
    leaky = (nd.LIF, nd.IF, nd.LIFRef, nd.ALIF, nd.AdLIF)
    values = {"a": 0.005 / u.ms} if cls is nd.GIF else {"R": 1 * u.Gohm} if cls in leaky else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nd.TimeStepWarning)
        return cls((), dt=dt * u.ms, dtype=torch.float64, **values)


def error_of(cls: type, dt: float) -> float:
    """The largest error of V in mV at whole milliseconds, under the first current."""
    I, T, _, equations = NEURONS[cls]
    neuron, current = build(cls, dt), torch.tensor(I, dtype=torch.float64)
    neuron.reset_state()
    start, times = [float(value) for value in nd.get_states(neuron).values()], np.arange(1, T + 1)
    options = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-11, "t_eval": times}
    exact = solve_ivp(lambda t, y: np.ravel(equations(*y, I)), (0, T), start, **options).y[0]
    V = []
    with torch.no_grad():
        for step in range(1, round(T / dt) + 1):
            neuron(current)
            if step % round(1 / dt) == 0:
                V.append(float(neuron.V))
    return float(np.abs(np.array(V) - exact).max())


def spikes_of(cls: type, dt: float, T: float = 500.0) -> int:
    """The number of spikes under the second current."""
    neuron, current = build(cls, dt), torch.full((round(T / dt),), NEURONS[cls][2], dtype=torch.float64)
    return int(nd.unroll(neuron, current, compile=len(current) > 5000).sum())


def charge_of(kind: type, ratio: float, exact: bool) -> float:
    """The charge of one jump over that of its equation, less 1; dt / tau = ratio, for `DualExpon` of the decay."""
    dual = {"tau_decay": 5 * u.ms, "tau_rise": 1 * u.ms, "A": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nd.TimeStepWarning)
        values = dual if kind is nd.DualExpon else {"tau": 5 * u.ms}
        synapse = kind((), dt=5 * ratio * u.ms, exact=exact, dtype=torch.float64, **values)
    zero = torch.zeros((), dtype=torch.float64)
    parts = [synapse(zero + float(i == 0)) for i in range(round(60 / ratio))]
    total = sum(float(g(zero) if exact else g) for g in parts) * 5 * ratio
    return total / (4 if kind is nd.DualExpon else 5) - 1


def potential_of(output: str, dt: float, exact: bool) -> float:
    """The relative error of V 10 ms after a spike through `Expon` (5 ms) into `LIF` (20 ms)."""
    coba = output == "COBA"
    double = {"dtype": torch.float64}
    out = nd.COBA(E=60 * u.mV, **double) if coba else nd.CUBA(scale=60 * u.mV, **double)
    synapse = nd.Expon((), tau=5 * u.ms, dt=dt * u.ms, exact=exact, **double)
    neuron = nd.LIF((), tau=20 * u.ms, R=0.1 * u.Gohm, V_th=1e3 * u.mV, dt=dt * u.ms, **double)
    net = torch.nn.Sequential(synapse, out, neuron)
    with torch.no_grad():
        for step in range(round(10 / dt)):
            net(torch.full((), 5.0 * (step == 0), dtype=torch.float64))  # nS

    def slope(t: float, V: float) -> float:
        return (0.5 * exp(-t / 5) * (60 - V * coba) - V) / 20

    return float(neuron.V) / solve_ivp(slope, (0, 10), [0.0], "DOP853", rtol=1e-12, atol=1e-12).y[0, -1] - 1


def area_of(kind: type, dt: float) -> float:
    """The relative error of the area of a response to one spike: `AMPA`, `GABAa`, `NMDA`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nd.TimeStepWarning)
        receptor = kind((), dt=dt * u.ms, dtype=torch.float64)
    spike, T = torch.zeros((), dtype=torch.float64), 300
    with torch.no_grad():
        found = [float(receptor(spike + float(i == 0))) for i in range(round(T / dt))]
    if kind is nd.NMDA:

        def slope(t: float, y: np.ndarray) -> tuple[float, float]:
            return -y[0] / 100 + 0.5 * exp(-t / 2) * (1 - y[0]), y[0]

        whole = solve_ivp(slope, (0, T), [0.0, 0.0], "DOP853", rtol=1e-11, atol=1e-11).y[1, -1]
        return (sum(found) - found[-1] / 2) * dt / whole - 1
    duration, opening = float(kind((), dt=0.1 * u.ms).T_dur), float(receptor.alpha * receptor.T)
    rate = opening + 0.18  # during the pulse g goes to opening / rate, then it decays with 0.18 / ms
    end = opening / rate * -math.expm1(-rate * duration)
    whole = opening / rate * duration - end / rate + end / 0.18
    return sum(found) * dt / whole - 1


def release_of(dt: float) -> float:
    """The relative error of what `STPInactive` releases at the last of four spikes, 40 ms after the first."""
    plasticity, spikes = nd.STPInactive((), U=0.5, dt=dt * u.ms, dtype=torch.float64), (0, 10, 15, 40)
    released, times = 0.0, {round(time / dt) for time in spikes}
    with torch.no_grad():
        for step in range(round(40 / dt) + 1):
            released = float(plasticity(torch.full((), float(step in times), dtype=torch.float64)))

    def slope(t: float, state: np.ndarray) -> tuple[float, ...]:
        used, x, y = state
        return -used / 1500, (1 - x - y) / 200, -y / 3

    state = np.array([0.0, 1.0, 0.0])
    for before, now in zip((0, *spikes), spikes, strict=False):
        if now > before:
            state = solve_ivp(slope, (before, now), state, "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
        state[0] += 0.5 * (1 - state[0])
        exact = state[0] * state[1]
        state += [0, -exact, exact]
    return released / exact - 1


def junction_of(dt: float) -> float:
    """The relative error of the V that 10 mV of a neighbour make in 10 ms: two `LIF` of 200 pF, joined by 5 nS."""
    start = torch.tensor([10.0, 0.0], dtype=torch.float64)
    values = {"tau": 20 * u.ms, "R": 0.1 * u.Gohm, "V_th": 1e3 * u.mV, "dtype": torch.float64}
    neurons = nd.LIF(2, dt=dt * u.ms, V_initializer=start * u.mV, **values)
    gap = nd.GapJunction(2, ([0], [1]), 5 * u.nS, dtype=torch.float64)
    neurons.reset_state()
    with torch.no_grad():
        for _ in range(round(10 / dt)):
            neurons(gap(neurons.V))
    return float(neurons.V[1]) / (5 * math.exp(-10 / 20) * -math.expm1(-2 * 5 / 200 * 10)) - 1


def variance_of(power: int, dt: float) -> float:
    """The relative error of the variance at rest of $dx = -x^p / 10 dt + 0.3 dW$, by `exp_euler`.

    Its distribution at rest is that of the steps from each x to each other one, normal ones.
    """
    x = torch.linspace(-6, 6, 1501, dtype=torch.float64)

    def stepped(noise: float) -> torch.Tensor:
        xi = torch.full_like(x, noise)
        return nd.exp_euler(lambda y: -(y**power) / 10, x, dt=dt, diffusion=lambda y: torch.full_like(y, 0.3), noise=xi)

    mean = stepped(0.0)
    step = torch.exp(-(((x[:, None] - mean) / (stepped(1.0) - mean)) ** 2) / 2)
    step = step / step.sum(0) - torch.eye(len(x), dtype=x.dtype)
    step[-1] = 1.0
    rest = torch.linalg.solve(step, torch.eye(len(x), dtype=x.dtype)[-1])

    def density(y: float) -> float:
        return math.exp(-2 / 0.3**2 * y ** (power + 1) / (power + 1) / 10)

    exact = quad(lambda y: y * y * density(y), -5, 5)[0] / quad(density, -5, 5)[0]
    return float((rest * x**2).sum()) / exact - 1


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"


def tables() -> Iterator[str]:
    """The lines of the page."""
    head = [f"{dt:g} ms" for dt in STEPS]
    yield _row("largest error of V, mV", head)
    yield "|---" * (len(head) + 1) + "|"
    for cls in NEURONS:
        yield _row(f"`{cls.__name__}`", [f"{error_of(cls, dt):.1g}" for dt in STEPS])
    yield "\n" + _row("spikes in 500 ms", head)
    yield "|---" * (len(head) + 1) + "|"
    for cls in NEURONS:
        yield _row(f"`{cls.__name__}`", [str(spikes_of(cls, dt)) for dt in STEPS])
    ratios = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    yield "\n" + _row("charge of a jump, %", [f"dt/tau = {ratio:g}" for ratio in ratios])
    yield "|---" * (len(ratios) + 1) + "|"
    for kind in (nd.Expon, nd.Alpha, nd.DualExpon):
        for exact in (False, True):
            cells = [percent(charge_of(kind, ratio, exact)) for ratio in ratios]
            yield _row(f"`{kind.__name__}`{', `exact=True`' if exact else ''}", cells)
    yield "\n" + _row("a response, %", head)
    yield "|---" * (len(head) + 1) + "|"
    for output in ("CUBA", "COBA"):
        for exact in (False, True):
            cells = [percent(potential_of(output, dt, exact)) for dt in STEPS]
            yield _row(f"V behind `Expon{'(exact=True)' if exact else ''}`, `{output}`", cells)
    for kind in (nd.AMPA, nd.GABAa, nd.NMDA):
        yield _row(f"area of `{kind.__name__}`", [percent(area_of(kind, dt)) for dt in STEPS])
    yield _row("release of `STPInactive`", [percent(release_of(dt)) for dt in STEPS])
    yield _row("V behind a `GapJunction`", [percent(junction_of(dt)) for dt in STEPS])
    for power, name in ((1, "-x"), (3, "-x^3")):
        cells = [percent(variance_of(power, dt)) for dt in STEPS]
        yield _row(f"variance by `exp_euler(diffusion=)`, drift `{name}`", cells)


def percent(error: float) -> str:
    """As it stands in the tables."""
    return "0" if abs(error) < 1e-9 else f"{100 * error:+.2g}"


if __name__ == "__main__":
    for line in tables():
        print(line, flush=True)
