"""The COBA network with plastic synapses beside Brian2 (C++ standalone): time of a step.

All 320,000 synapses at 4,000 neurons learn: the excitatory ones by pair STDP, the inhibitory ones by that of Vogels and
others. One thread, runs in turn, as in coba.py; weights are all the same in the beginning. Brian2 has the traces at the
synapses, updated at their spikes (event-driven), as in its own example of STDP.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples.vogels_abbott import VogelsAbbott

from .coba import mean_rate, peer
from .timing import Comparison, Options


class Learning(VogelsAbbott):
    """COBA whose synapses learn, up to twice their strength."""

    def __init__(self, scale: float = 1, seed: int = 0):
        super().__init__(scale, coba=True, seed=seed)
        with nd.default_dt(0.1 * u.ms):
            self.E.connection = nd.STDP(self.E.connection, w_max=12 * u.nS)
            self.I.connection = nd.VogelsSprekeler(self.I.connection, w_max=134 * u.nS)

    def forward(self) -> Tensor:
        spikes = super().forward()
        self.E.learn(spikes)
        self.I.learn(spikes)
        return spikes


def ours(scale: float, seconds: float, seed: int) -> tuple[float, np.ndarray, list[float]]:
    """Seconds that the steps took, the step of each spike, and the mean weights."""
    net = Learning(scale, seed)
    nd.simulate(net, seconds / 20 * u.s, record=("spikes",), progress=False)  # the first network compiles
    start = time.process_time()
    spikes = nd.simulate(net, seconds * u.s, record=("spikes",), progress=False)["spikes"]
    elapsed = time.process_time() - start
    means = [projection.connection.weight.mean().item() / weight for projection, weight in ((net.E, 10), (net.I, 10))]
    return elapsed, spikes.steps.numpy(), means


def run(options: Options) -> list[Comparison]:
    """Time of a step, the rates, and the mean weights."""
    scale, seconds, rounds = (0.02, 0.02, 1) if options.toy else (1, 2.0, max(2, options.rounds // 2))
    n, steps, threads = round(4000 * scale), round(seconds * 1e4), torch.get_num_threads()
    title = f"plastic COBA, {n} neurons, {n * 80} synapses, {seconds:g} s, one thread"
    comparison = Comparison(title, {"neurodyn": []}, {"brian2": 1.5}, unit="us/step")
    names = ["neurodyn"]
    python = Path(options.peers or "") / "brian2/bin/python"
    if options.peers and not python.exists():
        comparison.absent["brian2"] = "not installed, see benchmarks/peers.sh"
    elif options.peers:
        names.append("brian2")
        comparison.costs["brian2"] = []
    torch.set_num_threads(1)
    lines = []
    for k in range(rounds):
        for name in names:
            if name == "neurodyn":
                elapsed, fired, weights = ours(scale, seconds, k)
            else:
                elapsed, fired, weights = peer(python, "brian2_plastic", scale, seconds)
            comparison.costs[name].append(elapsed / steps * 1e6)
            lines.append(
                f"  {name}: {mean_rate(fired, n, steps):.2f} Hz, mean weights {weights[0]:.3f} and {weights[1]:.3f}"
            )
    torch.set_num_threads(threads)
    print(comparison, *lines, sep="\n", flush=True)
    return [comparison]
