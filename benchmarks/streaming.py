"""One step at a time from Python, as a robot or a live sensor needs it: batch 1, 100 neurons, no gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import neurodyn as nd

from .timing import RECORDED, Comparison, Options, Work, alternate


def calls(step: Callable[[Tensor], Any], x: Tensor, n: int) -> Callable[[], None]:
    """The work of n calls of `step`."""

    def run() -> None:
        with torch.no_grad():
            for _ in range(n):
                step(x)

    return run


def snntorch(size: int) -> Callable[[Tensor], Any]:
    import snntorch

    neuron = snntorch.Leaky(0.8, init_hidden=True)
    return lambda x: neuron(x)


def run(options: Options) -> list[Comparison]:
    """A layer as it is, and compiled."""
    n, size = options.size(10_000, 3), 100
    x = 1 + 2 * torch.randn(1, size)
    peer: Work = "not measured"
    if options.peers:
        try:
            peer = calls(snntorch(size), x, n)
        except ImportError:
            peer = "not installed, see benchmarks/peers.sh"
    eager, streamed = nd.LIF(size, **RECORDED), nd.LIF(size, **RECORDED)
    compiled = torch.compile(nd.LIF(size, **RECORDED))
    eager.reset_state(1)
    name = f"streaming: {n} steps of {size} LIF neurons, batch 1"
    found = [alternate(f"{name}, eager", {"neurodyn": calls(eager, x, n), "snnTorch": peer}, options, {"snnTorch": 1})]
    if not options.toy:
        work = {
            "neurodyn": calls(nd.Stream(streamed, x), x, n),
            "neurodyn, torch.compile(layer)": calls(compiled, x, n),
            "snnTorch, eager": peer,
        }
        found.append(alternate(f"{name}, compiled: nd.Stream(layer)", work, options, {"snnTorch, eager": 3}))
    for comparison in found:
        print(comparison, flush=True)
    return found
