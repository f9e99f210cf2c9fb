"""Makes brian2_network.npz: 60 conductance-based neurons for 2,000 steps of 0.1 ms with Brian2 2.9.

Brian2 steps the neurons first, then delivers their spikes: a spike changes the conductances of the step after.
Run it in an environment of its own: ``pip install brian2 "numpy<2.3"``.
"""

from __future__ import annotations

from pathlib import Path

import brian2 as b2
import numpy as np

N, EXC, STEPS, RECORDED = 60, 48, 2000, [0, 7, 23, 50]

b2.prefs.codegen.target = "numpy"
b2.defaultclock.dt = 0.1 * b2.ms
random = np.random.default_rng(3)
V = random.uniform(-60, -50, N)
I = random.uniform(180, 320, N)
weights = {
    name: np.where(random.random((pre, N)) < 0.2, random.uniform(0.5, 1.5, (pre, N)) * size, 0)
    for name, pre, size in (("E", EXC, 2.0), ("I", N - EXC, 15.0))
}

neurons = b2.NeuronGroup(
    N,
    """dv/dt = (-60*mV - v + 100*Mohm*(ge*(0*mV - v) + gi*(-80*mV - v) + current))/(20*ms) : volt (unless refractory)
    dge/dt = -ge/(5*ms) : siemens
    dgi/dt = -gi/(10*ms) : siemens
    current : amp""",
    threshold="v >= -50*mV",
    reset="v = -60*mV",
    refractory=2 * b2.ms,
    method="exponential_euler",
)
neurons.v, neurons.current = V * b2.mV, I * b2.pA
network = b2.Network(neurons)
for name, group, g in (("E", neurons[:EXC], "ge"), ("I", neurons[EXC:], "gi")):
    synapses = b2.Synapses(group, neurons, "w : siemens", on_pre=f"{g} += w")
    pre, post = weights[name].nonzero()
    synapses.connect(i=pre, j=post)
    synapses.w = weights[name][pre, post] * b2.nS
    network.add(synapses)
trace = b2.StateMonitor(neurons, "v", record=RECORDED, when="end")
spikes = b2.SpikeMonitor(neurons)
network.add(trace, spikes)
network.run(STEPS * b2.defaultclock.dt)

np.savez_compressed(
    Path(__file__).with_name("brian2_network.npz"),
    V_initial=V,
    current=I,
    weight_E=weights["E"],
    weight_I=weights["I"],
    recorded=RECORDED,
    V=(trace.v / b2.mV).T,
    spike_step=np.round(spikes.t / b2.defaultclock.dt).astype(int),
    spike_neuron=np.asarray(spikes.i),
)
print(len(spikes.i), "spikes")
