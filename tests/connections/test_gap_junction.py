"""Gap junctions against the equations of HH by scipy, against NEST, and against their Laplacian."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.integrate import solve_ivp
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u
from neurodyn.core.solve import gate

REFERENCE = Path(__file__).parents[1] / "reference" / "nest_gap.npz"
CURRENTS = [12.0, 0.0, 4.0]  # pA
PAIRS, G = ([0, 2], [1, 1]), [0.6, 0.3]


class Joined(torch.nn.Module):
    """Neurons of any model and their junctions."""

    def __init__(self, neurons: nd.Dynamics, gap: nd.GapJunction):
        super().__init__()
        self.N, self.gap = neurons, gap

    def forward(self, I: torch.Tensor) -> torch.Tensor:
        return self.N(self.gap(self.N.V) + I)


def test_three_hh_neurons_as_scipy_integrates_them_with_first_order() -> None:
    duration, dt = 5.0, 0.02

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        V, m, h, n = y.reshape(4, 3)
        ionic = 120 * m**3 * h * (V - 50) + 36 * n**4 * (V + 77) + 0.3 * (V + 54.387)
        left, right = 0.6 * (V[1] - V[0]), 0.3 * (V[1] - V[2])
        of_m = 0.1 * (V + 40) / (1 - np.exp(-(V + 40) / 10)), 4 * np.exp(-(V + 65) / 18)
        of_h = 0.07 * np.exp(-(V + 65) / 20), 1 / (1 + np.exp(-(V + 35) / 10))
        of_n = 0.01 * (V + 55) / (1 - np.exp(-(V + 55) / 10)), 0.125 * np.exp(-(V + 65) / 80)
        gates = [a * (1 - x) - b * x for x, (a, b) in zip((m, h, n), (of_m, of_h, of_n), strict=True)]
        return np.concatenate((CURRENTS + np.array([left, -left - right, right]) - ionic, *gates))

    start = np.repeat([-65, 0.0529, 0.5961, 0.3177], 3)
    times = np.arange(1, round(duration / dt) + 1) * dt
    exact = torch.tensor(
        solve_ivp(slope, (0, duration), start, method="LSODA", t_eval=times, rtol=1e-8, atol=1e-9).y[:3].T
    )
    found = []
    for every in (1, 2):
        net = Joined(nd.HH(3, dt=dt / every * u.ms), nd.GapJunction(3, PAIRS, G * u.nS))
        V = nd.simulate(net, duration * u.ms, torch.tensor(CURRENTS), ["N.V"], compile=False, progress=False)["N.V"]
        found.append(V.values[every - 1 :: every])
    errors = [(V - exact).abs().mean().item() for V in (*found, 2 * found[1] - found[0])]
    assert exact[:, 1].max() > 0  # the neuron without a current spikes, too
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.1)
    assert errors[2] < 0.25 * errors[1]  # what is left is of second order


class Interneuron(nd.Dynamics):
    """The equations of NEST's `hh_psc_alpha_gap`, gates half a step ahead of V: second order."""

    V: nd.State = nd.state(0 * u.mV)
    m: nd.State = nd.state(0.0)
    h: nd.State = nd.state(0.0)
    n: nd.State = nd.state(0.0)
    p: nd.State = nd.state(0.0)

    def step(self, I, V, m, h, n, p):
        gates = (
            (m, 40 * (V - 75.5) / (1 - torch.exp((75.5 - V) / 13.5)), 1.2262 * torch.exp(-V / 42.248)),
            (h, 0.0035 * torch.exp(-V / 24.186), 0.017 * (V + 51.25) / (1 - torch.exp(-(V + 51.25) / 5.2))),
            (n, 0.014 * (V + 44) / (1 - torch.exp(-(V + 44) / 2.3)), 0.0043 * torch.exp(-(V + 44) / 34)),
            (p, (V - 95) / (1 - torch.exp((95 - V) / 11.8)), 0.025 * torch.exp(-V / 22.222)),
        )
        m, h, n, p = (gate(x, a, b, self.dt) for x, a, b in gates)
        g_Na, g_K = 4500 * m**3 * h, 9 * n**4 + 9000 * p**2
        V = nd.exp_euler(lambda v: (I(v) - g_Na * (v - 74) - g_K * (v + 90) - 10 * (v + 70)) / 40, V, dt=self.dt)
        return V, V, m, h, n, p


@pytest.mark.long
@pytest.mark.parametrize("case", ["alone", "joined"])
def test_waveforms_of_nest(case: str, long_chunks) -> None:
    nest, every = np.load(REFERENCE), 20
    names = {"V": "V_m", "m": "Act_m", "h": "Inact_h", "n": "Act_n", "p": "Inact_p"}
    start = {f"N.{k}": torch.full((2,), float(nest[f"start_{name}"])) for k, name in names.items()}
    net = Joined(Interneuron(2, dt=0.05 / every * u.ms), nd.GapJunction(2, ([0], [1]), (case == "joined") * 20 * u.nS))
    I = torch.tensor(nest["currents"])
    found = nd.simulate(net, 150 * u.ms, I, ["N.V"], states=start, progress=False)["N.V"].values[every - 1 :: every]
    expected = torch.tensor(nest[case])
    crossings = [((V[1:] > 0) & (V[:-1] <= 0)).nonzero() for V in (found, expected)]
    assert len(crossings[0]) == len(crossings[1]) == {"alone": 6, "joined": 8}[case]
    assert (crossings[0] - crossings[1]).abs().max() <= 1  # steps of 0.05 ms
    assert (found - expected).abs().mean() < {"alone": 0.01, "joined": 0.2}[case]


def random_conductances(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    half = torch.rand(n, n, generator=generator).triu(1) * (torch.rand(n, n, generator=generator) < 0.4)
    return half + half.t()


def sparse(g: torch.Tensor) -> torch.Tensor:
    index = g.nonzero().t()
    return torch.sparse_coo_tensor(index, g[index[0], index[1]], g.shape, check_invariants=False)


def test_dense_sparse_and_pairs_are_the_laplacian() -> None:
    g = random_conductances(6)
    i, j = g.triu().nonzero(as_tuple=True)
    V, v = torch.randn(3, 6), torch.randn(3, 6)
    laplacian = torch.diag(g.sum(1)) - g
    for given in (g, scipy.sparse.coo_array(g.numpy()), sparse(g)):
        gap = nd.GapJunction(6, u.quantity(given, "nS"))
        full = gap.laplacian.to_dense()
        assert_close(full, laplacian, rtol=1e-14, atol=1e-14)
        assert_close(gap(V)(V), -V @ laplacian, rtol=1e-12, atol=1e-12)
        assert_close(gap(V)(v), V @ g - g.sum(1) * v, rtol=1e-12, atol=1e-12)
    reverse = torch.arange(len(i) - 1, -1, -1)  # pairs in any order, and either neuron first
    gap = nd.GapJunction((2, 3), (j[reverse], i[reverse]), u.quantity(1e3 * g[i, j][reverse], "pS"))
    assert_close(gap.laplacian.to_dense(), laplacian, rtol=1e-14, atol=1e-14)
    assert_close(gap(V.view(3, 2, 3))(V.view(3, 2, 3)).flatten(1), -V @ laplacian, rtol=1e-12, atol=1e-12)
    assert str(len(i)) in repr(gap)


def test_no_charge_is_made_and_it_is_stable_for_any_conductance() -> None:
    gap = nd.GapJunction(3, PAIRS, [1e6, 2e6] * u.nS)
    V = torch.randn(5, 3)
    assert_close(gap(V)(V).sum(-1), torch.zeros(5), rtol=0, atol=1e-7)
    net = Joined(nd.LIF(3, tau=20 * u.ms, R=1 * u.Gohm, V_th=100 * u.mV), gap)
    start = {"N.V": torch.tensor([0.0, 30.0, -30.0])}
    V = nd.simulate(net, 50 * u.ms, torch.zeros(3), ["N.V"], states=start, compile=False)["N.V"].values
    assert V.abs().max() <= 30
    net.gap = nd.GapJunction(3, PAIRS, 0.02 * u.nS)
    V = nd.simulate(net, 10 * u.ms, torch.zeros(3), ["N.V"], states=start, compile=False)["N.V"].values
    exact = torch.linalg.matrix_exp(-10 * (torch.eye(3) / 20 + net.gap.laplacian.to_dense() / 20)) @ start["N.V"]
    assert_close(V[-1], exact, rtol=0, atol=0.02)


def test_gradients_pass_the_junction() -> None:
    gap = nd.GapJunction(6, u.quantity(sparse(random_conductances(6)), "nS"))
    V = torch.randn(6, requires_grad=True)
    assert torch.autograd.gradcheck(lambda V: gap(V)(2 * V), V)


def test_it_is_saved_and_loaded_and_moves() -> None:
    gap, other = (nd.GapJunction(3, PAIRS, g * u.nS) for g in (1.0, 2.0))
    other.load_state_dict(gap.state_dict())
    assert torch.equal(other.laplacian.to_dense(), gap.laplacian.to_dense())
    assert gap.float()(torch.zeros(3, dtype=torch.float32)).dtype == torch.float32


@pytest.mark.parametrize(
    ("pairs", "conductance", "error", "words"),
    [
        (([0], [1]), None, TypeError, "conductance is required, for example conductance=1.0 . u.nS"),
        (([0], [1]), 1.0, TypeError, "conductance needs a unit"),
        (([0], [3]), 1 * u.nS, ValueError, "post index 3 is out of range"),
        (([0], [0]), 1 * u.nS, ValueError, "neuron 0 is joined to itself"),
        (([0], [1]), -1 * u.nS, ValueError, "must be zero or positive, got values from -1"),
        (([0], [1], [2]), 1 * u.nS, TypeError, "wanted two rows of indices"),
        (u.quantity(torch.ones(3, 3).tril(-1), "nS"), None, ValueError, "must be symmetric"),
        (u.quantity(scipy.sparse.coo_array(np.tril(np.ones((3, 3)), -1)), "nS"), None, ValueError, "must be symmetric"),
        (u.quantity(torch.zeros(3, 2), "nS"), None, ValueError, "shape"),
        (u.quantity(torch.zeros(3, 3), "nS"), 1 * u.nS, TypeError, "a matrix holds its own"),
        (torch.zeros(3, 3), None, TypeError, "needs a unit"),
    ],
)
def test_mistakes(pairs, conductance, error, words) -> None:
    with pytest.raises(error, match=rf"GapJunction\(3\).*{words}"):
        nd.GapJunction(3, pairs, conductance)


def test_wrong_potentials() -> None:
    with pytest.raises(ValueError, match=r"the potentials have shape \(2, 4\), wanted \(\*batch, 3\)"):
        nd.GapJunction(3, PAIRS, 1 * u.nS)(torch.zeros(2, 4))
