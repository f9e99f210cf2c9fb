"""How fast random connections are built, what a synapse costs in memory, and how the step grows with the network."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import vogels_abbott

from .timing import Comparison, Options


def building(options: Options) -> list[Comparison]:
    """Seconds for four million synapses, and bytes of each."""
    n = options.size(20_000, 100)
    k = max(1, n // 100)
    nd.FixedProb(10, 10, 0.5, weight=1.0)  # the kernels are built
    given = {"weight": 0.6 * u.nS, "generator": torch.Generator().manual_seed(0)}
    ways: dict[str, Callable[[], nd.Sparse]] = {
        "FixedProb": lambda: nd.FixedProb(n, n, 0.01, **given),
        "FixedNum, per pre": lambda: nd.FixedNum(n, n, k, **given),
        "FixedNum, per post": lambda: nd.FixedNum(n, n, k, per="post", **given),
    }
    seconds = Comparison(f"building {n * k} synapses between {n} and {n} neurons", {}, unit="s")
    size = Comparison("memory of one of these synapses", {}, unit="bytes")
    for name, build in ways.items():
        start = time.perf_counter()
        connection = build()
        seconds.costs[name] = [time.perf_counter() - start]
        size.costs[name] = [sum(buffer.nbytes for buffer in connection.buffers()) / len(connection.indices)]
    return [seconds, size]


def growth(options: Options) -> Comparison:
    """Nanoseconds of a step for each neuron of the COBA network."""
    found = Comparison("COBA, a step for each neuron, one thread", {}, unit="ns")
    for scale, steps in ((0.02, 20),) if options.toy else ((1, 20_000), (10, 5_000), (100, 1_000)):
        net = vogels_abbott.coba(scale)
        vogels_abbott.run(net, 1 * u.ms, progress=False)
        start = time.perf_counter()
        vogels_abbott.run(net, steps * 0.1 * u.ms, progress=False)
        neurons = round(4000 * scale)
        found.costs[f"{neurons} neurons"] = [(time.perf_counter() - start) / steps / neurons * 1e9]
    return found


def run(options: Options) -> list[Comparison]:
    """Building, memory, growth."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = [*building(options), growth(options)]
    torch.set_num_threads(threads)
    for comparison in found:
        print(comparison, flush=True)
    return found
