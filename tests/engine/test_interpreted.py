"""The backward pass without chunks, for many gradients at once: `is_grads_batched=True`."""

import pytest
import torch
from paths import NETS, assert_same
from torch import nn

import neurodyn as nd


class Several(nn.Module):
    """Outputs with and without a derivative, and a state without one."""

    def __init__(self):
        super().__init__()
        self.lif, self.counter = nd.LIF(5, learn="tau"), Counter(5)

    def forward(self, x):
        spikes = self.lif(x)
        return {"spikes": spikes, "count": self.counter(spikes), "V": self.lif.V}


class Counter(nd.Dynamics):
    n = nd.state(0.0)

    def step(self, x, n):
        n = n + (x.detach() > 0)
        return n, n


MAKE = {"LIF": lambda: nd.LIF(5, learn=("tau", "V_th")), **NETS, "several": Several}


@pytest.mark.parametrize(("make", "T"), [(MAKE["LIF"], 1), (MAKE["LIF"], 9), *((make, 4) for make in MAKE.values())])
def test_many_gradients_at_once(make, T):
    net, xs = make(), 3 * torch.rand(T, 2, 5).requires_grad_()
    ys, states = nd.unroll(net, xs, return_states=True)
    results = [*(ys.values() if isinstance(ys, dict) else [ys]), *states.values()]
    results = [result for result in results if result.requires_grad]
    wanted = [xs, *net.parameters()]
    directions = [torch.rand(3, *result.shape) for result in results]

    def grads(of, **options):
        return torch.autograd.grad(results, wanted, of, retain_graph=True, allow_unused=True, **options)

    batched = grads(directions, is_grads_batched=True)
    for k in range(3):
        single = grads([direction[k] for direction in directions])
        assert [g is None for g in single] == [g is None for g in batched]
        pairs = [(one[k], other) for one, other in zip(batched, single, strict=True) if other is not None]
        assert_same(*zip(*pairs, strict=True))


def test_a_jacobian():
    net, xs = nd.Expon(3, learn="tau"), torch.rand(4, 3)
    found, wanted = (
        torch.autograd.functional.jacobian(lambda xs, c=c: nd.unroll(net, xs, compile=c), xs, vectorize=True)
        for c in (True, False)
    )
    assert_same([found], [wanted])
