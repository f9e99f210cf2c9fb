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
iaf_psc_alpha  equal, if the current is the effect on V of the alpha function over the step, a fixed mixture of g before
               and after the step; with their mean the spikes are the same and V is off in second order of h; with g
               after the step alone, the synapse first, in first order, and spikes stay within two steps
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
    values |= {"tau": tau * u.ms, "R": tau / capacity * u.Gohm, "reset": "hard", "dt": dt}
    hold = float(nest["p_t_ref"]) * u.ms
    return nd.LIFRef(1, tau_ref=hold + dt, **values) if hold else nd.LIF(1, **values)


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


def alpha_mixture(nest):
    r"""Factors of g before and after a step, for the constant current that moves V as the alpha function does.

    From g and h at its start the function is $(g + h s/\tau) e^{-s/\tau}$ after a time s, and at its end g is
    $(g + h x) e^{-x}$ with $x = dt/\tau$.
    """
    tau, dt = float(nest["p_tau_syn_ex"]), float(nest["dt"])
    leak, decay, x = 1 / float(nest["p_tau_m"]), 1 / tau, dt / tau
    k = decay - leak
    of_g = math.exp(-leak * dt) * -math.expm1(-k * dt) / k
    of_h = math.exp(-leak * dt) * decay * (1 - math.exp(-k * dt) * (1 + k * dt)) / k**2
    constant = -math.expm1(-leak * dt) / leak
    return (of_g - of_h / x) / constant, of_h * math.exp(x) / x / constant


def alpha(nest, before, after):
    """V and spikes with a current of `before` times g before the step and `after` times g after it."""
    tau, dt = float(nest["p_tau_syn_ex"]), float(nest["dt"])
    synapse, lif = nd.Alpha(1, tau=tau * u.ms, dt=dt * u.ms), neuron(nest)
    gain = dt / tau / math.expm1(dt / tau)  # of `Alpha`, see its docstring; NEST's weight is the peak
    base, V, spikes, g = float(nest["p_I_e"]), [], [], torch.zeros(1)
    for x in jumps(nest, math.e * gain):
        g_before, g = g, synapse(x)
        spikes.append(lif(base + before * g_before + after * g))
        V.append(lif.V)
    return torch.cat(V).numpy(), torch.cat(spikes).nonzero().squeeze(1).numpy()


def test_alpha_and_lif_against_iaf_psc_alpha():
    nest = load("alpha")
    V, spikes = alpha(nest, *alpha_mixture(nest))
    assert len(nest["spikes"]) == 40
    assert spikes.tolist() == nest["spikes"].tolist()
    assert np.abs(V - nest["V"]).max() < 1e-6


@pytest.mark.parametrize(("factors", "steps"), [((0.5, 0.5), 0), ((0.0, 1.0), 2), ((1.0, 0.0), 2)])
def test_a_simpler_current_than_that_of_iaf_psc_alpha(factors, steps):
    nest = load("alpha")
    _, spikes = alpha(nest, *factors)
    assert np.abs(spikes - nest["spikes"]).max() == steps


@pytest.mark.parametrize(("factors", "order", "largest"), [((0.5, 0.5), 2, 0.003), ((0.0, 1.0), 1, 0.04)])
def test_a_simpler_current_converges_to_that_of_iaf_psc_alpha(factors, order, largest):
    errors = []
    for dt in (0.4, 0.2, 0.1):
        nest = load(f"alpha_{dt}")
        errors.append(np.abs(alpha(nest, *factors)[0] - nest["V"]).max())
    assert errors[-1] < largest  # mV, of a range of 26 mV
    for coarse, fine in itertools.pairwise(errors):
        assert abs(math.log2(coarse / fine) - order) < 0.1


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
