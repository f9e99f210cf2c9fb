"""Records: what unroll(record=) gives, how records print, and what they convert to."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def network() -> nn.Sequential:
    torch.manual_seed(1)
    projection = nd.Projection(nn.Linear(4, 3), plasticity=nd.STP(4), synapse=nd.Expon(3))
    return nn.Sequential(nn.Linear(2, 4), nd.LIF(4, learn="tau"), projection, nd.LIF(3), nd.LeakyRateReadout(3, 2))


NAMES = ("1.V", "0", "3", "2.plasticity", "2", "4", "2.synapse.g")


def test_unroll_records_what_a_step_loop_sees() -> None:
    net, xs = network(), 3 * torch.rand(19, 5, 2)
    plain = nd.unroll(net, xs, compile=False)
    ys, recording = nd.unroll(net, xs, compile=False, record=NAMES)
    assert torch.equal(ys, plain)
    assert list(recording) == list(NAMES)
    nd.reset_states(net, 5)
    for t in range(19):
        current = net[0](xs[t])
        first = net[1](current)
        g = net[2](first)
        second = net[3](g)
        wanted = (net[1].V, current, second, None, g, net[4](second), net[2].synapse.g)
        for name, value in zip(NAMES, wanted, strict=True):
            if value is not None:
                assert (recording[name].values[t] - value).abs().max() < 1e-12
    assert recording["1.V"].unit == u.mV
    assert recording["2.synapse.g"].unit == u.nS
    assert recording["2.plasticity"].values.max() > 0
    assert recording.step == 19
    assert torch.equal(recording.states["1.V"], recording["1.V"].values[-1])


def test_compiled_records_and_their_gradients() -> None:
    net, xs = nn.Sequential(nn.Linear(2, 4), nd.Expon(4), nd.LIF(4)), 3 * torch.rand(16, 5, 2)
    found = []
    for compile in (False, True):
        net.zero_grad()
        ys, recording = nd.unroll(net, xs, compile=compile, record=("2.V", "1", "0"))
        (ys.sum() + sum(trace.values.square().sum() for trace in recording.values())).backward()
        found.append([ys, *(trace.values for trace in recording.values()), *(p.grad.clone() for p in net.parameters())])
    for eager, compiled in zip(*found, strict=True):
        assert eager.abs().max() > 0
        assert (eager - compiled).abs().max() <= 1e-10 * eager.abs().max()


def test_composite_modules_and_their_parts() -> None:
    layer = nd.Recurrent(nd.LIF(3), nn.Linear(3, 3, bias=False))
    xs = 2 * torch.rand(30, 3)
    ys, recording = nd.unroll(layer, xs, compile=False, record=("y", "cell.V", "cell", "feedback", ""))
    assert torch.equal(recording["cell"].values, ys)
    assert torch.equal(recording["y"].values, ys)
    assert torch.equal(recording[""].values, ys)
    assert torch.equal(recording["feedback"].values[1:], layer.feedback(ys[:-1]))
    assert recording["cell.V"].values.max() > 0


@pytest.mark.parametrize(
    ("record", "error", "words"),
    [
        ("5.V", KeyError, "there is no '5.V' to record; there are the states 1.V, 2.plasticity.u"),
        ("1.w", KeyError, "the modules 0, 0.1, 1, 2, 2.plasticity"),
        ("2.output", TypeError, "cannot record '2.output': in a step it gives Current, wanted a tensor"),
    ],
)
def test_errors(record: str, error: type[Exception], words: str) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("1", nn.Linear(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.get_submodule("1")(x)

    projection = nd.Projection(nn.Linear(4, 3), plasticity=nd.STP(4), synapse=nd.Expon(3), output=nd.CUBA())
    net = nn.Sequential(Block(), nd.LIF(4), projection, nd.LIF(3))
    with pytest.raises(error, match=words.replace("(", r"\(")):
        nd.unroll(net, torch.rand(3, 2), compile=False, record=record)
    with pytest.raises(ValueError, match=r"the final states are recording\.states"):
        nd.unroll(net, torch.rand(3, 2), compile=False, record="1", return_states=True)


@pytest.fixture
def recording() -> nd.Recording:
    """Two samples of three neurons, the second half of a run."""
    I = torch.tensor([[0.5, 1.2, 1.5], [2.0, 0.9, 3.0]])
    options = {"record": ("V", "spikes", "output"), "batch": (2,), "compile": False}
    lif = nd.LIF(3, tau=5 * u.ms, dt=0.5 * u.ms)
    first = nd.simulate(lif, 20 * u.ms, I, **options)
    return nd.simulate(lif, 20 * u.ms, I, states=first.states, start=first.step, **{**options, "batch": ()})


def test_numpy(recording: nd.Recording) -> None:
    arrays = recording.to_numpy()
    assert arrays["V"].units == u.mV
    assert np.array_equal(arrays["V"].magnitude, recording["V"].values.numpy())
    times, neurons = arrays["spikes"]
    dense = recording["output"].values.numpy().reshape(40, 6)
    assert np.array_equal(np.stack((times.to("ms").magnitude / 0.5 - 40, neurons), 1), np.argwhere(dense))


def test_pandas(recording: nd.Recording) -> None:
    frames = recording.to_pandas()
    V = frames["V"]
    assert (V.index.name, V.index[0], V.index[-1]) == ("time (ms)", 20.0, 39.5)
    assert list(V.columns.names) == ["batch", "neuron"]
    assert np.array_equal(V[1, 2].to_numpy(), recording["V"].values[:, 1, 2].numpy())
    assert V.attrs == {"name": "V", "unit": "mV"}
    spikes = frames["spikes"]
    counts = spikes.groupby(["batch", "neuron"]).size()
    assert all(counts.get(key, 0) == recording["spikes"].counts[key] for key in np.ndindex(2, 3))
    assert recording["V"].sample(1).to_pandas().columns.name == "neuron"


def test_neo(recording: nd.Recording) -> None:
    segment = recording.to_neo()
    V, output = segment.analogsignals
    assert (V.name, str(V.dimensionality), str(output.dimensionality)) == ("V", "mV", "dimensionless")
    assert (float(V.t_start.rescale("ms")), float(V.sampling_period.rescale("ms"))) == (20.0, 0.5)
    assert np.array_equal(V.magnitude, recording["V"].values.flatten(1).numpy())
    assert len(segment.spiketrains) == 6
    for k, train in enumerate(segment.spiketrains):
        assert (float(train.t_start), float(train.t_stop), str(train.dimensionality)) == (20.0, 40.0, "ms")
        wanted = recording["output"].values.flatten(1)[:, k].nonzero()[:, 0] * 0.5 + 20
        assert np.array_equal(train.magnitude, wanted.numpy())
        assert train.annotations["neuron"] == k
    assert sum(len(train) for train in segment.spiketrains) == len(recording["spikes"]) > 10


def test_missing_names_and_packages_are_said(recording: nd.Recording, monkeypatch) -> None:
    with pytest.raises(KeyError, match="no record 'W'; there are V, spikes, output"):
        recording["W"]
    assert "W" not in recording
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"to_pandas needs pandas: pip install 'neurodyn\[pandas\]'"):
        recording["V"].to_pandas()


def test_records_print_in_80_columns(recording: nd.Recording) -> None:
    lines = repr(recording).splitlines()
    assert lines[0] == "Recording up to step 80"
    assert [line.split()[:2] for line in lines[1:]] == [["V", "Trace"], ["spikes", "Events"], ["output", "Trace"]]
    assert max(map(len, [*lines, repr(recording["V"]), repr(recording["spikes"])])) <= 80
    assert repr(nd.Events.of(torch.zeros(4, 2))) == "<Events: 4 x 1 ms from 0 ms, (2,), 0 spikes, 0 Hz>"


SUBSETS = {
    "list": ([0, 3, 7], [0, 3, 7]),
    "slice": (slice(2, 8, 2), [2, 4, 6]),
    "end": (slice(-3, None), [7, 8, 9]),
    "mask": (torch.arange(10) > 7, [8, 9]),
    "from the end": ([-1, 0], [9, 0]),
}


@pytest.mark.parametrize("kind", SUBSETS)
def test_recorded_neurons_keep_their_numbers(kind: str) -> None:
    index, numbers = SUBSETS[kind]
    net, I = nd.LIF(10, R=1 * u.Gohm), torch.linspace(1.2, 2.0, 10)
    whole = nd.simulate(net, 40 * u.ms, I, ["V", "spikes"], compile=False)
    found = nd.simulate(net, 40 * u.ms, I, {"V": index, "spikes": index}, compile=False)
    found = nd.Recording.from_state_dict(found.state_dict())  # also from a file
    assert torch.equal(found["V"].values, whole["V"].values[:, numbers])
    assert found["V"].numbers.tolist() == numbers
    assert list(found["V"].to_pandas().columns) == numbers
    assert found["V"].to_neo().array_annotations["neuron"].tolist() == numbers

    spikes, all_spikes = found["spikes"], whole["spikes"]
    for place, number in enumerate(numbers):
        wanted = all_spikes.steps[all_spikes.neurons == number].tolist()
        assert len(wanted) > 2
        assert spikes.steps[spikes.senders % 10 == number].tolist() == wanted
        train = spikes.to_neo()[place]
        assert train.annotations["neuron"] % 10 == number
        assert train.magnitude.tolist() == wanted
    frame = spikes.to_pandas()
    assert sorted(set(frame["neuron"] % 10)) == sorted(numbers)


def test_one_recorded_neuron_of_a_batch_keeps_its_number() -> None:
    net, I = nd.LIF(10, R=1 * u.Gohm), torch.linspace(1.2, 2.0, 10).expand(2, 10).contiguous()
    found = nd.simulate(net, 40 * u.ms, I, {"V": 8, "spikes": [1, 8]}, batch=2, compile=False)
    assert found["V"].to_pandas().columns.tolist() == [(0, 8), (1, 8)]
    one = found["spikes"].sample(1)
    assert set(one.senders.tolist()) == {1, 8}
    parts = [nd.simulate(net, 5 * u.ms, I, {"V": [k]}, batch=2, compile=False) for k in (3, 4)]
    with pytest.raises(ValueError, match=r"'V' is of neurons \[3\] and then of neurons \[4\]"):
        nd.Recording.join(*parts)


def test_true_records_all_neurons() -> None:
    found = nd.simulate(nd.LIF(3), 5 * u.ms, 0.1, {"V": True}, compile=False)
    assert found["V"].values.shape == (5, 3)
