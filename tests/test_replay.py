"""Chunks that are replayed without Python give what the eager loop gives."""

import gc
import warnings
import weakref

import pytest
import torch
from test_unroll import assert_same, outcome
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import replay


@pytest.fixture
def rounds(monkeypatch):
    """How many times chunks were replayed."""
    counted = []

    def counting(plan, sweeps, *rest):
        counted.extend(len(rounds.chunks) for _, rounds in sweeps)
        return call(plan, sweeps, *rest)

    call = replay.Plan.call
    monkeypatch.setattr(replay.Plan, "call", counting)
    return counted


def net():
    return nn.Sequential(nd.Expon(4, learn="tau"), nd.LIF(4, tau=7 * u.ms, learn=("tau", "V_th")))


@pytest.mark.parametrize("checkpoint", [None, 16])
def test_replay_is_the_eager_loop(rounds, checkpoint):
    layers, xs = net(), torch.rand(51, 3, 4) * 2  # chunks of two, and a single step
    found = outcome(layers, xs, checkpoint=checkpoint)
    assert rounds
    assert_same(found, outcome(layers, xs, compile=False))


def test_without_gradients(rounds):
    layers, xs = net(), torch.rand(51, 3, 4) * 2
    with torch.no_grad():
        ys, states = nd.unroll(layers, xs, return_states=True)
        wanted, wanted_states = nd.unroll(layers, xs, return_states=True, compile=False)
    assert sum(rounds) == 51 // 2 + 51 % 2
    assert_same([ys, *states.values()], [wanted, *wanted_states.values()])


class Difference(nn.Module):
    def __init__(self):
        super().__init__()
        self.neuron = nd.LIF(4)

    def forward(self, now, before):
        return self.neuron(2 * now - before)


def test_two_inputs_in_one_tensor(rounds):
    layer, xs = Difference(), torch.rand(65, 3, 4)
    for pair in ((xs[1:], xs[:-1]), (xs, xs)):  # overlapping, and the same
        assert torch.equal(nd.unroll(layer, pair), nd.unroll(layer, pair, compile=False))
    assert rounds


def test_states_that_share_their_memory(rounds):
    layers, xs = net(), torch.rand(64, 3, 4)
    start = torch.zeros(3, 4)
    states = {"0.g": start, "1.V": start}
    wanted = nd.unroll(layers, xs, states=states, compile=False)
    assert torch.equal(nd.unroll(layers, xs, states=states), wanted)
    assert not start.any()


def test_empty_batch():
    xs = torch.rand(64, 0, 4, requires_grad=True)
    ys = nd.unroll(nd.LIF(4), xs)
    ys.sum().backward()
    assert ys.shape == xs.grad.shape == (64, 0, 4)


def test_states_of_one_value_with_gradients_of_their_own():
    class Two(nd.Dynamics):
        a = nd.state(0.0)
        b = nd.state(0.0)

        def step(self, x, a, b):
            new = 0.5 * a + x
            return new, new, new.detach()

    def gradient(compile):
        xs = torch.ones(33, 2, 4, requires_grad=True)
        _, states = nd.unroll(Two(4), xs, return_states=True, compile=compile)
        return torch.autograd.grad(states["a"].sum() + 2 * states["b"].sum(), xs)

    assert_same(gradient(True), gradient(False))


def test_backward_twice():
    layers, xs = net(), torch.rand(40, 3, 4)
    loss = nd.unroll(layers, xs).mean() + layers[1].V.mean()
    first = torch.autograd.grad(loss, list(layers.parameters()), retain_graph=True)
    assert_same(torch.autograd.grad(loss, list(layers.parameters())), first)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_an_error_in_a_later_chunk(rounds):
    class Lookup(nd.Dynamics):
        r = nd.state(0.0)

        def __init__(self, size):
            super().__init__(size)
            self.register_buffer("table", torch.rand(5))

        def step(self, x, r):
            return r, 0.5 * r + self.table[x.detach().long()]

    layer, xs = Lookup(4), torch.ones(64, 3, 4)
    assert torch.equal(nd.unroll(layer, xs), nd.unroll(layer, xs, compile=False))
    assert rounds
    xs[40, 1, 2] = 7
    with pytest.raises(RuntimeError, match="out of bounds"):
        nd.unroll(layer, xs)
    step = nd.Stream(layer, xs[0])
    step(xs[0])
    step(xs[0])
    with pytest.raises(RuntimeError, match="out of bounds"):
        step(xs[40])


class Turned(nd.Dynamics):
    """Its new state is a transpose."""

    W = nd.state(0.1)

    def step(self, x, W):
        new = (0.3 * x.mT + 0.1 * W + 1e-3).contiguous().mT + 0.5 * W
        return new.sum(-1, keepdim=True) * torch.ones_like(x), new


@pytest.mark.parametrize("T", [3, 64])
def test_a_state_with_other_strides(T):
    layer, xs = Turned((4, 4)), torch.rand(T, 3, 4, 4)
    assert_same(outcome(layer, xs), outcome(layer, xs, compile=False))
    layer.reset_state(3)
    step, twin = nd.Stream(layer, xs[0]), Turned((4, 4))
    for x in xs[:3]:
        torch.testing.assert_close(step(x), twin(x), rtol=1e-12, atol=1e-12)


class OuterProduct(nd.Dynamics):
    """A small product in a loop that Inductor writes itself: it is kept for the backward pass, if there is one."""

    tau = nd.param(10 * u.ms, domain=nd.positive)
    A = nd.state(0.1)

    @property
    def input_size(self):
        return self.size[:1]

    def step(self, x, A):
        y = torch.tanh(torch.bmm(x.unsqueeze(1), A))
        return y.squeeze(1), nd.relax(A, y * x.unsqueeze(2), self.tau, self.dt)


@pytest.mark.parametrize("first", ["training", "inference"])
def test_products_with_and_without_a_backward_pass(rounds, first, no_programs):
    layer, xs = OuterProduct((5, 5), learn="tau"), torch.randn(67, 3, 5)

    def inference():
        with torch.no_grad():
            assert_same([nd.unroll(layer, xs)], [nd.unroll(layer, xs, compile=False)])

    def training():
        assert_same(outcome(layer, xs), outcome(layer, xs, compile=False))

    for check in (training, inference) if first == "training" else (inference, training):
        check()
    assert rounds


def test_a_state_of_constants_alone_is_new_each_time():
    class Constant(nd.Dynamics):
        tau = nd.param(10 * u.ms, domain=nd.positive)
        r = nd.state(0.0)

        def step(self, x, r):
            return x + r, torch.exp(-self.tau)

    layer, xs = Constant(3, tau=torch.tensor([1.0, 2.0, 3.0]) * u.ms), torch.zeros(9, 3)
    with torch.no_grad():
        wanted, states = nd.unroll(layer, xs, return_states=True)
        wanted = wanted.clone()
        states["r"].zero_()
        assert torch.equal(nd.unroll(layer, xs), wanted)
    assert wanted[-1].min() > 0


def test_a_size_that_depends_on_values():
    class Positive(nd.Dynamics):
        r = nd.state(0.0)

        def step(self, x, r):
            return r, 0.5 * r + x[x > 0].sum()

    layer, xs = Positive(4), torch.randn(19, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nd.EagerWarning)
        assert_same([nd.unroll(layer, xs)], [nd.unroll(layer, xs, compile=False)])


def test_what_a_layer_computed_with_is_not_kept_alive():
    layer, xs = nd.LIF(4, learn="tau"), torch.rand(9, 3, 4)
    with torch.no_grad():
        nd.unroll(layer, xs)
    other = (layer.raw_tau.detach().clone().requires_grad_() * 2).clone()
    seen = weakref.ref(other)
    nd.unroll(nd.Unroll(layer).module, xs)
    torch.func.functional_call(nd.Unroll(layer), {"module.raw_tau": other}, (xs,))
    nd.reset_states(layer, 3)
    del other
    gc.collect()
    assert seen() is None
