"""The compiled steps of a learner beside its plain ones."""

from __future__ import annotations

import copy
import pickle
import random
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
        call = made.function.call
        return made._replace(function=made.function._replace(call=lambda given: [1.01 * v for v in call(given)]))

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


def test_a_module_with_two_names_keeps_its_parameters():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.neuron, self.last = layer()
            self.layers = nn.ModuleList([self.first, self.neuron, self.last])

        def forward(self, x):
            return self.last(self.neuron(self.first(x)))

    pair = Pair(Two, DRTRL)
    before = [[*learner.net.parameters()] for learner in pair.learners]
    pair.steps(7)
    assert pair.compiled >= 3
    for learner, held in zip(pair.learners, before, strict=True):
        assert all(a is b for a, b in zip(learner.net.parameters(), held, strict=True))


SLOPE = 1.0
LOG: list[torch.Tensor] = []


class Sloped(nd.surrogate.Surrogate):
    def slope(self, x):
        return SLOPE / (1 + x.abs()) ** 2


class Spike(torch.autograd.Function):
    """What its backward pass does besides is set by a test."""

    effect: Callable[[torch.Tensor], torch.Tensor] = staticmethod(lambda g: g)

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return Spike.effect(g) / (1 + x.abs()) ** 2


class OwnSpikes(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.synapse, self.last = nn.Linear(3, 5), nd.Expon(5), nn.Linear(5, 2)

    def forward(self, x):
        return self.last(Spike.apply(self.synapse(self.first(x))))


@pytest.mark.parametrize("rule", [DRTRL, SLTT])
def test_a_global_variable_of_the_derivative_that_changes(rule, monkeypatch):
    pair = Pair(lambda: nn.Sequential(nn.Linear(3, 5), nd.LIF(5, surrogate=Sloped()), nn.Linear(5, 2)), rule)
    pair.steps(6)
    compiled_before = pair.compiled
    assert compiled_before >= 2
    monkeypatch.setitem(globals(), "SLOPE", 0.1)
    pair.steps(6)
    assert pair.compiled > compiled_before


def test_a_derivative_with_effects_runs_in_python(monkeypatch, unsaid):
    def logged(g):
        LOG.append(g.detach())
        return g

    monkeypatch.setattr(Spike, "effect", staticmethod(logged))
    LOG.clear()
    counts = []
    for compile in (True, False):
        LOG.clear()
        learner = SLTT(OwnSpikes(), compile=compile)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", EagerWarning)
            for _ in range(7):
                learner.backward(square(learner(torch.rand(4, 3))))
        counts.append(len(LOG))
        assert any("SLTT steps OwnSpikes in Python" in str(each.message) for each in said) == compile
        assert all(type(value) is torch.Tensor for value in LOG)
    assert counts[0] == counts[1] >= 7


def test_a_derivative_that_draws_draws_once_a_step(monkeypatch, unsaid):
    monkeypatch.setattr(Spike, "effect", staticmethod(lambda g: g * random.random()))
    gradients = []
    for compile in (True, False):
        torch.manual_seed(0)
        random.seed(0)
        learner = SLTT(OwnSpikes(), compile=compile)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EagerWarning)
            for _ in range(7):
                learner.backward(square(learner(torch.rand(4, 3))))
        gradients.append([p.grad for p in learner.net.parameters()] + [torch.tensor(random.random())])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["register_hook", "register_post_accumulate_grad_hook"])  # D-RTRL adds to .grad itself
@pytest.mark.parametrize("between", [False, True], ids=["before a step", "before its backward pass"])
@pytest.mark.parametrize("rule", [DRTRL, SLTT])
def test_hooks_of_parameters_are_called(kind, between, rule, unsaid):
    pair = Pair(layer, rule)
    pair.steps(5)
    assert pair.compiled

    def clamp(value):
        if kind == "register_hook":
            return value.clamp(-1e-3, 1e-3)
        value.grad.clamp_(-1e-3, 1e-3)

    def add():
        for parameters in pair.parameters:
            for parameter in parameters:
                getattr(parameter, kind)(clamp)

    for parameters in pair.parameters:
        for parameter in parameters:
            parameter.grad = None
    if not between:
        add()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EagerWarning)
        x = 3 * torch.rand(4, 3)
        ys = [learner(x) for learner in pair.learners]
        if between:
            add()
        for learner, y in zip(pair.learners, ys, strict=True):
            learner.backward(square(y))
    for p, q in zip(*pair.parameters, strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)
    if kind == "register_hook":
        assert any(0 < p.grad.abs().max() <= 1e-3 for p in pair.parameters[0])


def test_numbers_of_the_rule_may_change():
    for rule, change in ((ESDRTRL, lambda r: setattr(r, "decay", 0.2)), (OTTT, lambda r: r.decay.update({"0": 0.1}))):
        pair = Pair(layer, rule)
        pair.steps(6)
        for learner in pair.learners:
            change(learner)
        pair.steps(6)
        assert pair.compiled >= 5


@pytest.mark.parametrize("rule", [DRTRL, ESDRTRL, EProp, SLTT, OTTT])
def test_a_parameter_that_is_frozen_before_the_backward_pass(rule):
    pair = Pair(layer, rule)
    pair.steps(6)
    pair.optimize()
    x = torch.rand(4, 3)
    ys = [learner(x) for learner in pair.learners]
    for learner, y in zip(pair.learners, ys, strict=True):
        learner.net[2].requires_grad_(False)
        learner.backward(square(y))
        assert learner.net[2].weight.grad is None


def test_what_the_step_has_not_read_may_change_before_the_backward_pass():
    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.critic = nn.Sequential(nd.LIF(3), nn.Linear(3, 2)), nn.Linear(3, 1)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x):
            return self.net(x)

    pair, x = Pair(Critic, SLTT), torch.zeros(4, 3)
    for _ in range(8):
        x.uniform_(0, 3)
        ys = [learner(x) for learner in pair.learners]
        pair.compiled += isinstance(pair.learners[0].step, CompiledStep)
        x.zero_()  # the next input goes into the same tensor
        for learner, y in zip(pair.learners, ys, strict=True):
            with torch.no_grad():
                learner.net.critic.weight.mul_(0.9)
                learner.net.count += 1
            learner.backward(square(y))
        for p, q in zip(*pair.parameters, strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    assert pair.compiled >= 4


def test_it_is_copied_and_saved():
    pair = Pair(layer, EProp)
    pair.steps(6)
    for learner in pair.learners:
        learner.restart()
    for made in (copy.deepcopy, lambda learner: pickle.loads(pickle.dumps(learner))):
        learners = [made(learner) for learner in pair.learners]
        assert learners[0].compiled.learner is learners[0]
        for _ in range(6):
            x = torch.rand(4, 3)
            for learner in learners:
                learner.backward(square(learner(x)))
        assert isinstance(learners[0].step, CompiledStep)
        for p, q in zip(*[learner.net.parameters() for learner in learners], strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)


def test_two_layouts_by_turns_are_both_compiled():
    pair = Pair(lambda: nn.Sequential(nn.Linear(3, 5), nd.LIF(5), nn.Dropout(0.0), nn.Linear(5, 2)), SLTT)
    for t in range(12):
        for learner in pair.learners:
            learner.net.train(t % 2 == 0)
        pair.step(torch.rand(4, 3), square)
    assert pair.compiled >= 4


def test_a_network_without_linear_maps():
    learner = OTTT(nn.Sequential(nd.LIF(3, learn="tau")))
    for _ in range(5):
        learner.backward(square(learner(3 * torch.rand(4, 3))))
    assert learner.net[0].raw_tau.grad.abs() > 0


def changed_global(learner, monkeypatch):
    monkeypatch.setitem(globals(), "SLOPE", 0.1)


CHANGES = {
    "global": changed_global,
    "mode": lambda learner, _: learner.net.eval(),
    "number": lambda learner, _: setattr(learner, "decay", 0.3),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_has_changed_between_a_step_and_its_backward_pass_is_told(change, monkeypatch):
    net = nn.Sequential(nn.Linear(3, 5), nd.LIF(5, surrogate=Sloped()), nn.Dropout(0.0), nn.Linear(5, 2))
    learner = ESDRTRL(net)
    for _ in range(6):
        learner.backward(square(learner(3 * torch.rand(4, 3))))
    assert isinstance(learner.step, CompiledStep)
    y = learner(3 * torch.rand(4, 3))
    change(learner, monkeypatch)
    with pytest.raises(RuntimeError, match="has changed since; call backward before"):
        learner.backward(square(y))


def test_frozen_for_one_backward_pass_it_learns_again():
    pair = Pair(layer, SLTT)
    for t in range(12):
        x = 3 * torch.rand(4, 3)
        ys = [learner(x) for learner in pair.learners]
        for learner, y in zip(pair.learners, ys, strict=True):
            learner.net[0].requires_grad_(t != 3)  # the first time that its backward pass is compiled
            learner.backward(square(y))
            learner.net[0].requires_grad_(True)
        for p, q in zip(*pair.parameters, strict=True):
            torch.testing.assert_close(p.grad, q.grad)


def test_attributes_that_a_user_adds_are_no_numbers_of_the_rule():
    learner = SLTT(layer())
    for t in range(8):
        learner.backward(square(learner(torch.rand(4, 3))))
        learner.seen = t
    assert isinstance(learner.step, CompiledStep)
