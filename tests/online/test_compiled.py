"""The compiled steps of a learner beside its plain ones."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import EagerWarning
from neurodyn import units as u
from neurodyn.online import compiled
from neurodyn.online.compiled import CompiledStep

pytestmark = pytest.mark.graphs


def layer() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nd.LIF(5, learn="tau"), nn.Linear(5, 2))


def with_synapse() -> nn.Module:
    synapse = nd.Projection(nn.Linear(3, 5), synapse=nd.Expon(5, learn="tau"), output=nd.CUBA())
    return nn.Sequential(synapse, nd.LIF(5, V_initializer=0.2 * u.mV), nd.LeakyRateReadout(5, 2))


def recurrent() -> nn.Module:
    cell = nd.Recurrent(nd.ALIF(6, reset_gradient="detached"), nn.Linear(6, 6))
    return nn.Sequential(nn.Linear(3, 6), cell, nd.LeakyRateReadout(6, 2))


def deep() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nd.LIF(6), nn.Linear(6, 6), nn.LayerNorm(6), nd.LIF(6), nn.Linear(6, 2))


DRTRL, ESDRTRL, OTTT, SLTT, EProp = (getattr(nd.online, n) for n in ("DRTRL", "ESDRTRL", "OTTT", "SLTT", "EProp"))
CASES = [
    *[(net, rule) for net in (layer, with_synapse, recurrent) for rule in (DRTRL, ESDRTRL, EProp, SLTT)],
    *[(net, OTTT) for net in (layer, deep)],
    (deep, SLTT),
]


class Pair:
    """A learner that compiles and one that does not, of equal networks."""

    def __init__(self, make: Callable[[], nn.Module], rule: Any, **options: Any):
        nets = [net := make(), copy.deepcopy(net)]
        self.learners = []
        for net, compile in zip(nets, (True, False), strict=True):
            torch.manual_seed(1)
            self.learners.append(rule(net, compile=compile, **options))
        own = [[*x.net.parameters(), *(x.parameters() if hasattr(x, "parameters") else ())] for x in self.learners]
        self.parameters = own
        self.optimizers = [torch.optim.SGD(parameters, 0.1) for parameters in own]
        self.compiled = 0

    def step(self, x: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        ys = []
        for learner in self.learners:
            torch.manual_seed(2)
            y = learner(x)
            if loss is not None:
                learner.backward(loss(y))
            ys.append(y.detach())
        self.compiled += isinstance(self.learners[0].step, CompiledStep)
        torch.testing.assert_close(ys[0], ys[1], rtol=1e-11, atol=1e-11)
        for p, q in zip(*self.parameters, strict=True):
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None:
                torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-10)

    def steps(self, n: int) -> None:
        for _ in range(n):
            self.step(3 * torch.rand(4, 3), square)

    def optimize(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()


def square(y: torch.Tensor) -> torch.Tensor:
    return y.square().mean()


@pytest.mark.parametrize(("make", "rule"), CASES, ids=lambda value: value.__name__)
def test_the_numbers_are_those_of_plain_steps(make, rule):
    pair = Pair(make, rule, **({"feedback": "adaptive"} if rule is EProp else {}))
    for _ in range(2):
        for learner in pair.learners:
            learner.reset(4)
        for t in range(9):
            pair.step(3 * torch.rand(4, 3), square if t % 4 != 3 else None)
            if t == 5:
                pair.optimize()
    assert pair.compiled >= 12
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in pair.parameters[0])


@pytest.mark.kernels
def test_with_kernels():
    pair = Pair(layer, DRTRL)
    pair.steps(7)
    assert pair.compiled >= 3


def test_two_losses_in_a_step_and_a_loss_of_one_output_only():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.neuron, self.last = nn.Linear(3, 5), nd.LIF(5), nn.Linear(5, 2)

        def forward(self, x):
            z = self.neuron(self.first(x))
            return z, self.last(z), x.round()

    pair = Pair(Two, DRTRL)
    for t in range(8):
        ys = [learner(x) for x in [3 * torch.rand(4, 3)] for learner in pair.learners]
        for learner, y in zip(pair.learners, ys, strict=True):
            learner.backward(square(y[0]))
            learner.backward(square(y[1]) if t % 2 else square(y[0]) * square(y[1]))
        for p, q in zip(*pair.parameters, strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-10)
    assert isinstance(pair.learners[0].step, CompiledStep)


def test_a_change_of_the_network_between_two_steps_is_seen():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.neuron, self.scale = nn.Linear(3, 5), nd.LIF(5), 1.0

        def forward(self, x):
            return self.scale * self.neuron(self.first(x))

    pair = Pair(Scaled, DRTRL)
    for t in range(16):
        for learner in pair.learners:
            if t == 6:
                learner.net.scale = 2.0
            if t == 11:
                learner.reset(4)
                learner.net.first.requires_grad_(False)
        pair.step(3 * torch.rand(4, 3), square)
    assert pair.compiled >= 6


def test_another_batch_compiles_again():
    pair = Pair(layer, OTTT)
    for batch in (4, 2, 4):
        for learner in pair.learners:
            learner.reset(batch)
        for _ in range(5):
            pair.step(3 * torch.rand(batch, 3), square)
    assert len([found for found in pair.learners[0].compiled.found.values() if found]) >= 2


def test_a_network_that_draws_runs_in_python_and_says_so(unsaid):
    pair = Pair(lambda: nn.Sequential(nn.Linear(3, 5), nn.Dropout(), nd.LIF(5)), SLTT)
    with pytest.warns(EagerWarning, match=r"online\.SLTT steps Sequential in Python: its step draws random numbers"):
        pair.steps(4)
    assert pair.compiled == 0


def test_an_optimizer_that_steps_before_backward_is_refused():
    learner = DRTRL(layer())
    for _ in range(5):
        learner.backward(square(learner(torch.rand(4, 3))))
    y = learner(torch.rand(4, 3))
    with torch.no_grad():
        learner.net[0].weight.add_(1.0)
    with pytest.raises(RuntimeError, match=r"DRTRL\.backward: .* changed in place since; call backward before"):
        learner.backward(square(y))


def test_data_that_is_assigned_before_backward_is_refused():
    learner = DRTRL(layer())
    for _ in range(5):
        learner.backward(square(learner(torch.rand(4, 3))))
    y = learner(torch.rand(4, 3))
    learner.net[0].weight.data = torch.rand(5, 3)
    with pytest.raises(RuntimeError, match=r"DRTRL\.backward: .* has other data"):
        learner.backward(square(y))


@pytest.mark.parametrize("part", ["forward", "backward"])
def test_a_wrong_function_is_found(part, monkeypatch, unsaid):
    name = f"{part}_function"
    right = getattr(compiled, name)

    def wrong(*arguments: Any) -> Any:
        made = right(*arguments)
        return made._replace(function=lambda given: [1.01 * value for value in made.function(given)])

    monkeypatch.setattr(compiled, name, wrong)
    pair = Pair(layer, DRTRL)
    what = "step differs" if part == "forward" else "gradients differ"
    with pytest.warns(EagerWarning, match=f"its compiled {what} from the plain"):
        pair.steps(8)
    assert not isinstance(pair.learners[0].step, CompiledStep)


def test_what_a_rule_needs_of_the_network_is_seen_in_compiled_steps_too():
    net = nn.Sequential(nn.Linear(3, 5), nd.LIF(5, tau=torch.full((5,), 8.0) * u.ms), nn.Linear(5, 2))
    learner = OTTT(net)
    for _ in range(5):
        learner.backward(square(learner(torch.rand(4, 3))))
    assert isinstance(learner.step, CompiledStep)
    net[1].tau[0] = 9.0
    with pytest.raises(ValueError, match="its tau differs from neuron to neuron, from 8 to 9 ms"):
        learner(torch.rand(4, 3))


def test_autocast_runs_in_python(unsaid):
    pair = Pair(layer, SLTT)
    with pytest.warns(EagerWarning, match="autocast"), torch.autocast("cpu", torch.bfloat16):
        pair.steps(4)
    assert pair.compiled == 0


def test_compile_false_compiles_nothing():
    learner = DRTRL(layer(), compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            learner.backward(square(learner(torch.rand(4, 3))))
    assert not isinstance(learner.step, CompiledStep)
