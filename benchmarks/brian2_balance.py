"""The network of neurodyn.examples.inhibitory_plasticity in Brian2: at which rate does it come to rest?

Usage, in an environment with Brian2: python brian2_balance.py SCALE SECONDS SEED FOLDER. Builds a C++ program there,
and prints the mean rate of the excitatory neurons every 5 s.
"""

from __future__ import annotations

import sys
from pathlib import Path

import brian2 as b2
import numpy as np

EVERY = 5  # s


def main(scale: float, seconds: int, seed: int, folder: Path) -> None:
    b2.set_device("cpp_standalone", directory=str(folder / "code"))
    b2.defaultclock.dt = 0.1 * b2.ms
    b2.seed(seed)
    exc, inh = round(800 * scale), round(200 * scale)
    neurons = b2.NeuronGroup(
        exc + inh,
        """I = g_e*(0*mV - v) + g_i*(-80*mV - v) + 200*pA : amp
        dv/dt = (I/(10*nS) - (v + 60*mV))/(20*ms) : volt (unless refractory)
        dg_e/dt = -g_e/(5*ms) : siemens
        dg_i/dt = -g_i/(10*ms) : siemens""",
        threshold="v > -50*mV",
        reset="v = -60*mV",
        refractory=5 * b2.ms,
        method="euler",
    )
    neurons.v = "-60*mV + 10*mV*rand()"
    E, I, p, delay = neurons[:exc], neurons[exc:], 200 / (exc + inh), 0.1 * b2.ms
    fixed = b2.Synapses(E, neurons, on_pre="g_e += 0.3*nS", delay=delay)
    fixed.connect(p=p)
    among = b2.Synapses(I, I, on_pre="g_i += 3*nS", delay=delay)
    among.connect(p=p)
    learn = b2.Synapses(
        I,
        E,
        """w : 1
        dx/dt = -x/(20*ms) : 1 (event-driven)
        dy/dt = -y/(20*ms) : 1 (event-driven)""",
        on_pre="g_i += w*nS; w = clip(w + 0.1*(y - 2*5*Hz*20*ms), 0, 100); x += 1",
        on_post="w = clip(w + 0.1*x, 0, 100); y += 1",
        delay=delay,
    )
    learn.connect(p=p)
    monitor = b2.PopulationRateMonitor(E)
    b2.run(seconds * b2.second)
    rate, steps = np.asarray(monitor.rate / b2.Hz), 10_000 * EVERY
    for i in range(seconds // EVERY):
        print(f"{EVERY * i:3} to {EVERY * (i + 1):3} s: {rate[i * steps : (i + 1) * steps].mean():.2f} Hz")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
