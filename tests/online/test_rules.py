"""OTTT, SLTT, ES-D-RTRL and e-prop: where they are exact, and what they leave out."""

from __future__ import annotations

import math

import pytest
import torch
from learning import assert_equal, gradients, online, through_time
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def one_layer(first=None, size=6, **values):
    first = nn.Linear(4, 6) if first is None else first
    return nn.Sequential(first, nd.LIF(size, reset_gradient="detached", **values), nn.Flatten(), nn.LazyLinear(2))


LAYERS = {
    "linear": (lambda: one_layer(tau=7 * u.ms), (4,)),
    "convolution": (lambda: one_layer(nn.Conv2d(1, 2, 3), (2, 4, 4)), (1, 6, 6)),
    "pooling": (lambda: one_layer(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2)), (2, 2, 2)), (1, 6, 6)),
    "IF": (lambda: nn.Sequential(nn.Linear(4, 6), nd.IF(6, reset_gradient="detached"), nn.Linear(6, 2)), (4,)),
    "readout": (lambda: nd.LeakyRateReadout(4, 2, tau=9 * u.ms), (4,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_ottt_is_exact_for_a_layer_whose_reset_has_no_gradient(name):
    build, shape = LAYERS[name]
    assert_equal(build(), 6 * torch.rand(15, 3, *shape), nd.online.OTTT)


def test_ottt_leaves_out_the_reset_and_the_time_in_layers_above():
    """The trace of the input of each layer times the gradient within the step, written out by hand."""
    first, second = nn.Linear(4, 6), nn.Linear(6, 5)
    net = nn.Sequential(first, nd.LIF(6, tau=7 * u.ms), second, nd.LIF(5, tau=3 * u.ms))
    xs, w = 4 * torch.rand(12, 3, 4), torch.randn(12, 3, 5)
    got = gradients(net, xs, w, online(nd.online.OTTT))
    nd.reset_states(net, 3)
    wanted, traces = torch.zeros(6, 4), torch.zeros(3, 4)
    for x, weight in zip(xs, w, strict=True):
        nd.detach_states(net)
        a = first(x).detach().requires_grad_()
        (net[3](second(net[1](a))) * weight).sum().backward()
        traces = math.exp(-1 / 7) * traces + x
        wanted += a.grad.T @ traces
    torch.testing.assert_close(got["0.weight"], wanted, rtol=1e-12, atol=1e-12)


def test_sltt_is_the_gradient_within_each_step():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6, learn="tau"), nn.Linear(6, 2))
    xs, w = 4 * torch.rand(12, 3, 4), torch.randn(12, 3, 2)

    def detached(net, xs, w):
        nd.reset_states(net, 3)
        for x, weight in zip(xs, w, strict=True):
            nd.detach_states(net)
            (net(x) * weight).sum().backward()

    wanted, got = gradients(net, xs, w, detached), gradients(net, xs, w, online(nd.online.SLTT))
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-12, atol=1e-12)


def test_es_drtrl_of_a_convolution_over_all_places_is_that_of_a_linear_map():
    linear, convolution = nn.Linear(4, 6), nn.Conv1d(1, 6, 4)
    with torch.no_grad():
        convolution.weight.copy_(linear.weight[:, None])
        convolution.bias.copy_(linear.bias)
    nets = [nn.Sequential(m, nd.LIF(s), nn.Flatten()) for m, s in ((linear, 6), (convolution, (6, 1)))]
    xs, w = 6 * torch.rand(15, 3, 4), torch.randn(15, 3, 6)
    one = gradients(nets[0], xs, w, online(nd.online.ESDRTRL))
    two = gradients(nets[1], xs[:, :, None], w, online(nd.online.ESDRTRL))
    assert bool(one["0.weight"].any())
    for name in one:
        torch.testing.assert_close(two[name].reshape(one[name].shape), one[name], rtol=1e-12, atol=1e-12)


def test_es_drtrl_without_smoothing_is_sltt_for_weights_and_exact_for_the_rest():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6, learn="tau"), nn.Linear(6, 2))
    xs, w = 4 * torch.rand(12, 3, 4), torch.randn(12, 3, 2)
    within = gradients(net, xs, w, online(nd.online.SLTT))
    exact = gradients(net, xs, w, through_time)
    got = gradients(net, xs, w, online(lambda net: nd.online.ESDRTRL(net, decay=0.0)))
    wanted = exact | {"0.weight": within["0.weight"]}
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-12, atol=1e-12)


def test_eprop_is_exact_without_recurrence_also_behind_a_leaky_readout():
    readout = nd.LeakyRateReadout(6, 2, tau=20 * u.ms)
    for layer in (nd.LIF(6), nd.ALIF(6, R=1 * u.Gohm), nd.LIF(6, reset="hard", learn="tau")):
        assert_equal(nn.Sequential(nn.Linear(4, 6), layer, readout), 6 * torch.rand(30, 3, 4), nd.online.EProp)


def test_eprop_of_a_deep_network_is_exact_for_the_last_layer_of_neurons():
    """The neurons between are no readout, although their potential leaks alone."""
    net = nn.Sequential(nn.Linear(5, 9), nd.LIF(9), nn.Linear(9, 7), nd.LIF(7), nd.LeakyRateReadout(7, 2))
    xs = 3 * torch.randn(30, 2, 5)
    nd.unroll(net, xs, compile=False).square().sum().backward()
    last = {name: p for name, p in net.named_parameters() if name.startswith(("2.", "4."))}
    wanted = {name: p.grad.clone() for name, p in last.items()}
    net.zero_grad()
    nd.online.unroll(nd.online.EProp(net), xs, lambda y, t: y.square().sum())
    for name, p in last.items():
        assert wanted[name].abs().max() > 0
        torch.testing.assert_close(p.grad, wanted[name], rtol=1e-10, atol=1e-12)


def test_drtrl_and_eprop_differ_by_the_filter_of_the_readout():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6), nd.LeakyRateReadout(6, 2, tau=20 * u.ms))
    xs, w = 6 * torch.rand(30, 3, 4), torch.randn(30, 3, 2)
    wanted, plain = gradients(net, xs, w, through_time), gradients(net, xs, w, online(nd.online.DRTRL))
    torch.testing.assert_close(plain["2.linear.weight"], wanted["2.linear.weight"], rtol=1e-12, atol=1e-12)
    assert (plain["0.weight"] - wanted["0.weight"]).norm() > 0.1 * wanted["0.weight"].norm()


def test_random_feedback_takes_the_place_of_the_readout():
    """With B in place of the readout's weight in the backward pass only."""
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6), nn.Linear(6, 2))
    B, xs, w = torch.randn(2, 6), 4 * torch.rand(12, 3, 4), torch.randn(12, 3, 2)
    got = gradients(net, xs, w, online(lambda net: nd.online.EProp(net, {"2": B})))
    net.zero_grad()
    (nd.unroll(net[:2], xs, compile=False) * (w @ B)).sum().backward()
    torch.testing.assert_close(got["0.weight"], net[0].weight.grad, rtol=1e-12, atol=1e-12)


def test_adaptive_feedback_aligns_with_the_readout():
    net = nn.Sequential(nn.Linear(4, 30), nd.LIF(30), nn.Linear(30, 2))
    learner = nd.online.EProp(net, "adaptive")
    optimizer = torch.optim.SGD([*net[2].parameters(), *learner.parameters()], 0.05, weight_decay=0.1)
    xs, W = 4 * torch.rand(20, 8, 4), torch.randn(4, 2)

    def angle():
        return torch.cosine_similarity(learner.feedback["2"].flatten(), net[2].weight.flatten(), 0).item()

    before = angle()
    for _ in range(15):
        optimizer.zero_grad()
        nd.online.unroll(learner, xs, lambda y, t: (y - xs[t] @ W).square().mean() / 20)
        optimizer.step()
    assert angle() > before + 0.3


def test_eprop_learns_a_recurrent_network():
    cell = nd.LIF(20, tau=20 * u.ms, reset_gradient="detached")
    net = nn.Sequential(nn.Linear(3, 20), nd.Recurrent(cell, nn.Linear(20, 20)), nd.LeakyRateReadout(20, 1))
    xs = (torch.rand(40, 4, 3) < 0.3).double() * 3
    targets = torch.sin(torch.arange(40.0) / 6)[:, None, None].expand(40, 4, 1)
    learner, optimizer = nd.online.EProp(net, "random"), torch.optim.Adam(net.parameters(), 2e-2)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        losses.append(nd.online.unroll(learner, xs, lambda y, t: (y - targets[t]).square().mean()).mean())
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
