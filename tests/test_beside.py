"""What holds for layers with states that are not in the catalogue's `MODELS`: cells, readouts, delays, dropout."""

from __future__ import annotations

import inspect

import pytest
import torch
from catalogue import BESIDE, MODELS, Model
from torch import Tensor

import neurodyn as nd
from neurodyn.core.states import named_dynamics, pure

T, BATCH, SIZE = 9, 3, 4
each = pytest.mark.parametrize("model", BESIDE, ids=lambda model: model.name)


def build(model: Model) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(3)
    layer = model(SIZE)
    first = next(module for _, module in named_dynamics(layer))
    width = layer.linear.in_features if hasattr(layer, "linear") else first.input_size[0]
    return layer, model.input(T, BATCH, width)


def loop(layer: torch.nn.Module, xs: Tensor) -> Tensor:
    torch.manual_seed(5)
    nd.reset_states(layer, *xs.shape[1:-1])
    return torch.stack([layer(x) for x in xs])


def test_every_layer_with_states_is_listed():
    listed = {type(model()) for model in (*MODELS, *BESIDE)}
    public = [value for name in nd.__all__ if inspect.isclass(value := getattr(nd, name))]
    rules = nd.Plasticity.__module__.rpartition(".")[0]  # which have tests of their own
    layers = {cls for cls in public if issubclass(cls, nd.Dynamics) and not cls.__module__.startswith(rules)}
    assert not layers - {*listed, nd.Dynamics, nd.Clock}  # a clock has no input, and tests of its own


@each
def test_unroll_is_the_step_loop(model: Model):
    layer, xs = build(model)
    wanted = loop(layer, xs)
    torch.manual_seed(5)
    torch.testing.assert_close(nd.unroll(layer, xs, compile=False), wanted, rtol=1e-12, atol=1e-14)


@each
def test_a_batch_is_a_stack_of_samples(model: Model):
    layer, xs = build(model)
    layer.eval()
    for sample, ys in enumerate(loop(layer, xs).unbind(1)):
        torch.testing.assert_close(loop(layer, xs[:, sample]), ys, rtol=1e-12, atol=1e-14)


@each
def test_a_nan_stays_in_its_sample(model: Model):
    layer, xs = build(model)
    clean = loop(layer, xs)
    xs[2, 1, 0] = float("nan")
    spoilt = loop(layer, xs)
    assert torch.equal(spoilt[:, [0, 2]], clean[:, [0, 2]])
    assert torch.equal(spoilt[:2], clean[:2])


@each
def test_reset_is_idempotent(model: Model):
    layer, xs = build(model)
    loop(layer, xs)
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        nd.reset_states(layer, BATCH)
        found.append({name: value.clone() for name, value in nd.get_states(layer).items()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("model", [model for model in BESIDE if not model.spiking], ids=lambda model: model.name)
def test_gradients_are_the_derivatives(model: Model):
    layer, xs = build(model)
    parameters = dict(layer.named_parameters())

    def run(xs: Tensor, *values: Tensor) -> Tensor:
        torch.manual_seed(5)
        nd.reset_states(layer, BATCH)
        states, ys = nd.get_states(layer), []
        for x in xs:
            y, states = pure(layer, states | dict(zip(parameters, values, strict=True)), x)
            ys.append(y)
        return torch.stack(ys)

    inputs = [xs[:4].clone().requires_grad_(), *(p.detach().requires_grad_() for p in parameters.values())]
    assert torch.autograd.gradcheck(run, inputs)


@each
def test_wrong_input_is_an_error_that_names_the_layer(model: Model):
    layer, xs = build(model)
    with pytest.raises((ValueError, RuntimeError), match=r"input has shape|shapes cannot be multiplied"):
        loop(layer, torch.cat([xs, xs], -1))


@pytest.mark.parametrize("size", [2.5, (3, 2.5), -1, "4", None])
def test_a_size_is_whole_numbers(size):
    with pytest.raises((TypeError, ValueError), match="LIF"):
        nd.LIF(size)
    assert nd.LIF(torch.tensor(3).numpy()[()]).size == (3,)
