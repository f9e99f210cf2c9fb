"""Whatever the arguments: a working model, or one of the documented errors."""

from __future__ import annotations

import pint
import pytest
import torch
from catalogue import MODELS, Model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import neurodyn as nd
from neurodyn import units as u

DOCUMENTED = (ValueError, TypeError, pint.DimensionalityError)
QUICK = settings(max_examples=15, deadline=None, derandomize=True)

numbers = st.floats(-1e3, 1e3) | st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e300, -1e-300])
unit = st.sampled_from(["ms", "mV", "pA", "nS", "Gohm", "1/ms", "mM", "s", "V", "degC", "dimensionless"])
quantities = st.builds(u.quantity, numbers, unit)
arrays = st.builds(
    lambda values, unit: u.quantity(torch.tensor(values, dtype=torch.float64), unit),
    st.lists(numbers, max_size=6),
    unit,
)
junk = st.none() | st.booleans() | st.text(max_size=3) | st.binary(max_size=3) | st.just(object()) | st.just(nn.Linear)
values = quantities | arrays | numbers | junk
sizes = st.integers(-2, 5) | st.lists(st.integers(-1, 3), max_size=3).map(tuple) | junk


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@given(data=st.data())
@QUICK
def test_constructors(model: Model, data: st.DataObject) -> None:
    names = sorted(model().params)
    words = st.sampled_from([*names, "dt", "learn", "reset", "surrogate", "tua"])
    given_ = data.draw(st.dictionaries(words, values, max_size=3))
    if data.draw(st.booleans()):
        given_["learn"] = data.draw(st.lists(st.sampled_from([*names, "x"]), max_size=2))
    try:
        built = model.build(data.draw(sizes), **(model.values | given_))
    except DOCUMENTED:
        return
    assert "(" in repr(built)
    assert all(p.isfinite().all() for p in built.parameters())


@given(size=sizes, shape=st.lists(st.integers(0, 4), max_size=3), batch=st.lists(st.integers(0, 3), max_size=2))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_shapes(size, shape: list[int], batch: list[int]) -> None:
    try:
        neuron = nd.LIF(size)
        nd.reset_states(neuron, *batch)
        out = neuron(torch.ones(shape))
    except DOCUMENTED:
        return
    assert out.shape == neuron.V.shape == torch.Size(shape)


@given(text=st.text(max_size=8) | st.sampled_from(["ms", "1/ms", "nS*mV", "10 mV", "ms**", "(", "__class__", "m" * 50]))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_unit_strings(text: str) -> None:
    try:
        value = u.to_canonical(u.quantity(1.0, text))
    except (*DOCUMENTED, pint.PintError, AttributeError):
        return
    assert isinstance(value, (float, torch.Tensor))
