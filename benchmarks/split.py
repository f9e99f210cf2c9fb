"""A population split over processes: microseconds per step of one and of two processes, one thread each, gloo.

Usage: python -m benchmarks.split [--seconds 0.5] [--rounds 3]

Brunel's network has delays of 15 steps, so spikes are exchanged every 15 steps; COBA exchanges them in every step. The
runs alternate; the time is that of the steps, without building and compiling.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import brunel, vogels_abbott


def networks() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]:
    return {
        "Brunel, 12,500 neurons": (lambda: brunel.Brunel(1, g=5), lambda net: net.external),
        "COBA, 40,000 neurons": (lambda: vogels_abbott.coba(10), lambda net: None),
    }


def measure(seconds: float) -> None:
    """What each process does: the first one prints."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for name, (build, inputs) in networks().items():
        net = build()
        steps = []
        for duration in (0.1, 0.1, 0.1 + seconds):  # the first compiles, the second is what a call costs besides steps
            start = time.perf_counter()
            recording = nd.distributed.simulate(net, duration * u.s, inputs(net), ["spikes"])
            steps.append(time.perf_counter() - start)
        if dist.get_rank() == 0:
            spikes = len(recording["spikes"])
            print(f"{name}|{(steps[2] - steps[1]) / seconds * 1e2}|{spikes}", flush=True)
        del net
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure(options.seconds)
        return
    found: dict[str, dict[int, list[float]]] = {name: {1: [], 2: []} for name in networks()}
    events: dict[str, set[str]] = {name: set() for name in networks()}
    for _ in range(options.rounds):
        for processes in (1, 2):
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
            command += [str(processes), "-m", "benchmarks.split", "--worker", "--seconds", str(options.seconds)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            for line in done.stdout.splitlines():
                name, micros, spikes = line.split("|")
                found[name][processes].append(float(micros))
                events[name].add(spikes)
    for name, times in found.items():
        one, two = statistics.median(times[1]), statistics.median(times[2])
        runs = "; ".join(", ".join(f"{t:.0f}" for t in times[n]) for n in (1, 2))
        same = "the same number of spikes" if len(events[name]) == 1 else f"spikes differ: {events[name]}"
        print(f"{name}: 1 process {one:.0f} us/step, 2 processes {two:.0f} ({runs}), {one / two:.2f} times; {same}")


if __name__ == "__main__":
    main()
