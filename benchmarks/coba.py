"""The COBA network (Vogels and Abbott 2005) beside Brian2 (C++ standalone) and brainstate: time of a step.

Usage: python -m benchmarks.coba [--brian2 PYTHON] [--brainstate PYTHON] [--scale 1] [--seconds 2] [--runs 5]

Each PYTHON is one that can import the peer; without any only neurodyn runs. One thread each, runs in turn; a run is a
new network. The time is processor time of the steps, which is what Brian2 reports, without building or compiling; all
record every spike. That the spikes are right is shown by tests/networks/test_coba.py; here the rates are printed.
"""

from __future__ import annotations

import argparse
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


def ours(scale: int, seconds: float, seed: int) -> tuple[float, np.ndarray]:
    """Seconds that the steps took, and the step of each spike."""
    net = vogels_abbott.coba(scale, seed=seed)
    vogels_abbott.run(net, 0.1 * u.s)  # the first network compiles
    start = time.process_time()
    spikes = vogels_abbott.run(net, seconds * u.s)["spikes"]
    return time.process_time() - start, spikes.steps.numpy()


def peer(python: str, name: str, scale: int, seconds: float) -> tuple[float, np.ndarray]:
    """The same of a peer, run by its own Python on one thread."""
    single = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [python, str(Path(__file__).with_name(f"{name}_coba.py")), str(scale), str(seconds), folder]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | single)
        with np.load(Path(folder) / "run.npz") as run:
            return float(run["elapsed"]), run["steps"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brian2", help="a Python that can import brian2")
    parser.add_argument("--brainstate", help="a Python that can import brainstate 0.1.3")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pythons = {name: python for name in ("brian2", "brainstate") if (python := getattr(options, name))}
    found: dict[str, list[tuple[float, np.ndarray]]] = {name: [] for name in ("neurodyn", *pythons)}
    for k in range(options.runs):
        found["neurodyn"].append(ours(options.scale, options.seconds, k))
        for name, python in pythons.items():
            found[name].append(peer(python, name, options.scale, options.seconds))
    n, steps = 4000 * options.scale, round(options.seconds * 1e4)
    for name, runs in found.items():
        times = [1e6 * elapsed / steps for elapsed, _ in runs]
        ratio = statistics.median(theirs[0] / mine[0] for theirs, mine in zip(runs, found["neurodyn"], strict=True))
        rate = [(fired >= TRANSIENT).sum() / n / (steps - TRANSIENT) * 1e4 for _, fired in runs]
        single = ", ".join(f"{t:.1f}" for t in times)
        print(f"{name:11}{statistics.median(times):7.1f} us/step ({single}), {ratio:.2f} times ours")
        print(f"{'':11}{np.mean(rate):7.2f} Hz ({', '.join(f'{r:.2f}' for r in rate)})")


if __name__ == "__main__":
    main()
