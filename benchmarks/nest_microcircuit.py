"""The cortical microcircuit in NEST, with all synapses of each neuron; run by microcircuit.py where there is NEST.

Usage: python nest_microcircuit.py SCALE SECONDS THREADS FOLDER. Saves spikes and the time of the steps as
FOLDER/run.npz; building and the first 0.1 s are not timed. The tables are read from neurodyn's source, as NEST lives in
an environment of its own. tests/reference/make_nest_microcircuit.py records the same network.
"""

from __future__ import annotations

import ast
import sys
import time
from pathlib import Path
from typing import Any

import nest
import numpy as np

SOURCE = Path(__file__).resolve().parents[1] / "neurodyn/examples/microcircuit.py"
WARM_UP = 100.0  # ms
J = 87.80849352920846  # pA, whose potential peaks at 0.15 mV

_tables = {}
for _node in ast.parse(SOURCE.read_text()).body:
    if isinstance(_node, ast.Assign) and isinstance(_node.targets[0], ast.Name):
        _tables[_node.targets[0].id] = ast.literal_eval(_node.value)
NEURONS, PROBABILITY, EXTERNAL, START = (_tables[key] for key in ("NEURONS", "PROBABILITY", "EXTERNAL", "START"))


def build(scale: float, seed: int, threads: int = 1) -> list[Any]:
    """The populations and their synapses, without inputs from outside."""
    nest.ResetKernel()
    nest.set_verbosity("M_ERROR")
    nest.set(resolution=0.1, print_time=False, rng_seed=seed, overwrite_files=True, local_num_threads=threads)
    neuron = {"C_m": 250.0, "tau_m": 10.0, "t_ref": 2.0, "E_L": -65.0, "V_th": -50.0, "V_reset": -65.0}
    neuron |= {"tau_syn_ex": 0.5, "tau_syn_in": 0.5}
    populations = [
        nest.Create("iaf_psc_exp", max(1, round(n * scale)), neuron | {"V_m": nest.random.normal(mean, std)})
        for n, mean, std in zip(NEURONS, *START, strict=True)
    ]
    for i, row in enumerate(PROBABILITY):
        for j, p in enumerate(row):
            if not p:
                continue
            number = round(np.log1p(-p) / np.log1p(-1 / (NEURONS[i] * NEURONS[j])) * scale)
            mean = (J if j % 2 == 0 else -4 * J) * (2 if (i, j) == (0, 2) else 1)
            late = 1.5 if j % 2 == 0 else 0.75
            bounds = {"min": 0.0, "max": np.inf} if mean > 0 else {"min": -np.inf, "max": 0.0}
            weight = nest.math.redraw(nest.random.normal(mean, abs(mean) * 0.1), **bounds)
            delay = nest.math.redraw(nest.random.normal(late, late * 0.5), min=0.05, max=np.inf)
            rule = {"rule": "fixed_total_number", "N": number}
            nest.Connect(populations[j], populations[i], rule, {"weight": weight, "delay": delay})
    return populations


def drive(population: Any, number: int) -> None:
    """Spikes of 8 Hz through so many synapses from outside."""
    source = nest.Create("poisson_generator", params={"rate": number * 8.0})
    nest.Connect(source, population, syn_spec={"weight": J, "delay": 0.1})


def main() -> None:
    """Time a run and save its spikes."""
    scale, seconds, threads, folder = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    populations, recorder = build(scale, 1, threads), nest.Create("spike_recorder")
    for population, number in zip(populations, EXTERNAL, strict=True):
        drive(population, number)
        nest.Connect(population, recorder)
    nest.Simulate(WARM_UP)
    start, processor = time.perf_counter(), time.process_time()
    nest.Simulate(seconds * 1e3)
    elapsed, busy = time.perf_counter() - start, time.process_time() - processor
    steps = np.round(np.asarray(recorder.events["times"]) * 10).astype(int)
    np.savez(folder / "run.npz", elapsed=elapsed, processor=busy, steps=steps)


if __name__ == "__main__":
    main()
