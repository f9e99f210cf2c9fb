"""Linear synapses with exact=True, against NEST 3.10.0 and against closed forms.

The recordings ``nest_random_*.npz`` are two seconds of Poisson input. A spike that arrives at the beginning of a step
is the input of that step, in both. Nothing is corrected; two conventions are translated: a weight of NEST's alpha
function is its peak, which is h / e, and NEST holds V for t_ref / dt steps where `LIFRef` holds tau_ref / dt - 1.
"""

import itertools
import math
import weakref
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from paths import assert_as_plain
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.core.decaying import Decaying, Part
from neurodyn.core.solve import phi_slope

FOLDER = Path(__file__).parents[1] / "reference"


def load(name):
    with np.load(FOLDER / f"nest_random_{name}.npz") as file:
        return {key: file[key] for key in file.files}


class Cell(nn.Module):
    """A neuron with a receptor for each column of a recording; its input is their jumps."""

    def __init__(self, nest, synapse, output=lambda i: nd.CUBA(), **values):
        super().__init__()
        C, dt, number = float(nest["p_C_m"]), float(nest["dt"]), nest["counts"].shape[1]
        tau = C / float(nest["p_g_L"]) if "p_g_L" in nest else float(nest["p_tau_m"])
        names = {"V_th": "V_th", "V_reset": "V_reset", "V_rest": "E_L", "V_initializer": "V_m"}
        with nd.default_dt(dt * u.ms):
            self.neuron = nd.LIFRef(
                1,
                tau=tau * u.ms,
                R=tau / C * u.Gohm,
                tau_ref=(float(nest["p_t_ref"]) + dt) * u.ms,
                reset="hard",
                **{key: float(nest[f"p_{name}"]) * u.mV for key, name in names.items()},
            )
            taus = [float(nest[key]) * u.ms for key in ("p_tau_syn_ex", "p_tau_syn_in") if key in nest]
            made = [synapse(tau=tau) for tau in taus] or [synapse()]
        self.receptors = nn.ModuleList(nd.Receptor(made[i], output(i)) for i in range(number))
        self.I = float(nest["p_I_e"])

    def forward(self, jumps):
        total = torch.full_like(jumps[..., :1], self.I)
        for i, receptor in enumerate(self.receptors):
            total = total + receptor(jumps[..., i : i + 1])
        return self.neuron(total)


class Side(nn.Module):
    """Cells side by side, so that they are compiled once."""

    def __init__(self, cells):
        super().__init__()
        self.cells = nn.ModuleList(cells)

    def forward(self, *jumps):
        return {f"{i}.spikes": cell(x) for i, (cell, x) in enumerate(zip(self.cells, jumps, strict=True))}


KINDS = {
    "exp": (lambda **tau: nd.Expon(1, exact=True, **tau), 1.0),
    "alpha": (lambda **tau: nd.Alpha(1, exact=True, **tau), math.e),
    "dual": (lambda: nd.DualExpon(1, tau_decay=6 * u.ms, tau_rise=2 * u.ms, exact=True), 1.0),
}


@pytest.mark.parametrize(("names", "compile"), [(("exp", "alpha", "dual"), True), (("exp_1ms",), False)])
def test_two_seconds_of_random_input(names, compile):
    nests = [load(name) for name in names]
    made = [KINDS[name.removesuffix("_1ms")] for name in names]
    net = Side([Cell(nest, synapse) for nest, (synapse, _) in zip(nests, made, strict=True)])
    jumps = tuple(
        torch.as_tensor(nest["counts"] * nest["weights"] * peak) for nest, (_, peak) in zip(nests, made, strict=True)
    )
    record = [f"cells.{i}.neuron.V" for i in range(len(names))] + [f"{i}.spikes" for i in range(len(names))]
    recording = nd.simulate(net, 2 * u.s, jumps, record, compile=compile)
    for i, nest in enumerate(nests):
        assert len(nest["spikes"]) > 40
        assert recording[f"{i}.spikes"].steps.tolist() == nest["spikes"].tolist()
        assert np.abs(recording[f"cells.{i}.neuron.V"].values[:, 0].numpy() - nest["V"]).max() < 1e-9


@pytest.mark.parametrize(("exact", "order", "largest"), [(True, 2, 5e-3), (False, 1, 0.2)])
def test_conductances(exact, order, largest):
    """NEST solves iaf_cond_exp adaptively; the mean of g over the step is of second order, g held of first."""
    errors = []
    for dt in (0.4, 0.2, 0.1):
        nest = load(f"cond_{dt}")
        cell = Cell(nest, lambda **tau: nd.Expon(1, exact=exact, **tau), lambda i: nd.COBA(E=(0, -80)[i] * u.mV))
        jumps = torch.as_tensor(nest["counts"] * np.abs(nest["weights"]))
        V = nd.simulate(cell, 200 * u.ms, jumps, ["neuron.V"], compile=False)["neuron.V"].values[:, 0]
        errors.append(np.abs(V.numpy() - nest["V"]).max())
    assert errors[-1] < largest  # mV, of a range of 18 mV
    for coarse, fine in itertools.pairwise(errors):
        assert abs(math.log2(coarse / fine) - order) < 0.2


def response(kind, s, tau):
    """What one jump of 1 gives after a time."""
    if kind is nd.Expon:
        return mpmath.exp(-s / tau)
    return s / tau * mpmath.exp(-s / tau) if kind is nd.Alpha else mpmath.exp(-s / tau) - mpmath.exp(-s * 5 / tau)


@pytest.mark.parametrize("dt", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("tau", [0.3, 10.0, 10.0001, 200.0])
@pytest.mark.parametrize("kind", [nd.Expon, nd.Alpha, nd.DualExpon])
def test_the_response_of_a_membrane(kind, tau, dt):
    """Also where the time constant is that of the membrane, 10 ms, and where the step is many of them."""
    values = (
        {"tau_decay": tau * u.ms, "tau_rise": tau / 5 * u.ms, "A": 1.0} if kind is nd.DualExpon else {"tau": tau * u.ms}
    )
    synapse = kind(1, dt=dt * u.ms, exact=True, **values)
    neurons = [
        nd.LIF(1, tau=10 * u.ms, R=1 * u.Gohm, V_th=1e3 * u.mV, dt=dt * u.ms),
        nd.IF(1, tau=10 * u.ms, R=1 * u.Gohm, V_th=1e3 * u.mV, dt=dt * u.ms),
        nd.ALIF(1, tau=10 * u.ms, R=1 * u.Gohm, V_th=1e3 * u.mV, dt=dt * u.ms),
    ]
    for step in range(1, 4):
        I = synapse(torch.tensor([float(step == 1)]))
        for neuron in neurons:
            neuron(I)
        t = mpmath.mpf(step * dt)
        exact = mpmath.quad(lambda s, t=t: mpmath.exp((s - t) / 10) * response(kind, s, mpmath.mpf(tau)) / 10, [0, t])
        for neuron in neurons:
            assert neuron.V.item() == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("kind", [nd.Expon, nd.Alpha, nd.DualExpon])
def test_the_charge(kind):
    """Into a neuron that is not linear, and through COBA, the mean: the charge is right; held it is not."""
    values = {"tau_decay": 2 * u.ms, "tau_rise": 1 * u.ms, "A": 1.0} if kind is nd.DualExpon else {"tau": 2 * u.ms}
    charge = {}
    for exact in (True, False):
        synapse = kind(1, dt=1 * u.ms, exact=exact, **values)
        parts = [synapse(torch.tensor([float(i == 0)])) for i in range(100)]
        V = torch.tensor([-30.0])
        for output, factor in ((nd.CUBA(), 1.0), (nd.COBA(E=0 * u.mV), 30.0)):
            charge[exact] = sum(output(g)(V).item() for g in parts) / factor
            if exact:
                assert charge[True] == pytest.approx(1.0 if kind is nd.DualExpon else 2.0, rel=1e-12)
    assert charge[False] > (0 if kind is nd.DualExpon else 1.2 * charge[True])


def felt_of(x, y, a, b):
    """By quadrature, with points where the integrand changes fast."""

    def integrand(s):
        return mpmath.exp(b * (s - 1) - a * s) * (x + y * a * s)

    points = sorted({min(1, 1 / a), max(0, 1 - 1 / b), mpmath.mpf(0.5)})
    return mpmath.quad(integrand, [0, *points, 1]) * b / -mpmath.expm1(-b)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_weights_at_extremes(dtype):
    """Finite values and gradients for every ratio of the step and the two time constants, and the right ones."""
    mpmath.mp.dps = 30
    ratios = [1e-4, 1e-2, 0.3, 1.0, 1.0009765625, 30.0, 1e3]
    for a, b in itertools.product(ratios, ratios):
        x, y, tau = (torch.tensor([value], dtype=dtype, requires_grad=True) for value in (0.7, 0.4, 1 / a))
        leak = torch.tensor([b], dtype=dtype, requires_grad=True)
        felt = Decaying([Part(x, tau, y)], 1.0).felt(leak)
        grads = torch.autograd.grad(felt.sum(), (x, y, tau, leak))
        assert felt.isfinite().all()
        assert all(grad.isfinite().all() for grad in grads)
        wanted = felt_of(x.item(), y.item(), 1 / mpmath.mpf(tau.item()), mpmath.mpf(leak.item()))
        assert felt.item() == pytest.approx(float(wanted), rel=8 * torch.finfo(dtype).eps, abs=torch.finfo(dtype).tiny)


def test_derivatives():
    x, y = torch.rand(4, requires_grad=True), torch.rand(4, requires_grad=True)
    tau = torch.tensor([0.3, 2.0, 2.0, 50.0], requires_grad=True)
    leak = torch.tensor([0.2, 0.5, 0.7, 3.0], requires_grad=True)

    def felt(x, y, tau, leak):
        return Decaying([Part(x, tau, y), Part(y, 2 * tau)], 0.5).felt(leak)

    assert torch.autograd.gradcheck(felt, (x, y, tau, leak))
    z = torch.tensor([-700.0, -3.0, -0.11, -0.0999, -1e-8, 0.0, 0.05, 2.0], requires_grad=True)
    assert torch.autograd.gradcheck(phi_slope, (z,))
    mpmath.mp.dps = 40
    exact = [mpmath.diff(lambda v: mpmath.expm1(v) / v, mpmath.mpf(v)) if v else 0.5 for v in z.tolist()]
    assert phi_slope(z).tolist() == pytest.approx([float(v) for v in exact], rel=1e-13)


def test_sums():
    """Decaying currents, others that depend on V, tensors and numbers, in any order."""
    g, V = torch.tensor([2.0, 3.0]), torch.tensor([-60.0, -50.0])
    a = nd.CUBA(scale=3 * u.mV)(nd.Expon(2, tau=2 * u.ms, exact=True)(g))
    b = nd.Alpha(2, exact=True)(g)
    c, d = nd.COBA(E=0 * u.mV)(g), torch.tensor([5.0, 7.0])
    wanted = a(V) + b(V) + c(V) + d + 1
    assert torch.allclose(a(V), 3 * g * 2 * -math.expm1(-0.5))
    for total in (a + b + c + d + 1, d + c + b + a + 1, 1 + (c + a) + (d + b), sum([a, b, c, d, 1.0])):
        assert torch.allclose(total(V), wanted, rtol=1e-14)
        assert isinstance(total.felt(0.1), nd.Current)
    assert isinstance((d + a).felt(0.1), torch.Tensor)
    with pytest.raises(ValueError, match=r"cannot add currents of shapes \(2,\) and \(3,\)"):
        torch.ones(3) + a


def test_it_goes_when_nobody_holds_it():
    g = nd.Expon(2, exact=True)(torch.ones(2))
    gone = weakref.ref(g)
    del g
    assert gone() is None


class NeuronsFirst(nn.Module):
    def __init__(self, exact):
        super().__init__()
        self.N = nd.LIF(3, tau=10 * u.ms)
        self.synapse, self.output = nd.Expon(3, tau=2 * u.ms, exact=exact), nd.CUBA()

    def forward(self, x):
        I = self.output(self.synapse.read())
        self.synapse(x)
        return self.N(I)


def test_neurons_first():
    """A spike of a step arrives at its end: as the other order, a step later."""
    xs = torch.rand(30, 3)
    net = NeuronsFirst(exact=True)
    nd.reset_states(net)
    late = torch.stack([net(x) for x in xs])
    other = nn.Sequential(nd.Expon(3, tau=2 * u.ms, exact=True), nd.CUBA(), net.N)
    early = nd.unroll(other, xs, compile=False)
    assert late.sum() > 10
    assert torch.equal(late[1:], early[:-1])
    with pytest.raises(nd.UnsetState, match=r"Expon\(3\) has no state yet"):
        NeuronsFirst(exact=True)(xs[0])
    held = nd.Expon(3)
    assert torch.equal(held(xs[0]), held.read())


def test_in_a_trained_network():
    """Compiled and plain, with the time constants learned, the same outputs, states and gradients."""
    connection = nn.Linear(4, 3, bias=False)
    nn.init.uniform_(connection.weight, 0, 2)
    net = nn.Sequential(
        nd.Projection(connection, synapse=nd.Expon(3, tau=2 * u.ms, learn="tau", exact=True), output=nd.CUBA()),
        nd.LIF(3, tau=nd.init.Uniform(2 * u.ms, 9 * u.ms), learn="tau"),
    )
    assert_as_plain(net, torch.rand(12, 2, 4))


def test_what_cannot_be():
    with pytest.raises(ValueError, match=r"Expon\(5\) has exact=True, which needs align='post'"):
        nd.Projection(nn.Linear(5, 3), synapse=nd.Expon(5, exact=True), align="pre")
