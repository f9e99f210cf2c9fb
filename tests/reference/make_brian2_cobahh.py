"""Record ``brian2_cobahh.npz``: 400 Hodgkin-Huxley neurons of the benchmark COBAHH in Brian2, 0.1 s from one start.

Run once, in an environment of its own (``pip install brian2 "numpy<2.3"``): ``python make_brian2_cobahh.py``.

The equations are those of COBAHH in Brian2's documentation, its method is `exponential_euler`. It holds ``post``, the
80 targets of each neuron, the first ``excitatory`` of which excite; V (mV), g_E and g_I (nS) before the first step; V
of the neurons ``watched`` after each step, and ``steps`` and ``neurons`` of all spikes.
"""

from __future__ import annotations

from pathlib import Path

import brian2 as b2
import numpy as np

NEURONS, EXCITATORY, SYNAPSES, STEPS, WATCHED = 400, 320, 80, 1000, [0, 100, 399]

EQUATIONS = """
dv/dt = (10*nS*(-60*mV - v) + ge*(0*mV - v) + gi*(-80*mV - v)
    - 20*usiemens*m**3*h*(v - 50*mV) - 6*usiemens*n**4*(v + 90*mV))/(200*pF) : volt
dm/dt = am*(1 - m) - bm*m : 1
dh/dt = ah*(1 - h) - bh*h : 1
dn/dt = an*(1 - n) - bn*n : 1
dge/dt = -ge/(5*ms) : siemens
dgi/dt = -gi/(10*ms) : siemens
x = (v + 63*mV)/mV : 1
am = 0.32*4/exprel((13 - x)/4)/ms : Hz
bm = 0.28*5/exprel((x - 40)/5)/ms : Hz
ah = 0.128*exp((17 - x)/18)/ms : Hz
bh = 4/(1 + exp((40 - x)/5))/ms : Hz
an = 0.032*5/exprel((15 - x)/5)/ms : Hz
bn = 0.5*exp((10 - x)/40)/ms : Hz
"""


def main() -> None:
    b2.prefs.codegen.target = "numpy"
    b2.defaultclock.dt = 0.1 * b2.ms
    random = np.random.default_rng(5)
    post = np.stack([np.sort(random.choice(NEURONS, SYNAPSES, replace=False)) for _ in range(NEURONS)])
    V, g_E, g_I = random.standard_normal((3, NEURONS))
    V, g_E, g_I = -65 + 5 * V, 40 + 15 * g_E, 200 + 120 * g_I
    neurons = b2.NeuronGroup(
        NEURONS, EQUATIONS, threshold="v > -20*mV", refractory=3 * b2.ms, method="exponential_euler"
    )
    E = b2.Synapses(neurons[:EXCITATORY], neurons, on_pre="ge += 6*nS")
    I = b2.Synapses(neurons[EXCITATORY:], neurons, on_pre="gi += 67*nS")
    for synapses, targets in ((E, post[:EXCITATORY]), (I, post[EXCITATORY:])):
        synapses.connect(i=np.repeat(np.arange(len(targets)), SYNAPSES), j=targets.ravel())
    neurons.v, neurons.ge, neurons.gi = V * b2.mV, g_E * b2.nS, g_I * b2.nS
    trace = b2.StateMonitor(neurons, "v", record=WATCHED, when="end")
    spikes = b2.SpikeMonitor(neurons)
    network = b2.Network(neurons, E, I, trace, spikes)
    network.run(STEPS * b2.defaultclock.dt)
    path = Path(__file__).with_name("brian2_cobahh.npz")
    np.savez_compressed(
        path,
        post=post.astype(np.int16),
        excitatory=EXCITATORY,
        V=V,
        g_E=g_E,
        g_I=g_I,
        watched=WATCHED,
        trace=(trace.v / b2.mV).T,
        steps=np.round(spikes.t / b2.defaultclock.dt).astype(np.int16),
        neurons=np.asarray(spikes.i, np.int16),
    )
    print(f"{len(spikes.i)} spikes, {path.stat().st_size / 1000:.0f} kB, brian2 {b2.__version__}")


if __name__ == "__main__":
    main()
