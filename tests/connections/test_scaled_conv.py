"""Convolutions with weight standardisation, against torch's with a kernel that numpy has standardised."""

import copy
import pickle

import numpy as np
import pint
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u

KINDS = {1: (nd.ScaledWSConv1d, nn.Conv1d), 2: (nd.ScaledWSConv2d, nn.Conv2d), 3: (nd.ScaledWSConv3d, nn.Conv3d)}
each = pytest.mark.parametrize("n", KINDS)


def standardised(weight, eps=1e-4):
    rows = weight.detach().numpy().reshape(len(weight), -1)
    scale = np.sqrt(np.maximum(rows.var(1) * rows.shape[1], eps))[:, None]
    return torch.from_numpy((rows - rows.mean(1, keepdims=True)) / scale).reshape(weight.shape)


@each
@pytest.mark.parametrize(
    "values", [{}, {"stride": 2, "padding": 1, "groups": 2}, {"padding": "same", "dilation": 2, "bias": False}]
)
def test_it_is_torchs_with_the_standardised_kernel(n, values):
    ours, theirs = KINDS[n]
    layer, reference = ours(4, 6, 3, **values), theirs(4, 6, 3, **values)
    layer.gain.data.copy_(torch.rand(6, *[1] * (n + 1)) + 0.5)
    reference.weight.data.copy_(standardised(layer.weight) * layer.gain.detach())
    if reference.bias is not None:
        reference.bias.data.copy_(layer.bias.detach())
    x = torch.randn(2, 4, *[7] * n)
    assert_close(layer(x), reference(x), rtol=1e-11, atol=1e-12)
    assert_close(layer(x[0]), reference(x[0]), rtol=1e-11, atol=1e-12)
    layer(x).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


@each
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "values", [{"padding": 2, "stride": 2}, {"padding": "same", "dilation": 2}, {"padding": "valid"}]
)
def test_padding_modes_are_torchs(n, mode, values):
    kernel = (2, 3, 4)[:n]  # even sizes too, for which "same" has an odd one out
    ours, theirs = (kind(4, 6, kernel, padding_mode=mode, **values) for kind in KINDS[n])
    theirs.weight.data.copy_(ours.kernel().detach())
    theirs.bias.data.copy_(ours.bias.detach())
    x = torch.randn(2, 4, *(8, 7, 9)[:n])
    assert_close(ours(x), theirs(x), rtol=1e-11, atol=1e-12)
    assert_close(ours(x[0]), theirs(x[0]), rtol=1e-11, atol=1e-12)


def test_gain_and_eps():
    plain = nd.ScaledWSConv2d(3, 5, 3, gain=False)
    assert plain.gain is None
    norms = plain.kernel().flatten(1).norm(dim=1)
    assert_close(norms, torch.ones(5))
    with torch.no_grad():
        plain.weight.fill_(0.3)  # variance 0: eps keeps it finite
    assert (plain.kernel() == 0).all()
    scaled = nd.ScaledWSConv2d(3, 5, 3, gain=2 * u.nS)
    assert scaled.unit == u.nS
    assert "unit=nS" in repr(scaled)
    assert_close(scaled.kernel().flatten(1).norm(dim=1), torch.full((5,), 2.0))
    each = u.quantity(torch.arange(1.0, 6).view(5, 1, 1, 1), "pA")
    assert_close(nd.ScaledWSConv2d(3, 5, 3, gain=each).kernel().flatten(1).norm(dim=1), torch.arange(1.0, 6))


def test_errors():
    with pytest.raises(ValueError, match=r"padding_mode must be one of"):
        nd.ScaledWSConv1d(3, 5, 3, padding=1, padding_mode="mirror")
    with pytest.raises(ValueError, match=r"gain must have shape \(5, 1, 1\)|gain has shape"):
        nd.ScaledWSConv1d(3, 5, 3, gain=torch.ones(3, 1, 1))
    with pytest.raises(pint.UndefinedUnitError):
        nd.ScaledWSConv1d(3, 5, 3, gain=u.quantity(1.0, "nonsense"))


@each
@pytest.mark.parametrize("batch", [(), (2,)])
def test_in_unroll_it_runs_on_all_steps_at_once(n, batch, monkeypatch):
    layer = KINDS[n][0](4, 3, 3, padding=1)
    xs = torch.randn(6, *batch, 4, *[5] * n)
    net = nn.Sequential(layer, nd.LIF((3, *[5] * n)))
    nd.reset_states(net, *batch)
    wanted = torch.stack([net(x) for x in xs])
    calls = []
    layer.kernel = lambda: calls.append(1) or type(layer).kernel(layer)
    assert_close(nd.unroll(net, xs, compile=False), wanted)
    assert wanted.sum() > 0
    assert len(calls) == 1


def test_copies_and_the_meta_device():
    layer = nd.ScaledWSConv2d(3, 5, 3, gain=2.5)
    x = torch.randn(2, 3, 6, 6)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))
    made = nd.ScaledWSConv2d(3, 5, 3, gain=2.5, device="meta")
    assert made.weight.is_meta
    assert made.gain.is_meta
    made.to_empty(device="cpu")
    made.reset_parameters()
    assert_close(made.kernel().flatten(1).norm(dim=1), torch.full((5,), 2.5))
    made.load_state_dict(layer.state_dict())
    assert torch.equal(made(x), layer(x))


def test_nir_gets_the_kernel_that_is_used():
    pytest.importorskip("nir")
    layer = nd.ScaledWSConv2d(3, 5, 3, gain=2.5)
    graph = nd.to_nir(nn.Sequential(layer, nn.Flatten(), nn.Linear(80, 2)), input_size=(3, 6, 6))
    found = next(node for node in graph.nodes.values() if type(node).__name__ == "Conv2d")
    np.testing.assert_allclose(found.weight, layer.kernel().detach().numpy(), rtol=1e-6)
