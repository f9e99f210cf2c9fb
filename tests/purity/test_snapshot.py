"""Changes of a network that leave all values equal by ``==`` are seen, and effects of a step that are alike."""

from __future__ import annotations

import enum

import numpy as np
import pytest
import torch
from torch import nn

import neurodyn as nd

pytestmark = pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")


class Mode(enum.StrEnum):
    FAST = "fast"


class Gain:
    def __call__(self, x):
        return x


class Triple(Gain):
    def __call__(self, x):
        return 3 * x


class Equal(Triple):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other):
        return True


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Reads(nn.Module):
    """Its output tells the kind, sign and class of what it holds."""

    def __init__(self, value):
        super().__init__()
        self.value, self.gain, self.linear, self.neuron = value, Gain(), nn.Linear(2, 2), nd.LIF(2)

    def forward(self, x):
        shown = torch.full((), float(sum(map(ord, f"{type(self.value).__name__} {self.value!r}"))))
        return self.gain(self.linear(x) + self.neuron(x)) + shown


VALUES = {
    "text": ("fast", Mode.FAST),
    "zero": (0.0, -0.0),
    "complex zero": (complex(0.0, 0.0), complex(0.0, -0.0)),
    "range": (range(0, 4, 2), range(0, 3, 2)),
    "slice": (slice(0, 1), slice(0, True)),
    "NumPy": (2.0, np.float64(2.0)),
    "truth": (1, True),
}


def assert_as_plain(net):
    x = torch.ones(3, 2)
    torch.testing.assert_close(nd.unroll(net, x), nd.unroll(net, x, compile=False), rtol=0, atol=0)


@pytest.mark.parametrize(("before", "after"), VALUES.values(), ids=VALUES)
def test_an_attribute_that_becomes_an_equal_value(before, after):
    net = Reads(before)
    assert_as_plain(net)
    net.value = after
    assert_as_plain(net)
    for value in (before, after):  # in a network that may share a program
        assert_as_plain(Reads(value))


def test_classes_that_are_assigned_and_objects_that_say_they_are_equal():
    net = Reads(1)
    assert_as_plain(net)
    net.linear.__class__ = Doubled
    assert_as_plain(net)
    net.gain.__class__ = Triple
    assert_as_plain(net)
    net = Reads(1)
    assert_as_plain(net)
    net.gain = Equal()
    assert_as_plain(net)


class Becomes(nn.Module):
    """Sets an equal value in its first step, which the second one sees."""

    def __init__(self, name):
        super().__init__()
        self.text, self.zero, self.gain, self.neuron, self.name = "fast", 0.0, Gain(), nd.LIF(2), name

    def forward(self, x):
        y = self.gain(self.neuron(x)) + (0.0 if isinstance(self.text, Mode) else 10.0) + (str(self.zero) == "0.0")
        if self.name == "class":
            self.gain.__class__ = Triple
        else:
            setattr(self, self.name, Mode.FAST if self.name == "text" else -0.0)
        return y


@pytest.mark.parametrize("name", ["text", "zero", "class"])
def test_a_step_that_sets_an_equal_value(name):
    wanted = nd.unroll(Becomes(name), 2 * torch.ones(3, 2), compile=False)
    torch.testing.assert_close(nd.unroll(Becomes(name), 2 * torch.ones(3, 2)), wanted, rtol=0, atol=0)
    row = nn.Sequential(Becomes(name))
    torch.testing.assert_close(nd.unroll(row, 2 * torch.ones(3, 2), checkpoint=1), wanted, rtol=0, atol=0)


NUMBER = torch.tensor(1.0)


class Number(nn.Module):
    def __init__(self, read):
        super().__init__()
        self.read, self.number, self.neuron = read, torch.tensor(1.0), nd.LIF(2)
        self.several = [torch.tensor(1.0)]

    def forward(self, x):
        return self.neuron(x) + self.read(self)


READS = {
    "float": lambda net: float(net.number),
    "item": lambda net: net.number.item(),
    "list": lambda net: int(net.several[0]),
    "global": lambda net: float(NUMBER),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_number_that_is_read_from_a_tensor(read):
    net = Number(read)
    assert_as_plain(net)
    for tensor in (net.number, NUMBER, *net.several):
        tensor.fill_(5.0)
    try:
        assert_as_plain(net)
        assert nd.unroll(net, torch.zeros(1, 2))[0, 0] == 5
    finally:
        NUMBER.fill_(1.0)


class Bigger(nn.Module):
    def __init__(self):
        super().__init__()
        self.neuron = nd.LIF(2)

    def forward(self, x):
        return self.neuron(x) + max(1, 2)


def test_a_global_variable_that_is_named_as_a_function_of_python(monkeypatch):
    net = Bigger()
    assert_as_plain(net)
    monkeypatch.setitem(globals(), "max", lambda *values: 99)
    assert_as_plain(net)
    assert nd.unroll(net, torch.zeros(1, 2))[0, 0] == 99
