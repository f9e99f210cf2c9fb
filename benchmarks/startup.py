"""What comes before the first step is done: import, and compiling with an empty and with a warm cache."""

from __future__ import annotations

import tempfile

from .subprocesses import answer, attempt
from .timing import Comparison, Options

IMPORT = "import time; start = time.perf_counter(); import {name}; print('answer', 1e3 * (time.perf_counter() - start))"
FIRST = """
import time, torch
torch.set_num_threads({threads})
from benchmarks import chain
torch.manual_seed(0)
net = chain.chain({size})
def first(T, batch):
    step = chain.both(net, chain.spikes(T, batch, {size}), torch.rand(T, batch, {size}))
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
seconds = first({T}, {batch})
if {again}:
    seconds = first({again}, {batch} + 5)
print("answer", seconds)
"""


def imports(options: Options) -> Comparison:
    """`import neurodyn`, beside `import torch` and the peers."""
    modules = {"neurodyn": "neurodyn", "torch": "torch"}
    if options.peers:
        modules |= {"snnTorch": "snntorch", "SpikingJelly": "spikingjelly.activation_based.neuron"}
    comparison = Comparison("import in a new process", {name: [] for name in modules})
    for _ in range(1 if options.toy else min(options.rounds, 7)):
        for name, module in modules.items():
            value = attempt(lambda module=module: answer(IMPORT.format(name=module)))
            if isinstance(value, str):
                comparison.absent[name] = value
            else:
                comparison.costs[name].append(value)
    for name in comparison.absent:
        comparison.costs.pop(name, None)
    return comparison


def compiling(options: Options) -> Comparison:
    """The first training step of the chain in a new process."""
    comparison = Comparison("first training step of the chain in a new process", {}, unit="s")
    size = options.size(512, 5)
    with tempfile.TemporaryDirectory() as warm:
        for name, T, again in (
            ("empty cache", 128, 0),
            ("warm cache", 128, 0),
            ("warm cache, T=1280", 1280, 0),
            ("then T=256 and batch 37", 128, 256),
            ("then T=161 and batch 37", 128, 161),
        ):
            code = FIRST.format(threads=options.threads, size=size, T=T, batch=32, again=again)
            value = attempt(lambda code=code: answer(code, TORCHINDUCTOR_CACHE_DIR=warm))
            if isinstance(value, str):
                comparison.absent[name] = value
            else:
                comparison.costs[name] = [value]
    return comparison


def run(options: Options) -> list[Comparison]:
    """Import, and, unless it is a toy, compiling."""
    found = [imports(options)] if options.toy else [imports(options), compiling(options)]
    for comparison in found:
        print(comparison, flush=True)
    return found
