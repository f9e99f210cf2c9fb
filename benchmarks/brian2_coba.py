"""The COBA network in Brian2 (C++ standalone); run by coba.py in an environment that has Brian2.

Usage: python brian2_coba.py SCALE SECONDS FOLDER. Builds there, saves spikes and time of a run as FOLDER/run.npz.
"""

from __future__ import annotations

import sys
from pathlib import Path

import brian2 as b2
from brian2_neurons import build_and_run, neurons, save, start

scale, seconds, folder = float(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
n, exc = round(4000 * scale), round(3200 * scale)
group = neurons(n, folder)
E = b2.Synapses(group[:exc], group, on_pre="ge += 0.6")
I = b2.Synapses(group[exc:], group, on_pre="gi += 6.7")
E.connect(p=80 / n)
I.connect(p=80 / n)
start(group)
spikes = b2.SpikeMonitor(group)
b2.run(seconds * b2.second)
save(folder, build_and_run(folder), spikes)
