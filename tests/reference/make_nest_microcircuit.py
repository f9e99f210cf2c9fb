"""Records ``nest_microcircuit.npz`` with NEST 3.10.0 (``pip install nest-simulator==3.10.0``) and neurodyn's tables:
``PYTHONPATH=. python tests/reference/make_nest_microcircuit.py SCALE SEEDS``.

The microcircuit with a part of its neurons, which have all their synapses: rates of the populations in Hz, and the
irregularity (CV of the intervals, of neurons with at least 5 spikes), from 0.2 s to 3 s, for each seed.
"""

import ast
import sys
import time
from pathlib import Path

import nest
import numpy as np

ROOT = Path(__file__).parents[2]
tables = {}
for node in ast.parse((ROOT / "neurodyn/examples/microcircuit.py").read_text()).body:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        tables[node.targets[0].id] = ast.literal_eval(node.value)
NEURONS, PROBABILITY, EXTERNAL, START = (tables[key] for key in ("NEURONS", "PROBABILITY", "EXTERNAL", "START"))
J, FIRST, LAST = 87.80849352920846, 200.0, 3000.0


def run(scale, seed):
    nest.ResetKernel()
    nest.set(resolution=0.1, print_time=False, rng_seed=seed + 1, overwrite_files=True)
    nest.set_verbosity("M_ERROR")
    sizes = [max(1, round(n * scale)) for n in NEURONS]
    populations = [
        nest.Create(
            "iaf_psc_exp",
            n,
            {"C_m": 250.0, "tau_m": 10.0, "t_ref": 2.0, "E_L": -65.0, "V_th": -50.0, "V_reset": -65.0,
             "tau_syn_ex": 0.5, "tau_syn_in": 0.5, "V_m": nest.random.normal(mean, std)},
        )
        for n, mean, std in zip(sizes, *START, strict=True)
    ]  # fmt: skip
    began = time.perf_counter()
    for i, row in enumerate(PROBABILITY):
        for j, p in enumerate(row):
            if not p:
                continue
            number = round(np.log1p(-p) / np.log1p(-1 / (NEURONS[i] * NEURONS[j])) * scale)
            mean = (J if j % 2 == 0 else -4 * J) * (2 if (i, j) == (0, 2) else 1)
            late = 1.5 if j % 2 == 0 else 0.75
            weight = nest.math.redraw(
                nest.random.normal(mean, abs(mean) * 0.1),
                min=0.0 if mean > 0 else -np.inf,
                max=np.inf if mean > 0 else 0.0,
            )
            delay = nest.math.redraw(nest.random.normal(late, late * 0.5), min=0.05, max=np.inf)
            nest.Connect(
                populations[j],
                populations[i],
                {"rule": "fixed_total_number", "N": number},
                {"weight": weight, "delay": delay},
            )
    recorders = []
    for population, number in zip(populations, EXTERNAL, strict=True):
        source = nest.Create("poisson_generator", params={"rate": number * 8.0})
        nest.Connect(source, population, syn_spec={"weight": J, "delay": 0.1})
        recorders.append(nest.Create("spike_recorder", params={"start": FIRST}))
        nest.Connect(population, recorders[-1])
    built = time.perf_counter()
    nest.Simulate(LAST)
    done = time.perf_counter()
    rates, cvs = [], []
    for n, recorder in zip(sizes, recorders, strict=True):
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
