"""The COBA network with plastic synapses in Brian2 (C++ standalone); run by plastic.py where there is Brian2.

Usage: python brian2_plastic.py SCALE SECONDS FOLDER. Builds there, saves spikes and time of a run as FOLDER/run.npz.
"""

from __future__ import annotations

import sys
from pathlib import Path

import brian2 as b2
import numpy as np
from brian2_neurons import build_and_run, neurons, save, start

scale, seconds, folder = float(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
n, exc = round(4000 * scale), round(3200 * scale)
group = neurons(n, folder)
traces = """w : 1
dx/dt = -x/(20*ms) : 1 (event-driven)
dy/dt = -y/(20*ms) : 1 (event-driven)"""
E = b2.Synapses(
    group[:exc],
    group,
    traces,
    on_pre="ge += w; w = clip(w - 0.00525*1.2*y, 0, 1.2); x += 1",
    on_post="w = clip(w + 0.005*1.2*x, 0, 1.2); y += 1",
)
I = b2.Synapses(
    group[exc:],
    group,
    traces,
    on_pre="gi += w; w = clip(w + 0.001*13.4*(y - 0.2), 0, 13.4); x += 1",
    on_post="w = clip(w + 0.001*13.4*x, 0, 13.4); y += 1",
)
E.connect(p=80 / n)
I.connect(p=80 / n)
E.w, I.w = 0.6, 6.7
start(group)
spikes = b2.SpikeMonitor(group)
b2.run(seconds * b2.second)
elapsed = build_and_run(folder)
save(folder, elapsed, spikes, weights=np.asarray([np.mean(E.w), np.mean(I.w)]))
