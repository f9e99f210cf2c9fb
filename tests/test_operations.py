"""Synaptic operations, equal to those of NeuroBench 2.3 for each layer, on every path of `unroll`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from reference.neurobench_networks import BETA, BIASES, INPUTS, KERNEL, LAST, LINEAR
from torch import nn

import neurodyn as nd
from neurodyn import units as u

RECORDED = json.loads((Path(__file__).parent / "reference" / "neurobench.json").read_text())
count = nd.analysis.synaptic_operations


def test_without_inputs() -> None:
    with pytest.raises(TypeError, match=r"xs is missing, .* call nd\.analysis\.synaptic_operations\(net, xs\)"):
        count(nn.Sequential(nn.Linear(3, 3), nd.LIF(3)))


@pytest.fixture(autouse=True)
def as_recorded():
    torch.set_default_dtype(torch.float32)


def neurons(size=()) -> nd.LIF:
    """Those of snnTorch with reset to zero."""
    return nd.LIF(size, tau=-1 / math.log(BETA) * u.ms, R=1 / (1 - BETA) * u.Gohm, reset="hard")


def linear(weight, bias=None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight.data = torch.as_tensor(weight).float()
    if bias is not None:
        made.bias.data = torch.as_tensor(bias).float()
    return made


def network(name: str) -> nn.Sequential:
    if name == "images":
        convolution = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
        convolution.weight.data = torch.as_tensor(KERNEL).float()
        return nn.Sequential(convolution, neurons(), nn.Flatten(), linear(LAST), neurons())
    rows = [(linear(w, b), neurons()) for w, b in zip(LINEAR, BIASES, strict=True)]
    return nn.Sequential(*(layer for row in rows for layer in row))


@pytest.mark.parametrize("name", RECORDED)
def test_the_numbers_of_neurobench(name: str) -> None:
    net, xs = network(name), torch.as_tensor(INPUTS[name]).float()
    states = [type(module) for module in net.modules()]
    found = count(net, xs, compile=False)
    for ours, wanted in zip(found.layers.values(), RECORDED[name], strict=True):
        assert ours == (wanted["Effective_ACs"], wanted["Effective_MACs"], wanted["Dense"])
    assert found.samples == 5
    assert found.total.accumulates > 0
    assert (found.total.multiplies > 0) == (name in ("graded", "mixed"))
    assert [type(module) for module in net.modules()] == states  # the network itself is as it was


def test_compiled_runs_count_the_same() -> None:
    net, xs = nn.Sequential(linear(LINEAR[0]), neurons(64)), torch.as_tensor(INPUTS["mixed"]).float()
    assert count(net, xs) == count(net, xs, compile=False)
    recurrent = nn.Sequential(*net, nd.Recurrent(neurons(64), linear(LINEAR[1])))
    found = count(recurrent, xs, compile=False)
    spikes = nd.unroll(recurrent, xs, compile=False)[:-1]  # fed back in the next step
    fan = (recurrent[2].feedback.weight != 0).sum(0)
    assert found.layers["2.feedback"].accumulates == pytest.approx((spikes * fan).sum().item() / 5)


def test_connections_of_neurodyn_count_their_synapses() -> None:
    indices, size = ([0, 0, 2], [1, 3, 1]), (3, 4)
    xs = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]])[:, None]  # 3 synapses of sources that spike, twice
    net = nn.Sequential(nd.Sparse(indices, size, weight=[1.0, 2.0, 5.0]), nd.LIF(4))
    assert count(net, xs, compile=False).layers["0"] == (6, 0, 6)
    with torch.no_grad():
        net[0].weight[1] = 0.0
    assert count(net, xs, compile=False).layers["0"] == (4, 0, 6)
    one = nn.Sequential(nd.OneToOne(3, weight=[1.0, 0.0, 2.0]), nd.LIF(3))
    assert count(one, xs, compile=False).layers["0"] == (4, 0, 6)
    others = nn.Sequential(nd.AllToAll(3, 3, weight=0.5, include_self=False), nd.LIF(3))
    assert count(others, xs, compile=False).layers["0"].accumulates == 5 * 2


class Own(nn.Module):
    """Connections as attributes of a module of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.cell, self.readout = nn.Linear(4, 6), nd.LIF(6), nd.LeakyRateReadout(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.readout(self.cell(self.input(x)))


def test_modules_of_ones_own_and_means_over_batches() -> None:
    torch.manual_seed(0)
    net, xs = Own(), (torch.rand(10, 6, 4) < 0.5).float()
    whole = count(net, xs, compile=False)
    assert list(whole.layers) == ["input", "readout.linear"]
    assert whole.layers["input"].accumulates == 6 * xs.sum().item() / 6
    spikes = nd.unroll(net, xs, record="cell", compile=False)[1]["cell"].values
    assert whole.layers["readout.linear"].accumulates == pytest.approx(2 * spikes.sum().item() / 6)
    parts = count(net, xs[:, :4], compile=False) + count(net, xs[:, 4:], compile=False)
    assert parts.samples == 6
    for name, numbers in parts.layers.items():
        assert numbers == pytest.approx(whole.layers[name])


def test_energy() -> None:
    xs = torch.tensor([[1.0, 0.0, 1.0], [0.5, 1.0, 0.0]])[:, None]
    found = count(nn.Sequential(nn.Linear(3, 2), nd.LIF(2)), xs, compile=False)
    assert found.layers["0"] == (4, 4, 12)
    assert found.energy()["0"].to("pJ").magnitude == pytest.approx(4 * 0.9 + 4 * 4.6)
    assert found.energy(add=1 * u.pJ, multiply_add=2 * u.pJ)["0"].magnitude == 12
    assert repr(found).splitlines()[1].split() == ["0", "4", "4", "12", "0.022", "nJ"]


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: nn.Sequential(nd.LIF(3)), "has no connection to count"),
        (lambda: nn.Linear(3, 3), "put it into an nn.Sequential"),
        (lambda: nn.Sequential(nd.LSTMCell(3, 3)), "'0', a LSTMCell, cannot be counted"),
        (lambda: nn.Sequential(nd.Oja(nn.Linear(3, 3))), "'0', a Oja, cannot be counted"),
    ],
)
def test_what_cannot_be_counted_is_named(net, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        count(net(), torch.ones(2, 1, 3), compile=False)


def test_results_of_different_networks_do_not_add() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nd.LIF(3))
    with pytest.raises(ValueError, match="of different networks"):
        count(net, torch.ones(2, 1, 3), compile=False) + count(Own(), torch.ones(2, 1, 4), compile=False)
