"""When a spike arrives: the step at which it moves V, for every form of a projection and for both orders of a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

DT = 0.5 * u.ms
SPIKE = 2  # the step of the one spike


def synapse(kind: str) -> nd.Dynamics | None:
    return {"expon": nd.Expon(1), "dual": nd.DualExpon(1), "alpha": nd.Alpha(1), "none": None}[kind]


def first_moved(V: list[Tensor]) -> int:
    """The first step whose V differs from rest."""
    return next(i for i, value in enumerate(V) if value != 0)


@pytest.mark.parametrize("k", [0, 1, 5])
@pytest.mark.parametrize("align", ["pre", "post"])
@pytest.mark.parametrize(("kind", "late"), [("expon", 0), ("dual", 1), ("alpha", 1), ("none", 0)])
@pytest.mark.parametrize("where", ["delay", "connection"])
def test_projections_first(k: int, align: str, kind: str, late: int, where: str) -> None:
    """A spike of step i moves V in step i + k, with a synapse that rises after its jump one step later."""
    if (align == "pre" and where == "connection") or (kind == "dual" and align == "pre"):
        pytest.skip("the same parts in another order")
    with nd.default_dt(DT):
        if where == "delay":
            delay, connection = nd.Delay(1, k * DT), nn.Linear(1, 1, bias=False)
        else:
            delay, connection = None, nd.Sparse(([0], [0]), (1, 1), weight=1.0, delay=k * DT)
        projection = nd.Projection(
            connection, delay=delay, synapse=synapse(kind), align=align, output=nd.COBA(E=70 * u.mV)
        )
        neuron = nd.LIF(1, V_th=1e3 * u.mV)
    V = []
    for i in range(20):
        neuron(projection(torch.full((1,), float(i == SPIKE))))
        V.append(neuron.V)
    assert first_moved(V) == SPIKE + k + late


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("where", ["delay", "connection"])
def test_read_then_write(k: int, where: str) -> None:
    """A population that feeds back on itself: a spike of step i moves V in step i + k."""
    with nd.default_dt(DT):
        if where == "delay":
            delay, connection = nd.Delay(1, k * DT), nn.Linear(1, 1, bias=False)
        else:
            delay, connection = None, nd.Sparse(([0], [0]), (1, 1), weight=1.0, delay=k * DT)
        projection = nd.Projection(connection, delay=delay, synapse=nd.Expon(1), output=nd.CUBA())
        neuron = nd.LIF(1, V_th=1e3 * u.mV)
    nd.reset_states(projection)
    V = []
    for i in range(20):
        neuron(projection.read())
        projection.write(torch.full((1,), float(i == SPIKE)))
        V.append(neuron.V)
    assert first_moved(V) == SPIKE + k


@pytest.mark.parametrize("kind", ["delta", "recurrent", "neurons first"])
def test_other_forms(kind: str) -> None:
    with nd.default_dt(DT):
        neuron, synapse, output = nd.LIF(1, V_th=1e3 * u.mV), nd.Expon(1), nd.CUBA()
    nd.reset_states(nn.ModuleList([neuron, synapse]))
    V, before = [], torch.zeros(1)
    for i in range(20):
        spike = torch.full((1,), float(i == SPIKE))
        if kind == "delta":  # no synapse: a jump of V, in the step of the spike
            neuron(torch.zeros(1), delta=spike)
        elif kind == "recurrent":  # spikes of the step before
            neuron(output(synapse(before)))
            before = spike
        else:  # V moves with the conductance from before the step; then the spike changes it
            neuron(output(synapse.g))
            synapse(spike)
        V.append(neuron.V)
    assert first_moved(V) == {"delta": SPIKE, "recurrent": SPIKE + 1, "neurons first": SPIKE + 1}[kind]


class NeuronsFirst(nn.Module):
    """The order of Brian2: neurons step with the conductances as they stand, then their spikes change those."""

    def __init__(self, data: dict[str, np.ndarray]):
        super().__init__()
        self.exc, n = data["weight_E"].shape
        self.neurons = nd.LIFRef(
            n,
            tau=20 * u.ms,
            R=0.1 * u.Gohm,
            tau_ref=2 * u.ms,
            V_rest=-60 * u.mV,
            V_th=-50 * u.mV,
            V_reset=-60 * u.mV,
            reset="hard",
            V_initializer=data["V_initial"] * u.mV,
        )
        self.E, self.I = (self.sparse(data[f"weight_{name}"]) for name in "EI")
        self.g_E, self.g_I = nd.Expon(n, tau=5 * u.ms), nd.Expon(n, tau=10 * u.ms)
        self.coba_E, self.coba_I = nd.COBA(E=0 * u.mV), nd.COBA(E=-80 * u.mV)

    @staticmethod
    def sparse(weight: np.ndarray) -> nd.Sparse:
        return nd.Sparse(u.quantity(torch.as_tensor(weight).to_sparse(), "nS"))

    def forward(self, I: Tensor) -> Tensor:
        spikes = self.neurons(self.coba_E(self.g_E.g) + self.coba_I(self.g_I.g) + I)
        self.g_E(self.E(spikes[..., : self.exc]))
        self.g_I(self.I(spikes[..., self.exc :]))
        return spikes


@pytest.mark.parametrize("compile", [False, True])
def test_neurons_first_equals_brian2(compile: bool) -> None:
    with np.load(Path(__file__).parents[1] / "reference" / "brian2_network.npz") as file:
        data = dict(file)
    with nd.default_dt(0.1 * u.ms):
        net = NeuronsFirst(data)
    I = torch.as_tensor(data["current"])
    recording = nd.simulate(
        net, 200 * u.ms, I, {"spikes": None, "neurons.V": data["recorded"].tolist()}, compile=compile
    )
    assert len(data["spike_step"]) > 500
    assert recording["spikes"].steps.tolist() == data["spike_step"].tolist()
    assert recording["spikes"].neurons.tolist() == data["spike_neuron"].tolist()
    assert (recording["neurons.V"].values - torch.as_tensor(data["V"])).abs().max() < 1e-9
    if not compile:  # and as a sequence, whose states start by themselves
        spikes = nd.unroll(net, I.expand(50, -1), compile=False)
        assert spikes.nonzero()[:, 0].tolist() == [step for step in data["spike_step"].tolist() if step < 50]
