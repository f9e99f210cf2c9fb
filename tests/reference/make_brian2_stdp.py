"""Records ``brian2_stdp.npz`` with Brian2 2.9 (``pip install brian2 "numpy<2.3"``): its example of STDP for 100 s.

1,000 Poisson inputs of 15 Hz onto one neuron, additive pair STDP (Song, Miller and Abbott 2000). The inputs are given,
see stdp_inputs.py, and the method is exponential Euler, which neurodyn has; the example leaves the choice to Brian2.
The file holds the steps of the neuron's spikes, and the weights after 2, 20 and 100 s. Takes some minutes.
"""

from __future__ import annotations

from pathlib import Path

import brian2 as b2
import numpy as np
from stdp_inputs import G_MAX, TIMES, N, inputs

b2.defaultclock.dt = 0.1 * b2.ms
steps, sources, start = inputs()
pre = b2.SpikeGeneratorGroup(N, sources, steps * b2.defaultclock.dt)
neuron = b2.NeuronGroup(
    1,
    """dv/dt = (ge*(0*mV - v) - 74*mV - v)/(10*ms) : volt
    dge/dt = -ge/(5*ms) : 1""",
    threshold="v > -54*mV",
    reset="v = -60*mV",
    method="exponential_euler",
)
neuron.v = -74 * b2.mV
synapses = b2.Synapses(
    pre,
    neuron,
    """w : 1
    dx/dt = -x/(20*ms) : 1 (event-driven)
    dy/dt = -y/(20*ms) : 1 (event-driven)""",
    on_pre="ge += w; x += 0.01*gmax; w = clip(w + y, 0, gmax)",
    on_post="y -= 0.0105*gmax; w = clip(w + x, 0, gmax)",
    namespace={"gmax": G_MAX},
)
synapses.connect()
synapses.w = start
spikes = b2.SpikeMonitor(neuron)
network, found, before = b2.Network(pre, neuron, synapses, spikes), {}, 0
for step in TIMES:
    network.run((step - before) * b2.defaultclock.dt, report="text")
    found[f"w_{step}"], before = np.array(synapses.w), step
print(len(steps), "inputs,", len(spikes.t), "spikes", {name: (w.mean(), w.std()) for name, w in found.items()})
np.savez_compressed(
    Path(__file__).with_name("brian2_stdp.npz"),
    version=b2.__version__,
    spikes=np.round(spikes.t / b2.defaultclock.dt).astype(np.int32),
    inputs=[len(steps), steps.sum(), sources.sum()],
    **found,
)
