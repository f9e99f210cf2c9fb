"""What every model of the catalogue promises; see catalogue.py."""

import copy
import inspect
import pickle
import sys

import pint
import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u

WRONG = {"[time]": 1 * u.mV}  # a value of another dimension, for each dimension; milliseconds unless listed


def fields(model):
    return model().params


def learnable(model):
    return [(name, field) for name, field in fields(model).items() if name not in model.fixed]


def name_of(model):
    return type(model()).__name__


def right_quantity(field, value):
    return u.quantity(value, field.unit)


def test_wrong_dimension(model):
    for name, field in fields(model).items():
        wrong = WRONG.get(str(field.unit.dimensionality), 1 * u.ms)
        with pytest.raises(pint.DimensionalityError, match=rf"{name_of(model)}\(5\): {name}\b.*for example {name}="):
            model(**{name: wrong})


def test_bare_number(model):
    for name, field in fields(model).items():
        if not field.unit.dimensionless:
            with pytest.raises(TypeError, match=rf"{name_of(model)}\(5\): {name} needs a unit .* got 3"):
                model(**{name: 3})


def test_not_finite(model):
    for name, field in fields(model).items():
        for value in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match=rf"{name} must be finite"):
                model(**{name: right_quantity(field, value)})


def test_wrong_shape(model):
    for name, field in fields(model).items():
        inside = getattr(model(), name).detach().mean().item()
        batches = () if model().may_have_batch else ((2, 5), (5, 1))  # which stand for samples, see test_sweeps.py
        for shape in ((3,), (2, 3), *batches):
            with pytest.raises(ValueError, match=rf"{name} has shape .* does not broadcast to the size \(5,\)"):
                model(**{name: right_quantity(field, torch.full(shape, inside))})


def test_domain(model):
    for name, field in fields(model).items():
        if field.domain is not None:
            with pytest.raises(ValueError, match=rf"{name} must be {field.domain.name}, got -0.5"):
                model(**{name: right_quantity(field, -0.5)})


def test_unknown_keyword(model):
    with pytest.raises(TypeError, match=rf"has no parameter 'tua'; it takes .*\b{next(iter(fields(model)))}\b"):
        model(tua=1 * u.ms)
    with pytest.raises(TypeError, match="has no parameter 'tua'"):
        model(learn=("tua",))


def test_time_step(model):
    assert model(dt=100 * u.us).dt == 0.1
    without = {name: value for name, value in model.values.items() if name != "dt"}
    with nd.default_dt(0.05 * u.ms):
        assert model.build(5, **without).dt == 0.05
    assert nd.get_default_dt() == 1 * u.ms
    for wrong, error in ((3, TypeError), (1 * u.mV, pint.DimensionalityError), (0 * u.ms, ValueError)):
        with pytest.raises(error, match="dt"):
            model(dt=wrong)


def test_heterogeneous_parameters_and_initialisers(model):
    for name, field in fields(model).items():
        value = getattr(model(), name).mean().item()
        each = torch.full((5,), value)
        assert torch.equal(getattr(model(**{name: right_quantity(field, each)}), name), each)
        drawn = model(**{name: nd.init.Constant(right_quantity(field, value))})
        assert torch.equal(getattr(drawn, name), each)


def test_a_users_parameter_is_used_as_it_is(model):
    for name, field in learnable(model):
        own = nn.Parameter(getattr(model(), name).detach().clone().expand(5).clone())
        built = model(**{name: u.quantity(own, field.unit)})
        assert getattr(built, name) is own
        assert any(p is own for p in built.parameters())


def test_learned_parameters_stay_in_their_domain(model):
    for name, field in learnable(model):
        layer = model(learn=(name,), **inner_value(model, name, field))
        (parameter,) = layer.parameters()
        assert torch.allclose(getattr(layer, name), getattr(model(**inner_value(model, name, field)), name), rtol=1e-12)
        if field.domain is not None:
            for value in (-1e30, 1e30):
                parameter.data.fill_(value)
                value = getattr(layer, name)
                assert value.isfinite().all()
                assert field.domain.contains(value).all()


def inner_value(model, name, field):
    """A value strictly inside the domain, where the default is on its edge."""
    value = getattr(model(), name)
    inside = field.domain is None or field.domain.to_raw(value).isfinite().all()
    return {} if inside else {name: right_quantity(field, 0.5)}


def test_states_follow_the_input_and_reset(model):
    layer = model()
    assert not layer.is_set
    x = model.input(3, 5)
    layer(x)
    assert all(value.shape == (3, 5) for value in nd.get_states(layer).values())
    layer.reset_state(2, 4)
    first = {k: v.clone() for k, v in nd.get_states(layer).items()}
    assert all(value.shape == (2, 4, 5) for value in first.values())
    layer(model.input(2, 4, 5))
    layer.reset_state(2, 4)
    layer.reset_state(2, 4)
    assert all(torch.equal(first[k], v) for k, v in nd.get_states(layer).items())


def test_size_may_be_a_tuple(model):
    flat, grid = model(6), model((2, 3))
    x = model.input(7, 4, 6)
    a = nd.unroll(flat, x, compile=False)
    b = nd.unroll(grid, x.unflatten(-1, (2, 3)), compile=False)
    assert torch.equal(a, b.flatten(-2))


def test_mismatches_are_errors_that_name_the_fix(model):
    layer = model()
    layer(model.input(3, 5))
    with pytest.raises(ValueError, match=r"holds batch \(3,\) and the input has batch \(4,\); call reset_state\(4\)"):
        layer(model.input(4, 5))
    with pytest.raises(ValueError, match=r"the input has shape \(3, 7\), wanted \(\*batch, 5\)"):
        layer(model.input(3, 7))
    with pytest.raises(TypeError, match=r"the input is torch.int64, wanted a floating dtype; use .to\(torch.float64\)"):
        layer(torch.ones(3, 5, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"the input is torch.float32 and the model torch.float64; convert"):
        layer(model.input(3, 5, dtype=torch.float32))
    with pytest.raises(RuntimeError, match=r"the input is on meta and \w+ on cpu; move one of them"):
        layer(model.input(3, 5).to("meta"))


def test_low_precision_inputs_are_computed_in_the_dtype_of_the_model(model):
    with_half, plain = model(dtype=torch.float32), model(dtype=torch.float32)
    for t in range(4):
        x = model.input(2, 5, seed=t, dtype=torch.bfloat16)
        y = with_half(x)
        assert y.dtype == torch.bfloat16
        assert torch.equal(y, plain(x.float()).bfloat16())
    assert all(value.dtype == torch.float32 for value in nd.get_states(with_half).values())


def test_state_dict_holds_parameters_only(model):
    layer = model()
    before = set(layer.state_dict())
    layer(model.input(3, 5))
    assert set(layer.state_dict()) == before <= set(fields(model))
    other = model()
    other(model.input(2, 5))
    other.load_state_dict(layer.state_dict())


def test_copies_in_mid_sequence(model):
    learned = next(name for name, _ in learnable(model) if not name.startswith("V_th"))
    layer = model(learn=learned, **inner_value(model, learned, fields(model)[learned]))
    x = model.input(2, 5).requires_grad_()
    layer(x)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        mine, theirs = nd.get_states(layer), nd.get_states(copied)
        assert all(torch.equal(mine[k], theirs[k]) and not theirs[k].requires_grad for k in mine)
        assert torch.equal(copied(x), copy.deepcopy(layer)(x))


def test_to_dtype_moves_parameters_and_states(model):
    layer = model()
    layer(model.input(2, 5))
    layer.float()
    assert layer(model.input(2, 5, dtype=torch.float32)).dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in nd.get_states(layer).values())


def test_repr_shows_size_units_and_dt(model):
    text = repr(model(learn=(next(iter(fields(model))),), **inner_value(model, *next(iter(fields(model).items())))))
    assert text.startswith(f"{name_of(model)}(")
    assert "5, " in text
    assert "(learned)" in text
    assert f"dt={model().dt:g} ms" in text


def test_no_pint_after_construction(model):
    layer = model()
    layer.reset_state(2)
    x, entered = model.input(9, 2, 5), []

    def watch(frame, event, argument):
        if "pint" in frame.f_code.co_filename.split("/"):
            entered.append(frame.f_code.co_qualname)

    sys.setprofile(watch)
    try:
        layer(x[0])
        layer.reset_state(2)
        nd.unroll(layer, x, compile=False)
        if model.name in ("LIF", "STP"):
            nd.unroll(layer, x)
    finally:
        sys.setprofile(None)
    assert entered == []


def test_documented(model):
    cls = type(model())
    assert "Input" in cls.__doc__
    assert "Output" in cls.__doc__
    assert "Source:" in cls.__doc__
    lines = [line for line in inspect.getsource(cls).splitlines() if line.strip()]
    assert len(lines) < 90
