"""Record ``brian2_<model>.npz``: six models simulated by Brian2, to compare neurodyn with.

Run once, in an environment of its own (``pip install brian2 "numpy<2.3"``): ``python make_brian2.py``.

The method is exponential Euler with the schedule of neurodyn: equations, threshold, reset; the state is recorded after
the reset. LIF, HH and GIF, whose equations are linear in the variable that they move, use Brian2's `exponential_euler`.
That method refuses Izhikevich's V^2, and for AdEx and Morris-Lecar it takes a coefficient of V other than the slope (it
leaves the exponential, and the slope of m_inf, in the constant term). For these three the step is written out below,
with the slope by hand; Brian2 evaluates it and does input, threshold and reset.

Each file holds the input (pA), V and the spikes of every step, the other states of every 20th step, and ``meta``: the
model's parameters with units, dt, initial states and versions.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import brian2 as b
import numpy as np

b.prefs.codegen.target = "numpy"
STEPS, NEURONS, EVERY = 2000, 3, 20

MODELS = {
    "LIF": {
        "dt": 0.1,
        "params": {"R": (0.1, "Gohm"), "tau": (20, "ms"), "V_th": (-50, "mV"), "V_reset": (-60, "mV")}
        | {"V_rest": (-65, "mV")},
        "init": {"V": (-65, "mV")},
        "current": (0, 400),
        "equations": "dV/dt = (V_rest - V + R * I(t, i)) / tau : volt",
        "threshold": "V >= V_th",
        "reset": "V = V_reset",
    },
    "HH": {
        "dt": 0.05,
        "params": {"C": (1, "pF"), "g_Na": (120, "nS"), "g_K": (36, "nS"), "g_L": (0.3, "nS"), "E_Na": (50, "mV")}
        | {"E_K": (-77, "mV"), "E_L": (-54.387, "mV"), "V_th": (0, "mV")},
        "init": {"V": (-65, "mV"), "m": (0.0529, ""), "h": (0.5961, ""), "n": (0.3177, "")},
        "current": (0, 20),
        "equations": """
            dV/dt = (I(t, i) - g_Na*m**3*h*(V - E_Na) - g_K*n**4*(V - E_K) - g_L*(V - E_L)) / C : volt
            dm/dt = 1/exprel(-(V + 40*mV)/(10*mV))/ms * (1 - m) - 4*exp(-(V + 65*mV)/(18*mV))/ms * m : 1
            dh/dt = 0.07*exp(-(V + 65*mV)/(20*mV))/ms * (1 - h) - 1/(1 + exp(-(V + 35*mV)/(10*mV)))/ms * h : 1
            dn/dt = 0.1/exprel(-(V + 55*mV)/(10*mV))/ms * (1 - n) - 0.125*exp(-(V + 65*mV)/(80*mV))/ms * n : 1""",
        "threshold": "V >= V_th and before < V_th",
        "reset": "",
    },
    "GIF": {
        "dt": 0.1,
        "params": {"C": (1, "pF"), "G": (0.05, "nS"), "E_L": (-70, "mV"), "a": (0.005, "1/ms"), "b": (0.01, "1/ms")}
        | {"k1": (0.2, "1/ms"), "k2": (0.02, "1/ms"), "R1": (0.3, ""), "R2": (1, ""), "A1": (5, "pA")}
        | {"A2": (-0.3, "pA"), "Theta_inf": (-50, "mV"), "Theta_r": (-60, "mV"), "V_reset": (-70, "mV")},
        "init": {"V": (-70, "mV"), "Theta": (-50, "mV"), "I1": (0, "pA"), "I2": (0, "pA")},
        "current": (0, 6),
        "equations": """
            dV/dt = (-G*(V - E_L) + I1 + I2 + I(t, i)) / C : volt
            dTheta/dt = a*(V - E_L) - b*(Theta - Theta_inf) : volt
            dI1/dt = -k1*I1 : amp
            dI2/dt = -k2*I2 : amp""",
        "threshold": "V >= Theta",
        "reset": """
            V = V_reset
            I1 = R1*I1 + A1
            I2 = R2*I2 + A2
            Theta = clip(Theta, Theta_r, 1*volt)""",
    },
    "AdEx": {
        "dt": 0.1,
        "params": {"C": (281, "pF"), "g_L": (30, "nS"), "E_L": (-70.6, "mV"), "V_T": (-50.4, "mV")}
        | {"Delta_T": (2, "mV"), "tau_w": (144, "ms"), "a": (4, "nS"), "b": (80.5, "pA"), "V_th": (20, "mV")}
        | {"V_reset": (-70.6, "mV")},
        "init": {"V": (-70.6, "mV"), "w": (0, "pA")},
        "current": (0, 2000),
        "step": """
            upswing = g_L*exp((V - V_T)/Delta_T)
            f = (g_L*(E_L - V) + Delta_T*upswing - w + I(t, i)) / C
            slope = (upswing - g_L) / C
            w_inf = a*(V - E_L)
            V += dt*f*exprel(dt*slope)
            w = w_inf + (w - w_inf)*exp(-dt/tau_w)""",
        "threshold": "V >= V_th",
        "reset": "V = V_reset; w += b",
    },
    "Izhikevich": {
        "dt": 0.1,
        "params": {
            "C": (1, "pF"),
            "p2": (0.04, "1/ms/mV"),
            "p1": (5, "1/ms"),
            "p0": (140, "mV/ms"),
            "a": (0.02, "1/ms"),
        }
        | {"b": (0.2, "1/ms"), "c": (-65, "mV"), "d": (8, "mV/ms"), "V_th": (30, "mV")},
        "init": {"V": (-65, "mV"), "u": (-13, "mV/ms")},
        "current": (0, 30),
        "step": """
            f = p2*V**2 + p1*V + p0 - u + I(t, i)/C
            slope = 2*p2*V + p1
            u_inf = b*V
            V += dt*f*exprel(dt*slope)
            u = u_inf + (u - u_inf)*exp(-dt*a)""",
        "threshold": "V >= V_th",
        "reset": "V = c; u += d",
    },
    "MorrisLecar": {
        "dt": 0.25,
        "params": {"C": (20, "pF"), "g_Ca": (4.4, "nS"), "g_K": (8, "nS"), "g_L": (2, "nS"), "V_Ca": (120, "mV")}
        | {"V_K": (-84, "mV"), "V_L": (-60, "mV"), "V1": (-1.2, "mV"), "V2": (18, "mV"), "V3": (2, "mV")}
        | {"V4": (30, "mV"), "phi": (0.04, "1/ms"), "V_th": (10, "mV")},
        "init": {"V": (-60, "mV"), "w": (0.015, "")},
        "current": (0, 200),
        "step": """
            t1 = tanh((V - V1)/V2)
            m = (1 + t1) / 2
            f = (-g_Ca*m*(V - V_Ca) - g_K*w*(V - V_K) - g_L*(V - V_L) + I(t, i)) / C
            slope = (-g_Ca*m - g_Ca*(V - V_Ca)*(1 - t1**2)/(2*V2) - g_K*w - g_L) / C
            rate = phi*cosh((V - V3)/(2*V4))
            w_inf = (1 + tanh((V - V3)/V4)) / 2
            V += dt*f*exprel(dt*slope)
            w = w_inf + (w - w_inf)*exp(-dt*rate)""",
        "threshold": "V >= V_th and before < V_th",
        "reset": "",
    },
}


def unit(name: str):
    return eval(name, vars(b)) if name else 1


def levels(low: float, high: float, seed: int) -> np.ndarray:
    """A new level every 50 steps, in 64ths of the range: exact in any unit, and small when compressed."""
    drawn = np.random.default_rng(seed).integers(0, 65, size=(STEPS // 50, NEURONS))
    return np.repeat(low + (high - low) / 64 * drawn, 50, axis=0)


def simulate(name: str, spec: dict, seed: int) -> dict:
    b.start_scope()
    step, current = spec["dt"] * b.ms, levels(*spec["current"], seed)
    namespace = {key: value * unit(of) for key, (value, of) in spec["params"].items()}
    namespace["I"] = b.TimedArray(current * b.pA, dt=step)
    if "step" not in spec:
        equations = spec["equations"]
    else:
        equations = "\n".join(f"{key} : {DIMENSION[of]}" for key, (_, of) in spec["init"].items())
    neurons = b.NeuronGroup(
        NEURONS,
        equations + ("\nbefore : volt" if "before" in spec["threshold"] else ""),
        method="exponential_euler",
        threshold=spec["threshold"],
        reset=spec["reset"],
        namespace=namespace,
        dt=step,
    )
    if "step" in spec:
        neurons.run_regularly(spec["step"], when="groups", dt=step)
    if "before" in spec["threshold"]:
        neurons.run_regularly("before = V", when="start", dt=step)
    for key, (value, of) in spec["init"].items():
        setattr(neurons, key, value * unit(of))
    every = b.StateMonitor(neurons, list(spec["init"]), record=True, when="end", dt=step)
    spikes = b.SpikeMonitor(neurons)
    b.Network(neurons, every, spikes).run(STEPS * step)
    raster = np.zeros((STEPS, NEURONS), bool)
    raster[np.rint(spikes.t / step).astype(int), spikes.i] = True
    recorded = {key: np.asarray(getattr(every, key).T / unit(of)) for key, (_, of) in spec["init"].items()}
    meta = {key: spec[key] for key in ("dt", "params", "init")} | {
        "model": name,
        "every": EVERY,
        "method": "step written out" if "step" in spec else "exponential_euler",
        "versions": {"brian2": b.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    others = {f"state_{key}": value[EVERY - 1 :: EVERY] for key, value in recorded.items() if key != "V"}
    return {"I": current, "V": recorded["V"], "spikes": raster, "meta": json.dumps(meta)} | others


DIMENSION = {"mV": "volt", "pA": "amp", "mV/ms": "volt/second", "": "1"}

if __name__ == "__main__":
    for seed, (name, spec) in enumerate(MODELS.items()):
        path = Path(__file__).parent / f"brian2_{name}.npz"
        arrays = simulate(name, spec, seed)
        np.savez_compressed(path, **arrays)
        print(f"{name}: {arrays['spikes'].sum(0)} spikes, {path.stat().st_size / 1000:.0f} kB")
