"""Short versions of benchmarks/longevity.py: nothing grows with steps, windows or networks."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import nn

import neurodyn as nd
from benchmarks.longevity import graph_length
from neurodyn import units as u


def network(n: int = 10) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n, n), nd.LIF(n, tau=9 * u.ms, learn="tau"), nd.LeakyRateReadout(n, 2))


def test_windows_of_truncated_backpropagation_have_graphs_of_one_length() -> None:
    net, states, lengths = network(), None, []
    for _ in range(30):
        ys, states = nd.unroll(net, torch.rand(8, 2, 10), states=states, return_states=True)
        lengths.append(graph_length(ys))
        ys.sum().backward()
        states = {name: value.detach() for name, value in states.items()}
    assert len(set(lengths)) == 1
    assert lengths[0] < 20


def test_the_step_loop_keeps_no_graph_after_detach() -> None:
    net, lengths = network(), []
    nd.reset_states(net, 2)
    for _ in range(5):
        for _ in range(10):
            y = net(torch.rand(2, 10))
        lengths.append(graph_length(y))
        nd.detach_states(net)
    assert len(set(lengths)) == 1


def test_networks_share_programs_and_are_freed(compilations: list[int]) -> None:
    nd.unroll(network(), torch.rand(8, 2, 10)).sum().backward()
    before, alive = len(compilations), []
    for _ in range(50):
        net = network()
        nd.unroll(net, torch.rand(8, 3, 10)).sum().backward()
        alive.append(weakref.ref(net))
    del net
    gc.collect()
    assert len(compilations) == before
    assert sum(ref() is not None for ref in alive) == 0
