import math

import pytest
import torch
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u


def test_linear_latency():
    encoder, x = nd.LatencyEncoder(), torch.tensor([[1.0, 0.75, 0.5], [0.25, 1e-9, 0.0]])
    spikes = encoder(x, T=9)
    assert spikes.shape == (9, 2, 3)
    assert spikes.sum(0).tolist() == [[1, 1, 1], [1, 1, 0]]
    assert spikes.argmax(0).tolist() == [[0, 2, 4], [6, 8, 0]]
    assert torch.equal(torch.stack([encoder.at(i, x, 9) for i in range(9)]), spikes)
    for wrong in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match="LatencyEncoder: x must be"):
            encoder(torch.tensor([0.3, wrong]), T=9)


@pytest.mark.parametrize("dt", [1.0, 0.25])
def test_log_latency_is_the_first_spike_of_a_leaky_neuron(dt):
    x = torch.cat([torch.linspace(0.1, 3, 40), torch.tensor([0.0, 0.05, 0.1])])
    encoder = nd.LatencyEncoder("log", tau=8 * u.ms, theta=0.1, dt=dt * u.ms)
    spikes = encoder(x, T=40)
    neuron = nd.LIF(len(x), tau=8 * u.ms, R=1 * u.Gohm, V_th=0.1 * u.mV, dt=dt * u.ms)
    first = nd.unroll(neuron, x.expand(40, -1), compile=False).cumsum(0).cumsum(0) == 1
    assert torch.equal(spikes, first.to(spikes.dtype))
    assert spikes.sum() > 20


def test_latency_arguments():
    with pytest.raises(ValueError, match="method must be"):
        nd.LatencyEncoder("exp")
    with pytest.raises(ValueError, match="must be positive"):
        nd.LatencyEncoder("log", theta=0.0)
    with pytest.raises(TypeError, match="tau needs a unit"):
        nd.LatencyEncoder("log", tau=5.0)


def test_delta_level_follows_the_data():
    t = torch.arange(400) * 0.01
    xs = torch.stack([torch.sin(2 * t), 0.5 * torch.cos(5 * t)], -1)
    encoder = nd.DeltaEncoder(2, threshold=0.05)
    nd.reset_states(encoder)
    level = torch.zeros(2)
    for i, x in enumerate(xs):
        spike = encoder(x)
        level = level + 0.05 * spike
        assert_close(encoder.level, level)
        if i >= 10:  # 0.5 is ten steps away from the start
            assert ((x - level).abs() < 0.05 + 1e-12).all()
    assert spike.shape == (2,)


def test_delta_events():
    xs = torch.tensor([0.0, 0.24, 0.25, 1.0, 1.0, 1.0, 1.0, 0.8, 0.75, 0.5, 0.5])[:, None]
    ys = nd.unroll(nd.DeltaEncoder(1, threshold=0.25), xs, compile=False).squeeze()
    assert ys.tolist() == [0, 0, 1, 1, 1, 1, 0, 0, -1, -1, 0]
    start = nd.DeltaEncoder(1, threshold=0.25, level_initializer=1.0)
    assert nd.unroll(start, torch.ones(5, 1), compile=False).abs().sum() == 0


def test_delta_passes_a_surrogate_gradient():
    encoder = nd.DeltaEncoder(3, surrogate=nd.surrogate.Sigmoid(), learn="threshold")
    xs = torch.randn(10, 3).cumsum(0).requires_grad_()
    nd.unroll(encoder, xs, compile=False).square().sum().backward()
    assert xs.grad.abs().sum() > 0
    assert encoder.raw_threshold.grad.abs() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_times_and_levels_in_low_precision(dtype):
    x = torch.rand(50).to(dtype)
    for encoder in (nd.LatencyEncoder(), nd.LatencyEncoder("log", tau=300 * u.ms)):
        spikes = encoder(x, T=1000)
        assert spikes.dtype == dtype
        assert torch.equal(spikes, encoder(x.float(), T=1000).to(dtype))
    encoder = nd.DeltaEncoder(1, threshold=0.125, dtype=dtype)  # 100 + 0.125 is 100 in bfloat16
    assert nd.unroll(encoder, torch.full((900, 1), 100.0, dtype=dtype), compile=False).sum() == 800
    assert encoder.level.item() == 100
