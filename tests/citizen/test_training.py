"""Training loops: truncated backpropagation, accumulation, two networks, one layer at two places, no old graphs."""

import gc
import weakref

import pytest
import torch
from composed import composed, inputs
from torch import nn

import neurodyn as nd


def grads(net):
    return [p.grad.clone() for p in net.parameters()]


def assert_equal(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_truncated_backpropagation():
    net, xs = composed(), inputs(24, 3)
    whole = nd.unroll(net, xs, compile=False)
    nd.reset_states(net, 3)
    outs = []
    for window in xs.split(8):
        ys = nd.unroll(net, window, states=nd.get_states(net), compile=False)  # the states are detached
        ys.square().sum().backward()
        outs.append(ys.detach())
    assert torch.equal(torch.cat(outs), whole)
    found = grads(net)
    net.zero_grad()
    nd.reset_states(net, 3)
    for window in xs.split(8):
        torch.stack([net(x) for x in window]).square().sum().backward()
        nd.detach_states(net)
    assert_equal(grads(net), found)
    net.zero_grad()
    whole.square().sum().backward()
    assert not torch.allclose(net[0].weight.grad, found[0])


def test_a_window_without_detaching_is_torch_s_own_error():
    net, xs = composed(), inputs(4, 3)
    nd.reset_states(net, 3)
    for x in xs[:2]:
        y = net(x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        net(xs[2]).sum().backward()


def test_gradient_accumulation():
    net, xs = composed(), inputs(16, 6)
    nd.unroll(net, xs, compile=False).square().sum().backward()
    wanted = grads(net)
    net.zero_grad()
    for part in xs.split(2, dim=1):
        nd.unroll(net, part, compile=False).square().sum().backward()
    assert_equal(grads(net), wanted)


def test_two_networks_in_one_loop():
    a, b, xs = composed(), composed(), inputs(12, 3)
    wanted = [nd.unroll(net, xs, compile=False) for net in (a, b)]
    nd.reset_states(a, 3)
    nd.reset_states(b, 3)
    pairs = [(a(x), b(x)) for x in xs]
    for found, reference in zip(zip(*pairs, strict=True), wanted, strict=True):  # a product of all rows may round
        torch.testing.assert_close(torch.stack(found), reference, rtol=1e-12, atol=1e-14)


def test_a_layer_at_two_places_steps_twice_a_step():
    lif, act = nd.LIF(6), nn.Softplus()
    net = nn.Sequential(nn.Linear(5, 6), act, lif, nn.Linear(6, 6), act, lif, nd.LeakyRateReadout(6, 3))
    nn.init.uniform_(net[0].weight, 0.0, 1.0)
    xs = inputs(12, 3)
    nd.reset_states(net, 3)
    wanted = torch.stack([net(x) for x in xs])
    assert wanted.abs().sum() > 1
    ys = nd.unroll(net, xs, compile=False)
    assert torch.equal(ys, wanted)
    ys.square().sum().backward()
    found = grads(net)
    net.zero_grad()
    wanted.square().sum().backward()
    assert_equal(found, grads(net))
    row = nn.Sequential(lif, lif)
    nd.reset_states(row, 3)
    spikes = torch.stack([row(x) for x in xs @ torch.ones(5, 6)])
    assert torch.equal(nd.unroll(row, xs @ torch.ones(5, 6), compile=False), spikes)


def test_a_sequence_module_at_two_places_starts_anew():
    lif, xs = nd.LIF(5, learn="tau"), 3 * inputs(12, 3)
    sequence = nd.Unroll(lif, compile=False)
    assert torch.equal(sequence(3 * sequence(xs)), sequence(3 * nd.unroll(nd.LIF(5), xs, compile=False)))


@pytest.mark.parametrize("how", ["loop", "unroll"])
def test_no_graph_is_kept_across_batches(how):
    net = composed()
    held = []
    for batch in (3, 4):
        xs = inputs(8, batch).requires_grad_()
        if how == "loop":
            nd.reset_states(net, batch)
            ys = torch.stack([net(x) for x in xs])
            nd.detach_states(net)
        else:
            ys = nd.unroll(net, xs, compile=False)
        held.append(weakref.ref(xs))
        ys.sum().backward()
        assert not any(value.requires_grad for value in nd.get_states(net).values())
        del xs, ys
        gc.collect()
        assert held[-1]() is None  # the graph would hold it
