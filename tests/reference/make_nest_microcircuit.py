"""Records ``nest_microcircuit.npz`` with NEST 3.10.0 (``pip install nest-simulator==3.10.0``) and neurodyn's tables:
``PYTHONPATH=. python tests/reference/make_nest_microcircuit.py SCALE SEEDS``.

The microcircuit with a part of its neurons, which have all their synapses: rates of the populations in Hz, and the
irregularity (CV of the intervals, of neurons with at least 5 spikes), from 0.2 s to 3 s, for each seed.
"""

import sys
import time
from pathlib import Path

import nest
import numpy as np

from benchmarks.nest_microcircuit import EXTERNAL, build, drive

FIRST, LAST = 200.0, 3000.0


def run(scale, seed):
    began = time.perf_counter()
    populations, recorders = build(scale, seed + 1), []
    for population, number in zip(populations, EXTERNAL, strict=True):
        drive(population, number)
        recorders.append(nest.Create("spike_recorder", params={"start": FIRST}))
        nest.Connect(population, recorders[-1])
    built = time.perf_counter()
    nest.Simulate(LAST)
    done = time.perf_counter()
    rates, cvs = [], []
    for n, recorder in zip(map(len, populations), recorders, strict=True):
        times, senders = recorder.events["times"], recorder.events["senders"]
        rates.append(len(times) / n / (LAST - FIRST) * 1e3)
        order = np.lexsort((times, senders))
        times, senders = times[order], senders[order]
        gaps = [np.diff(part) for part in np.split(times, np.flatnonzero(np.diff(senders)) + 1) if len(part) >= 5]
        cvs.append(np.mean([gap.std() / gap.mean() for gap in gaps]) if gaps else np.nan)
    print(f"{scale:g} {seed} built {built - began:.1f} s, {(done - built) / LAST * 1e3:.2f} s a second", rates, cvs)
    return rates, cvs


scale, seeds = float(sys.argv[1]), int(sys.argv[2])
found = [run(scale, seed) for seed in range(seeds)]
rates, cvs = (np.array(values) for values in zip(*found, strict=True))
target = Path(__file__).parent / "nest_microcircuit.npz"
np.savez_compressed(target, scale=scale, rates=rates, cvs=cvs, version=nest.__version__)
