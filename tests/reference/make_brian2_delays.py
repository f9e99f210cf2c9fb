"""Records ``brian2_delays.npz`` with Brian2 2.9.0 (numpy < 2.3): STDP on synapses with delays of their own.

20 inputs and 5 outputs spike at random steps of 0.1 ms, and 60 of the 100 pairs have a synapse, with a delay of 0 to
3 ms.
`sent` is the sum of all that has arrived at each output: the weights at the arrivals.
"""

from pathlib import Path

import brian2 as b2
import numpy as np

N, M, STEPS = 20, 5, 1_000

if __name__ == "__main__":
    b2.prefs.codegen.target = "numpy"
    b2.defaultclock.dt = 0.1 * b2.ms
    rng = np.random.default_rng(1)
    pre, post = rng.random((STEPS, N)) < 0.02, rng.random((STEPS, M)) < 0.02
    pairs = np.sort(rng.choice(N * M, 60, replace=False))
    i, j, delay, start = pairs // M, pairs % M, rng.integers(0, 31, 60), rng.random(60)
    step, source = pre.nonzero()
    inputs = b2.SpikeGeneratorGroup(N, source, step * 0.1 * b2.ms)
    spiking = b2.TimedArray(post.astype(float), dt=0.1 * b2.ms)
    outputs = b2.NeuronGroup(M, "v = spiking(t, i) : 1\nsent : 1", threshold="v > 0.5", reset="")
    synapses = b2.Synapses(
        inputs,
        outputs,
        """w : 1
        dx/dt = -x / (20*ms) : 1 (event-driven)
        dy/dt = -y / (30*ms) : 1 (event-driven)""",
        on_pre="sent_post += w\nx += 1\nw = clip(w - 0.02 * y, 0, 1)",
        on_post="y += 1\nw = clip(w + 0.025 * x, 0, 1)",
    )
    synapses.connect(i=i, j=j)
    synapses.pre.delay, synapses.w = delay * 0.1 * b2.ms, start
    b2.run(STEPS * 0.1 * b2.ms)
    values = {"i": i, "j": j, "delay": delay, "start": start, "w": synapses.w[:], "sent": outputs.sent[:]}
    print(values["w"], values["sent"])
    path = Path(__file__).parent / "brian2_delays.npz"
    np.savez_compressed(path, pre=np.packbits(pre, 0), post=np.packbits(post, 0), **values)
