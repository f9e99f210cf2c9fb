"""The cortical microcircuit (Potjans and Diesmann 2014) beside NEST 3.10: time of a step.

A tenth and a fifth of the neurons, each with all its synapses: 7,717 and 15,434 neurons, 30 and 60 million synapses.
As many threads for both as the options say, runs in turn; each is a new network. The time is that of the clock, or of
the processor with ``--cpu``, for the steps alone, without building and compiling, after 0.1 s; both record every spike.
That the rates are those of NEST is shown by tests/networks/test_microcircuit.py; here they are printed.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from neurodyn import units as u
from neurodyn.examples import microcircuit

from .timing import Comparison, Options

WARM_UP = 1000  # steps


def run(options: Options) -> list[Comparison]:
    """Time of a step, and the rates, at two sizes."""
    return [compare(scale, options) for scale in ((0.002,) if options.toy else (0.1, 0.2))]


def compare(scale: float, options: Options) -> Comparison:
    """One size; 1 is 77,169 neurons."""
    seconds, rounds = (0.01, 1) if options.toy else (1.0, max(1, options.rounds // 5))
    n, synapses = (sum(round(k * scale) for k in microcircuit.NEURONS), 2.99e8 * scale)
    title = f"microcircuit, {n} neurons, {synapses:.2g} synapses, {seconds:g} s, {options.threads} threads"
    comparison = Comparison(title, {"neurodyn": []}, unit="us/step")
    python = Path(options.peers or "") / "nest/bin/python"
    if options.peers and python.exists():
        comparison.costs["NEST"] = []
    elif options.peers:
        comparison.absent["NEST"] = "not installed, see benchmarks/peers.sh"
    rates: dict[str, list[float]] = {name: [] for name in comparison.costs}
    for seed in range(rounds):
        for name in comparison.costs:
            elapsed, steps = (
                ours(scale, seconds, seed, options) if name == "neurodyn" else nests(python, scale, seconds, options)
            )
            comparison.costs[name].append(elapsed / (seconds * 1e4) * 1e6)
            rates[name].append((steps >= WARM_UP).sum() / n / seconds)
    print(comparison, flush=True)
    for name, found in rates.items():
        print(f"  {name}: {', '.join(f'{rate:.2f}' for rate in found)} Hz")
    return comparison


def ours(scale: float, seconds: float, seed: int, options: Options) -> tuple[float, np.ndarray]:
    """Seconds that the steps took, and the step of each spike."""
    net = microcircuit.Microcircuit(scale, indegrees=0.02 if options.toy else 1, seed=seed)
    first = microcircuit.run(net, WARM_UP * 0.1 * u.ms, progress=False)  # which compiles
    clock = time.process_time if options.cpu else time.perf_counter
    start = clock()
    after = {"states": first.states, "start": first.step}
    spikes = microcircuit.run(net, seconds * u.s, progress=False, **after)["spikes"]
    elapsed = clock() - start
    del net
    return elapsed, spikes.steps.numpy()


def nests(python: Path, scale: float, seconds: float, options: Options) -> tuple[float, np.ndarray]:
    """The same of NEST, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(__file__).with_name("nest_microcircuit.py")
        command = [str(python), str(script), str(scale), str(seconds), str(options.threads), folder]
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        with np.load(Path(folder) / "run.npz") as found:
            return float(found["processor" if options.cpu else "elapsed"]), found["steps"]
