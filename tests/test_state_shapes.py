"""States of another shape than the population's, shared by the batch, and lasting."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u


class Counting(nd.Dynamics):
    """Sums its input: for each sample and each of three places, over the batch, and for ever."""

    places = (3,)
    table = nd.state(0.0, shape="places")
    one = nd.state(0.5, shape=(), shared=True)
    total = nd.state(0.0 * u.mV, lasting=True)

    def step(self, x, table, one, total):
        mean = x.reshape(-1, *self.size).mean(0)
        table = table + x.sum(-1, keepdim=True) * torch.arange(1.0, 4.0)
        return x + total + one + table.sum(-1, keepdim=True), table, one * 0.9 + mean.sum(), total + mean


@pytest.fixture
def layer():
    return Counting(2)


def test_shapes(layer):
    assert layer.total.shape == (2,)
    assert not layer.is_set
    layer(torch.ones(5, 4, 2))
    assert layer.table.shape == (5, 4, 3)
    assert layer.one.shape == ()
    assert layer.batch == (5, 4)
    assert layer.total.tolist() == [1.0, 1.0]


def test_reset_keeps_what_lasts(layer):
    layer(torch.ones(4, 2))
    layer.reset_state(3)
    assert layer.table.shape == (3, 3)
    assert not layer.table.any()
    assert layer.one == 0.5
    assert layer.total.tolist() == [1.0, 1.0]
    layer.unset_state()
    assert layer.table is None
    assert layer.total.tolist() == [1.0, 1.0]


def test_reset_and_detach_cut_the_graph(layer):
    x = torch.ones(4, 2, requires_grad=True)
    layer(x)
    assert layer.total.requires_grad
    nd.reset_states(layer, 4)
    assert not layer.total.requires_grad
    layer(x)
    nd.detach_states(layer)
    assert not any(value.requires_grad for value in nd.get_states(layer).values())


def test_state_dict_holds_what_lasts(layer, tmp_path):
    assert "total" in layer.state_dict()
    assert "one" not in layer.state_dict()
    layer(torch.ones(4, 2))
    other = Counting(2)
    other.load_state_dict(layer.state_dict())
    assert_close(other.total, layer.total)
    nd.save(tmp_path / "file", net=layer, states=nd.get_states(layer))
    third = Counting(2)
    states = nd.load(tmp_path / "file", net=third)["states"]
    nd.set_states(third, states)
    assert_close(third(torch.ones(4, 2)), layer(torch.ones(4, 2)))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_close(twin.total, layer.total)
        assert_close(twin.one, layer.one)


def test_to(layer):
    layer(torch.ones(4, 2))
    layer.float()
    assert {value.dtype for value in nd.get_states(layer).values()} == {torch.float32}


@pytest.mark.parametrize(("name", "shape"), [("one", (4,)), ("total", (4, 2)), ("table", (4, 2))])
def test_set_states_wants_the_shape(layer, name, shape):
    with pytest.raises(ValueError, match=name):
        nd.set_states(layer, {name: torch.zeros(shape)})


@pytest.mark.parametrize(("name", "shape"), [("one", (4,)), ("total", (4, 2)), ("table", (4, 2)), ("table", ())])
def test_a_state_is_set_in_its_shape(layer, name, shape):
    layer(torch.ones(4, 2))
    before = getattr(layer, name)
    wanted = {"one": r"\(\)", "total": r"\(2\)", "table": r"\(\*batch, 3\)"}[name]
    with pytest.raises(ValueError, match=rf"Counting\(2\): the state {name} has shape {wanted}, got"):
        setattr(layer, name, torch.zeros(shape))
    assert getattr(layer, name) is before
    layer.table = torch.zeros(5, 3)
    assert layer.batch == (5,)


def test_a_shared_state_of_another_shape_is_named(layer):
    layer(torch.ones(4, 2))
    layer._buffers["total"] = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"Counting\(2\): total has shape \(4, 2\), wanted \(2,\); all samples"):
        layer(torch.ones(4, 2))


def test_explain_tells(layer):
    states = "\n".join(nd.explain(layer, batch=7).states)
    assert "table (7, 3)" in states
    assert "one (): 8 B, shared by the batch" in states
    assert "total (2,): 16 B, stays" in states


def test_a_record_has_the_unit(layer):
    _, recording = nd.unroll(layer, torch.ones(5, 4, 2), record=("total", "table"), compile=False)
    assert recording["total"].unit == u.mV
    assert recording["total"].values.shape == (5, 2)
    assert recording["table"].values.shape == (5, 4, 3)


def test_the_compiled_loop_is_the_plain_one():
    """Also where the batch has the size of a shared state, and is another one next time."""
    xs = torch.rand(20, 2, 2)
    for batch in (2, 5):
        a, b = Counting(2), Counting(2)
        with torch.no_grad():
            ys = [nd.unroll(net, xs[:, :1].expand(-1, batch, -1), compile=c) for net, c in ((a, True), (b, False))]
        assert_close(*ys)
        for name, value in nd.get_states(b).items():
            assert_close(nd.get_states(a)[name], value)
        assert "compiled" in "".join(nd.explain(a).path) or "C++" in "".join(nd.explain(a).path)


def test_only_shared_states():
    class Total(nd.Dynamics):
        w = nd.state(1.0, shape=(), lasting=True)

        def step(self, x, w):
            return x * w, w + x.mean()

    net = nn.Sequential(Total(()), nd.LIF(()))
    assert net[0].batch == ()
    xs = torch.ones(10, 3)
    assert nd.unroll(net, xs, compile=False).shape == (10, 3)
    assert net[0].w == 11
    nd.unroll(net, xs, compile=False)
    assert net[0].w == 21


def test_checkpoint_and_export(layer):
    xs = torch.rand(12, 4, 2)
    gradients = []
    for options in ({}, {"checkpoint": 5}):
        x = xs.clone().requires_grad_()
        (nd.unroll(Counting(2), x, compile=False, **options) ** 2).sum().backward()
        gradients.append(x.grad)
    assert_close(*gradients)
    nd.reset_states(layer, 4)
    program = torch.export.export(copy.deepcopy(layer), (xs[0],), strict=False).module()
    for x in xs:
        assert_close(program(x), layer(x))
    assert_close(dict(program.named_buffers())["total"], layer.total)


def test_a_layer_of_any_shape_before_layers_of_a_size() -> None:
    xs = 3 * torch.rand(6, 2, 5)
    tail = [nd.LIF(5, tau=9 * u.ms), nd.Recurrent(nd.LIF(5), nn.Linear(5, 5))]
    found = nd.unroll(nn.Sequential(nd.LIF(()), *tail), xs, compile=False)
    wanted = nd.unroll(nn.Sequential(nd.LIF(5), *tail), xs, compile=False)
    assert torch.equal(found, wanted)
    assert nd.get_states(nn.Sequential(*tail))["0.V"].shape == (2, 5)


class Around(nn.Module):
    """Reads a state before its layer is called, so that every layer is reset before the first step."""

    def __init__(self):
        super().__init__()
        self.first, self.any, self.second, self.back = nn.Linear(4, 6), nd.LIF(()), nn.Linear(6, 3), nn.Linear(3, 4)
        self.last = nd.LIF(3, tau=9 * u.ms)

    def forward(self, x):
        return self.last(self.second(self.any(self.first(x + self.back(self.last.V)))))


def of_any_shape(kind):
    torch.manual_seed(0)
    if kind == "around":
        return Around()
    if kind == "recurrent":
        return nn.Sequential(nn.Linear(4, 6), nd.Recurrent(nd.LIF(()), nn.Linear(6, 6)))
    return nn.Sequential(nn.Linear(4, 6), nd.LIF((), learn="tau"), nn.Linear(6, 3), nd.LIF(()))


@pytest.mark.parametrize("kind", ["row", "recurrent", "around"])
def test_a_layer_of_any_shape_is_reset_for_the_batch_alone(kind) -> None:
    """What follows the batch in its first input are features."""
    net, xs = of_any_shape(kind), 5 * torch.rand(7, 3, 4)
    for batch in ((3,), ()) if kind == "row" else ((3,),):
        nd.reset_states(net, *batch)
        found = torch.stack([net(x) for x in xs])
        assert found.sum() > 0
    for compile in (False, True):
        assert torch.equal(found, nd.unroll(of_any_shape(kind), xs, compile=compile))


def test_a_layer_of_any_shape_keeps_what_was_set_and_refuses_another_shape_later() -> None:
    layer = nd.LIF((), tau=20 * u.ms, V_th=9 * u.mV)
    nd.reset_states(layer, 3)
    layer.V = torch.tensor([0.0, 1.0, 2.0])
    layer(torch.zeros(3, 6))
    assert_close(layer.V, (torch.tensor([0.0, 1.0, 2.0]) * math.exp(-1 / 20))[:, None].expand(3, 6))
    for shape in ((3, 6, 2), (3,), (2, 6)):
        with pytest.raises(ValueError, match=r"V holds batch \(3, 6\) .* or nd.reset_states\(net, \*batch\)"):
            layer(torch.zeros(shape))


@pytest.mark.parametrize("rule", [nd.online.DRTRL, nd.online.OTTT])
def test_a_learner_with_a_layer_of_any_shape(rule) -> None:
    xs, found = 5 * torch.rand(7, 3, 4), []
    for start in (lambda learner: learner.reset(3), lambda learner: learner.restart()):
        learner = rule(of_any_shape("row"), compile=False)
        for _ in range(2):
            start(learner)
            for x in xs:
                learner.backward(learner(x).square().sum())
        found.append(torch.cat([p.grad.flatten() for p in learner.net.parameters()]))
    assert found[0].abs().sum() > 0
    assert torch.equal(*found)
