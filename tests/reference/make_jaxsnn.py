"""Records spike times and their gradients by jaxsnn, in jaxsnn.npz. Not part of the test run.

In an environment of its own: ``pip install jaxsnn==0.3.0`` (ran with jax 0.10.2), then
``python -P tests/reference/make_jaxsnn.py``; without -P the folder nir hides the package of that name.

The network: 4 inputs with two spikes each, 6 hidden neurons, 3 outputs, tau 10 ms and 5 ms of the synapses, for which
jaxsnn has a closed form of the next spike. The loss is the sum of the output's spike times, each times a number of its
own. jaxsnn has two gradients: by differentiating the closed form ("analytical"), which is exact, and by an adjoint
("eventprop"), which takes the reset to be at 0; here it is at -0.2, and the two differ by 8 and 14 %.
"""

import os
import sys
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from jaxsnn.event.modules import LIF, LIFParameters, Linear, Source
from jaxsnn.event.topology import Topology
from jaxsnn.event.types import Spike

SIZES, SPIKES, UNTIL = (4, 6, 3), 2, 25.0
STEPS = (60, 120)  # of events, for each layer
METHODS = ("analytical", "eventprop")


def build(weights, method):
    params = LIFParameters(tau_syn=5.0, tau_mem=10.0, v_th=1.0, v_reset=-0.2)
    net = Topology(t_max=UNTIL, backprop_method=method)
    net.add(
        {
            "inp": Source(SIZES[0]),
            "lif1": LIF(SIZES[1], STEPS[0], params),
            "lif2": LIF(SIZES[2], STEPS[1], params),
            "syn1": Linear(pre_weights=jnp.asarray(weights[0])),
            "syn2": Linear(pre_weights=jnp.asarray(weights[1])),
        }
    )
    net.connect([("inp", "syn1"), ("syn1", "lif1"), ("lif1", "syn2"), ("syn2", "lif2")])
    return net.done()


def given(times):
    """The input spikes in their order, for a batch of one."""
    order = np.argsort(times.ravel())
    return Spike(
        time=jnp.asarray(times.ravel()[order])[None],
        idx=jnp.asarray(order // SPIKES)[None],
        current=jnp.zeros((1, len(order))),
        layer_idx=jnp.zeros((1, len(order)), dtype=int),
        internal=jnp.ones((1, len(order)), dtype=bool),
    )


def main(path):
    random = np.random.default_rng(0)
    times = 15 * random.random((SIZES[0], SPIKES))
    weights = [random.normal(1.6, 0.8, SIZES[:2]), random.normal(1.0, 0.6, SIZES[1:])]  # (inputs, neurons)
    factors = random.normal(size=STEPS[1])
    found = {"times": times, "weight1": weights[0].T, "weight2": weights[1].T}
    for method in METHODS:
        init, apply = build(weights, method)
        start = init(jax.random.PRNGKey(0))

        def loss(parameters, apply=apply):
            events = apply({"inp": given(times)}, parameters)
            out, hidden = events["lif2"], events["lif1"]
            own = out.internal[0]
            rank = jnp.cumsum(own) - 1  # the k-th spike of the layer, of whichever neuron
            total = jnp.where(own, out.time[0] * jnp.asarray(factors)[rank], 0.0).sum()
            return total, (out.time[0], out.idx[0], own, hidden.internal[0].sum(), hidden.time[0, -1])

        (_, (time, index, own, hidden, last)), grads = jax.value_and_grad(loss, has_aux=True)(start)
        assert min(last, time[-1]) == UNTIL, "not all events fit"
        print(method, "spikes of hidden neurons", int(hidden), "of outputs", int(own.sum()))
        spikes = np.asarray(time)[np.asarray(own)]
        found |= {"spikes": spikes, "neurons": np.asarray(index)[np.asarray(own)], "factors": factors[: len(spikes)]}
        found |= {f"{method}{k}": np.asarray(grads[f"syn{k}"]).T for k in (1, 2)}
    for k in (1, 2):
        a, b = (found[f"{method}{k}"] for method in METHODS)
        print(f"weight {k}: analytical and eventprop differ by {np.abs(a - b).max() / np.abs(a).max():.1e}, relative")
    np.savez_compressed(path, **found)
    print({key: (value.dtype, value.shape) for key, value in found.items()})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("jaxsnn.npz"))
