import pint
import pytest
import torch
from reference.traces import load
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u


def quantity(entry, trace):
    return u.quantity(trace.arrays[entry["npz"]] if "npz" in entry else entry["value"], entry["unit"])


def test_traces_of_coba_and_cuba():
    trace = load("synout_COBA")
    for kind in ("scalar", "array"):
        out = nd.COBA(trace.size, E=trace.params[f"E_{kind}"])
        assert_close(out(trace["in_g"])(trace["in_V"]), trace[f"out_I_{kind}"], rtol=1e-9, atol=1e-9)
    trace = load("synout_CUBA")
    g = torch.from_numpy(trace.arrays["in_g"])  # mS, so mS * V = mA stand for nS * mV = pA
    scaled = nd.CUBA(scale=trace.meta["params"]["scale"]["value"] * u.mV)
    V = torch.full_like(g, torch.nan)  # ignored
    for out, name in ((nd.CUBA(), "out_I_default"), (scaled, "out_I_scaled")):
        assert_close(out(g)(V), torch.from_numpy(trace.arrays[name]), rtol=1e-9, atol=1e-9)


def test_trace_of_mg_block():
    """The defaults carry units, so MgBlock() takes a potential in mV."""
    trace = load("synout_MgBlock")
    names = ("E", "cc_Mg", "alpha", "beta", "V_offset")
    custom = nd.MgBlock(**{name: trace.params[f"{name}_custom"] for name in names})
    default = nd.MgBlock()
    for name in names:
        assert_close(getattr(default, name).item(), u.to_canonical(trace.params[f"{name}_default"]))
    for out, key in ((default, "out_I_default"), (custom, "out_I_custom")):
        assert_close(out(trace["in_g"])(trace["in_V"]), trace[key], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wrong", [{"alpha": 0.062 * u.mV}, {"cc_Mg": 1.2 * u.mV}, {"beta": 3.57 * u.ms}])
def test_mg_block_refuses_other_units(wrong):
    with pytest.raises(pint.DimensionalityError, match=f"MgBlock.*{next(iter(wrong))}"):
        nd.MgBlock(**wrong)


def test_mg_block_is_finite_at_extreme_potentials():
    out = nd.MgBlock(learn=("alpha", "beta", "cc_Mg"))
    V = torch.tensor([-1e6, -1e3, 0.0, 1e3, 1e6], requires_grad=True)
    I = out(torch.ones(5))(V)
    I.sum().backward()
    assert I.isfinite().all()
    assert V.grad.isfinite().all()
    assert all(p.grad.isfinite() for p in out.parameters())
    assert abs(I[0].item()) < 1e-12  # blocked
    assert I[-1].item() == -1e6  # open


@pytest.mark.parametrize("seed", range(3))
def test_currents_add_to_each_other_and_to_tensors_on_either_side(seed):
    g = torch.rand(3, 4, 7)
    V, x = torch.linspace(-90, 30, 28).view(4, 7), torch.randn(4, 7)
    parts = [nd.COBA(E=-80 * u.mV)(g[0]), nd.CUBA(scale=3 * u.mV)(g[1]), nd.MgBlock()(g[2])]
    wanted = x + g[0] * (-80 - V) + 3 * g[1] - g[2] * V / (1 + 1.2 / 3.57 * torch.exp(-0.062 * V))
    a, b, c = parts[seed:] + parts[:seed]
    for total in (x + a + b + c, a + x + b + c, (a + b) + (c + x), c + (x + (b + a)), sum([a, b, c, x])):
        assert isinstance(total, nd.Current)
        assert total.shape == (4, 7)
        assert_close(total(V), wanted, rtol=1e-13, atol=1e-12)


def test_a_sum_of_currents_drives_a_neuron():
    """Slope and value of all parts enter the step: against a fine Euler integration."""
    g = torch.tensor([0.3, 0.5])
    start = {"V_rest": -65 * u.mV, "V_initializer": -65 * u.mV}
    lif = nd.LIF(2, tau=10 * u.ms, R=1 * u.Gohm, V_th=100 * u.mV, dt=0.01 * u.ms, **start)
    V = torch.full((2,), -65.0)
    for _ in range(1000):
        I = nd.COBA(E=0 * u.mV)(g) + nd.MgBlock()(g) + torch.tensor([1.0, 2.0]) + nd.CUBA()(g)
        lif(I)
        current = -g * V - g * V / (1 + 1.2 / 3.57 * torch.exp(-0.062 * V)) + torch.tensor([1.0, 2.0]) + g
        V = V + 0.01 / 10 * (-65 - V + current)
    assert_close(lif.V, V, rtol=0, atol=0.02)


def test_one_number_for_all_neurons():
    g, V = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-60.0, -50.0, -40.0])
    decaying = nd.CUBA()(nd.Expon(3, tau=2 * u.ms, exact=True)(g))
    for current in (nd.COBA(E=0 * u.mV)(g), decaying):
        for total in (current + torch.tensor(2.0), torch.tensor(2.0) + current):
            assert_close(total(V), current(V) + 2.0)
            assert total.shape == (3,)
    neuron = nd.LIF(3)
    simulated = nd.simulate(Driven(neuron), 3 * u.ms, 1.5 * u.pA, ("spikes",), compile=False)
    assert simulated["spikes"].counts.tolist() == [3, 3, 3]


class Driven(torch.nn.Module):
    """A conductance of 0 and a current for all."""

    def __init__(self, neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, I):
        return self.neuron(nd.COBA(E=0 * u.mV)(torch.zeros(3)) + I)


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"cannot add currents of shapes \(3,\) and \(4,\)"):
        nd.CUBA()(torch.ones(3)) + torch.ones(4)
