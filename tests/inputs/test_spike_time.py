import numpy as np
import pint
import pytest
import torch
from reference.traces import load

import neurodyn as nd
from neurodyn import units as u


def test_trace():
    """The first spike comes at its time; brainstate is silent until the last."""
    trace = load("input_SpikeTime")
    source = nd.SpikeTime(trace.size, trace.arrays["p_indices"], trace.arrays["p_times"] * u.ms, dt=trace.dt)
    wanted = trace["out_spike"]
    assert torch.equal(source(len(wanted)), wanted)
    assert torch.equal(torch.stack([source.at(i) for i in range(len(wanted))]), wanted)


def test_first_spike_in_step_0_order_and_batch():
    source = nd.SpikeTime((2, 2), indices=[3, 0, 1], times=[0.2, 0.0, 0.1] * u.ms, dt=0.1 * u.ms, dtype=torch.float32)
    spikes = source(4, 5)
    assert spikes.shape == (4, 5, 2, 2)
    assert spikes.dtype == torch.float32
    assert spikes[:, 4].flatten(1).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert torch.equal(source.at(2, 5), spikes[2])
    assert source(2).sum() == 2
    assert nd.SpikeTime(3, [], [] * u.ms)(4).sum() == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_times_are_rounded_to_the_step_they_mean(dtype):
    n = np.arange(20_000)
    source = nd.SpikeTime(1, 0 * n, u.quantity((n / 10).astype(dtype), "ms"), dt=0.1 * u.ms)
    assert torch.equal(source.steps, torch.from_numpy(n))
    seconds = nd.SpikeTime(1, 0 * n, u.quantity(n / 10_000, "s"), dt=100 * u.us)
    assert torch.equal(seconds.steps, torch.from_numpy(n))


@pytest.mark.parametrize(
    ("indices", "times", "message"),
    [
        ([0, 1], [1.0, 1.26] * u.ms, r"times\[1\] = 1.26 ms is no multiple of dt=0.1 ms"),
        ([0], [1.0001] * u.ms, r"times\[0\] = 1.0001 ms is no multiple"),
        ([0], [-0.1] * u.ms, "is negative"),
        ([0, 3], [1, 2] * u.ms, r"indices\[1\] = 3 is no neuron of a population of 3"),
        ([-1], [1] * u.ms, "is no neuron"),
        ([2, 0, 2], [0.5, 0.5, 0.5] * u.ms, "neuron 2 has two spikes in step 5"),
        ([0, 1], 1.0 * u.ms, "2 indices and times of shape"),
        ([0], [np.nan] * u.ms, "finite"),
    ],
)
def test_errors(indices, times, message):
    with pytest.raises(ValueError, match=message):
        nd.SpikeTime(3, indices, times, dt=0.1 * u.ms)


def test_wrong_types():
    with pytest.raises(TypeError, match="times needs a unit"):
        nd.SpikeTime(3, [0], [1.0])
    with pytest.raises(pint.DimensionalityError):
        nd.SpikeTime(3, [0], [1.0] * u.mV)
    with pytest.raises(TypeError, match="list of ints"):
        nd.SpikeTime(3, [0.5], [1.0] * u.ms)
