"""What C++ says of objects that hold the very same objects is what Python says, and nothing is kept alive by it."""

import sys
import threading
import weakref

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn.purity import same
from neurodyn.purity.snapshot import Snapshot


class Holder:
    def __init__(self):
        self.n = 1


class Slotted:
    __slots__ = ("n",)


class Net(nn.Module):
    scale = 2.0

    def __init__(self):
        super().__init__()
        self.lif, self.linear = nd.LIF(3, learn="tau"), nn.Linear(3, 3)
        self.list, self.dict, self.set, self.held = [1, "a"], {"a": 1}, {"a"}, Holder()
        self.slotted, self.none, self.other = Slotted(), None, None
        self.slotted.n = 1

    def forward(self, x):
        return self.lif(self.linear(x))


@pytest.fixture
def armed():
    """A network, and a snapshot of it that C++ compares."""
    net = Net()
    snapshot = Snapshot()
    snapshot.take("net", net)
    for _ in range(3):
        assert snapshot.change() is None
    assert snapshot.looked_at.same is not None
    kinds = {type(part.owner) for part in snapshot.looked_at.rest}
    assert not kinds & {dict, list, set, weakref.ref, Holder}  # C++ has them
    return net, snapshot


def swap(net):
    del net.none
    net.none = None  # now behind `other`, with the same values


CHANGES = {
    "an attribute": lambda net: setattr(net, "none", 1),
    "a new attribute": lambda net: setattr(net, "new", 1),
    "the order of attributes": swap,
    "an attribute that is gone": lambda net: delattr(net, "other"),
    "an item more": lambda net: net.list.append(1),
    "an item less": lambda net: net.list.pop(),
    "another item": lambda net: net.list.__setitem__(0, 2),
    "a value that is equal": lambda net: net.list.__setitem__(0, True),
    "a key": lambda net: net.dict.update(b=1),
    "a value": lambda net: net.dict.update(a=2),
    "another key": lambda net: net.dict.__setitem__("b", net.dict.pop("a")),
    "an item of a set": lambda net: net.set.add("b"),
    "another item of a set": lambda net: (net.set.clear(), net.set.add("b")),
    "an attribute of an object": lambda net: setattr(net.held, "n", 2),
    "a slot": lambda net: setattr(net.slotted, "n", 2),
    "the class of an object": lambda net: setattr(net.held, "__class__", type("Other", (Holder,), {})),
    "the class of a module": lambda net: setattr(net.linear, "__class__", type("Other", (nn.Linear,), {})),
    "a module": lambda net: setattr(net, "linear", nn.Linear(3, 3)),
    "a parameter": lambda net: setattr(net.linear, "weight", nn.Parameter(torch.ones(3, 3))),
    "a parameter less": lambda net: setattr(net.linear, "bias", None),
    "a buffer": lambda net: net.linear.register_buffer("b", torch.ones(3)),
    "a hook": lambda net: net.lif.register_forward_hook(lambda *call: None),
    "a dict of attributes": lambda net: setattr(net.linear, "__dict__", vars(nn.Linear(3, 3))),
    "the training mode": lambda net: net.eval(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes(armed, change):
    net, snapshot = armed
    change(net)
    assert snapshot.change() is not None


def test_classes(armed, monkeypatch):
    snapshot = armed[1]
    monkeypatch.setattr(Net, "scale", 3.0)
    assert snapshot.change() is not None


def test_a_state_may_change_and_equal_values_are_taken_over(armed):
    net, snapshot = armed
    net.lif.reset_state(4)
    assert snapshot.looked_at.same.holds()
    net.held.n = int("1000") - 999  # small numbers are the same object: it holds
    first = snapshot.looked_at.same
    vars(net)["size"] = (1000, int("5"))
    assert snapshot.change() is not None
    del net.size
    assert snapshot.change() is None
    assert first.holds()


def test_a_module_that_is_gone():
    net = nd.LIF(3)
    snapshot = Snapshot()
    snapshot.take("net", net)
    for _ in range(3):
        assert snapshot.change() is None
    found = weakref.ref(net)
    del net
    assert found() is None
    assert not snapshot.looked_at.same.holds()


def test_attributes_of_a_thread_stay_with_python():
    class Own(threading.local):
        pass

    local = Own()
    local.n = 1
    assert not same._has_plain_dict(local)
    assert same._has_plain_dict(Holder())


def test_without_a_compiler(monkeypatch):
    monkeypatch.setattr(same, "_library", lambda: None)
    net = Net()
    snapshot = Snapshot()
    snapshot.take("net", net)
    for _ in range(3):
        assert snapshot.change() is None
    assert len(snapshot.looked_at.rest) == len(snapshot.looked_at.parts)
    net.held.n = 2
    assert snapshot.change() == "net.held"


def test_references_stay_as_many(armed):
    net, snapshot = armed
    objects = [net.list, net.dict, net.set, net.held, net.linear, Net, net.list[1]]
    before = [sys.getrefcount(value) for value in objects]
    for _ in range(1000):
        assert snapshot.change() is None
    assert [sys.getrefcount(value) for value in objects] == before
