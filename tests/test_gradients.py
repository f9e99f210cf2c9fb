"""The gradient of every parameter of every model is the derivative of what the model computes."""

from __future__ import annotations

import pytest
import torch
from catalogue import MODELS, Model
from torch import Tensor, nn

import neurodyn as nd
from neurodyn.neurons.base import Firing

STEPS, BATCH, SIZE = 40, 2, 5
CASES = [(model, name) for model in MODELS for name in model().params if name not in model.fixed]
FIRING = [(model, name) for model, name in CASES if isinstance(model(), Firing)]


class Replay:
    """A spike function without a gradient that repeats the spikes of its first run: what is left is smooth."""

    def __init__(self) -> None:
        self.spikes: list[Tensor] = []
        self.step: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.step is None:
            self.spikes.append((x >= 0).to(x.dtype))
            return self.spikes[-1]
        self.step += 1
        return self.spikes[self.step - 1]

    def rewind(self) -> None:
        self.step = 0


def each(cases: list[tuple[Model, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("model", "name"), cases, ids=[f"{model.name}-{name}" for model, name in cases])


def build(model: Model, name: str, **values: object) -> tuple[nd.Dynamics, nn.Parameter]:
    net = model(SIZE, learn=(name,), **values)
    (parameter,) = net.parameters()
    return net, parameter


def run(net: nd.Dynamics, xs: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs, and a weighted sum of all outputs and states of all steps."""
    generator = torch.Generator().manual_seed(1)
    net.reset_state(BATCH)
    outputs, loss = [], torch.zeros(())
    for x in xs:
        outputs.append(net(x))
        for value in (outputs[-1], *nd.get_states(net).values()):
            loss = loss + (torch.randn(value.shape, generator=generator) * value).sum()
    return torch.stack(outputs), loss


def gradient(loss: Tensor, parameter: nn.Parameter) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros_like(parameter)
    (found,) = torch.autograd.grad(loss, parameter, allow_unused=True)
    return torch.zeros_like(parameter) if found is None else found


def check(model: Model, name: str, drive: str) -> Tensor:
    """Autograd against a difference quotient of fourth order; returns the outputs."""
    replay = Replay()
    net, parameter = build(model, name, **({"surrogate": replay} if hasattr(model(), "surrogate") else {}))
    xs = model.input(STEPS, BATCH, SIZE, drive=drive)
    outputs, loss = run(net, xs)
    found = gradient(loss, parameter)

    start = parameter.detach().clone()
    h, values = 1e-5 * max(float(start.abs().max()), 0.2), []  # not so small that only rounding is left
    with torch.no_grad():
        for k in (-2, -1, 1, 2):
            replay.rewind()
            parameter.copy_(start + k * h)
            values.append(run(net, xs)[1])
    quotient = (values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * h)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(), quotient, rtol=1e-6, atol=1e-7)
    return outputs


@each([case for case in CASES if case not in FIRING])
def test_gradient_is_the_derivative(model: Model, name: str):
    check(model, name, model.drive)


@each(FIRING)
def test_gradient_below_threshold_is_the_derivative(model: Model, name: str):
    assert not check(model, name, model.quiet).any()


@each([case for case in FIRING if not case[0].detached])
def test_gradient_with_spikes_at_fixed_steps_is_the_derivative(model: Model, name: str):
    assert check(model, name, model.drive).any()


@each(FIRING)
def test_gradient_through_spikes_is_finite(model: Model, name: str):
    net, parameter = build(model, name, surrogate=nd.surrogate.Sigmoid())
    outputs, _ = run(net, model.input(STEPS, BATCH, SIZE))
    found = gradient(outputs.sum(), parameter)
    assert found.isfinite().all()
    if name in ("V_th", "Theta_inf", "V_initializer"):
        assert found.abs().sum() > 0


@each([(model, name) for model in MODELS for name in model.fixed])
def test_what_cannot_be_learned_says_so(model: Model, name: str):
    with pytest.raises(ValueError, match=f"{name} .* cannot be learned"):
        model(learn=(name,))
