"""The COBA network (Vogels and Abbott 2005) beside Brian2 (C++ standalone): time of a step, and statistics of spikes.

Usage: python -m benchmarks.coba --brian2 /path/to/python [--scale 1] [--seconds 2] [--runs 5]

One thread each, runs in turn. The time is that of the steps, without building or compiling; both record all spikes.
Then rate, irregularity and the distribution of rates over neurons (all runs together) are compared.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from neurodyn import units as u
from neurodyn.examples import vogels_abbott

TRANSIENT = 2000  # steps


def irregularity(steps: np.ndarray, neurons: np.ndarray) -> float:
    """Mean coefficient of variation of the intervals of neurons with at least five of them."""
    order = np.lexsort((steps, neurons))
    steps, neurons = steps[order], neurons[order]
    interval, same = np.diff(steps).astype(float), np.diff(neurons) == 0
    interval, neuron = interval[same], neurons[1:][same]
    count = np.bincount(neuron)
    mean = np.bincount(neuron, interval) / np.maximum(count, 1)
    square = np.bincount(neuron, interval**2) / np.maximum(count, 1)
    enough = count >= 5
    return float((np.sqrt(np.maximum(square - mean**2, 0))[enough] / mean[enough]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brian2", help="a Python that can import brian2; without it only neurodyn runs")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    n, steps = 4000 * options.scale, round(options.seconds * 1e4)
    found: dict[str, list] = {"neurodyn": [], "Brian2": []}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(options.runs):
            net = vogels_abbott.coba(options.scale, seed=k)
            vogels_abbott.run(net, 0.1 * u.s)  # the first network compiles
            start = time.perf_counter()
            spikes = vogels_abbott.run(net, options.seconds * u.s)["spikes"]
            found["neurodyn"].append((time.perf_counter() - start, spikes.steps.numpy(), spikes.neurons.numpy()))
            if options.brian2:
                script = Path(__file__).with_name("brian2_coba.py")
                command = [options.brian2, str(script), str(options.scale), str(options.seconds), "1", folder]
                subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
                with np.load(Path(folder) / "run0.npz") as run:
                    found["Brian2"].append((float(run["elapsed"]), run["steps"], run["neurons"]))
    rates, medians = {}, {}
    for name, runs in found.items():
        if not runs:
            continue
        runs = [(t, s[s >= TRANSIENT], i[s >= TRANSIENT]) for t, s, i in runs]
        window = (steps - TRANSIENT) * 1e-4
        medians[name] = statistics.median(t for t, _, _ in runs) / steps * 1e6
        rates[name] = [np.bincount(i, minlength=n) / window for _, _, i in runs]
        mean = np.mean(rates[name], 1)
        cv = statistics.mean(irregularity(s, i) for _, s, i in runs)
        times = ", ".join(f"{t / steps * 1e6:.1f}" for t, _, _ in runs)
        print(f"{name:9} {medians[name]:6.1f} us/step ({times}); CV {cv:.3f}")
        print(f"{'':9} rate {mean.mean():.2f} Hz, in the single runs {', '.join(f'{rate:.2f}' for rate in mean)}")
    if len(rates) == 2:
        from scipy.stats import ks_2samp

        print(f"Brian2 / neurodyn: {medians['Brian2'] / medians['neurodyn']:.2f} in time")
        ours, theirs = rates["neurodyn"], rates["Brian2"]
        for name, pairs in (
            ("all runs together", [(np.concatenate(ours), np.concatenate(theirs))]),
            ("neurodyn and Brian2, run by run", list(itertools.product(ours, theirs))),
            ("two runs of neurodyn", list(itertools.combinations(ours, 2))),
            ("two runs of Brian2", list(itertools.combinations(theirs, 2))),
        ):
            p = [ks_2samp(a, b).pvalue for a, b in pairs]
            print(f"Kolmogorov-Smirnov p of rates over neurons, {name}: median {statistics.median(p):.3f}")


if __name__ == "__main__":
    main()
