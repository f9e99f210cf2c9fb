"""Against NEST 3.10.0, recorded by reference/make_nest.py.

The schedules differ. NEST moves V from t to t + h with the synaptic current from t on, integrated exactly along with V;
a spike that arrives at t + h changes the current at t + h, so that V feels it one step later. With the synapse first,
the neuron sees the conductance of the end of the step, the jump in it, held constant. Its sum over the steps is larger
than the integral of the exponential by the factor (h / tau) / (1 - exp(-h / tau)), about 1 + h / (2 tau). So:

=============  ========================================================================================================
iaf_psc_delta  equal: ``delta`` is added to V at the end of the step
iaf_psc_exp    equal with the neuron first, if the current is scaled to the effect on V of one that decays over the
               step, a constant factor; with the synapse first and that factor each spike comes one step earlier;
               without the factor the rate is about h / (2 tau) too high, and spikes drift apart
iaf_psc_alpha  not equal: `Alpha` holds h during a step, first order in h; with the factor of the sum above, spikes stay
               within two steps
tsodyks2       equal
=============  ========================================================================================================
"""

import itertools
import math
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
    return nd.LIF(1, tau=tau * u.ms, R=tau / capacity * u.Gohm, reset="hard", dt=dt, **values)


def jumps(nest, factor=1.0):
    """The input spikes of each step, times their weight."""
    spikes = torch.zeros(len(nest["V"]), 1)
    spikes[torch.from_numpy(nest["arrivals"])] = float(nest["weight"]) * factor
    return spikes


def run(lif, synapse, nest, xs, *, neuron_first=False, scale=1.0):
    """V and spikes of each step."""
    base = torch.tensor([float(nest["p_I_e"])])
    V, spikes, g = [], [], torch.zeros(1)
    for x in xs:
        g = g if neuron_first else synapse(x)
        spikes.append(lif(base + scale * g))
        V.append(lif.V)
        g = synapse(x) if neuron_first else g
    return torch.cat(V), torch.cat(spikes).nonzero().squeeze(1)


def test_lif_against_iaf_psc_delta():
    nest = load("delta")
    lif, V, spikes = neuron(nest), [], []
    for delta in jumps(nest):
        spikes.append(lif(torch.tensor([float(nest["p_I_e"])]), delta=delta))
        V.append(lif.V)
    assert len(nest["spikes"]) > 10
    assert torch.cat(spikes).nonzero().squeeze(1).tolist() == nest["spikes"].tolist()
    assert np.abs(torch.cat(V).numpy() - nest["V"]).max() < 1e-6


def exp_scale(nest, tau_syn):
    """The effect on V over a step of a current that decays with tau_syn, over that of a constant one."""
    tau, h = float(nest["p_tau_m"]), float(nest["dt"])
    decaying = tau * tau_syn / (tau - tau_syn) * (math.exp(-h / tau) - math.exp(-h / tau_syn))
    return decaying / (tau * -math.expm1(-h / tau))


def test_expon_and_lif_against_iaf_psc_exp():
    nest = load("exp")
    tau_syn = float(nest["p_tau_syn_ex"])
    synapse = nd.Expon(1, tau=tau_syn * u.ms, dt=float(nest["dt"]) * u.ms)
    V, spikes = run(neuron(nest), synapse, nest, jumps(nest), neuron_first=True, scale=exp_scale(nest, tau_syn))
    assert len(nest["spikes"]) > 10
    assert spikes.tolist() == nest["spikes"].tolist()
    assert np.abs(V.numpy() - nest["V"]).max() < 1e-6


def test_synapse_first_spikes_one_step_before_iaf_psc_exp():
    nest = load("exp")
    tau_syn = float(nest["p_tau_syn_ex"])
    synapse = nd.Expon(1, tau=tau_syn * u.ms, dt=float(nest["dt"]) * u.ms)
    _, spikes = run(neuron(nest), synapse, nest, jumps(nest), scale=exp_scale(nest, tau_syn))
    assert (spikes + 1).tolist() == nest["spikes"].tolist()


def alpha(nest, *, corrected):
    tau, dt = float(nest["p_tau_syn_ex"]), float(nest["dt"])
    synapse = nd.Alpha(1, tau=tau * u.ms, dt=dt * u.ms)
    scale = -math.expm1(-dt / tau) * tau / dt if corrected else 1.0
    return run(neuron(nest), synapse, nest, jumps(nest, math.e), scale=scale)  # NEST's weight is the peak


def test_alpha_and_lif_spike_within_two_steps_of_iaf_psc_alpha():
    nest = load("alpha")
    _, spikes = alpha(nest, corrected=True)
    assert len(spikes) == len(nest["spikes"]) == 40
    assert np.abs(spikes.numpy() - nest["spikes"]).max() <= 2


@pytest.mark.parametrize(("corrected", "largest"), [(False, 0.4), (True, 0.05)])
def test_alpha_converges_to_iaf_psc_alpha_in_first_order(corrected, largest):
    errors = []
    for dt in (0.4, 0.2, 0.1):
        nest = load(f"alpha_{dt}")
        errors.append(np.abs(alpha(nest, corrected=corrected)[0].numpy() - nest["V"]).max())
    assert errors[-1] < largest  # mV, of a range of 26 mV
    for coarse, fine in itertools.pairwise(errors):
        assert abs(math.log2(coarse / fine) - 1) < 0.1


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
