"""The neurons do what their papers show: firing patterns, onsets of firing, and rates."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import neurodyn as nd
from neurodyn import units as u


def array(values, unit: str = "dimensionless") -> u.Quantity:
    return u.quantity(torch.tensor(values, dtype=torch.float64), unit)


@torch.no_grad()
def fire(neuron: nd.Dynamics, I: Tensor, duration: float) -> list[Tensor]:
    """Spike times in ms of each neuron, for currents (pA) that are constant or have one row for each step."""
    steps = round(duration / neuron.dt)
    rows = I if I.dim() > 1 else I.expand(steps, *I.shape)
    spikes = torch.stack([neuron(row) for row in rows])
    return [spikes[:, k].nonzero().squeeze(1) * neuron.dt for k in range(spikes.shape[1])]


def columns(kinds: dict[str, tuple]) -> list[list]:
    return [list(column) for column in zip(*kinds.values(), strict=True)]


def rate(times: Tensor) -> float:
    """From the last three intervals, in Hz."""
    return 1e3 / times.diff()[-3:].mean().item() if len(times) > 4 else 0.0


def test_adex_firing_patterns():
    """Table 6.1 of Gerstner et al. (2014), Neuronal Dynamics, after Naud et al. (2008)."""
    kinds = {  # tau, a, tau_w, b, V_reset, I
        "tonic": (20, 0.0, 30, 60, -55, 65.0),
        "initial burst": (5, 0.5, 100, 7, -51, 65.0),
        "bursting": (5, -0.5, 100, 7, -46, 65.0),
        "delayed": (5, -1.0, 100, 10, -60, 25.0),
    }
    tau, a, tau_w, b, V_reset, I = columns(kinds)
    neuron = nd.AdEx(
        len(kinds), C=array(tau, "pF") / 0.5, g_L=2 * u.nS, E_L=-70 * u.mV, V_T=-50 * u.mV, a=array(a, "nS"),
        tau_w=array(tau_w, "ms"), b=array(b, "pA"), V_reset=array(V_reset, "mV"), V_th=0 * u.mV,
        V_initializer=-70 * u.mV, dt=0.2 * u.ms,
    )  # fmt: skip
    times = fire(neuron, torch.tensor(I), 400)
    tonic, initial, bursting, delayed = (spikes.diff() for spikes in times)
    assert len(tonic) > 4
    assert tonic.std() < 0.05 * tonic.mean()
    assert initial[0] < 4
    assert initial[:5].tolist() == sorted(initial[:5].tolist())
    assert initial[6:].min() > 30
    assert initial[6:].std() < 0.3
    assert bursting[8:].min() < 3
    assert bursting[8:].max() > 40
    assert (bursting[8:] > 40).sum() >= 4
    assert times[3][0] > 5 * times[0][0]
    assert delayed.std() < 1


def test_izhikevich_firing_patterns():
    """Figure 2 of Izhikevich (2003)."""
    kinds = {"RS": (0.02, 0.2, -65, 8), "IB": (0.02, 0.2, -55, 4), "CH": (0.02, 0.2, -50, 2), "FS": (0.1, 0.2, -65, 2),
             "LTS": (0.02, 0.25, -65, 2)}  # fmt: skip
    a, b, c, d = columns(kinds)
    neuron = nd.Izhikevich(
        len(kinds), a=array(a, "1/ms"), b=array(b, "1/ms"), c=array(c, "mV"), d=array(d, "mV/ms"),
        u_initializer=array([-65 * x for x in b], "mV/ms"), dt=0.1 * u.ms,
    )  # fmt: skip
    RS, IB, CH, FS, LTS = (times.diff() for times in fire(neuron, torch.full((len(kinds),), 10.0), 300))
    assert RS[0] < 0.6 * RS[1]  # it adapts, then fires regularly
    assert RS[2:].std() < 1
    assert IB[0] < 3  # a burst, then single spikes
    assert IB[:3].tolist() == sorted(IB[:3].tolist())
    assert IB[4:].min() > 25
    assert (CH[6:] < 6).sum() > 10  # bursts all the time
    assert (CH[6:] > 40).sum() >= 4
    assert FS.max() < 8  # fast, without adaptation
    assert FS[3:].std() < 0.3
    assert LTS[0] < 3  # fast at first, and it adapts
    assert LTS[6:].min() > 12


def test_gif_behaviours():
    """Six of table 1 of Mihalas and Niebur (2009)."""
    kinds = {  # a, A1, A2, and the current for 50, 750 and 200 ms
        "tonic": (0, 0, 0, 0, 1.5, 0),
        "adapting": (5, 0, 0, 0, 2.0, 0),
        "phasic": (5, 0, 0, 0, 1.5, 0),
        "tonic bursting": (5, 10, -0.6, 0, 2.0, 0),
        "phasic bursting": (5, 10, -0.6, 0, 1.5, 0),
        "rebound": (5, 0, 0, 0, -3.5, 0),
    }
    a, A1, A2, *I = columns(kinds)
    neuron = nd.GIF(len(kinds), a=array(a, "1/s"), A1=array(A1, "pA"), A2=array(A2, "pA"), dt=0.2 * u.ms)
    I = torch.tensor(I, dtype=torch.float64).repeat_interleave(torch.tensor([250, 3750, 1000]), 0)
    tonic, adapting, phasic, bursting, burst, rebound = fire(neuron, I, 1000)
    assert len(tonic) > 20
    assert tonic.diff().std() < 1e-9
    assert adapting.diff().diff().min() > -1e-6
    assert 1.5 * adapting.diff()[0] < adapting.diff()[-1]
    assert adapting[-1] > 760
    assert 1 <= len(phasic) <= 6
    assert phasic[-1] < 300
    assert (bursting.diff() > 50).sum() >= 4
    assert (bursting.diff() < 10).sum() > 15
    assert len(burst) > 4
    assert burst[-1] < 110
    assert len(rebound) == 1
    assert 800 < rebound[0] < 900


def test_morris_lecar_starts_to_oscillate_by_either_bifurcation():
    """Rinzel and Ermentrout (1989): at a Hopf bifurcation the rate jumps, at a saddle-node it grows from 0."""
    hopf, saddle_node = {"g_Ca": 4.4, "phi": 0.04, "V3": 2, "V4": 30}, {"g_Ca": 4, "phi": 0.067, "V3": 12, "V4": 17.4}
    unit = {"g_Ca": "nS", "phi": "1/ms", "V3": "mV", "V4": "mV"}
    values = {name: array([hopf[name]] * 3 + [saddle_node[name]] * 3, unit[name]) for name in hopf}
    I = torch.tensor([85.0, 95.0, 100.0, 39.0, 40.5, 45.0])  # bifurcations at 93.9 (88.3 for the cycle) and 40.0
    found = [rate(times) for times in fire(nd.MorrisLecar(6, dt=0.25 * u.ms, **values), I, 1400)]
    assert found[0] == found[3] == 0
    assert found[1] > 0.9 * found[2] > 9
    assert 0 < found[4] < 0.5 * found[5]


def test_hh_fires_repetitively_from_a_high_rate_on():
    """Rinzel (1978): a step of 2 uA/cm^2 is too weak, 5 brings one spike, from 6.3 on the rate is above 50 Hz."""
    quiet, once, low, high = fire(nd.HH(4, dt=0.05 * u.ms), torch.tensor([2.0, 5.0, 7.0, 10.0]), 150)
    assert len(quiet) == 0
    assert len(once) == 1
    assert 50 < rate(low) < rate(high) < 75


def test_exp_if_rheobase():
    r"""Fourcaud-Trocme et al. (2003): $R\,I_T = V_T - V_{rest} - \Delta_T$, here 1.62 mV."""
    quiet, slow, fast = fire(nd.ExpIF(3, dt=0.1 * u.ms), torch.tensor([1.6, 2.0, 10.0]), 250)
    assert len(quiet) == 0
    assert len(slow) > 1
    assert len(fast) > 3 * len(slow)


def test_qua_if_period():
    r"""From V_reset to V_th $\tau \dot V = c\,(V - V_m)^2 + k$ takes $\tau/\sqrt{ck}$ times arctans."""
    I = torch.tensor([3.9, 10.0, 20.0, 40.0])  # the rheobase is c (V_c - V_rest)^2 / 4 = 3.94 pA
    times = fire(nd.QuaIF(4, dt=0.02 * u.ms), I, 80)
    assert len(times[0]) == 0
    for current, spikes in zip(I[1:].tolist(), times[1:], strict=True):
        k = current - 0.07 * 15**2 / 4
        root = math.sqrt(0.07 / k)
        period = 10 / math.sqrt(0.07 * k) * (math.atan((-30 + 57.5) * root) - math.atan((-68 + 57.5) * root))
        assert abs(spikes.diff().mean().item() - period) < 0.1
