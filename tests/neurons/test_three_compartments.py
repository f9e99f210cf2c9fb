"""The neuron of three compartments: its step against closed forms and NEST, and the NMDA spikes of its dendrite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import assert_same, outcome
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch import Tensor, nn
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u
from neurodyn.core.coupled import implicit_row

REFERENCE = Path(__file__).parents[1] / "reference" / "nest_compartments.npz"
SILENT = {"V_th": 1e6 * u.mV}
START = np.array([-70.0, -50.0, -30.0])
INPUT = np.array([100.0, -30.0, 60.0])
C, G_L = np.array([200.0, 50.0, 50.0]), np.array([10.0, 2.5, 2.5])


def passive(dt: float, **values: object) -> nd.ThreeCompartments:
    start = {f"{name}_initializer": x * u.mV for name, x in zip(("V", "V_p", "V_d"), START, strict=True)}
    return nd.ThreeCompartments((), dt=dt * u.ms, **(SILENT | start | values))


def potentials(neuron: nd.ThreeCompartments) -> np.ndarray:
    return torch.stack((neuron.V, neuron.V_p, neuron.V_d)).numpy()


def run(neuron: nd.ThreeCompartments, steps: int) -> np.ndarray:
    I, I_p, I_d = torch.tensor(INPUT)
    for _ in range(steps):
        neuron(I, proximal=I_p, distal=I_d)
    return potentials(neuron)


def exact(time: float, g_sp: float = 15.0, g_pd: float = 10.0) -> np.ndarray:
    """The linear system by the exponential of its matrix."""
    G = np.array([[-g_sp, g_sp, 0], [g_sp, -g_sp - g_pd, g_pd], [0, g_pd, -g_pd]]) - np.diag(G_L)
    A = G / C[:, None]
    rest = -60 - np.linalg.solve(A, INPUT / C)
    return rest + expm(A * time) @ (START - rest)


def test_passive_it_is_the_matrix_exponential_with_second_order() -> None:
    errors = [np.abs(run(passive(dt), round(10 / dt)) - exact(10)).max() for dt in (0.4, 0.2, 0.1, 0.05)]
    assert errors[2] < 1.3e-4  # mV, at 0.1 ms; the trapezoidal rule has 2.4e-4, backward Euler 0.07
    assert_close(np.array(errors[1:]) / errors[:-1], np.full(3, 0.25), rtol=0.03, atol=0)


@pytest.mark.parametrize("dt", [0.1, 1.0])
def test_it_is_stable_for_strong_couplings_and_does_not_ring(dt: float) -> None:
    neuron = passive(dt, g_sp=1e6 * u.nS, g_pd=1e6 * u.nS)
    for k in range(1, 1001):
        found = run(neuron, 1)
        if k > 10:  # then a ringing has died away, and all three are one compartment
            assert np.abs(found - exact(k * dt, 1e6, 1e6)).max() < 5e-5 * dt / 0.1
            assert np.ptp(found) < 1e-3
    apart = passive(dt, g_sp=0 * u.nS, g_pd=0 * u.nS)
    assert np.abs(run(apart, round(10 / dt)) - exact(10, 0, 0)).max() < 0.01


def test_strong_couplings_do_not_round_away_the_leak_in_float32() -> None:
    neuron = passive(0.1, g_sp=1e6 * u.nS, g_pd=1e6 * u.nS, dtype=torch.float32)
    for _ in range(1000):
        neuron(
            *torch.tensor(INPUT[:1]).float(), proximal=torch.tensor(-30.0).float(), distal=torch.tensor(60.0).float()
        )
    assert np.abs(potentials(neuron) - exact(100, 1e6, 1e6)).max() < 1e-2


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_step_of_a_row_solves_its_matrices(n: int) -> None:
    f, a = torch.randn(2, n, 40)
    x, (b, c) = torch.randn(n, 40), torch.rand(2, n - 1, 40)
    J = torch.diag_embed(a.T)
    for i in range(n - 1):
        J[:, i, i], J[:, i, i + 1] = J[:, i, i] - b[i], b[i]
        J[:, i + 1, i + 1], J[:, i + 1, i] = J[:, i + 1, i + 1] - c[i], c[i]
    rate = f.T + ((J - torch.diag_embed(a.T)) @ x.T.unsqueeze(-1)).squeeze(-1)
    gamma, dt = 1 - 0.5**0.5, 0.3
    A = torch.eye(n) - gamma * dt * J
    expected = x.T + dt * torch.linalg.solve(A, gamma * rate + (1 - gamma) * torch.linalg.solve(A, rate))
    found = implicit_row(list(x), list(f), list(a), list(zip(b, c, strict=True)), dt)
    assert_close(torch.stack(found, -1), expected, rtol=1e-12, atol=1e-12)


def test_each_compartment_sees_its_own_potential_in_a_current() -> None:
    seen, times = [], 3
    for inputs in ({}, {"proximal": 5.0}, {"distal": 5.0}):
        neuron = nd.ThreeCompartments(
            1, V_p_initializer=-70 * u.mV, V_d_initializer=-20 * u.mV, dt=0.1 * u.ms, **SILENT
        )
        into = {name: nd.COBA(E=-45 * u.mV)(torch.tensor([g])) for name, g in inputs.items()}
        for _ in range(times):
            neuron(torch.zeros(1), **into)
        seen.append(potentials(neuron)[:, 0])
    assert seen[1][1] > seen[0][1] + 0.1  # from -70 mV up to -45 mV
    assert seen[2][2] < seen[0][2] - 0.1  # from -20 mV down to it


# NEST, whose scheme is the trapezoidal rule, linearised: of second order too, so the difference falls with dt squared.


def receptor(times: np.ndarray, spikes: np.ndarray, tau_rise: float, tau_decay: float) -> Tensor:
    """The conductance with a peak of 1 after each spike, at these times."""
    peak = tau_rise * tau_decay / (tau_decay - tau_rise) * np.log(tau_decay / tau_rise)
    since = np.clip(times[:, None] - spikes, 0, None)
    shape = np.exp(-since / tau_decay) - np.exp(-since / tau_rise)
    return torch.tensor(shape.sum(1) / (np.exp(-peak / tau_decay) - np.exp(-peak / tau_rise)))


def as_in_nest(nest: dict[str, np.ndarray], dt: float) -> np.ndarray:
    """The potentials at the times of NEST's, by the conductances at the end of each step as there."""
    steps = round(float(nest["t"][-1]) / dt)
    times, (rise, fast, slow) = dt * np.arange(1, steps + 1), nest["tau"]
    names = ("C", "C_p", "C_d", "g_L", "g_L_p", "g_L_d", "g_sp", "g_pd")
    given = (*nest["C"], *nest["g_L"], *nest["g_C"][1:])
    kinds = ["pF"] * 3 + ["nS"] * 5
    values = {name: u.quantity(float(x), kind) for name, x, kind in zip(names, given, kinds, strict=True)}
    E_L = float(nest["E_L"]) * u.mV
    starts = dict.fromkeys(("V_initializer", "V_p_initializer", "V_d_initializer"), E_L)
    neuron = nd.ThreeCompartments(1, E_L=E_L, dt=dt * u.ms, **values, **starts, **SILENT)
    ampa, nmda = nd.COBA(E=0 * u.mV), steep()
    at_p = float(nest["AMPA"]) * receptor(times, nest["at_proximal"], rise, fast)
    at_d = float(nest["BOTH"]) * receptor(times, nest["at_distal"], rise, fast)
    slow_at_d = 2 * float(nest["BOTH"]) * receptor(times, nest["at_distal"], rise, slow)
    found = []
    with torch.no_grad():
        for p, d, n in zip(at_p.split(1), at_d.split(1), slow_at_d.split(1), strict=True):
            neuron(torch.zeros(1), proximal=ampa(p), distal=ampa(d) + nmda(n))
            found.append(potentials(neuron)[:, 0])
    return np.stack(found)[np.round(nest["t"] / dt).astype(int) - 1]


def steep() -> nd.MgBlock:
    """The block of NEST's `cm_default`, $1/(1 + 0.3\\,e^{-V/10})$."""
    return nd.MgBlock(alpha=0.1 / u.mV, cc_Mg=0.3 * 3.57 * u.mM)


def test_against_cm_default_of_nest() -> None:
    with np.load(REFERENCE) as file:
        nest = dict(file)
    assert nest["V_0.1"][:, 2].max() > -9  # its dendrite has an NMDA spike
    apart = [np.abs(as_in_nest(nest, dt) - nest[f"V_{dt:g}"]).max() for dt in (0.2, 0.1, 0.05)]
    assert apart[1] < 8e-4  # mV
    assert_close(np.divide(apart[1:], apart[:-1]), np.full(2, 0.25), rtol=0.06, atol=0)


def test_a_conductance_that_decays_keeps_the_order() -> None:
    """With the mean of each step, which a synapse with ``exact=True`` gives; V_d against a solver of order 8."""

    def slope(t: float, V: np.ndarray) -> np.ndarray:
        flow = np.array([15 * (V[1] - V[0]), 15 * (V[0] - V[1]) + 10 * (V[2] - V[1]), 10 * (V[1] - V[2])])
        return (flow - G_L * (V + 60) - np.array([0, 0, 20 * np.exp(-t / 5) * V[2]])) / C

    expected = solve_ivp(slope, (0, 10), np.full(3, -60.0), "DOP853", rtol=1e-11, atol=1e-11).y[:, -1]
    errors: dict[bool, list[float]] = {True: [], False: []}
    for dt in (0.2, 0.1, 0.05):
        for kind, found in errors.items():
            neuron = nd.ThreeCompartments((), dt=dt * u.ms, **SILENT)
            synapse, coba = nd.Expon((), tau=5 * u.ms, exact=kind, dt=dt * u.ms), nd.COBA(E=0 * u.mV)
            for k in range(round(10 / dt)):
                neuron(torch.tensor(0.0), distal=coba(synapse(torch.tensor(20.0 * (k == 0)))))
            found.append(np.abs(potentials(neuron) - expected).max())
    assert errors[True][1] < 6e-4
    assert_close(np.divide(errors[True][1:], errors[True][:-1]), np.full(2, 0.25), rtol=0.03, atol=0)
    assert_close(np.divide(errors[False][1:], errors[False][:-1]), np.full(2, 0.5), rtol=0.03, atol=0)


# The NMDA spike


def epsps(output: Callable[[Tensor], nd.Current], peaks: Tensor) -> tuple[Tensor, Tensor]:
    """Depolarisation of the distal dendrite by one synaptic event: peak in mV, and for how many ms it is > 30 mV."""
    neuron, dt = nd.ThreeCompartments(len(peaks), dt=0.1 * u.ms, **SILENT), 0.1
    times, found = dt * torch.arange(1.0, 2001), []
    shape = torch.exp(-times / 50) - torch.exp(-times / 2)
    with torch.no_grad():
        for g in shape / shape.max():
            neuron(torch.zeros(len(peaks)), distal=output(g * peaks))
            found.append(neuron.V_d + 60)
    V = torch.stack(found)
    return V.amax(0), dt * (V > 30).sum(0)


def test_nmda_receptors_make_a_spike_of_the_dendrite() -> None:
    """Jahr and Stevens's block: a second synapse adds more than the first, and the response lasts."""
    peaks = torch.arange(1.0, 11) * 10  # nS
    peak, lasts = epsps(nd.MgBlock(), peaks)
    adds = peak.diff(prepend=torch.zeros(1))
    assert_close(adds[:4], torch.tensor([4.7, 7.1, 11.5, 12.7]), rtol=0, atol=0.1)
    assert (adds[4:] < 8).all()  # then it is near the reversal potential
    assert (lasts[:3] == 0).all()
    assert lasts[3] > 25
    assert lasts[-1] > 80


def test_without_the_block_there_is_no_spike() -> None:
    """The same conductances, and those that are open at rest: each synapse adds less than the one before."""
    peaks = torch.arange(1.0, 11) * 10
    open_at_rest = nd.MgBlock()(torch.ones(1))(torch.tensor([-60.0])).item() / 60
    assert 0.05 < open_at_rest < 0.08
    for part in (1.0, open_at_rest):
        peak, lasts = epsps(nd.COBA(E=0 * u.mV), part * peaks)
        adds = peak.diff(prepend=torch.zeros(1))
        assert (adds.diff() < 0).all()
    assert peak[-1] < 30  # where the block opens it is 53
    assert (lasts == 0).all()


def test_a_steep_block_is_all_or_none_and_bistable() -> None:
    """With the block of NEST, whose slope is 0.1/mV. With 0.062/mV and this E_L there is one state of rest."""
    peak, lasts = epsps(steep(), torch.tensor([60.0, 120.0, 130.0, 140.0]))
    assert peak[0] < 5
    assert peak[1] < 17
    assert peak[2] > 45
    assert peak[3] - peak[2] < 5
    assert lasts[1] == 0
    assert lasts[2] > 45
    g = torch.tensor([40.0, 55.0, 70.0])
    for output, apart in ((steep(), [0, 41.0, 0]), (nd.MgBlock(), [0, 0, 0]), (nd.COBA(E=0 * u.mV), [0, 0, 0])):
        rest = []
        for start in (-60, -5):
            V = dict.fromkeys(("V_initializer", "V_p_initializer", "V_d_initializer"), start * u.mV)
            neuron = nd.ThreeCompartments(3, dt=1 * u.ms, **V, **SILENT)
            with torch.no_grad():
                for _ in range(500):
                    neuron(torch.zeros(3), distal=output(g))
            rest.append(neuron.V_d)
        assert_close(rest[1] - rest[0], torch.tensor(apart, dtype=torch.float64), rtol=0, atol=0.1)


# The soma


def test_the_soma_is_held_after_a_spike_and_the_dendrites_go_on() -> None:
    neuron = nd.ThreeCompartments(1, tau_ref=3 * u.ms, V_reset=-55 * u.mV, dt=1 * u.ms)
    I = torch.tensor([3000.0])
    while not neuron(I):
        pass
    assert neuron.V.item() == -55
    before = potentials(neuron)
    for _ in range(2):
        assert neuron(I, delta=torch.tensor([100.0])).item() == 0
        assert neuron.V.item() == -55
        after = potentials(neuron)
        assert (np.abs(after - before)[1:] > 0.1).all()
        before = after
    assert neuron(I, delta=torch.tensor([100.0])).item() == 1


def test_soft_and_wrong_resets() -> None:
    neuron = nd.ThreeCompartments(1, reset="soft", dt=0.1 * u.ms)
    assert nd.ThreeCompartments(1).reset == "hard"
    neuron(torch.zeros(1), delta=torch.tensor([25.0]))
    assert neuron.V.item() == pytest.approx(-60 + 25 - 10, abs=1e-12)
    with pytest.raises(ValueError, match="reset must be 'soft' or 'hard', got 'Hard'"):
        nd.ThreeCompartments(1, reset="Hard")
    with pytest.raises(ValueError, match=r"more than 8\.38861e\+06 steps, which torch\.float32 cannot count"):
        nd.ThreeCompartments(1, tau_ref=1e7 * u.ms, dtype=torch.bfloat16)


class Cell(nn.Module):
    """The neuron with an NMDA synapse at the distal and an AMPA synapse at the proximal dendrite."""

    def __init__(self, size: int = 4):
        super().__init__()
        learn = ("C", "C_p", "C_d", "g_L", "g_L_p", "g_L_d", "g_sp", "g_pd", "E_L", "V_th", "V_reset")
        self.neuron = nd.ThreeCompartments(size, learn=learn, dt=0.5 * u.ms)
        self.fast, self.slow = nd.Expon(size, tau=3 * u.ms, dt=0.5 * u.ms), nd.NMDA(size, dt=0.5 * u.ms)
        self.ampa, self.nmda = nd.COBA(E=0 * u.mV, learn="E"), nd.MgBlock(learn="alpha")

    def forward(self, x: Tensor) -> Tensor:
        I, fast, slow = x.unbind(-2)
        into = {"proximal": self.ampa(10 * self.fast(fast)), "distal": self.nmda(80 * self.slow(slow))}
        return self.neuron(900 * I, **into)


def test_compiled_it_is_what_it_is_step_by_step() -> None:
    cell, xs = Cell(), torch.rand(30, 3, 3, 4)
    plain = outcome(cell, xs, compile=False)
    assert 0 < plain[0].mean() < 0.5
    assert all(x.any() for x in plain)
    assert len(plain) == 1 + 4 + 3 + 1 + 13  # output, states, gradients
    assert_same(outcome(cell, xs), plain)
