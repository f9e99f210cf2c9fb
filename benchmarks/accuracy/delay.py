"""A delay that is 20 ms from its target, one spike: the loss is below 1e-3 within 400 steps; see `benchmarks.delays`.

There is no published number. Kernels that start wide and narrow: Hammouamri, Khalfaoui-Hassani and Masquelier (2024).
"""

from __future__ import annotations

from typing import Any

from .. import delays
from ..timing import Options

KINDS, LIMIT = ("neuron", "synapse"), 1e-3


def run(options: Options) -> list[dict[str, Any]]:
    """Delays of a neuron and of a synapse, each from ten starts."""
    rows = []
    for kind in KINDS:
        found = [
            delays.train(kind, "gaussian", seed, compile=not options.toy)
            for seed in range(options.size(delays.SEEDS, 1))
        ]
        solved = sum(loss < LIMIT and 0 <= step < delays.STEPS for loss, step in found)
        rows.append({"kind": kind, "solved": solved, "losses": [loss for loss, _ in found]})
        worst, latest = max(loss for loss, _ in found), max(step for _, step in found)
        print(f"delay of a {kind}: {solved} of {len(found)} below {LIMIT:g}, worst {worst:.1e}, from step {latest}")
    return rows
