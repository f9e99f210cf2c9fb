"""How fast random connections are built, what a synapse costs in memory, and how the step grows with the network.

Usage: python -m benchmarks.connections
"""

from __future__ import annotations

import time

import torch

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import vogels_abbott


def main() -> None:
    torch.set_num_threads(1)
    nd.FixedProb(10, 10, 0.5, weight=1.0)  # the kernels are built
    random = torch.Generator().manual_seed(0)
    options = {"weight": 0.6 * u.nS, "generator": random}
    for name, build in (
        ("FixedProb", lambda: nd.FixedProb(20_000, 20_000, 0.01, **options)),
        ("FixedNum per pre", lambda: nd.FixedNum(20_000, 20_000, 200, **options)),
        (
            "FixedNum per post",
            lambda: nd.FixedNum(20_000, 20_000, 200, per="post", **options),
        ),
    ):
        start = time.perf_counter()
        connection = build()
        elapsed, n = time.perf_counter() - start, len(connection.indices)
        size = sum(buffer.nbytes for buffer in connection.buffers())
        print(f"{name}: {n} synapses in {elapsed:.2f} s, {size / n:.2f} bytes each")
    for scale in (1, 10, 100):
        net = vogels_abbott.coba(scale)
        vogels_abbott.run(net, 0.1 * u.s)
        steps = {1: 20_000, 10: 5_000, 100: 1_000}[scale]
        start = time.perf_counter()
        spikes = vogels_abbott.run(net, steps * 0.1 * u.ms)["spikes"]
        step = (time.perf_counter() - start) / steps
        rate = spikes.rates.to("Hz").magnitude.mean()
        print(f"COBA {4000 * scale}: {step * 1e6:.1f} us/step, {step / scale / 4e3 * 1e9:.2f} ns/neuron, {rate:.1f} Hz")


if __name__ == "__main__":
    main()
