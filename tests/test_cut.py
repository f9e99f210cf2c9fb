"""Large sequences are worked on in stretches: states computed again, gradients in the place of inputs."""

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import chunks, linear, passes


@pytest.fixture(params=[1, 3], ids=["short", "long"])
def stretches(request, monkeypatch):
    """Every sequence counts as large; a stretch has this many times eight steps of a batch of 4."""
    monkeypatch.setattr(chunks, "_LARGE", 0)
    monkeypatch.setattr(chunks, "_STRETCH", request.param * 8 * 4 * 64 * 4)
    monkeypatch.setattr(linear, "_MANY", 0)
    monkeypatch.setattr(linear, "_ROWS", 7)


def deep():
    """Pieces with chunks of two steps and of one, between products."""
    torch.manual_seed(0)
    return nn.Sequential(
        nd.STP(64), nn.Linear(64, 64), nd.LIF(64, learn="tau"), nn.Linear(64, 64), nd.MorrisLecar(64), nn.Linear(64, 3)
    ).float()


def train(net, xs, **how):
    net.zero_grad()
    xs = xs.clone().requires_grad_()
    ys = nd.unroll(net, xs, **how)
    states = [s.clone() for s in nd.get_states(net).values()]
    weight = torch.linspace(-1, 1, ys.numel()).view_as(ys).to(ys)
    ys.backward(weight)
    return [ys.detach(), xs.grad, *states, *(p.grad for p in net.parameters())]


def spikes(T):
    return (torch.rand(T, 4, 64, generator=torch.Generator().manual_seed(1)) < 0.3).float()


def close(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


def same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("T", [1, 23, 64])
def test_stretches_change_nothing(T, stretches):
    net, xs = deep(), spikes(T)
    wanted = train(net, xs, compile=False)
    for found, other in zip(train(net, xs), wanted, strict=True):
        torch.testing.assert_close(found, other, rtol=2e-4, atol=2e-4 * other.abs().max().item())


def test_states_are_the_same_to_the_last_bit(monkeypatch):
    net, xs = nd.MorrisLecar(64).float(), 10 * torch.rand(40, 4, 64, dtype=torch.float32)
    wanted = train(net, xs)
    calls = []
    onward = passes.onward
    monkeypatch.setattr(passes, "onward", lambda *given, **how: calls.append(1) or onward(*given, **how))
    monkeypatch.setattr(chunks, "_LARGE", 0)
    monkeypatch.setattr(chunks, "_STRETCH", 1)
    same(train(net, xs), wanted)
    assert len(calls) == 1 + 5  # once for the forward pass, and for each eight steps once more


@pytest.fixture
def donated(monkeypatch):
    """For each piece, whether its input gives way to its gradient."""
    found = []
    cut = chunks.Chunks.cut

    def watched(self, *given):
        found.append(cut(self, *given).donated)
        return cut(self, *given)

    monkeypatch.setattr(chunks.Chunks, "cut", watched)
    return found


def test_only_what_lies_between_layers_gives_way(stretches, donated):
    net, xs = deep(), spikes(20)
    before = xs.clone()
    train(net, xs)
    assert donated == [False, True, True]
    ys = nd.unroll(net[:3], leaf := xs.requires_grad_())
    kept = ys.detach().clone()
    torch.autograd.grad(nd.unroll(net[3:], ys), leaf, torch.ones(20, 4, 3))
    assert torch.equal(ys, kept)
    assert torch.equal(leaf, before)


@pytest.mark.parametrize("between", [nn.Identity(), nn.Sigmoid(), nn.Flatten(1)], ids=lambda m: type(m).__name__)
def test_what_another_layer_gives_does_not_give_way(stretches, donated, between):
    net, xs = nn.Sequential(between, nd.LIF(64)).float(), spikes(20).requires_grad_()
    before = xs.detach().clone()
    found = torch.autograd.grad(nd.unroll(net, xs), xs, torch.ones(20, 4, 64))
    torch.testing.assert_close(found, torch.autograd.grad(nd.unroll(net, xs, compile=False), xs, torch.ones(20, 4, 64)))
    assert torch.equal(xs, before)
    assert not any(donated)


def test_a_graph_that_is_kept_can_be_used_again(stretches):
    net, xs = deep(), spikes(20).requires_grad_()
    ys = nd.unroll(net, xs)
    wanted = [xs, *net.parameters()]
    first = torch.autograd.grad(ys.sum(), wanted, retain_graph=True)
    same(torch.autograd.grad(ys.sum(), wanted, retain_graph=True), first)
    close(torch.autograd.grad(ys.sum(), wanted), first)


def test_records_keep_their_values(stretches, donated):
    net, xs = deep(), spikes(20).requires_grad_()
    ys, recording = nd.unroll(net, xs, record=("0", "1", "2.V"))
    before = {name: recording[name].values.detach().clone() for name in ("0", "1", "2.V")}
    ys.sum().backward()
    assert donated == [False] * 3
    for name, values in before.items():
        assert torch.equal(recording[name].values, values)


def test_hooks_for_saved_tensors_see_what_was_saved(stretches, donated):
    net, xs, seen = deep(), spikes(20).requires_grad_(), []

    def pack(tensor):
        seen.append((tensor, tensor.detach().clone()))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        ys = nd.unroll(net, xs)
    ys.sum().backward()
    assert not any(donated)
    assert all(torch.equal(tensor, before) for tensor, before in seen)


@pytest.mark.usefixtures("long_chunks")
def test_a_frozen_layer_in_front(stretches, monkeypatch):
    net, xs = nn.Sequential(nn.Linear(64, 64), nd.LIF(64, learn="tau")).float(), spikes(20)
    net[0].requires_grad_(False)
    cuts, cut = [], chunks.Chunks.cut
    monkeypatch.setattr(chunks.Chunks, "cut", lambda *given: cuts.append(cut(*given)) or cuts[-1])
    nd.unroll(net, xs).sum().backward()
    assert len(cuts[0].stretches) == 2  # as many as there are lengths of chunks: there is nothing to save


class Input(nd.Dynamics):
    """Its states are what came in, and a view of it."""

    a = nd.state(0.0)
    b = nd.state(0.0)

    def step(self, x, a, b):
        return x + a + b, x, x.view_as(x)


@pytest.mark.parametrize("layer", [nd.Delay(64, 2 * u.ms), Input(64)], ids=["delay", "views"])
def test_states_that_were_inputs_keep_their_values(stretches, layer):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), layer, nd.LIF(64), nn.Linear(64, 3)).float()
    ys, states = nd.unroll(net, spikes(20).requires_grad_(), return_states=True)
    before = {name: value.detach().clone() for name, value in states.items()}
    _, wanted = nd.unroll(net, spikes(20), return_states=True, compile=False)
    ys.sum().backward()
    for name, value in states.items():
        assert torch.equal(value, before[name])
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-5)
        assert value.untyped_storage().nbytes() == value.nbytes


def test_states_of_a_stream_that_were_inputs_keep_their_values():
    layer, x = Input(64), torch.rand(64)
    stream = nd.Stream(layer, x)
    stream(x)
    kept = x.clone()
    x.zero_()
    assert torch.equal(layer.a, kept)
    assert torch.equal(layer.b, kept)


def test_a_state_that_stays_as_it_was_is_not_the_one_that_was_given():
    class Held(nd.Dynamics):
        a = nd.state(0.0)
        b = nd.state(0.0)

        def step(self, x, a, b):
            return x + a, a, b + x

    given = {"a": torch.rand(2, 3), "b": torch.zeros(2, 3)}
    with torch.no_grad():
        _, states = nd.unroll(Held(3), torch.rand(9, 2, 3), states=given, return_states=True)
    kept = states["a"].clone()
    given["a"].zero_()
    assert torch.equal(states["a"], kept)


def test_a_graph_of_the_gradient(stretches):
    torch.manual_seed(0)
    net, xs = nn.Sequential(nd.LIF(64), nn.Linear(64, 64), nn.Linear(64, 3)).float(), spikes(20)
    weight = net[1].weight
    (found,) = torch.autograd.grad(nd.unroll(net, xs).square().sum(), [weight], create_graph=True, retain_graph=False)
    (wanted,) = torch.autograd.grad(nd.unroll(net, xs, compile=False).square().sum(), [weight])
    close([found], [wanted])
