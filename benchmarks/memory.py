"""Ten minutes of a network of 1,000 neurons: memory, rate and finite states, minute by minute.

Usage: python -m benchmarks.memory [--minutes 10]
"""

from __future__ import annotations

import argparse
import gc
import time

import torch

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import brunel


def resident() -> float:
    """Memory of this process in MB."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    net = brunel.Brunel(0.08)
    states, step = brunel.run(net, 1 * u.s).states, 0  # compiles
    for minute in range(options.minutes):
        begin = time.perf_counter()
        watched = {"spikes": torch.arange(0, 1000, 10)}
        recording = nd.simulate(net, 60 * u.s, net.external, watched, states=states, start=step)
        states, step = recording.states, recording.step
        rate = recording["spikes"].rates.magnitude.mean().item()
        del recording
        finite = all(bool(state.isfinite().all()) for state in states.values())
        elapsed = time.perf_counter() - begin
        print(f"minute {minute + 1}: {rate:.2f} Hz, {resident():.1f} MB, finite: {finite}, {elapsed:.0f} s", flush=True)


if __name__ == "__main__":
    main()
