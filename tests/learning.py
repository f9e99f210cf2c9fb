"""Gradients of online rules beside those of backpropagation through time."""

from __future__ import annotations

import torch

import neurodyn as nd


def gradients(net, xs, weights, run):
    for parameter in net.parameters():
        parameter.grad = None
    run(net, xs, weights)
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def through_time(net, xs, weights):
    (nd.unroll(net, xs, compile=False) * weights).sum().backward()


def online(rule):
    return lambda net, xs, weights: nd.online.unroll(rule(net), xs, lambda y, t: (y * weights[t]).sum())


def assert_equal(net, xs, rule=nd.online.DRTRL, names=None, tolerance=1e-12):
    weights = torch.randn_like(nd.unroll(net, xs, compile=False).detach())
    wanted, got = gradients(net, xs, weights, through_time), gradients(net, xs, weights, online(rule))
    assert got.keys() == wanted.keys()
    for name in names or wanted:
        error = (got[name] - wanted[name]).abs().max()
        assert error <= tolerance * wanted[name].abs().max(), f"{name}: {error}"
        assert bool(got[name].isfinite().all())
    return wanted
