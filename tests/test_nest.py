"""Jumps of V and short-term plasticity against NEST 3.10.0, recorded by reference/make_nest.py.

NEST moves V from t to t + h; a spike that arrives at t + h is felt one step later, but by iaf_psc_delta, whose jump is
added to V at the end of the step, as ``delta`` is. Synapses with a time course are in synapses/test_exact.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

FOLDER = Path(__file__).parent / "reference"


def load(name):
    with np.load(FOLDER / f"nest_{name}.npz") as file:
        return {key: file[key] for key in file.files}


def neuron(nest):
    tau, capacity = float(nest["p_tau_m"]), float(nest["p_C_m"])  # ms and pF: R = tau / C in Gohm
    values = {name: float(nest[f"p_{key}"]) * u.mV for name, key in
              {"V_th": "V_th", "V_reset": "V_reset", "V_rest": "E_L", "V_initializer": "V_m"}.items()}  # fmt: skip
    dt = float(nest["dt"]) * u.ms
    values |= {"tau": tau * u.ms, "R": tau / capacity * u.Gohm, "reset": "hard", "dt": dt}
    hold = float(nest["p_t_ref"]) * u.ms
    return nd.LIFRef(1, tau_ref=hold + dt, **values) if hold else nd.LIF(1, **values)


def jumps(nest):
    """The input spikes of each step, times their weight."""
    spikes = torch.zeros(len(nest["V"]), 1)
    spikes[torch.from_numpy(nest["arrivals"])] = float(nest["weight"])
    return spikes


@pytest.mark.parametrize("name", ["delta", "delta_ref"])
def test_lif_against_iaf_psc_delta(name):
    """NEST holds V for t_ref / h steps after a spike, `LIFRef` for one less than tau_ref / dt."""
    nest = load(name)
    lif, V, spikes = neuron(nest), [], []
    for delta in jumps(nest):
        spikes.append(lif(torch.tensor([float(nest["p_I_e"])]), delta=delta))
        V.append(lif.V)
    assert len(nest["spikes"]) > 10
    assert torch.cat(spikes).nonzero().squeeze(1).tolist() == nest["spikes"].tolist()
    assert np.abs(torch.cat(V).numpy() - nest["V"]).max() < 1e-6


@pytest.mark.parametrize("steps", [1, 7])
def test_stp_against_tsodyks2(steps):
    """The same release at every spike, whatever the number of time steps in between."""
    nest = load("tsodyks2")
    dt = float(nest["dt"]) / steps
    stp = nd.STP(1, U=float(nest["p_U"]), tau_f=float(nest["p_tau_fac"]) * u.ms, tau_d=float(nest["p_tau_rec"]) * u.ms,
                 dt=dt * u.ms)  # fmt: skip
    at = torch.from_numpy(nest["arrivals"]) * steps
    spikes = torch.zeros(int(at[-1]) + 1, 1)
    spikes[at] = 1
    stp.reset_state()
    with torch.no_grad():
        release = torch.cat([stp(s) for s in spikes])[at]
    assert len(release) == 200
    assert np.abs(release.numpy() - nest["release"]).max() < 1e-12
