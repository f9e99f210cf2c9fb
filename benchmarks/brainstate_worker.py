"""brainstate 0.1.3's side of the benchmarks: a process of its own, in an environment that has brainstate.

It reads lines of JSON from its input: ``{"build": name, ...}`` prepares one of the functions below, calls it twice and
answers ``{"key": ...}``; ``{"call": key, "cpu": false}`` calls it once and answers ``{"ms": ...}``. Errors are ``{"error": ...}``.
Everything is compiled by jit and waited for; loops are written out twice, which was the fastest of 1, 2, 4 and 8.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NPROC", os.environ.get("OMP_NUM_THREADS", "2"))  # threads of XLA

import brainstate as bst
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

UNROLL = 2
random = np.random.default_rng(0)


def normal(*shape: int, mean: float = 0.0, std: float = 1.0, dtype: Any = np.float32) -> jax.Array:
    return jnp.asarray(random.normal(mean, std, shape).astype(np.float32)).astype(dtype)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, dtype: Any = np.float32) -> jax.Array:
    return jnp.asarray(random.uniform(low, high, shape).astype(np.float32)).astype(dtype)


def loop(step: Callable, xs: jax.Array) -> jax.Array:
    return bst.compile.for_loop(step, xs, unroll=UNROLL)


def layer(T: int, batch: int, size: int, backward: bool, learn: bool, dtype: str) -> Callable:
    bst.environ.set(precision={"float64": 64, "bfloat16": "bf16"}.get(dtype, 32))
    xs, weight = normal(T, batch, size, mean=1.0, std=2.0, dtype=dtype), uniform(T, batch, size, dtype=dtype)
    tau = uniform(size, low=4.0, high=6.0, dtype=dtype)
    lif = bst.nn.LIF(size, tau=tau * u.ms if learn else 5.0 * u.ms)

    def run(xs: jax.Array, tau: jax.Array) -> jax.Array:
        if learn:
            lif.tau = tau * u.ms
        bst.nn.init_all_states(lif, batch)
        return loop(lambda x: lif.update(x * u.mA), xs)

    if not backward:
        forward = bst.compile.jit(run)
        return lambda: forward(xs, tau)
    wanted = (0, 2) if learn else 0
    grad = bst.augment.grad(lambda xs, weight, tau: (run(xs, tau) * weight).sum(), argnums=wanted)
    both = bst.compile.jit(grad)
    return lambda: both(xs, weight, tau)


def chain(T: int, batch: int, size: int) -> Callable:
    weight = uniform(T, batch, size)
    xs = jnp.asarray((random.random((T, batch, size)) < 0.1).astype(np.float32))
    stp, lif = bst.nn.STP(size), bst.nn.LIF(size, R=1e3 * u.ohm)
    linear = bst.nn.Linear(size, size, w_init=uniform(size, size, high=4.0 / size) * u.mS, b_init=None)
    projection = bst.nn.AlignPostProj(
        comm=linear, syn=bst.nn.Expon.desc(size), out=bst.nn.COBA.desc(E=3.0 * u.mV), post=lif
    )

    def step(spike: jax.Array) -> jax.Array:
        projection(stp(spike))
        return lif()

    def loss(xs: jax.Array, weight: jax.Array) -> jax.Array:
        for part in (stp, projection, lif):
            bst.nn.init_all_states(part, batch)
        return (loop(step, xs) * weight).sum()

    both = bst.compile.jit(bst.augment.grad(loss, linear.states(bst.ParamState)))
    return lambda: both(xs, weight)


class Network(bst.nn.Module):
    """Input and feedback are weighted together, feedback through an exponential synapse; the spikes are read out."""

    def __init__(self, features: int, size: int, classes: int):
        super().__init__()
        self.into = bst.nn.Linear(features, size, w_init=bst.init.KaimingNormal())
        self.cell = bst.nn.LIF(size, tau=5.0 * u.ms)
        self.feedback = bst.nn.AlignPostProj(
            comm=bst.nn.Linear(size, size, w_init=bst.init.KaimingNormal(scale=0.1, unit=u.mS), b_init=None),
            syn=bst.nn.Expon.desc(size, tau=8.0 * u.ms),
            out=bst.nn.CUBA.desc(scale=1.0 * u.volt),  # mS * V = mA, which flows through 1 ohm
            post=self.cell,
        )
        self.readout = bst.nn.LeakyRateReadout(size, classes, tau=20.0 * u.ms)

    def update(self, current: jax.Array) -> jax.Array:
        self.feedback(self.cell.get_spike())
        return self.readout(self.cell(current * u.mA))


def recurrent(T: int, batch: int, features: int, size: int, classes: int) -> Callable:
    xs, net = normal(T, batch, features, std=2.0), Network(features, size, classes)
    bst.nn.init_all_states(net, batch)
    weights = net.states(bst.ParamState)
    adam = bst.optim.Adam(1e-3)
    adam.register_trainable_weights(weights)

    def loss(xs: jax.Array) -> jax.Array:
        bst.nn.reset_all_states(net, batch)
        return (loop(net.update, net.into(xs)) ** 2).mean()

    @bst.compile.jit
    def train(xs: jax.Array) -> None:
        adam.update(bst.augment.grad(loss, weights)(xs))

    def step() -> Any:
        train(xs)
        return [state.value for state in weights.values()]

    return step


BUILD = {"layer": layer, "chain": chain, "recurrent": recurrent}


def answer(request: dict[str, Any], built: list[Callable]) -> dict[str, Any]:
    if "build" in request:
        call = BUILD[request.pop("build")](**request)
        jax.block_until_ready(call())
        jax.block_until_ready(call())
        built.append(call)
        return {"key": len(built) - 1}
    clock = time.process_time if request["cpu"] else time.perf_counter
    start = clock()
    jax.block_until_ready(built[request["call"]]())
    return {"ms": 1e3 * (clock() - start)}


def main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    bst.environ.set(dt=1.0 * u.ms)
    built: list[Callable] = []
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line), built)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
        print(json.dumps(reply), file=out, flush=True)


if __name__ == "__main__":
    main()
