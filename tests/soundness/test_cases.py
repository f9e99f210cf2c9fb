# ruff: noqa: NPY002  (what users write draws from the global generator)
"""Ordinary code of users: compiled, `compile=False` and a loop by hand give the same, or it is said why not."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import gc
import random
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from soundness.same import agree, by_hand, outcome, same, says, seeded
from torch import nn

import neurodyn as nd
from neurodyn import units as u

ONES = torch.ones(12, 2, 3, dtype=torch.float64)
RISING = torch.linspace(0, 2, 12 * 2 * 3, dtype=torch.float64).view(12, 2, 3)


def net_of(forward, **attributes):
    """A module with this forward and a layer `neuron`; attributes are made anew for each."""

    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = nd.LIF(3, R=5 * u.Gohm)
            for name, make in attributes.items():
                value = make()
                if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
                    self.register_buffer(name, value)
                else:
                    setattr(self, name, value)

    Written.forward = forward
    return Written


def cell_of(step, **members):
    """A layer with this step and a state V."""
    return type("Cell", (nd.Dynamics,), {"V": nd.state(0.0), "step": step} | members)


def leak(self, x, V):
    V = 0.9 * V + x
    return V, V


# --- what a step does besides returning -------------------------------------------------------------------------------


def buffer_assigned(self, x):
    spikes = self.neuron(self.gain * x)
    self.gain = self.gain + 0.01 * (0.1 - spikes.detach().mean(0))
    return spikes


def buffer_data(self, x):
    self.gain.data = self.gain.data * 0.9
    return self.neuron(x * self.gain)


def buffer_in_place(self, x):
    self.gain.add_(0.1)
    return self.neuron(x) * self.gain.clone()


def buffer_item(self, x):
    self.gain[0] += 0.1
    return self.neuron(x * self.gain.clone())


def buffer_copied_into(self, x):
    with torch.no_grad():
        self.gain.copy_(0.5 * self.gain + 0.5 * x.mean(0))
    return self.neuron(x * self.gain.clone())


def parameter_data(self, x):
    self.weight.data.mul_(0.9)
    return self.neuron(x * self.weight.detach().clone())


@pytest.mark.parametrize(
    "forward",
    [buffer_assigned, buffer_data, buffer_in_place, buffer_item, buffer_copied_into],
    ids=lambda f: f.__name__,
)
def test_a_buffer_changes_in_forward(forward):
    same(net_of(forward, gain=lambda: torch.ones(3)), 2 * ONES, look=["gain"], calls=2)


def test_a_parameter_changes_in_forward():
    weight = lambda: nn.Parameter(torch.ones(3), requires_grad=False)  # noqa: E731
    same(net_of(parameter_data, weight=weight), 2 * ONES, look=["weight"], calls=2)


def counter(self, x):
    self.n += 1
    return self.neuron(x) * (1.0 if self.n > 8 else 0.5)


def listed(self, x):
    self.n.append(float(x.detach().mean()))
    return self.neuron(x) / len(self.n)


def listed_without_values(self, x):
    self.n.append(None)
    return self.neuron(x) / len(self.n)


def in_a_dict(self, x):
    self.n["steps"] = self.n.get("steps", 0) + 1
    return self.neuron(x) * self.n["steps"]


def in_a_set(self, x):
    self.n.add(len(self.n))
    return self.neuron(x) * len(self.n)


def in_a_deque(self, x):
    self.n.append(len(self.n))
    return self.neuron(x) * sum(self.n)


def nested(self, x):
    self.n.inner.count += 1
    return self.neuron(x) * self.n.inner.count


def in_an_array(self, x):
    self.n[1] += 1
    return self.neuron(x) * float(self.n[1])


KEPT = [
    (counter, lambda: 0, lambda net: net.n),
    (listed, list, lambda net: list(net.n)),
    (listed_without_values, list, lambda net: len(net.n)),
    (in_a_dict, dict, lambda net: dict(net.n)),
    (in_a_set, set, lambda net: sorted(net.n)),
    (in_a_deque, lambda: collections.deque(maxlen=4), lambda net: list(net.n)),
    (nested, lambda: types.SimpleNamespace(inner=types.SimpleNamespace(count=0)), lambda net: net.n.inner.count),
    (in_an_array, lambda: np.zeros(2), lambda net: net.n.tolist()),
]


@pytest.mark.parametrize(("forward", "make", "read"), KEPT, ids=[f.__name__ for f, _, _ in KEPT])
def test_what_is_kept_on_self(forward, make, read):
    nets = []

    def made():
        nets.append(net_of(forward, n=make)())
        return nets[-1]

    same(made, ONES, calls=2, after=lambda: read(nets[-1]))


STEPS = 0
TABLE = {"steps": 0}


def global_counter(self, x):
    global STEPS
    STEPS += 1
    return self.neuron(x) * (STEPS % 3)


def global_table(self, x):
    TABLE["steps"] += 1
    return self.neuron(x) * (TABLE["steps"] % 3)


def test_a_counter_outside_of_the_module():
    def zero():
        global STEPS
        was = STEPS, TABLE["steps"]
        STEPS = TABLE["steps"] = 0
        return was

    for forward in (global_counter, global_table):
        zero()
        same(net_of(forward), ONES, calls=2, after=zero)


def test_a_counter_in_a_closure():
    count = 0

    def forward(self, x):
        nonlocal count
        count += 1
        return self.neuron(x) * (count % 3)

    def zero():
        nonlocal count
        was, count = count, 0
        return was

    same(net_of(forward), ONES, calls=2, after=zero)


def tensor_kept(self, x):
    self.last = self.neuron(x)
    return self.last


def tensor_kept_without_graph(self, x):
    self.last = self.neuron(x).detach()
    return self.last + x


def tensor_read_later(self, x):
    self.last = x if self.last is None or self.last.shape != x.shape else 0.5 * self.last.detach() + x
    return self.neuron(self.last)


@pytest.mark.parametrize(
    "forward", [tensor_kept, tensor_kept_without_graph, tensor_read_later], ids=lambda f: f.__name__
)
def test_a_tensor_is_kept_on_self(forward):
    same(net_of(forward, last=lambda: None), RISING, look=["last"], calls=3)


def of_numpy(self, x):
    return self.neuron(x) + float(np.random.randn())


def of_python(self, x):
    return self.neuron(x) + random.random()


def of_a_numpy_generator(self, x):
    return self.neuron(x) + float(self.generator.random())


def of_torch(self, x):
    return self.neuron(x) + torch.rand_like(x)


def of_a_torch_generator(self, x):
    return self.neuron(x) + torch.rand(3, generator=self.generator)


def of_dropout(self, x):
    return self.neuron(F.dropout(x, 0.5))


def of_randn_item(self, x):
    return self.neuron(x) * torch.randn(()).item()


NOISE = [
    (of_numpy, None),
    (of_python, None),
    (of_a_numpy_generator, lambda: np.random.default_rng(1)),
    (of_torch, None),
    (of_a_torch_generator, lambda: torch.Generator().manual_seed(1)),
    (of_dropout, None),
    (of_randn_item, None),
]


@pytest.mark.parametrize(("forward", "generator"), NOISE, ids=[f.__name__ for f, _ in NOISE])
def test_random_numbers_in_a_step(forward, generator):
    given = {} if generator is None else {"generator": generator}
    left = lambda: (random.random(), np.random.rand(), torch.rand(()).item())  # noqa: E731
    same(net_of(forward, **given), ONES, calls=2, after=left)


def test_numpy_noise_in_a_step_of_a_layer():
    def step(self, I, V):
        V = 0.5 * V + I + float(np.random.randn())
        return V, V

    same(lambda: cell_of(step)(1), torch.zeros(40, 2, 1), calls=2)


def test_the_clock_is_read_in_every_step():
    def forward(self, x):
        return self.neuron(x) * 0 + time.perf_counter()

    net = net_of(forward)()
    ys, _ = outcome(lambda: nd.unroll(net, ONES))
    assert len(set(ys[:, 0, 0].tolist())) == len(ONES)


def test_printing_in_a_step(capsys):
    def forward(self, x):
        print("step")
        return self.neuron(x)

    for compile in (False, True):
        outcome(lambda compile=compile: nd.unroll(net_of(forward)(), ONES, compile=compile))
        assert capsys.readouterr().out == "step\n" * len(ONES)


def run_unroll(net, xs, compile):
    return nd.unroll(net, xs, compile=compile)


def run_simulate(net, xs, compile):
    return nd.simulate(net, len(xs) * u.ms, xs, batch=(2,), compile=compile)


def run_stream(net, xs, compile):
    nd.reset_states(net, 2)
    step = nd.Stream(net, xs[0])
    return [step(x) for x in xs]


@pytest.mark.parametrize("T", [1, 2, 7, 12])
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("run", [run_unroll, run_simulate, run_stream], ids=lambda f: f.__name__)
def test_forward_is_called_once_a_step(T, compile, run):
    calls = []

    def forward(self, x):
        calls.append(1)
        return self.neuron(x)

    net = net_of(forward)()
    for n in (1, 2):
        outcome(lambda: run(net, ONES[:T], compile))
        assert len(calls) == n * T


# --- what was read when it was compiled, and changes later ------------------------------------------------------------

RATE = 0.5
OPTIONS = {"rate": 0.5, "deep": [0.5]}
SETTINGS = types.SimpleNamespace(rate=0.5)
CONSTANTS = types.ModuleType("constants")
CONSTANTS.rate = 0.5
SCALAR = torch.tensor(0.5)


class Options:
    rate = 0.5


def scale_by(x, k=0.5):
    return k * x


partly = functools.partial(scale_by, k=0.5)


def cell_reading(read):
    def step(self, x, V):
        V = read(self, x) + 0.5 * V
        return V, V

    return cell_of(step)


def set_global(**values):
    globals().update(values)


GLOBALS = {
    "a number": (lambda self, x: RATE * x, lambda k: set_global(RATE=k)),
    "a dict": (lambda self, x: OPTIONS["rate"] * x, lambda k: OPTIONS.update(rate=k)),
    "a list in a dict": (lambda self, x: OPTIONS["deep"][0] * x, lambda k: OPTIONS.update(deep=[k])),
    "an object": (lambda self, x: SETTINGS.rate * x, lambda k: setattr(SETTINGS, "rate", k)),
    "a module": (lambda self, x: CONSTANTS.rate * x, lambda k: setattr(CONSTANTS, "rate", k)),
    "a class": (lambda self, x: Options.rate * x, lambda k: setattr(Options, "rate", k)),
    "a tensor": (lambda self, x: SCALAR * x, lambda k: SCALAR.fill_(k)),
    "another tensor": (lambda self, x: SCALAR * x, lambda k: set_global(SCALAR=torch.tensor(k))),
    "a function": (lambda self, x: scale_by(x), lambda k: set_global(scale_by=lambda x: k * x)),
    "defaults of a function": (lambda self, x: scale_by(x), lambda k: setattr(scale_by, "__defaults__", (k,))),
    "a partial": (lambda self, x: partly(x), lambda k: partly.keywords.update(k=k)),
    "another partial": (lambda self, x: partly(x), lambda k: set_global(partly=functools.partial(scale_by, k=k))),
}


@pytest.fixture
def globals_kept():
    """The globals of this file are put back after the test."""
    before = {name: globals()[name] for name in ("RATE", "scale_by", "partly")}
    defaults = before["scale_by"].__defaults__
    yield
    globals().update(before, SCALAR=torch.tensor(0.5))
    before["scale_by"].__defaults__ = defaults
    OPTIONS.update(rate=0.5, deep=[0.5])
    SETTINGS.rate = CONSTANTS.rate = Options.rate = 0.5
    partly.keywords.update(k=0.5)


def follows(make, change):
    """After each change the compiled loop gives what the loop by hand does, also in a new network."""
    net = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nd.EagerWarning)
        before = nd.unroll(net, RISING)
        for k in (0.25, 2.0):
            change(k)
            wanted = by_hand(copy.deepcopy(net), RISING)
            assert not agree(before, wanted, 1e-9)
            for other in (net, make()):
                assert agree(nd.unroll(other, RISING), wanted, 1e-9)
                assert agree(nd.unroll(other, RISING, compile=False), wanted, 1e-9)
                nd.reset_states(other, 2)
                step = nd.Stream(other, RISING[0])
                assert agree(torch.stack([step(x).clone() for x in RISING]), wanted, 1e-9)


@pytest.mark.usefixtures("globals_kept")
@pytest.mark.parametrize("kind", GLOBALS)
def test_a_global_changes_between_calls(kind):
    read, change = GLOBALS[kind]
    cell = cell_reading(read)
    follows(lambda: cell(3), change)


def test_the_weight_grows_by_a_rate_that_is_set_later():
    rate = 0.0

    def step(self, pre, w):
        w = w + rate * pre
        return pre * w, w

    cell = type("Weight", (nd.Dynamics,), {"w": nd.state(1.0), "step": step})(1)
    outcome(lambda: nd.unroll(cell, torch.ones(100, 1)))
    rate = 0.01
    outcome(lambda: nd.unroll(cell, torch.ones(100, 1)))
    assert agree(cell.w, torch.full((1,), 2.0), 1e-9)


def test_a_closure_changes():
    k = 0.5
    cell = cell_reading(lambda self, x: k * x)

    def change(value):
        nonlocal k
        k = value

    follows(lambda: cell(3), change)


def test_a_closure_inside_a_closure_changes():
    box = [0.5]

    def outer():
        return lambda x: box[0] * x

    inner = outer()
    cell = cell_reading(lambda self, x: inner(x))
    follows(lambda: cell(3), lambda k: box.__setitem__(0, k))


CLASSES = {
    "a number": (lambda self, x: self.beta * x, lambda cell, k: setattr(cell, "beta", k)),
    "by the type": (lambda self, x: type(self).beta * x, lambda cell, k: setattr(cell, "beta", k)),
    "of a base": (lambda self, x: self.beta * x, lambda cell, k: setattr(cell, "beta", k)),
    "a property": (
        lambda self, x: self.double * x,
        lambda cell, k: setattr(cell, "double", property(lambda self: 2 * k)),
    ),
    "a property of an attribute": (lambda self, x: self.double * x, lambda cell, k: setattr(cell, "beta", k)),
    "a method": (lambda self, x: self.act(x), lambda cell, k: setattr(cell, "act", lambda self, x: k * x)),
    "a static method": (
        lambda self, x: self.plain(x),
        lambda cell, k: setattr(cell, "plain", staticmethod(lambda x: k * x)),
    ),
    "a dict": (lambda self, x: self.table["k"] * x, lambda cell, k: cell.table.update(k=k)),
    "the step": (
        lambda self, x: x,
        lambda cell, k: setattr(cell, "step", lambda self, x, V: (k * x + 0.5 * V, k * x + 0.5 * V)),
    ),
    "defaults of a method": (
        lambda self, x: self.act(x),
        lambda cell, k: setattr(cell.act, "__defaults__", (k,)),
    ),
    "the code of a method": (
        lambda self, x: self.act(x),
        lambda cell, k: (
            setattr(cell.act, "__code__", (lambda self, x, k=0.1: x * k + 7 * k).__code__)
            or setattr(cell.act, "__defaults__", (k,))
        ),
    ),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_changes(kind):
    read, change = CLASSES[kind]

    class Base(nd.Dynamics):
        beta = 0.5
        table = {"k": 0.5}

        @property
        def double(self):
            return 2 * self.beta

        def act(self, x, k=0.5):
            return k * x

        @staticmethod
        def plain(x):
            return 0.5 * x

    class Cell(Base):
        V = nd.state(0.0)

        def step(self, x, V):
            V = read(self, x) + 0.5 * V
            return V, V

    follows(lambda: Cell(3), lambda k: change(Base if kind == "of a base" else Cell, k))


class Spike:
    """A callable with a plain attribute, as surrogates are."""

    def __init__(self, k=0.5):
        self.k = k

    def __call__(self, x):
        return torch.tanh(self.k * x)


@dataclasses.dataclass
class Choice:
    k: float = 0.5


INSTANCES = {
    "a number": (lambda self, x: self.k * x, lambda: 0.5, lambda net, k: setattr(net, "k", k)),
    "a callable": (lambda self, x: self.k(x), Spike, lambda net, k: setattr(net, "k", Spike(k))),
    "inside a callable": (lambda self, x: self.k(x), Spike, lambda net, k: setattr(net.k, "k", k)),
    "inside a dataclass": (lambda self, x: self.k.k * x, Choice, lambda net, k: setattr(net.k, "k", k)),
    "a partial": (
        lambda self, x: self.k(x),
        lambda: functools.partial(torch.mul, other=torch.tensor(0.5)),
        lambda net, k: setattr(net, "k", functools.partial(torch.mul, other=torch.tensor(k))),
    ),
    "inside a partial": (
        lambda self, x: self.k(x),
        lambda: functools.partial(torch.mul, other=torch.tensor(0.5)),
        lambda net, k: net.k.keywords["other"].fill_(k),
    ),
    "a list": (lambda self, x: self.k[0] * x, lambda: [0.5], lambda net, k: net.k.__setitem__(0, k)),
    "an array": (lambda self, x: x * float(self.k[0]), lambda: np.full(2, 0.5), lambda net, k: net.k.fill(k)),
    "a tensor in a list": (
        lambda self, x: x * self.k[0],
        lambda: [torch.tensor(0.5)],
        lambda net, k: net.k[0].fill_(k),
    ),
    "an object in a dict": (
        lambda self, x: self.k["a"].k * x,
        lambda: {"a": Choice()},
        lambda net, k: setattr(net.k["a"], "k", k),
    ),
    "the step": (
        lambda self, x: x,
        lambda: 0.5,
        lambda net, k: setattr(net, "step", lambda x, V: (k * x + 0.5 * V, k * x + 0.5 * V)),
    ),
    "the forward": (lambda self, x: x, lambda: 0.5, lambda net, k: setattr(net, "forward", tripled(net, k))),
}


def tripled(net, k):
    return lambda x: 3 * k * type(net).forward(net, x)


@pytest.mark.parametrize("kind", INSTANCES)
def test_an_instance_changes(kind):
    read, make, change = INSTANCES[kind]
    cell = cell_reading(read)

    def made():
        layer = cell(3)
        layer.k = make()
        return layer

    same(made, RISING, calls=2, between=lambda net: change(net, 0.25))


@pytest.mark.parametrize(
    "change",
    [
        lambda lif: setattr(lif, "surrogate", nd.surrogate.Arctan()),
        lambda lif: setattr(lif, "surrogate", lambda v: torch.sigmoid(v)),
        lambda lif: setattr(lif, "surrogate", nd.surrogate.ReluGrad(0.1, 2.0)),
    ],
)
def test_the_surrogate_of_a_layer_is_replaced(change):
    same(lambda: nd.LIF(3, R=5 * u.Gohm), RISING, calls=2, between=change)


def test_a_surrogate_is_changed_inside():
    same(
        lambda: nd.LIF(3, R=5 * u.Gohm, surrogate=Spike()),
        RISING,
        calls=2,
        between=lambda lif: setattr(lif.surrogate, "k", 3.0),
    )


def test_linear_is_patched(monkeypatch):
    net = nn.Sequential(nn.Linear(3, 3), nd.LIF(3, R=5 * u.Gohm))
    recurrent = nd.Recurrent(nd.Expon(3), nn.Linear(3, 3))
    outcome(lambda: [nd.unroll(one, RISING) for one in (net, recurrent)])
    old = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 5 * old(self, x))
    for one in (net, recurrent):
        ys, _ = outcome(lambda one=one: nd.unroll(one, RISING))
        assert agree(ys, by_hand(one, RISING), 1e-9)


# --- writing in place, and views --------------------------------------------------------------------------------------


def constant_written(self, x):
    total = torch.zeros_like(self.bias)
    total += x.mean(0)
    return self.neuron(x + total)


def two_constants(self, x):
    a, b = torch.zeros(3), torch.zeros(3)
    a += x.mean(0)
    b -= x.sum(0)
    return self.neuron(x + a * b)


def constant_with_items(self, x):
    mask = torch.ones(3)
    mask[0] = 0.0
    mask[1:] += x.mean(0)[1:]
    return self.neuron(x * mask)


def constant_and_its_view(self, x):
    table = torch.zeros(2, 3)
    table.view(-1)[:3] += x.mean(0)
    return self.neuron(x + table.sum(0))


def constant_filled(self, x):
    out = torch.empty_like(x)
    out[..., :1] = x[..., 1:2]
    out[..., 1:] = 2 * x[..., :-1]
    return self.neuron(out)


IN_FORWARD = [constant_written, two_constants, constant_with_items, constant_and_its_view, constant_filled]


@pytest.mark.kernels
@pytest.mark.parametrize("forward", IN_FORWARD, ids=lambda f: f.__name__)
def test_constants_are_written_in_place(forward):
    same(net_of(forward, bias=lambda: nn.Parameter(torch.zeros(3))), 0.5 * RISING, calls=2)


def older_view(self, x, V):
    new = torch.zeros_like(V)
    flat = new.view(-1)
    new[..., 1:] = V[..., :-1] + x[..., 1:]
    out = flat.view_as(V)
    return out, 0.5 * out + x


def older_slice(self, x, V):
    new = V + x
    first = new[..., :1]
    new += 1
    return new * first, 0.5 * new


def view_is_written(self, x, V):
    new = V + x
    new.transpose(0, -1)[0] = 0.5
    return new, 0.5 * new


def chosen_by_a_mask(self, x, V):
    new = V + x
    new[x > 1] = 0.0
    return new, 0.5 * new


def alias_is_written(self, x, V):
    new = V + x
    other = new
    other *= 0.5
    return new, other + 0


def one_tensor_twice(self, x, V):
    new = 0.5 * V + x
    return new, new


@pytest.mark.kernels
@pytest.mark.parametrize(
    "step",
    [older_view, older_slice, view_is_written, chosen_by_a_mask, alias_is_written, one_tensor_twice],
    ids=lambda f: f.__name__,
)
def test_views_in_a_step(step):
    same(lambda: cell_of(step)(3), RISING, calls=2)


def product_in_place(self, x):
    current = x * 1.5
    current *= self.mask
    return self.neuron(current)


def product_and_back(self, x):
    return self.neuron((x * self.mask).to(x.dtype))


def sum_in_place(self, x):
    current = x.clone()
    current += self.mask
    return self.neuron(current)


def copied_in_place(self, x):
    current = torch.empty_like(x)
    current.copy_(x * self.mask)
    return self.neuron(current)


def power_in_place(self, x):
    current = 1 + x
    current.pow_(self.mask)
    return self.neuron(current)


@pytest.mark.kernels
@pytest.mark.parametrize(
    "forward",
    [product_in_place, product_and_back, sum_in_place, copied_in_place, power_in_place],
    ids=lambda f: f.__name__,
)
def test_a_float64_buffer_in_a_float32_network(forward):
    torch.set_default_dtype(torch.float32)
    make = net_of(forward, mask=lambda: torch.from_numpy(np.linspace(0, 2, 3)))
    same(make, RISING.float(), calls=3, tolerance=1e-4)


# --- what a step returns ----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Pair:
    V: torch.Tensor


RETURNED = {
    "another shape": (lambda self, x, V: (x, (V + x).sum(-1)), ("Cell", "V")),
    "one more dimension": (lambda self, x, V: (x, torch.stack([V, V])), ("Cell", "V")),
    "a scalar": (lambda self, x, V: (x, V.sum()), ("Cell", "V")),
    "forgotten": (lambda self, x, V: V + x, ("Cell", "step")),
    "forgotten in a tuple": (lambda self, x, V: (V + x,), ("Cell", "step")),
    "too many": (lambda self, x, V: (x, V, V), ("Cell", "step")),
    "None": (lambda self, x, V: (x, None), ("Cell", "V")),
    "a number": (lambda self, x, V: (x, 0.5), ("Cell", "V")),
    "a string": (lambda self, x, V: (x, "V"), ("Cell", "V")),
    "a dataclass": (lambda self, x, V: (x, Pair(V + x)), ("Cell", "V")),
    "a list": (lambda self, x, V: (x, [V]), ("Cell", "V")),
    "nothing": (lambda self, x, V: None, ("Cell", "step")),
}


@pytest.mark.parametrize("T", [1, 4, 8, 21])
@pytest.mark.parametrize("kind", RETURNED)
def test_a_step_that_returns_no_state(kind, T):
    step, words = RETURNED[kind]
    layer, xs = cell_of(step)(6), torch.ones(T, 5, 6)
    for compile in (True, False):
        says(lambda compile=compile: nd.unroll(layer, xs, compile=compile), *words)
    layer.unset_state()
    says(lambda: layer(xs[0]), *words)


@pytest.mark.kernels
def test_a_new_state_of_another_dtype():
    """The next step refuses it, or it is converted; every way does the same."""
    layer = cell_of(lambda self, x, V: (V + x, (V + x).float()))
    found = []
    for run in (by_hand, lambda net, xs: nd.unroll(net, xs, compile=False), nd.unroll):
        ys, _ = outcome(lambda run=run: run(layer(3), RISING))
        found.append(ys)
    if isinstance(found[0], Exception):
        assert all(isinstance(ys, Exception) for ys in found)
    else:
        assert agree(found[0], found[1], 1e-6)
        assert agree(found[0], found[2], 1e-6)


def test_the_dtype_of_a_state_changes_in_the_last_step_only():
    layer = cell_of(lambda self, x, V: (x.clone(), V.float()))(3)
    kinds = []
    for run in (by_hand, lambda net, xs: nd.unroll(net, xs, compile=False), nd.unroll):
        ys, _ = outcome(lambda run=run: run(layer, RISING[:1]))
        kinds.append("error" if isinstance(ys, Exception) else layer.V.dtype)
    assert len(set(kinds)) == 1, kinds


OUTPUTS = {
    "None": lambda y: (y, None),
    "a number": lambda y: (y, 0.5),
    "a string": lambda y: {"spikes": y, "name": "layer"},
    "nothing else": lambda y: None,
    "an object": lambda y: (y, types.SimpleNamespace(a=1)),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_output_that_is_no_tensor(kind):
    """Both ways refuse it in the same words, or give the same."""
    make = net_of(lambda self, x: OUTPUTS[kind](self.neuron(x)))
    eager, _ = outcome(lambda: nd.unroll(make(), RISING, compile=False))
    compiled, _ = outcome(lambda: nd.unroll(make(), RISING))
    if isinstance(eager, Exception):
        assert type(compiled) is type(eager)
        assert str(compiled) == str(eager)
        assert "Written" in str(eager)
        return
    assert not isinstance(compiled, Exception)
    if isinstance(eager, tuple):
        assert agree(compiled[0], eager[0], 1e-9)
        assert agree(eager[0], by_hand(net_of(lambda self, x: self.neuron(x))(), RISING), 1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda y: (y, y.argmax(-1)),
        lambda y: (y, y > 0.5),
        lambda y: {"spikes": y, "count": y.detach().long()},
        lambda y: (y.detach(), y),
        lambda y: (y, torch.arange(3)),
        lambda y: [y, (y, {"a": 2 * y})],
    ],
)
def test_outputs_of_several_kinds(make):
    net = net_of(lambda self, x: make(self.neuron(x)))
    same(net, RISING)


# --- gradients --------------------------------------------------------------------------------------------------------


class Loop(nn.Module):
    """A recurrent network written out, with products of one shape."""

    def __init__(self, n_in, n, bias, feedback):
        super().__init__()
        self.inp, self.rec = nn.Linear(n_in, n, bias=bias), nn.Linear(n, n, bias=feedback)
        self.more = nn.Linear(n, n, bias=not feedback)
        self.neuron, self.synapse = nd.LIF(n), nd.Expon(n)

    def forward(self, x):
        spikes = self.neuron(self.inp(x) + self.rec(self.synapse.g) + self.more(self.neuron.V))
        self.synapse(spikes)
        return spikes


KINDS_OF_BIAS = [(True, False), (False, True), (True, True), (False, False)]


@pytest.mark.parametrize(
    ("batch", "n_in", "bias", "feedback"),
    [
        *(((), 4, *kind) for kind in KINDS_OF_BIAS),
        ((1,), 4, True, False),
        ((3,), 8, False, True),
        ((2, 2), 4, True, False),
        *(pytest.param((1,), 4, *kind, marks=pytest.mark.long) for kind in KINDS_OF_BIAS[1:]),
        *(pytest.param((2, 2), 4, *kind, marks=pytest.mark.long) for kind in KINDS_OF_BIAS[1:]),
    ],
)
def test_gradients_of_products_of_one_shape(batch, n_in, bias, feedback):
    torch.manual_seed(1)
    xs = 3 * torch.rand(11, *batch, n_in)

    def make():
        net = Loop(n_in, 8, bias, feedback)
        nd.reset_states(net, *batch)
        return net

    same(make, xs, batch=batch)


@pytest.mark.kernels
def test_two_products_of_one_step_without_a_batch():
    def step(self, x, V):
        V = torch.tanh(x @ self.a + V @ self.b + F.linear(x, self.c, self.d))
        return V, V

    def make():
        layer = cell_of(step)(4)
        for name in "abc":
            layer.register_parameter(name, nn.Parameter(torch.rand(4, 4)))
        layer.register_parameter("d", nn.Parameter(torch.rand(4)))
        return layer

    for shape in ((9, 4), (9, 1, 4), (9, 4, 4)):
        same(make, torch.rand(shape))


class Tutorial(torch.autograd.Function):
    """A spike as tutorials write it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / (10 * x.abs() + 1) ** 2


class Modern(torch.autograd.Function):
    """The same with setup_context."""

    @staticmethod
    def forward(x):
        return (x > 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / (10 * x.abs() + 1) ** 2


@pytest.mark.kernels
@pytest.mark.parametrize("kind", [Tutorial, Modern])
def test_a_spike_function_of_a_user(kind):
    same(lambda: nd.LIF(3, R=5 * u.Gohm, surrogate=kind.apply), RISING)
    same(lambda: nn.Sequential(nn.Linear(3, 3), nd.LIF(3, R=5 * u.Gohm, surrogate=kind.apply)), RISING)

    def step(self, x, V):
        V = 0.9 * V + x
        return kind.apply(V - 1), V - kind.apply(V - 1)

    same(lambda: cell_of(step)(3), RISING)


def slope_inside(self, x, V):
    with torch.enable_grad():
        z = V.detach().requires_grad_()
        slope = torch.autograd.grad(z.sin().sum(), z)[0]
    return V + slope, 0.5 * V + x


def slope_of_func(self, x, V):
    return V + torch.func.grad(lambda z: z.sin().sum())(V), 0.5 * V + x


def slope_backward(self, x, V):
    with torch.enable_grad():
        z = V.detach().requires_grad_()
        z.sin().sum().backward()
    return V + z.grad, 0.5 * V + x


@pytest.mark.parametrize("step", [slope_inside, slope_of_func, slope_backward], ids=lambda f: f.__name__)
def test_autograd_inside_a_step(step):
    same(lambda: cell_of(step)(3), RISING)


@pytest.mark.parametrize("make", [lambda: nd.LIF(3, learn="tau"), lambda: nn.Sequential(nn.Linear(3, 3), nd.Expon(3))])
def test_batched_gradients(make):
    found = []
    for compile in (False, True):
        net, xs = seeded(make), RISING.clone().requires_grad_()
        ys, _ = outcome(lambda net=net, xs=xs, compile=compile: nd.unroll(net, xs, compile=compile))
        rows = torch.stack([torch.ones_like(ys), torch.linspace(0, 1, ys.numel()).view_as(ys)])
        found.append(torch.autograd.grad(ys, (xs, *net.parameters()), rows, is_grads_batched=True))
    assert agree(found[0], found[1], 1e-9)


@pytest.mark.parametrize("grad", [True, False])
def test_slopes_do_not_depend_on_the_mode(grad):
    neuron = nd.LIF(3, R=5 * u.Gohm)
    I, V = torch.ones(3), torch.full((3,), 0.5)
    with torch.set_grad_enabled(grad):
        slope = torch.func.jvp(lambda i: neuron.step(i, V)[0], (I,), (torch.ones(3),))[1]
    assert slope.abs().sum() > 0


# --- what an nn.Sequential may hold -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
@pytest.mark.parametrize("compile", [True, False])
def test_recurrent_cells_of_torch_are_refused(cell, compile):
    net = nn.Sequential(cell(3, 4), nd.LIF(4))
    result, text = outcome(lambda: nd.unroll(net, RISING, compile=compile))
    assert isinstance(result, Exception)
    assert cell.__name__ in text
    assert "nd." in text  # what to use in its place


class Foreign(nn.Module):
    """A layer of another library, with a memory of its own."""

    def __init__(self):
        super().__init__()
        self.mem = None

    def forward(self, x):
        self.mem = x if self.mem is None or self.mem.shape != x.shape else 0.9 * self.mem.detach() + x
        return self.mem


class ForeignBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mem", torch.zeros(3))

    def forward(self, x):
        self.mem = 0.9 * self.mem + x.detach().mean(0)
        return x + self.mem


class ForeignList(nn.Module):
    def __init__(self):
        super().__init__()
        self.past = []

    def forward(self, x):
        self.past.append(x.detach())
        return x + self.past[max(0, len(self.past) - 3)]


class Centre(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Largest(nn.Module):
    def forward(self, x):
        return x / x.abs().max()


class Similar(nn.Module):
    def forward(self, x):
        return (x @ x.transpose(0, 1)).softmax(-1) @ x


class Reversed(nn.Module):
    def forward(self, x):
        return x + x.flip(0)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(3, 1)

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("kind", [Foreign, ForeignBuffer, ForeignList, Centre, Largest, Similar, Reversed, Attention])
@pytest.mark.parametrize("place", ["first", "last", "nested"])
def test_foreign_modules_in_a_row(kind, place):
    def make():
        layer = nd.LeakyRateReadout(3, 3)
        rows = {"first": [kind(), layer], "last": [layer, kind()], "nested": [nn.Sequential(nn.Tanh(), kind()), layer]}
        return nn.Sequential(*rows[place])

    same(make, RISING, calls=2)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", ["forward", "pre", "backward", "forward with keywords"])
@pytest.mark.parametrize("where", ["", "0", "0.0", "1"])
def test_hooks_in_a_row(kind, where):
    calls = []

    def hook(*_, **__):
        calls.append(1)

    def make():
        net = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nd.LeakyRateReadout(3, 2))
        module = net.get_submodule(where)
        if kind == "forward":
            module.register_forward_hook(lambda *args: hook() or 10 * args[-1])
        elif kind == "forward with keywords":
            module.register_forward_hook(lambda m, args, kwargs, y: hook(), with_kwargs=True)
        elif kind == "pre":
            module.register_forward_pre_hook(lambda m, args: hook() or (2 * args[0],))
        else:
            module.register_full_backward_hook(hook)
        return net

    def number():
        n = len(calls)
        calls.clear()
        return n

    same(make, RISING, after=number)


def test_a_hook_for_all_modules():
    calls = []
    handle = nn.modules.module.register_module_forward_hook(lambda *_: calls.append(1))
    try:
        counts = []
        for run in (by_hand, lambda net, xs: nd.unroll(net, xs, compile=False), nd.unroll):
            calls.clear()
            net = nn.Sequential(nn.Linear(3, 3), nd.LIF(3))
            outcome(lambda run=run, net=net: run(net, RISING))
            counts.append(len(calls))
    finally:
        handle.remove()
    assert len(set(counts)) == 1, counts


@pytest.mark.parametrize("where", ["", "0", "0.0", "1"])
@pytest.mark.parametrize("when", ["before", "between"])
def test_a_forward_is_replaced_on_an_instance(where, when):
    def make():
        net = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nd.LeakyRateReadout(3, 2))
        if when == "before":
            patch(net)
        return net

    def patch(net):
        module = net.get_submodule(where)
        old = module.forward
        module.forward = lambda x: 10 * old(x)

    same(make, RISING, calls=2, between=patch if when == "between" else lambda net: None)


def test_a_forward_is_replaced_on_a_large_layer():
    torch.set_default_dtype(torch.float32)

    def make():
        net = nn.Sequential(nn.Linear(600, 600), nd.LeakyRateReadout(600, 2))
        old = net[0].forward
        net[0].forward = lambda x: 10 * old(x)
        return net

    same(make, torch.rand(64, 8, 600), tolerance=1e-3)


@pytest.mark.parametrize("kind", [Doubled, lambda *_: nn.Sequential(Doubled(3, 3), nn.ReLU())])
def test_a_subclass_of_a_layer_of_torch(kind):
    same(lambda: nn.Sequential(kind(3, 3), nd.LeakyRateReadout(3, 2)), RISING)


def test_batch_norm_takes_its_statistics_from_all_steps():
    norm, xs = nn.BatchNorm1d(3), torch.rand(7, 4, 3)
    net = nn.Sequential(norm, nd.LeakyRateReadout(3, 2))
    other, layer = nn.BatchNorm1d(3), net[1]
    for compile in (False, True):
        ys, _ = outcome(lambda compile=compile: nd.unroll(net, xs, compile=compile))
        wanted = by_hand(layer, other(xs.flatten(0, 1)).unflatten(0, (7, 4)))
        assert agree(ys, wanted, 1e-9)
        assert agree(norm.running_mean, other.running_mean, 1e-9)
        assert norm.num_batches_tracked == other.num_batches_tracked
    net.eval()
    same(lambda: net, xs, tolerance=1e-9)


@pytest.mark.parametrize("compile", [True, False])
def test_a_block_without_states(compile):
    block = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    xs = torch.rand(5, 3, 1, 6, 6)
    twin = copy.deepcopy(block)
    ys = nd.Unroll(block, compile=compile)(xs)
    assert agree(ys, twin(xs.flatten(0, 1)).unflatten(0, (5, 3)), 1e-9)


@pytest.mark.parametrize("shape", [(5, 1, 6, 6), (1, 1, 6, 6), (5, 3, 1, 6, 6)])
@pytest.mark.parametrize("more", [[], [nn.ReLU()], [nn.MaxPool2d(1)]])
def test_a_convolution_without_a_batch(shape, more):
    def make():
        return nn.Sequential(nn.Conv2d(1, 2, 3), *more, nd.LIF((2, 4, 4), R=5 * u.Gohm))

    same(make, torch.rand(shape), batch=shape[1:-3])


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Flatten, nn.LayerNorm, nn.Softmax])
def test_layers_of_torch_see_one_step(kind):
    """Where a batch of all steps means something else than a batch of one."""
    xs = torch.rand(5, 3, 3)
    layer = {nn.Conv1d: lambda: nn.Conv1d(3, 3, 1), nn.LayerNorm: lambda: nn.LayerNorm(3)}.get(kind, lambda: kind(0))()
    net = nn.Sequential(layer, nd.Expon(9 if kind is nn.Flatten else 3))
    wanted = by_hand(copy.deepcopy(net), xs, () if kind is nn.Flatten else (3,))
    for compile in (False, True):
        ys, _ = outcome(lambda compile=compile: nd.unroll(net, xs, compile=compile))
        assert agree(ys, wanted, 1e-9)


# --- layers that are not always called --------------------------------------------------------------------------------


def never(self, x):
    return self.neuron(x)


def by_a_flag(self, x):
    return self.neuron(x) if self.flag else self.neuron(self.other(x))


def by_values(self, x):
    return self.neuron(self.other(x) if x.mean() > 1 else x)


def every_third(self, x):
    self.n += 1
    return self.neuron(x + (self.other(x) if self.n % 3 == 0 else 0))


def only_at_first(self, x):
    self.n += 1
    return self.neuron(self.other(x) if self.n == 1 else x)


@pytest.mark.parametrize("forward", [never, by_a_flag, by_values, every_third, only_at_first], ids=lambda f: f.__name__)
def test_a_layer_that_forward_does_not_always_call(forward):
    make = net_of(forward, other=lambda: nd.Expon(3), flag=lambda: True, n=lambda: 0)
    same(make, RISING, calls=2, between=lambda net: setattr(net, "flag", not net.flag))


class Aside(nn.Module):
    """Its one layer with states is never called."""

    def __init__(self):
        super().__init__()
        self.aside, self.weight = nd.LIF(3), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return 2 * x * self.weight


@pytest.mark.parametrize("batch", [(), (2,)])
def test_a_module_whose_only_layer_is_not_called(batch):
    for make in (Aside, lambda: nn.Sequential(Aside(), nd.LIF(3))):
        grads = []
        for compile in (False, True):
            net = seeded(make)
            ys = nd.unroll(
                net, torch.linspace(0, 2, 4).view(4, *[1] * len(batch), 1).expand(4, *batch, 3), compile=compile
            )
            ys.sum().backward()
            grads += [ys.detach(), *(p.grad for p in net.parameters())]
        half = len(grads) // 2
        assert all(agree(a, b, 1e-9) for a, b in zip(grads[:half], grads[half:], strict=True))


@pytest.mark.parametrize(
    ("first", "second"), [((), (3,)), ((2, 3), ()), ((4,), (1,)), ((2, 3), (3,)), ((4,), ()), ((), (1,))]
)
@torch.no_grad()
def test_the_batch_does_not_depend_on_the_last_call(first, second):
    """Also in a loop that reads a state before it is set, and where other batches would fit."""
    net = seeded(lambda: Loop(3, 3, True, False))
    wanted = by_hand(copy.deepcopy(net), torch.ones(4, *second, 3))
    outcome(lambda: nd.unroll(net, torch.ones(4, *first, 3)))
    for compile in (False, True):
        ys, _ = outcome(lambda compile=compile: nd.unroll(net, torch.ones(4, *second, 3), compile=compile))
        assert agree(ys, wanted, 1e-9)


# --- memory -----------------------------------------------------------------------------------------------------------

DELETED = """
import gc, resource, torch
from torch import nn
import neurodyn as nd
torch.set_num_threads(1)
def now():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
def run():
    net = nn.Sequential(nn.Linear(2236, 2236, bias=False), nd.LIF(2236)) if {kind} == 0 else nd.Recurrent(
        nd.LIF(2236), nn.Linear(2236, 2236, bias=False))
    nd.unroll(net, torch.ones(3, 1, 2236))
run()
before = now()
for _ in range(31):
    run()
print(now() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of Linux")
@pytest.mark.parametrize("kind", [0, 1])
def test_deleted_modules_do_not_stay_in_memory(kind):
    command = [sys.executable, "-W", "ignore", "-c", DELETED.replace("{kind}", str(kind))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-500:]
    assert float(done.stdout) < 100  # MB, of 31 * 20


def test_a_deleted_module_is_collected():
    import weakref

    kinds = {
        "layer": lambda: nd.LIF(3),
        "written": net_of(lambda self, x: self.neuron(x)),
        "impure": net_of(counter, n=lambda: 0),
        "cell": lambda: cell_of(leak)(3),
    }
    for name, make in kinds.items():
        net = make()
        outcome(lambda net=net: nd.unroll(net, ONES))
        seen = weakref.ref(net)
        del net
        gc.collect()
        assert seen() is None, name


# --- simulate, and sparse connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [99, 100, 101])
def test_a_constant_input_as_long_as_the_run(steps):
    net = nn.Sequential(nn.Identity(), nd.LIF(100, tau=20 * u.ms, V_th=1e9 * u.mV, dt=0.1 * u.ms))
    result, text = outcome(lambda: nd.simulate(net, steps * 0.1 * u.ms, torch.linspace(0, 400, 100), compile=False))
    if isinstance(result, Exception):
        assert "constant" in text
        return
    V = net[1].V
    assert V[0] == 0
    assert V[99] > V[50] > 0


UNFIT = {
    "indices": """
a, b = nd.FixedNum(100, 100000, num=10, weight=0.5), nd.FixedNum(100, 50, num=10, weight=0.5)
b.load_state_dict(a.state_dict())
for _ in range(50):
    b(torch.ones(8, 100))
""",
    "no weight": "connection.weight = nn.Parameter(torch.ones(0))",
    "too few": "connection.weight = nn.Parameter(torch.ones(2))",
    "too many": "connection.weight = nn.Parameter(torch.ones(4))",
    "too few in data": "connection.weight.data = torch.ones(2)",
}

IN_A_PROCESS = """
import torch
from torch import nn
import neurodyn as nd
connection = nd.Sparse(([0, 0, 2], [1, 3, 1]), (3, 4), weight=[1.0, 2.0, 5.0])
try:
    exec(CHANGE)
    connection(torch.ones(3))
except Exception as error:
    print("said", error)
"""


@pytest.mark.parametrize("kind", UNFIT)
def test_synapses_that_do_not_fit(kind):
    """An error, where memory beyond the tensors would be read; in a process of its own."""
    code = IN_A_PROCESS.replace("CHANGE", repr(UNFIT[kind]))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.returncode
    assert "said" in done.stdout
    assert ("ndi" if kind == "indices" else "weight") in done.stdout
