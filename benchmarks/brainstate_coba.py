"""The COBA network in brainstate; run by coba.py in an environment that has brainstate 0.1.3.

Usage: python brainstate_coba.py SCALE SECONDS FOLDER. Compiles and runs 0.1 s, goes on for SECONDS, and saves spikes
and time of that as FOLDER/run.npz. Each step returns which neurons spiked; 1,000 steps are one compiled program.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import brainstate as bst
import brainunit as bu
import jax.numpy as jnp
import numpy as np

scale, seconds, folder = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
n, exc = 4000 * scale, 3200 * scale
dt, chunk = 0.1 * bu.ms, 1000
bst.environ.set(dt=dt)


class Net(bst.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neurons = bst.nn.LIFRef(
            n, R=1 * bu.kohm, tau=20 * bu.ms, V_rest=-60 * bu.mV, V_th=-50 * bu.mV, V_reset=-60 * bu.mV,
            tau_ref=5 * bu.ms, spk_reset="hard", V_initializer=bst.init.Normal(-65.0, 5.0, unit=bu.mV),
        )  # fmt: skip
        self.E = self.projection(exc, 0.6, 5, 0, bst.init.Normal(4.0, 1.5, unit=bu.mS))
        self.I = self.projection(n - exc, 6.7, 10, -80, bst.init.Normal(20.0, 12.0, unit=bu.mS))

    def projection(self, pre: int, weight: float, tau: float, E: float, start: object) -> bst.nn.AlignPostProj:
        return bst.nn.AlignPostProj(
            comm=bst.nn.EventFixedProb(pre, n, 80 / n, weight * bu.mS),
            syn=bst.nn.Expon(n, tau=tau * bu.ms, g_initializer=start),
            out=bst.nn.COBA(E=E * bu.mV),
            post=self.neurons,
        )

    def update(self, i: object) -> object:
        with bst.environ.context(i=i, t=i * dt):
            spikes = self.neurons.get_spike() != 0
            self.E(spikes[:exc])
            self.I(spikes[exc:])
            return self.neurons() != 0


net = Net()
bst.nn.init_all_states(net)
run = bst.compile.jit(lambda first: bst.compile.for_loop(net.update, first + jnp.arange(chunk)))
np.asarray(run(0))  # compiles
elapsed, steps, neurons = 0.0, [], []
for first in range(0, round(seconds * 1e4), chunk):
    start = time.process_time()
    fired = np.asarray(run(first + chunk))
    elapsed += time.process_time() - start
    step, neuron = fired.nonzero()
    steps.append(first + step)
    neurons.append(neuron)
np.savez(folder / "run.npz", elapsed=elapsed, steps=np.concatenate(steps), neurons=np.concatenate(neurons))
