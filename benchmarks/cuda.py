"""The same on an NVIDIA GPU; without one every row says "not measured"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from neurodyn import units as u
from neurodyn.examples import vogels_abbott

from . import chain, torch_peers
from .layer import both, neurodyn, of_peer
from .timing import Comparison, Options, Work, alternate

DEVICE = "cuda"
STORAGE = {torch.float16: "fp16", torch.bfloat16: "bf16"}


def finished(work: Work) -> Work:
    """The same work, until the device has done it."""
    if isinstance(work, str):
        return work

    def call() -> None:
        work()
        torch.cuda.synchronize()

    return call


def layers(options: Options, T: int, shape: tuple[int, int], dtype: torch.dtype, linear: bool) -> Comparison:
    """LIF, behind a linear layer or not, beside SpikingJelly, which takes its Triton kernels on a GPU."""
    batch, size = shape
    xs = (1 + 2 * torch.randn(T, batch, size, device=DEVICE)).to(dtype)
    weight = torch.rand(T, batch, size, device=DEVICE).to(dtype)
    matrix = nn.Linear(size, size, device=DEVICE, dtype=dtype) if linear else nn.Identity()
    arguments = size, False, dtype, DEVICE
    makers = {"neurodyn": of_peer(neurodyn, *arguments)}
    if options.peers and dtype == torch.float32:
        makers["SpikingJelly"] = of_peer(torch_peers.spikingjelly, *arguments)
    elif options.peers:
        makers["SpikingJelly"] = of_peer(torch_peers.spikingjelly, *arguments, "fp32")
        makers["SpikingJelly, 16-bit state"] = of_peer(torch_peers.spikingjelly, *arguments, STORAGE[dtype])

    def training(run: Callable, parameters: list) -> Callable[[], Any]:
        return both(lambda xs: run(matrix(xs)), [*matrix.parameters(), *parameters], xs, weight)

    work = {name: finished(make(training)) for name, make in makers.items()}
    work["streaming the same bytes"] = finished(lambda: (xs * 2, xs * weight))
    name = f"{'Linear, ' * linear}LIF, T={T}, batch {batch}, {size} neurons, {str(dtype)[6:]}, forward + backward"
    return alternate(name, work, options, dict.fromkeys(list(makers)[1:], 1.0) if T >= 8 else {})


def synapses(options: Options) -> Comparison:
    net = chain.chain(512).to(DEVICE)
    xs, weight = chain.spikes(128, 32, 512).to(DEVICE), torch.rand(128, 32, 512, device=DEVICE)
    work: dict[str, Work] = {
        "neurodyn": finished(chain.both(net, xs, weight)),
        "neurodyn, eager loop": finished(chain.both(net, xs, weight, compile=False)),
        "matrix products alone": finished(chain.products(xs, weight, next(net.parameters()).detach())),
    }
    return alternate("STP, Linear 512x512, Expon, COBA, LIF, T=128, batch 32, forward + backward", work, options)


def simulation(options: Options) -> Comparison:
    """COBA with 400,000 neurons, 100 ms, beside a copy of what a step has to read and write: V, two g, the hold."""
    net = vogels_abbott.coba(100).to(DEVICE)
    states = torch.rand(1000, 4, 400_000, device=DEVICE)
    work: dict[str, Work] = {
        "neurodyn": finished(lambda: vogels_abbott.run(net, 100 * u.ms)),
        "states read and written": finished(lambda: [state.mul_(0.9) for state in states]),
    }
    return alternate("COBA, 400,000 neurons, 1,000 steps", work, options)


def rows(options: Options) -> Iterator[Comparison]:
    """All rows, the last one of a layer so small that launches bound it."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for T in (4, 8, 16, 32):
            yield layers(options, T, (64, 65_536), dtype, linear=False)
    yield layers(options, 500, (16, 16_384), torch.float32, linear=True)
    yield synapses(options)
    yield simulation(options)
    yield layers(options, 128, (32, 1024), torch.float32, linear=False)


def run(options: Options) -> list[Comparison]:
    """All rows, or that there is no GPU."""
    none = Comparison("CUDA", {}, absent={"all rows": "not measured: there is no NVIDIA GPU here"})
    found = []
    for row in rows(options) if torch.cuda.is_available() and not options.toy else [none]:
        print(row, flush=True)
        found.append(row)
    return found
