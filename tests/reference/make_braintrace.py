"""Records gradients of D-RTRL and ES-D-RTRL by braintrace, in braintrace.npz. Not part of the test run.

In an environment of its own: ``pip install braintrace==0.2.6`` (ran with jax 0.10.2, brainstate 0.5.4), then
``python tests/reference/make_braintrace.py``.

The network: a layer of adaptive rate neurons with recurrence, and a linear readout; in step t

    V <- 0.8 V + 0.2 (W x + R tanh(V) + b) - 0.3 a,   a <- 0.9 a + 0.1 tanh(V),   y = O tanh(V) + c

and the loss is the sum of y * w over all steps. W and R are one matrix that acts on x and tanh(V), one after the other.
"""

import os
import sys
from pathlib import Path

os.environ["JAX_ENABLE_X64"] = "1"
os.environ["JAX_PLATFORMS"] = "cpu"

import brainstate
import braintrace
import jax.numpy as jnp
import numpy as np

IN, N, OUT, T = 3, 5, 2, 25
brainstate.environ.set(precision=64)


class Layer(brainstate.nn.Module):
    def __init__(self, weights):
        super().__init__()

        def fixed(value):
            return lambda *shape, **_: jnp.asarray(value)

        matrix = np.concatenate((weights["W"], weights["R"]), 1).T
        self.map = braintrace.nn.Linear(IN + N, N, w_init=fixed(matrix), b_init=fixed(weights["b"]))
        self.out = braintrace.nn.Linear(N, OUT, w_init=fixed(weights["O"].T), b_init=fixed(weights["c"]))

    def init_state(self, *args, **kwargs):
        self.V = brainstate.HiddenState(jnp.zeros(N))
        self.a = brainstate.HiddenState(jnp.zeros(N))

    def update(self, x):
        V, a = self.V.value, self.a.value
        V = 0.8 * V + 0.2 * self.map(jnp.concatenate((x, jnp.tanh(V)))) - 0.3 * a
        self.V.value, self.a.value = V, 0.9 * a + 0.1 * jnp.tanh(V)
        return self.out(jnp.tanh(V))


def main(path):
    random = np.random.default_rng(0)
    shapes = {"W": (N, IN), "R": (N, N), "b": (N,), "O": (OUT, N), "c": (OUT,)}
    weights = {name: random.normal(size=shape) * 0.7 for name, shape in shapes.items()}
    xs, w = random.normal(size=(T, IN)), random.normal(size=(T, OUT))
    found = {f"weight_{name}": value for name, value in weights.items()} | {"xs": xs, "w": w}
    rules = {"d_rtrl": (braintrace.D_RTRL, {}), "es_d_rtrl": (braintrace.ES_D_RTRL, {"decay_or_rank": 0.9})}
    for name, (rule, options) in rules.items():
        net = Layer(weights)
        brainstate.nn.init_all_states(net)
        learner = braintrace.compile(net, rule, xs[0], **options)

        def loss(x, w, learner=learner):
            return (learner(x) * w).sum()

        grads = learner.etrace_grad(jnp.asarray(xs), jnp.asarray(w), step_fn=loss, reduction="sum")
        (value,) = [value for key, value in grads.items() if "map" in key]  # for the readout it returns zeros
        matrix = np.asarray(value["weight"]).T
        found |= {f"{name}_W": matrix[:, :IN], f"{name}_R": matrix[:, IN:], f"{name}_b": np.asarray(value["bias"])}
    np.savez_compressed(path, **found)
    print({key: (value.dtype, value.shape) for key, value in found.items()})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("braintrace.npz"))
