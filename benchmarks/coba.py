"""The COBA network (Vogels and Abbott 2005) beside Brian2 (C++ standalone) and brainstate: time of a step.

One thread each, runs in turn, half as many as rounds; a run is a new network. The time is processor time of
the steps, which is what Brian2 reports, without building or compiling; all record every spike. That the spikes are
right is shown by tests/networks/test_coba.py; here the rates are printed.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from neurodyn import units as u
from neurodyn.examples import vogels_abbott

from .timing import Comparison, Options

TRANSIENT = 2000  # steps


def ours(scale: float, seconds: float, seed: int) -> tuple[float, np.ndarray]:
    """Seconds that the steps took, and the step of each spike."""
    net = vogels_abbott.coba(scale, seed=seed)
    vogels_abbott.run(net, seconds / 20 * u.s, progress=False)  # the first network compiles
    start = time.process_time()
    spikes = vogels_abbott.run(net, seconds * u.s, progress=False)["spikes"]
    return time.process_time() - start, spikes.steps.numpy()


def peer(python: Path, name: str, scale: float, seconds: float) -> tuple[float, np.ndarray, list[float]]:
    """The same of a peer, run by its own Python on one thread, and the mean weights if it saves them."""
    single = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), str(Path(__file__).with_name(f"{name}.py")), str(scale), str(seconds), folder]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | single)
        with np.load(Path(folder) / "run.npz") as run:
            return float(run["elapsed"]), run["steps"], run["weights"].tolist() if "weights" in run else []


def mean_rate(fired: np.ndarray, n: int, steps: int) -> float:
    """That of n neurons in Hz, after the transient, from the step of each spike."""
    return (fired >= TRANSIENT).sum() / n / max(steps - TRANSIENT, 1) * 1e4


def run(options: Options) -> list[Comparison]:
    """Time of a step, and the rates, at two sizes."""
    return [compare(scale, options) for scale in ((0.02,) if options.toy else (1, 10))]


def compare(scale: float, options: Options) -> Comparison:
    """One size; 1 is 4,000 neurons."""
    seconds, rounds = (0.02, 1) if options.toy else (2.0, max(2, options.rounds // 2))
    n, steps, threads = round(4000 * scale), round(seconds * 1e4), torch.get_num_threads()
    comparison = Comparison(f"COBA, {n} neurons, {seconds:g} s, one thread", {"neurodyn": []}, unit="us/step")
    pythons = {}
    for name in ("brian2", "brainstate") if options.peers else ():
        pythons[name] = Path(options.peers or "") / name / "bin/python"
        if not pythons[name].exists():
            comparison.absent[name] = "not installed, see benchmarks/peers.sh"
            del pythons[name]
    spikes: dict[str, list[np.ndarray]] = {name: [] for name in ("neurodyn", *pythons)}
    comparison.costs |= {name: [] for name in pythons}
    torch.set_num_threads(1)
    for k in range(rounds):
        for name in spikes:
            found = (
                ours(scale, seconds, k) if name == "neurodyn" else peer(pythons[name], f"{name}_coba", scale, seconds)
            )
            comparison.costs[name].append(found[0] / steps * 1e6)
            spikes[name].append(found[1])
    torch.set_num_threads(threads)
    print(comparison, flush=True)
    for name, runs in spikes.items():
        rates = [mean_rate(fired, n, steps) for fired in runs]
        print(f"  {name}: {', '.join(f'{rate:.2f}' for rate in rates)} Hz")
    return comparison
