"""A trained synaptic chain: STP -> Linear 512x512 -> Expon -> COBA -> LIF, beside brainstate and the eager loop.

It stands in the middle of a network: the gradients of weights and of the input are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

from .remote import brainstate
from .timing import RECORDED, Comparison, Options, Work, alternate


def chain(size: int) -> nn.Module:
    """The chain, with positive weights that make it spike; the weights are trained."""
    connection = nn.Linear(size, size, bias=False)
    nn.init.uniform_(connection.weight, 0.0, 4.0 / size)
    return nn.Sequential(
        nd.Projection(connection, plasticity=nd.STP(size), synapse=nd.Expon(size), output=nd.COBA(E=3 * u.mV)),
        nd.LIF(size, **RECORDED),
    )


def spikes(T: int, batch: int, size: int) -> Tensor:
    """Independent spikes, each neuron in one step of ten."""
    return (torch.rand(T, batch, size) < 0.1).float()


def both(net: nn.Module, xs: Tensor, weight: Tensor, **how: Any) -> Callable[[], Any]:
    """Forward and backward: the gradients of all parameters and of the input."""
    wanted = [xs.detach().requires_grad_(), *net.parameters()]
    return lambda: torch.autograd.grad(nd.unroll(net, wanted[0], **how), wanted, weight)


def products(xs: Tensor, weight: Tensor, matrix: Tensor) -> Callable[[], Any]:
    """The three matrix products of such a step alone."""
    return lambda: (xs @ matrix.T, weight @ matrix, weight.flatten(0, 1).T @ xs.flatten(0, 1))


def run(options: Options) -> list[Comparison]:
    """Forward + backward."""
    T, batch, size = options.size(128, 3), options.size(32, 2), options.size(512, 4)
    torch.manual_seed(0)
    net, xs, weight = chain(size), spikes(T, batch, size), torch.rand(T, batch, size)
    work: dict[str, Work] = {
        "neurodyn": both(net, xs, weight),
        "neurodyn, checkpoint=64": both(net, xs, weight, checkpoint=64),
        "neurodyn, eager loop": both(net, xs, weight, compile=False),
    }
    if options.peers:
        work["brainstate"] = brainstate(options, "chain", T=T, batch=batch, size=size)
    matrix = next(net.parameters()).detach()
    work["matrix products alone"] = products(xs, weight, matrix)
    title = f"STP, Linear {size}x{size}, Expon, COBA, LIF, T={T}, batch {batch}, forward + backward"
    found = alternate(title, work, options, {"neurodyn, eager loop": 5, "brainstate": 3})
    print(found, flush=True)
    return [found]
