"""Large tensors in huge pages, memory given back, and gradients in the place of what they are of."""

import sys
from functools import partial

import pytest
import torch
from paths import assert_equal
from torch import nn

import neurodyn as nd
from neurodyn.engine import time_loop
from neurodyn.tools import memory


@pytest.mark.kernels
def test_large_sequence_is_the_eager_loop():
    xs = torch.rand(4, 1 << 20) * 3  # the output has 32 MB
    assert torch.equal(nd.unroll(nd.LIF(1 << 20), xs), nd.unroll(nd.LIF(1 << 20), xs, compile=False))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
def test_only_large_tensors_are_advised(monkeypatch):
    seen = []
    monkeypatch.setattr(memory, "_madvise", lambda start, length, advice: seen.append((start.value, length.value)))
    small, large = (memory.huge(torch.empty(n, dtype=torch.uint8)) for n in (2**20, 2**25 + 1000))
    assert len(seen) == 1
    start, length = seen[0]
    assert start % 4096 == length % 4096 == 0
    assert large.data_ptr() <= start < start + length <= large.data_ptr() + large.nbytes
    assert large.nbytes - length < 2 * 4096
    assert small.nbytes == 2**20


def test_where_linux_gives_no_advice(monkeypatch):
    monkeypatch.setattr(memory, "_madvise", None)
    monkeypatch.setattr(memory, "_trim", None)
    net, xs = nd.LIF(3), 2 * torch.rand(20, 2, 3)
    assert_equal([nd.unroll(net, xs, checkpoint=5)], [nd.unroll(net, xs, compile=False)])


@pytest.fixture
def in_place(monkeypatch):
    """Every sequence counts as large; for each backward pass, whether its gradients take the place of its inputs."""
    found, backward = [], time_loop.backward_pass

    def watched(*given, in_place=False):
        found.append(in_place)
        return backward(*given, in_place=in_place)

    monkeypatch.setattr(time_loop, "LARGE", 0)
    monkeypatch.setattr(time_loop, "_AT_A_TIME", 3 * 4 * 64 * 4)
    monkeypatch.setattr("neurodyn.ops.spike_products._MANY", 0)
    monkeypatch.setattr("neurodyn.ops.spike_products._ROWS", 7)
    monkeypatch.setattr(time_loop, "backward_pass", watched)
    return found


def deep():
    torch.manual_seed(0)
    return nn.Sequential(
        nd.STP(64), nn.Linear(64, 64), nd.LIF(64, learn="tau"), nn.Linear(64, 64), nd.Expon(64), nn.Linear(64, 3)
    ).float()


def spikes(T):
    return (torch.rand(T, 4, 64, generator=torch.Generator().manual_seed(1)) < 0.3).float()


def train(net, xs, **how):
    net.zero_grad()
    xs = xs.clone().requires_grad_()
    ys = nd.unroll(net, xs, **how)
    states = [s.clone() for s in nd.get_states(net).values()]
    ys.backward(torch.linspace(-1, 1, ys.numel()).view_as(ys).to(ys))
    return [ys.detach(), xs.grad, *states, *(p.grad for p in net.parameters())]


@pytest.fixture
def proven():
    """The programs of `deep` are there, so that no backward pass of a proof is counted."""
    for T in (1, 23, 64):
        train(deep(), spikes(T))


@pytest.mark.kernels
@pytest.mark.parametrize("T", [1, 23, 64])
def test_gradients_in_place_change_nothing(T, in_place):
    net, xs = deep(), spikes(T)
    for found, other in zip(train(net, xs), train(net, xs, compile=False), strict=True):
        torch.testing.assert_close(found, other, rtol=2e-4, atol=2e-4 * other.abs().max().item())
    assert any(in_place)


def test_only_what_lies_between_layers_gives_way(proven, in_place):
    net, xs = deep(), spikes(23)
    before = xs.clone()
    train(net, xs)
    assert in_place == [True, True, False]  # backwards
    ys = nd.unroll(net[:3], leaf := xs.requires_grad_())
    kept = ys.detach().clone()
    torch.autograd.grad(nd.unroll(net[3:], ys), leaf, torch.ones(23, 4, 3))
    assert_equal([ys, leaf], [kept, before])


@pytest.mark.parametrize("between", [nn.Identity(), nn.Sigmoid(), nn.Flatten(1)], ids=lambda m: type(m).__name__)
def test_what_another_layer_gives_does_not_give_way(in_place, between):
    net, xs = nn.Sequential(between, nd.LIF(64)).float(), spikes(20).requires_grad_()
    before = xs.detach().clone()
    found, wanted = (
        torch.autograd.grad(nd.unroll(net, xs, compile=c), xs, torch.ones(20, 4, 64)) for c in (True, False)
    )
    torch.testing.assert_close(found, wanted)
    assert torch.equal(xs, before)
    assert not any(in_place)


def test_a_graph_that_is_kept_can_be_used_again(in_place):
    net, xs = deep(), spikes(20).requires_grad_()
    ys = nd.unroll(net, xs)
    grads = partial(torch.autograd.grad, ys.sum(), [xs, *net.parameters()])
    first = grads(retain_graph=True)
    assert_equal(grads(retain_graph=True), first)
    for found, wanted in zip(grads(), first, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())


def test_records_keep_their_values(proven, in_place):
    net, xs = deep(), spikes(23).requires_grad_()
    ys, recording = nd.unroll(net, xs, record=("0", "1", "2.V"))
    before = {name: recording[name].values.detach().clone() for name in ("0", "1", "2.V")}
    ys.sum().backward()
    assert not any(in_place)
    assert_equal([recording[name].values for name in before], before.values())


def test_hooks_for_saved_tensors_see_what_was_saved(in_place):
    net, xs, seen = deep(), spikes(20).requires_grad_(), []

    def pack(tensor):
        seen.append((tensor, tensor.detach().clone()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        ys = nd.unroll(net, xs)
    ys.sum().backward()
    assert not any(in_place)
    assert_equal(*zip(*seen, strict=True))


def test_a_graph_of_the_gradient(in_place):
    torch.manual_seed(0)
    net, xs = nn.Sequential(nd.LIF(64), nn.Linear(64, 64), nn.Linear(64, 3)).float(), spikes(20)
    weight = net[1].weight
    (found,) = torch.autograd.grad(nd.unroll(net, xs).square().sum(), [weight], create_graph=True, retain_graph=False)
    (wanted,) = torch.autograd.grad(nd.unroll(net, xs, compile=False).square().sum(), [weight])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * wanted.abs().max().item())


def saved_bytes(net, xs, **options):
    """What a forward pass keeps for the backward pass, without its inputs."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        ys = nd.unroll(net, xs, **options)
    assert ys.requires_grad
    kept.pop(xs.untyped_storage().data_ptr(), None)
    return sum(kept.values())


@pytest.mark.usefixtures("long_chunks")
def test_the_backward_pass_needs_a_row_for_each_chunk():
    net, xs = nd.LIF(50, learn="tau"), torch.rand(800, 4, 50)
    saved_bytes(net, xs)
    assert saved_bytes(net, xs) < 0.2 * xs.nbytes  # the potential before every eighth step
    assert saved_bytes(net, xs, compile=False) > 2 * xs.nbytes


def test_final_states_hold_no_more_than_themselves():
    with torch.no_grad():
        _, states = nd.unroll(nd.LIF(5), torch.rand(100, 2, 5), return_states=True)
    assert states["V"].untyped_storage().nbytes() == states["V"].nbytes
