"""Memory does not grow with the number of steps."""

from __future__ import annotations

import contextlib
import gc

import pytest
import torch
from torch import nn

import neurodyn as nd

RULES = [nd.online.DRTRL, nd.online.ESDRTRL, nd.online.EProp, nd.online.OTTT, nd.online.SLTT]


def held() -> int:
    """Bytes in all tensors that exist; those without values, which traces of other tests have left, have no address."""
    gc.collect()
    found: dict[int, int] = {}
    for x in gc.get_objects():
        if type(x) in (torch.Tensor, nn.Parameter):
            with contextlib.suppress(NotImplementedError, RuntimeError):
                found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
    return sum(found.values())


@pytest.mark.parametrize("rule", [nd.online.ESDRTRL, nd.online.EProp], ids=lambda rule: rule.__name__)
def test_no_tensor_stays_from_step_to_step(rule):
    cell = nd.LIF(24, reset_gradient="detached")
    net = nn.Sequential(nn.Linear(4, 24), nd.Recurrent(cell, nn.Linear(24, 24)), nd.LeakyRateReadout(24, 2))
    learner, x = rule(net), 4 * torch.rand(3, 4)
    sizes = []
    for t in range(33):
        learner.backward(learner(x).square().mean())
        if t in (7, 32):  # from then on compiled
            sizes.append(held())
    assert sizes[0] > 24 * 24 * 8
    assert sizes[1] == sizes[0]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_graph_grows(rule):
    """From the last output the graph reaches no further back than the step."""
    net = nn.Sequential(nn.Linear(4, 6), nd.Recurrent(nd.LIF(6), nn.Linear(6, 6)))
    learner = rule(net, compile=False, **({"decay": 0.8} if rule is nd.online.OTTT else {}))
    counts = []
    for _ in range(12):
        learner(4 * torch.rand(3, 4)).square().mean()
        seen, waiting = set(), [value.grad_fn for value in learner.step.outputs + list(learner.step.states.values())]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in seen:
                seen.add(node)
                waiting += [parent for parent, _ in node.next_functions]
        counts.append(len(seen))
        assert all(value.grad_fn is None for value in nd.get_states(net).values())
    assert counts[-1] == counts[0]
