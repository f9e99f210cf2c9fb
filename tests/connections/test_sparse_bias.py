"""The bias of sparse connections, against a dense matrix."""

import copy
import re

import numpy as np
import pint
import pytest
import torch
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u
from neurodyn.distributed import split

PRE, POST = [0, 0, 2, 1], [1, 3, 1, 0]


def build(size=(3, 4), **values):
    return nd.Sparse((PRE, POST), size, weight=[1.0, 2.0, 5.0, -1.0] * u.nS, **values)


def dense():
    W = torch.zeros(3, 4)
    W[PRE, POST] = torch.tensor([1.0, 2.0, 5.0, -1.0])
    return W


def test_it_is_added_to_each_output():
    b, x = torch.randn(4), torch.randn(2, 5, 3)
    assert_close(build(bias=u.quantity(b, "nS"))(x), x @ dense() + b)
    assert_close(build(bias=2 * u.pS)(x), x @ dense() + 0.002)
    assert_close(build(bias=nd.init.Constant(3 * u.nS))(x), x @ dense() + 3)
    assert build(bias=True).bias.tolist() == [0.0] * 4
    assert build().bias is build(bias=False).bias is None
    assert set(build().state_dict()) == {"indptr", "indices", "weight"}
    grid = build((3, (2, 2)), bias=u.quantity(b.view(2, 2), "nS"))
    assert_close(grid(x), (x @ dense() + b).unflatten(-1, (2, 2)))
    assert build(bias=True)(x.bfloat16()).dtype == torch.bfloat16
    for cls, how in ((nd.FixedProb, 0.5), (nd.FixedNum, 2)):
        assert_close(cls(3, 4, how, weight=0.0, bias=1.5)(x), torch.full((2, 5, 4), 1.5))


def test_it_learns_if_it_is_named():
    x = torch.randn(6, 3)
    assert not list(build(bias=True).parameters())
    layer = build(bias=1 * u.nS, learn=("weight", "bias"))
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    assert "bias=1 nS (learned)" in repr(layer) or "bias=values from 1 to 1 nS (learned)" in repr(layer)
    layer(x).square().sum().backward()
    assert_close(layer.bias.grad, 2 * (x @ dense() + 1).sum(0))
    own = torch.nn.Parameter(torch.randn(4))
    assert build(bias=u.quantity(own, "nS")).bias is own


def test_it_comes_without_delay():
    b = torch.randn(4)
    layer = build(bias=u.quantity(b, "nS"), delay=2 * u.ms)
    nd.reset_states(layer)
    xs, ys = torch.randn(5, 3), []
    for x in xs:
        ys.append(layer.read())
        assert torch.equal(layer(x), ys[-1])
    wanted = torch.cat([torch.zeros(2, 3), xs[:3]]) @ dense() + b
    assert_close(torch.stack(ys), wanted)
    nd.reset_states(layer)
    assert_close(nd.unroll(layer, xs, compile=False), wanted)


def test_compiled():
    layer = build(bias=True, learn="bias")
    layer.bias.data.copy_(torch.randn(4))
    net = torch.nn.Sequential(layer, nd.Expon(4))
    xs = torch.rand(5, 2, 3)
    assert_close(nd.unroll(net, xs), nd.unroll(net, xs, compile=False))


def test_errors():
    with pytest.raises(pint.DimensionalityError, match=r"Sparse\(3, 4\): bias"):
        build(bias=1 * u.mV)
    with pytest.raises(ValueError, match=r"Sparse\(3, 4\): bias has shape \(3,\)"):
        build(bias=u.quantity(torch.ones(3), "nS"))
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\), got \(1,\)"):
        build(bias=u.quantity(torch.nn.Parameter(torch.ones(1)), "nS"))
    with pytest.raises(TypeError, match=re.escape("learn takes 'weight', and 'bias' and 'delay' if given; got 'bias'")):
        build(learn="bias")
    layer = build(bias=True)
    layer.bias = torch.ones(3)
    with pytest.raises(ValueError, match=r"Sparse\(3, 4\): bias has shape \(3,\), wanted \(4,\)"):
        layer(torch.ones(3))


def test_files():
    saved = build(bias=u.quantity(torch.randn(4), "nS")).state_dict()
    for layer in (build(bias=True), build(bias=True, learn="bias")):
        layer.load_state_dict(saved)
        assert torch.equal(layer.bias.detach(), saved["bias"])
    layer = build(bias=True)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(RuntimeError, match=r"bias in the file has shape \(3,\), wanted \(4,\)"):
        layer.load_state_dict(saved | {"bias": torch.ones(3), "weight": torch.ones(4)})
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


def test_nir():
    pytest.importorskip("nir")
    layer = build(bias=2 * u.nS)
    graph = nd.to_nir(torch.nn.Sequential(layer, nd.Expon(4), nd.LIF(4)))
    node = next(node for node in graph.nodes.values() if type(node).__name__ == "Affine")
    np.testing.assert_allclose(node.weight, dense().T)
    np.testing.assert_allclose(node.bias, [2.0] * 4)


def test_a_split_population_has_its_own_part(monkeypatch):
    layer, x = build((3, 4), bias=u.quantity(torch.randn(4), "nS"), learn="bias"), torch.randn(2, 3)
    parts = []
    for own in (slice(0, 1), slice(1, 4)):
        monkeypatch.setattr(split, "mine", lambda n, own=own: own)
        parts.append(split._onto(layer, "layer")(x))
    assert torch.equal(torch.cat(parts, -1), layer(x))
