"""Long runs: memory and graphs stay as they are over a million steps, a thousand windows, and 200 networks.

Usage: python -m benchmarks.longevity
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import program_cache


def network(n: int = 100) -> nn.Module:
    return nn.Sequential(
        nn.Linear(n, n),
        nd.LIF(n, tau=nd.init.Normal(10 * u.ms, 1 * u.ms), learn="tau"),
        nd.Projection(
            nn.Linear(n, n, bias=False), plasticity=nd.STP(n), synapse=nd.Expon(n), output=nd.CUBA(scale=20 * u.mV)
        ),
        nd.LIF(n),
    )


def graph_length(y: Tensor) -> int:
    """Nodes of the graph behind `y`."""
    found, open_ = set(), [y.grad_fn]
    while open_:
        node = open_.pop()
        if node is not None and node not in found:
            found.add(node)
            open_ += [next_ for next_, _ in node.next_functions]
    return len(found)


def simulated(net: nn.Module, steps: int) -> Callable[[int], float]:
    """Simulates `steps` at a time and returns the rate in Hz."""
    held: dict = {"states": None, "start": 0}

    def inputs(first: int, n: int, generator: torch.Generator) -> Tensor:
        return 30 * torch.rand(n, 100, generator=generator)

    def part(_: int) -> float:
        recording = nd.simulate(net, steps * u.ms, inputs, ["spikes"], progress=False, **held)
        held.update(states=recording.states, start=recording.step)
        return float(recording["spikes"].rates.magnitude.mean())

    return part


def trained(net: nn.Module) -> Callable[[int], float]:
    """One window of truncated backpropagation, which goes on from the states of the last; the graph's length."""
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
    held: dict = {"states": None}

    def window(_: int) -> float:
        ys, states = nd.unroll(net, 30 * torch.rand(16, 4, 100), return_states=True, **held)
        held["states"] = {name: value.detach() for name, value in states.items()}
        length = graph_length(ys)
        optimizer.zero_grad()
        ys.mean().backward()
        optimizer.step()
        return length

    return window


def made(_: int) -> float:
    """A network that is trained for a step and dropped; the number of compiled programs."""
    net = network()
    nd.unroll(net, torch.rand(16, 4, 100)).mean().backward()
    return program_cache.how_many()


def run(name: str, work: Callable[[int], float], times: int, warm: int) -> tuple[float, list[float]]:
    """Growth of the resident memory in MB after `warm` calls, and what the calls returned."""
    import psutil

    process, found = psutil.Process(), [work(i) for i in range(warm)]
    gc.collect()
    before, start = process.memory_info().rss, time.perf_counter()
    found += [work(i) for i in range(warm, times)]
    gc.collect()
    growth = (process.memory_info().rss - before) / 1e6
    seconds = time.perf_counter() - start
    print(f"{name}: {growth:+.1f} MB, values {found[warm]:g} to {found[-1]:g}, {seconds:.0f} s", flush=True)
    return growth, found


def main() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        run("1,000,000 steps, rate of the last layer in Hz", simulated(network(), 10_000), 100, 5)
    run("1,000 training windows, nodes in the graph", trained(network()), 1000, 50)
    run("200 networks made and dropped, programs", made, 200, 20)


if __name__ == "__main__":
    main()
