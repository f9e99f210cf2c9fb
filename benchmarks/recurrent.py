"""A recurrent network in training: 12 -> 512 LIF with recurrent Expon synapses -> leaky readout, one Adam step.

In every library the input layer and the readout layer run once on all steps, where that is possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

from .remote import brainstate
from .timing import RECORDED, Comparison, Options, Work, alternate

TAU, TAU_SYN, TAU_OUT, CLASSES = 5.0, 8.0, 20.0, 10


def training(net: Callable[[Tensor], Tensor], parameters: list[nn.Parameter], xs: Tensor) -> Callable[[], None]:
    """The work of one step of training."""
    optimizer = torch.optim.Adam(parameters, 1e-3)

    def step() -> None:
        optimizer.zero_grad()
        net(xs).square().mean().backward()
        optimizer.step()

    return step


def neurodyn(features: int, size: int) -> tuple[Callable[[Tensor], Tensor], list[nn.Parameter]]:
    feedback = nd.Projection(nn.Linear(size, size, bias=False), synapse=nd.Expon(size, tau=TAU_SYN * u.ms))
    net = nn.Sequential(
        nn.Linear(features, size),
        nd.Recurrent(nd.LIF(size, tau=TAU * u.ms, **RECORDED), feedback),
        nd.LeakyRateReadout(size, CLASSES, tau=TAU_OUT * u.ms),
    )
    return lambda xs: nd.unroll(net, xs), list(net.parameters())


def leaky(xs: Tensor) -> Tensor:
    """A leaky readout as a loop."""
    r, rs = torch.zeros_like(xs[0]), []
    for x in xs:
        r = math.exp(-1 / TAU_OUT) * r + x
        rs.append(r)
    return torch.stack(rs)


def snntorch(features: int, size: int) -> tuple[Callable[[Tensor], Tensor], list[nn.Parameter]]:
    """`RSynaptic`, which filters input and feedback."""
    import snntorch

    into, out = nn.Linear(features, size), nn.Linear(size, CLASSES, bias=False)
    grad = snntorch.surrogate.fast_sigmoid()
    cell = snntorch.RSynaptic(math.exp(-1 / TAU_SYN), math.exp(-1 / TAU), linear_features=size, spike_grad=grad)

    def run(xs: Tensor) -> Tensor:
        spike, syn, mem = (torch.zeros(xs.shape[1], size) for _ in range(3))
        spikes = []
        for x in into(xs):
            spike, syn, mem = cell(x, spike, syn, mem)
            spikes.append(spike)
        return leaky(out(torch.stack(spikes)))

    return run, [*into.parameters(), *cell.recurrent.parameters(), *out.parameters()]


def spikingjelly(features: int, size: int) -> tuple[Callable[[Tensor], Tensor], list[nn.Parameter]]:
    """`LIFNode` and `SynapseFilter`, step by step."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.back = nn.Linear(features, size), nn.Linear(size, size, bias=False)
            self.out = nn.Linear(size, CLASSES, bias=False)
            self.synapse = layer.SynapseFilter(TAU_SYN)
            self.cell = neuron.LIFNode(TAU, v_reset=None, surrogate_function=surrogate.PiecewiseQuadratic())

        def forward(self, xs: Tensor) -> Tensor:
            functional.reset_net(self)
            spike, spikes = torch.zeros(xs.shape[1], size), []
            for x in self.into(xs):
                spike = self.cell(x + self.synapse(self.back(spike)))
                spikes.append(spike)
            return leaky(self.out(torch.stack(spikes)))

    net = Net()
    return net, list(net.parameters())


def products(T: int, batch: int, features: int, size: int) -> Callable[[], None]:
    """The matrix products alone, of spikes and of their gradients step by step, of weights and inputs all at once."""
    xs, spikes = torch.rand(T, batch, features), torch.rand(T, batch, size)
    into, back, out = torch.rand(size, features), torch.rand(size, size), torch.rand(CLASSES, size)
    grad = torch.rand(T, batch, CLASSES)

    def run() -> None:
        xs @ into.T
        for spike in spikes:
            spike @ back.T
        spikes @ out.T
        grad @ out
        for spike in spikes:
            spike @ back
        flat = spikes.flatten(0, 1)
        grad.flatten(0, 1).T @ flat
        flat.T @ flat
        flat.T @ xs.flatten(0, 1)

    return run


def run(options: Options) -> list[Comparison]:
    """One step of training."""
    T, batch, features, size = options.size(250, 3), options.size(64, 2), 12, options.size(512, 4)
    torch.manual_seed(0)
    xs = 2 * torch.randn(T, batch, features)
    work: dict[str, Work] = {"neurodyn": training(*neurodyn(features, size), xs)}
    for name, make in (("snnTorch", snntorch), ("SpikingJelly", spikingjelly)) if options.peers else ():
        try:
            work[name] = training(*make(features, size), xs)
        except ImportError:
            work[name] = "not installed, see benchmarks/peers.sh"
    if options.peers:
        arguments: dict[str, Any] = {"T": T, "batch": batch, "features": features, "size": size, "classes": CLASSES}
        work["brainstate"] = brainstate(options, "recurrent", **arguments)
    work["matrix products alone"] = products(T, batch, features, size)
    bars = {"snnTorch": 3.0, "SpikingJelly": 3.0, "brainstate": 1.5, "matrix products alone": 0.5}
    title = f"{features} -> {size} recurrent LIF with Expon -> {CLASSES}, T={T}, batch {batch}, one Adam step"
    found = alternate(title, work, options, bars)
    print(found, flush=True)
    return [found]
