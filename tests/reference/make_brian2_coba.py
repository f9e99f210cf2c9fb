"""Record ``brian2_coba.npz``: five COBA networks of 4,000 neurons in Brian2 (C++ standalone), each from two starts.

Run once, in an environment of its own (``pip install brian2 "numpy<2.3"``): ``python make_brian2_coba.py``.

``counts[network, run]`` are the spikes of each neuron after the first half second, ``cv`` and ``rate`` (Hz) belong to
them; ``early_steps`` and ``early_neurons`` are the spikes of the first 0.2 s of network 0, run 0.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import brian2 as b2
import numpy as np
from coba_network import EXCITATORY, NEURONS, connections, irregularity, start

NETWORKS, RUNS, SECONDS, TRANSIENT, EARLY = 5, 2, 5.0, 5000, 2000


def record(seed: int, folder: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Steps and neurons of all spikes of each run."""
    b2.device.reinit()
    b2.device.activate(directory=folder, build_on_run=False)
    b2.defaultclock.dt = 0.1 * b2.ms
    neurons = b2.NeuronGroup(
        NEURONS,
        """dv/dt = (ge*(0*mV - v) + gi*(-80*mV - v) - (v + 60*mV))/(20*ms) : volt (unless refractory)
        dge/dt = -ge/(5*ms) : 1
        dgi/dt = -gi/(10*ms) : 1""",
        threshold="v >= -50*mV",
        reset="v = -60*mV",
        refractory=5 * b2.ms,
        method="exponential_euler",
    )
    E = b2.Synapses(neurons[:EXCITATORY], neurons, on_pre="ge += 0.6")
    I = b2.Synapses(neurons[EXCITATORY:], neurons, on_pre="gi += 6.7")
    for synapses, (pre, post) in zip((E, I), connections(seed), strict=True):
        synapses.connect(i=pre, j=post)
    spikes = b2.SpikeMonitor(neurons)
    V, g_E, g_I = start(seed, 0)
    neurons.v, neurons.ge, neurons.gi = V * b2.mV, g_E, g_I
    b2.run(SECONDS * b2.second)
    b2.device.build(directory=folder, run=False, compile=True, with_output=False)
    found = []
    for run in range(RUNS):
        V, g_E, g_I = start(seed, run)
        b2.device.run(run_args={neurons.v: V * b2.mV, neurons.ge: g_E, neurons.gi: g_I}, with_output=False)
        found.append((np.round(spikes.t / b2.defaultclock.dt).astype(np.int64), np.asarray(spikes.i)))
    return found


def main() -> None:
    b2.set_device("cpp_standalone", build_on_run=False)
    counts = np.zeros((NETWORKS, RUNS, NEURONS), np.int16)
    cv, facts = np.zeros((NETWORKS, RUNS)), {}
    for seed in range(NETWORKS):
        with tempfile.TemporaryDirectory() as folder:
            runs = record(seed, folder)
        for run, (steps, neurons) in enumerate(runs):
            if seed == run == 0:
                early = steps < EARLY
                facts = {"early_steps": steps[early].astype(np.int16), "early_neurons": neurons[early].astype(np.int16)}
            steps, neurons = steps[steps >= TRANSIENT], neurons[steps >= TRANSIENT]
            counts[seed, run] = np.bincount(neurons, minlength=NEURONS)
            cv[seed, run] = irregularity(steps, neurons)
            print(seed, run, counts[seed, run].mean() / (SECONDS - TRANSIENT * 1e-4), cv[seed, run], flush=True)
    window = SECONDS - TRANSIENT * 1e-4
    np.savez_compressed(
        Path(__file__).with_name("brian2_coba.npz"), counts=counts, cv=cv, rate=counts.mean(-1) / window,
        seconds=SECONDS, transient=TRANSIENT, early=EARLY, version=b2.__version__, **facts,
    )  # fmt: skip


if __name__ == "__main__":
    main()
