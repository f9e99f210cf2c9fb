"""The COBA network with plastic synapses in Brian2 (C++ standalone); run by plastic.py where there is Brian2.

Usage: python brian2_plastic.py SCALE SECONDS FOLDER. Builds there, saves spikes and time of a run as FOLDER/run.npz.
"""

from __future__ import annotations

import sys
from pathlib import Path

import brian2 as b2
import numpy as np

scale, seconds, folder = float(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
n, exc = round(4000 * scale), round(3200 * scale)
b2.set_device("cpp_standalone", directory=str(folder / "code"), build_on_run=False)
b2.defaultclock.dt = 0.1 * b2.ms
neurons = b2.NeuronGroup(
    n,
    """dv/dt = (ge*(0*mV - v) + gi*(-80*mV - v) - (v + 60*mV))/(20*ms) : volt (unless refractory)
    dge/dt = -ge/(5*ms) : 1
    dgi/dt = -gi/(10*ms) : 1""",
    threshold="v >= -50*mV",
    reset="v = -60*mV",
    refractory=5 * b2.ms,
    method="exponential_euler",
)
traces = """w : 1
dx/dt = -x/(20*ms) : 1 (event-driven)
dy/dt = -y/(20*ms) : 1 (event-driven)"""
E = b2.Synapses(
    neurons[:exc],
    neurons,
    traces,
    on_pre="ge += w; w = clip(w - 0.00525*1.2*y, 0, 1.2); x += 1",
    on_post="w = clip(w + 0.005*1.2*x, 0, 1.2); y += 1",
)
I = b2.Synapses(
    neurons[exc:],
    neurons,
    traces,
    on_pre="gi += w; w = clip(w + 0.001*13.4*(y - 0.2), 0, 13.4); x += 1",
    on_post="w = clip(w + 0.001*13.4*x, 0, 13.4); y += 1",
)
E.connect(p=80 / n)
I.connect(p=80 / n)
E.w, I.w = 0.6, 6.7
neurons.v = "-65*mV + 5*mV*randn()"
neurons.ge, neurons.gi = "4 + 1.5*randn()", "20 + 12*randn()"
spikes = b2.SpikeMonitor(neurons)
b2.run(seconds * b2.second)
b2.device.build(directory=str(folder / "code"), run=True, compile=True, with_output=False)
info = (folder / "code" / "results").glob("last_run_info*.txt")
elapsed = float(next(info).read_text().split()[0])
steps = np.round(spikes.t / b2.defaultclock.dt).astype(np.int64)
weights = np.asarray([np.mean(E.w), np.mean(I.w)])
np.savez(folder / "run.npz", elapsed=elapsed, steps=steps, neurons=np.asarray(spikes.i), weights=weights)
