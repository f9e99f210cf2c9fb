"""Matrix products inside the time loop: computed once, and by oneDNN where they are large."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import neurodyn as nd


def gradients(net, xs, **how):
    net.zero_grad()
    ys = nd.unroll(net, xs, **how)
    (ys * torch.linspace(-1, 1, ys.shape[-1], dtype=ys.dtype)).sum().backward()
    return [ys.detach(), *(p.grad for p in net.parameters())]


def recurrent(size):
    torch.manual_seed(0)
    return nd.Recurrent(nd.LIF(size, learn="tau"), nn.Linear(size, size))


def test_kept_products_change_nothing():
    net, xs = recurrent(6), torch.randn(19, 4, 6)
    kept, again = gradients(net, xs), gradients(net, xs, checkpoint=1)
    for found, wanted in zip(kept, again, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_a_large_product_is_computed_once_and_by_onednn():
    T, net = 6, recurrent(512).float()
    xs = torch.randn(T, 8, 512, dtype=torch.float32)
    wanted = gradients(net, xs, compile=False)
    gradients(net, xs)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        found = gradients(net, xs)
    calls = {event.key: event.count for event in profiler.key_averages()}
    assert calls["neurodyn::linear"] == 3 * T  # forward, gradient of the spikes, gradient of the weights
    assert not calls.keys() & {"aten::mm", "aten::addmm"}
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
@pytest.mark.parametrize("bias", [True, False])
def test_a_large_linear_between_layers_goes_to_onednn(bias):
    net = nn.Sequential(nd.LIF(512), nn.Linear(512, 520, bias=bias)).float()
    xs = torch.randn(4, 3, 512, dtype=torch.float32)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        found = gradients(net, xs)
    assert {event.key: event.count for event in profiler.key_averages()}[
        "neurodyn::linear"
    ] == 2  # no gradient of spikes
    wanted = [(net[1](nd.unroll(net[0], xs)))]
    (wanted[0] * torch.linspace(-1, 1, 520, dtype=torch.float32)).sum().backward(inputs=list(net.parameters()))
    for one, other in zip(found, [wanted[0].detach(), *(p.grad for p in net.parameters())], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_hook_on_a_large_linear_is_called():
    net, called = nn.Sequential(nn.Linear(512, 512), nd.LIF(512)), []
    net.float()[0].register_forward_hook(lambda *call: called.append(call))
    nd.unroll(net, torch.randn(2, 3, 512, dtype=torch.float32), compile=False)
    assert len(called) == 1
