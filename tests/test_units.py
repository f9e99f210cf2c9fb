import numpy as np
import pint
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def test_the_canonical_set_is_coherent():
    assert u.to_canonical(3 * u.nS * (2 * u.mV)) == pytest.approx(u.to_canonical(6 * u.pA), rel=1e-15)
    assert u.to_canonical(3 * u.Gohm * (2 * u.pA)) == pytest.approx(u.to_canonical(6 * u.mV), rel=1e-15)
    assert u.to_canonical(6 * u.pF / (2 * u.nS)) == pytest.approx(u.to_canonical(3 * u.ms), rel=1e-15)


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        (1 * u.s, 1e3),
        (1 * u.V, 1e3),
        (1 * u.nA, 1e3),
        (1 * u.uS, 1e3),
        (1 * u.Mohm, 1e-3),
        (1 * u.nF, 1e3),
        (1 * u.molar, 1e3),
        (5 * u.Hz, 5e-3),
        (2 / u.mV, 2.0),
        (1 * u.uS / u.cm**2, 1e-5),  # nS / um^2
        (3 * u.dimensionless, 3.0),
        (0.25, 0.25),
    ],
)
def test_to_canonical(quantity, number):
    assert u.to_canonical(quantity) == pytest.approx(number, rel=1e-12)


UNITS = {
    "time": ("us", "ms", "s"),
    "potential": ("uV", "mV", "V"),
    "current": ("fA", "pA", "nA"),
    "g": ("pS", "nS", "S"),
}


@given(st.floats(1e-6, 1e6), st.sampled_from(sorted(UNITS)), st.integers(0, 2), st.integers(0, 2))
def test_compatible_units_convert(value, kind, a, b):
    there = u.quantity(value, UNITS[kind][a]).to(UNITS[kind][b])
    assert u.to_canonical(there) == pytest.approx(u.to_canonical(u.quantity(value, UNITS[kind][a])), rel=1e-14)


def test_arrays_and_tensors():
    converted = u.to_canonical(np.array([1.0, 2.0]) * u.s)
    assert isinstance(converted, torch.Tensor)
    assert converted.tolist() == [1000.0, 2000.0]
    assert u.to_canonical(u.quantity(torch.tensor([1.0, 2.0]), "V")).tolist() == [1000.0, 2000.0]
    parameter = nn.Parameter(torch.ones(2))
    assert u.to_canonical(u.quantity(parameter, "ms")) is parameter


def test_the_way_back():
    assert u.quantity(torch.tensor([2.0]), "mV").to("V").magnitude.tolist() == [0.002]


def test_numbers_keep_their_precision_under_a_float32_default():
    torch.set_default_dtype(torch.float32)
    assert nd.LIF(1, dt=0.1 * u.ms).dt == 0.1
    assert nd.LIF(1, tau=0.1 * u.ms, dtype=torch.float64).tau.item() == 0.1
    assert nd.SpikeTime(1, [0], [100.0] * u.ms, dt=0.1 * u.ms).steps.tolist() == [1000]


@pytest.mark.parametrize("model", [nd.LIF, nd.GIF, nd.Izhikevich, nd.AdEx])
def test_the_example_in_an_error_can_be_pasted(model):
    for name, field in model.params.items():
        with pytest.raises(pint.DimensionalityError) as error:
            model(3, **{name: 1 * u.K})
        example = str(error.value).rpartition(f"for example {name}=")[2]
        assert getattr(eval(example, {"u": u}), "units", u.registry.dimensionless).is_compatible_with(field.unit)


def test_units_are_pints_application_registry():
    assert u.ms == pint.get_application_registry().ms
    with pytest.raises(AttributeError, match="no unit 'blorps'"):
        u.blorps  # noqa: B018


def test_a_registry_that_is_set_later():
    """Units of two registries cannot be compared in pint."""
    before, old = pint.get_application_registry().get(), 20 * u.ms
    neuron = nd.LIF(2)
    mine = pint.UnitRegistry()
    pint.set_application_registry(mine)
    try:
        assert u.ms == mine.ms
        for tau in (20 * mine.ms, old, 0.02 * mine.s, pint.UnitRegistry().Quantity(20.0, "ms")):
            assert nd.LIF(2, tau=tau).tau.item() == pytest.approx(20)
        assert nd.LIF(2, tau=nd.init.Uniform(old, 30 * mine.ms)).tau.min() >= 20
        with pytest.raises(pint.DimensionalityError):
            nd.LIF(2, tau=20 * mine.mV)
        with pytest.raises(TypeError, match="tau needs a unit"):
            nd.LIF(2, tau=before.ms)
        assert "tau=5 ms" in repr(neuron)
        parameter = nn.Parameter(torch.tensor(3.0))
        assert nd.LIF(2, tau=mine.Quantity(parameter, "ms")).tau is parameter
        with nd.default_dt(0.1 * mine.ms):
            assert nd.Expon(2).dt == 0.1
        assert (u.quantity(neuron.tau, "ms") + 1 * mine.ms).units == mine.ms
        assert u.canonical_unit("s") == mine.ms
        connection = nd.FixedProb(2, 2, 1.0, weight=1 * mine.nS)
        nd.Projection(connection, synapse=nd.Expon(2), output=nd.COBA(2, E=0 * mine.mV))(torch.ones(2))
        recording = nd.simulate(neuron, 5 * mine.ms, torch.ones(2) * 1.0, ["V"], compile=False, progress=False)
        assert recording["V"].quantity.units == mine.mV
        nd.PoissonSpike(2, 20 * mine.Hz)(3)
    finally:
        pint.set_application_registry(before)
