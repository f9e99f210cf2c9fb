"""A long sequence: T=20,000, batch 8, 256 LIF neurons, forward + backward; time of a step, and memory."""

from __future__ import annotations

import torch

from .layer import both, neurodyn
from .subprocesses import PEAK, answer, attempt
from .timing import Comparison, Options, alternate

PROGRAM = """
import neurodyn
from benchmarks import layer
run, _ = layer.neurodyn({size})
def step(T):
    xs, weight = torch.randn(T, {batch}, {size}), torch.rand(T, {batch}, {size})
    return layer.both(run, [], xs, weight)
step(17)()
work = step({T})
"""


def run(options: Options) -> list[Comparison]:
    """Time, then memory."""
    batch, size = options.size(8, 2), options.size(256, 3)
    lengths = options.size(1000, 20), options.size(20_000, 50)
    torch.manual_seed(0)
    run, _ = neurodyn(size)
    work = {}
    for T in lengths:
        xs, weight = 1 + 2 * torch.randn(T, batch, size), torch.rand(T, batch, size)
        work[f"T={T}"] = both(run, [], xs, weight)
        work[f"streaming, T={T}"] = lambda xs=xs, weight=weight: (xs * 2, xs * weight)
    times = alternate(f"LIF, batch {batch}, {size} neurons, forward + backward", work, options)
    for T in lengths:
        for name in (f"T={T}", f"streaming, T={T}"):
            times.costs[name] = [1e3 * cost / T for cost in times.costs[name]]
    times.unit = "us/step"
    print(times, flush=True)
    T = lengths[-1]
    setup = PROGRAM.format(batch=batch, size=size, T=T)
    value = attempt(lambda: answer(PEAK.format(threads=options.threads, setup=setup, work="result = work()")))
    memory = Comparison(f"added memory of the same at T={T}", {}, unit="MB")
    if isinstance(value, str):
        memory.absent["neurodyn"] = value
    else:
        memory.costs = {"neurodyn": [max(value, 1e-3)], "input + output": [4 * T * batch * size * 4 / 1e6]}
    print(memory, flush=True)
    return [times, memory]
