"""Makes brian2_gamma.npz: Wang and Buzsaki's 100 interneurons for 10,000 steps of 0.01 ms with Brian2 2.9.

Its method exponential_euler wants equations that are linear in their own variable, which m at its steady state is not;
so m is computed from V at the start of each step. All equations see V, h, n and s from before the step.
Run it in an environment of its own: ``pip install brian2 "numpy<2.3"``.
"""

from __future__ import annotations

from pathlib import Path

import brian2 as b2
import numpy as np

N, STEPS, EVERY, RECORDED = 100, 10_000, 50, [0, 33, 71]

b2.prefs.codegen.target = "numpy"
b2.defaultclock.dt = 0.01 * b2.ms
random = np.random.default_rng(5)
V, drive = random.uniform(-70, -50, N), random.normal(1, 0.03, N)
connected = random.random((N, N)) < 60 / (N - 1)
np.fill_diagonal(connected, False)
pre, post = connected.nonzero()
weight = 0.1 / connected.sum(0)[post]

neurons = b2.NeuronGroup(
    N,
    """dv/dt = (35*nS*m**3*h*(55*mV - v) + 9*nS*n**4*(-90*mV - v) + 0.1*nS*(-65*mV - v) + g*(-75*mV - v) + current)
               / (1*pF) : volt
    dh/dt = 5*(alpha_h*(1 - h) - beta_h*h) : 1
    dn/dt = 5*(alpha_n*(1 - n) - beta_n*n) : 1
    ds/dt = 12/ms/(1 + exp(-v/(2*mV)))*(1 - s) - 0.1/ms*s : 1
    alpha_h = 0.07*exp(-(v + 58*mV)/(20*mV))/ms : Hz
    beta_h = 1/(exp(-0.1/mV*(v + 28*mV)) + 1)/ms : Hz
    alpha_n = 0.1/exprel(-(v + 34*mV)/(10*mV))/ms : Hz
    beta_n = 0.125*exp(-(v + 44*mV)/(80*mV))/ms : Hz
    alpha_m = 1/exprel(-(v + 35*mV)/(10*mV))/ms : Hz
    beta_m = 4*exp(-(v + 60*mV)/(18*mV))/ms : Hz
    m : 1
    g : siemens
    current : amp""",
    threshold="v >= 0*mV",
    refractory="v >= 0*mV",
    method="exponential_euler",
    namespace={"nS": b2.nS, "pF": b2.pF},
)
neurons.run_regularly("m = alpha_m/(alpha_m + beta_m)", when="start")
neurons.v, neurons.current = V * b2.mV, drive * b2.pA
neurons.h, neurons.n = "alpha_h/(alpha_h + beta_h)", "alpha_n/(alpha_n + beta_n)"
synapses = b2.Synapses(neurons, neurons, "w : siemens\ng_post = w*s_pre : siemens (summed)")
synapses.connect(i=pre, j=post)
synapses.w = weight * b2.nS
trace = b2.StateMonitor(neurons, "v", record=RECORDED, when="end", dt=EVERY * b2.defaultclock.dt)
spikes = b2.SpikeMonitor(neurons)
network = b2.Network(neurons, synapses, trace, spikes)
network.run(STEPS * b2.defaultclock.dt)

np.savez_compressed(
    Path(__file__).with_name("brian2_gamma.npz"),
    V_initial=V,
    drive=drive,
    pre=pre.astype(np.uint8),
    post=post.astype(np.uint8),
    recorded=RECORDED,
    every=EVERY,
    V=(trace.v / b2.mV).T,
    spike_step=np.round(spikes.t / b2.defaultclock.dt).astype(int),
    spike_neuron=np.asarray(spikes.i),
)
print(len(spikes.i), "spikes")
