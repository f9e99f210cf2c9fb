"""Autocast and GradScaler."""

import pytest
import torch
from composed import composed, inputs
from torch import nn

import neurodyn as nd

HALVES = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])


@HALVES
def test_every_model_takes_half_inputs_and_keeps_its_states_in_float32(model, half):
    layer, reference = model(dtype=torch.float32), model(dtype=torch.float32)
    xs = model.input(model.steps, 3, 5, dtype=half)
    with torch.autocast("cpu", dtype=half):
        ys = nd.unroll(layer, xs, compile=False)
    assert ys.dtype == half
    assert all(value.dtype == torch.float32 for value in nd.get_states(layer).values())
    assert torch.equal(ys, nd.unroll(reference, xs.float(), compile=False).to(half))


@HALVES
def test_a_network_under_autocast(half):
    net = composed(dtype=torch.float32)
    xs = inputs(60, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=half):
        ys = nd.unroll(net, xs, compile=False)
        encoded = nd.unroll(net[:2], xs, compile=False)
        states = {**nd.get_states(net)}
    assert ys.dtype == encoded.dtype == half
    assert all(value.dtype == torch.float32 for value in states.values())
    assert set(encoded.unique().tolist()) == {0.0, 1.0}
    exact = nd.unroll(net[:2], xs, compile=False)
    assert (encoded != exact).float().mean() < (0.02 if half == torch.bfloat16 else 0.002)  # spikes that move
    error = (ys.float() - nd.unroll(net, xs, compile=False)).square().mean().sqrt()
    assert error < (0.1 if half == torch.bfloat16 else 0.02) * ys.float().std()


def test_the_compiled_loop_stays_on_under_autocast():
    net = nn.Sequential(nn.Linear(5, 6), nd.Recurrent(nd.LIF(6, learn="tau"), nn.Linear(6, 6))).float()
    xs, found = inputs(8, 4, dtype=torch.float32), []
    for compile in (True, False):  # an EagerWarning would be an error here
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ys = nd.unroll(net, xs, compile=compile)
        assert ys.dtype == torch.bfloat16
        assert all(value.dtype == torch.float32 for value in nd.get_states(net).values())
        found.append([ys.float(), *torch.autograd.grad(ys.float().square().sum(), list(net.parameters()))])
    assert found[0][0].sum() > 0
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 0.02 * b.abs().max()  # a few units of bfloat16


def test_grad_scaler():
    net, reference = composed(dtype=torch.float32), composed(dtype=torch.float32)
    reference.load_state_dict(net.state_dict())
    xs = inputs(20, 4, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with torch.autocast("cpu", dtype=torch.float16):
        loss = nd.unroll(net, xs, compile=False).float().square().mean()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nd.unroll(reference, xs, compile=False).square().mean().backward()
    for a, b in zip(net.parameters(), reference.parameters(), strict=True):
        assert (a.grad - b.grad).abs().max() <= 0.05 * b.grad.abs().max()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1024.0
    assert all(p.isfinite().all() for p in net.parameters())
