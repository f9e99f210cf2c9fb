"""Linear synapses with exact=True, against NEST 3.10.0 and against closed forms.

The recordings ``nest_random_*.npz`` are two seconds of Poisson input. A spike that arrives at the beginning of a step is
the input of that step, in both; nothing else is converted but units: a weight of NEST's alpha function is its peak, e
times less than its h, and it holds V for t_ref / dt steps where `LIFRef` holds tau_ref / dt - 1.
"""

import itertools
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.decaying import Decaying, Part
from neurodyn.solve import phi_slope

FOLDER = Path(__file__).parents[1] / "reference"


def load(name):
    with np.load(FOLDER / f"nest_random_{name}.npz") as file:
        return {key: file[key] for key in file.files}


class Cell(nn.Module):
    """A neuron with a synapse for each receptor of a recording."""

    def __init__(self, nest, synapses, outputs, compartment):
        super().__init__()
        C, dt = float(nest["p_C_m"]), float(nest["dt"])
        tau = C / float(nest["p_g_L"]) if "p_g_L" in nest else float(nest["p_tau_m"])
        self.neuron = nd.LIFRef(
            1,
            tau=tau * u.ms,
            R=tau / C * u.Gohm,
            tau_ref=(float(nest["p_t_ref"]) + dt) * u.ms,
            reset="hard",
            **{key: float(nest[f"p_{name}"]) * u.mV for key, name in compartment.items()},
        )
        self.receptors = nn.ModuleList(map(nd.Receptor, synapses, outputs))
        self.I = float(nest["p_I_e"])

    def forward(self, jumps):
        total = torch.full_like(jumps[..., :1], self.I)
        for i, receptor in enumerate(self.receptors):
            total = total + receptor(jumps[..., i : i + 1])
        return self.neuron(total)


MEMBRANE = {"V_th": "V_th", "V_reset": "V_reset", "V_rest": "E_L", "V_initializer": "V_m"}


def run(name, synapse, output=None, factor=1.0):
    """What NEST recorded; V and the spike steps of neurodyn."""
    nest = load(name)
    with nd.default_dt(float(nest["dt"]) * u.ms):
        n = nest["counts"].shape[1]
        cell = Cell(nest, [synapse(nest, i) for i in range(n)], [output(nest, i) if output else nd.CUBA() for i in range(n)],
                    MEMBRANE)  # fmt: skip
    jumps = torch.as_tensor(nest["counts"] * np.abs(nest["weights"] if output else 1.0)) * factor
    jumps = jumps if output else jumps * torch.as_tensor(nest["weights"])
    recording = nd.simulate(cell, len(jumps) * cell.neuron.dt * u.ms, jumps, ["neuron.V", "spikes"], compile=False)
    return nest, recording["neuron.V"].values[:, 0].numpy(), recording["spikes"].steps.tolist()


def taus(nest, i):
    return float(nest[("p_tau_syn_ex", "p_tau_syn_in")[i]]) * u.ms


def expon(nest, i):
    return nd.Expon(1, tau=taus(nest, i), exact=True)


def alpha(nest, i):
    return nd.Alpha(1, tau=taus(nest, i), exact=True)


def dual(nest, i):
    return nd.DualExpon(1, tau_decay=6 * u.ms, tau_rise=2 * u.ms, exact=True)


@pytest.mark.parametrize(
    ("name", "synapse", "factor"),
    [("exp", expon, 1.0), ("exp_1ms", expon, 1.0), ("alpha", alpha, math.e), ("dual", dual, 1.0)],
)
def test_two_seconds_of_random_input(name, synapse, factor):
    nest, V, spikes = run(name, synapse, factor=factor)
    assert len(nest["V"]) * float(nest["dt"]) == pytest.approx(2000)
    assert len(spikes) > 40
    assert spikes == nest["spikes"].tolist()
    assert np.abs(V - nest["V"]).max() < 1e-9
