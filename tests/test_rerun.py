"""A pass that is run again for other tensors, from initial states that are known, gives what the eager loop gives."""

import gc
import weakref

import pytest
import torch
from test_replay import Difference, OuterProduct, net
from test_unroll import assert_same, outcome
from torch import nn
from torch._subclasses import FakeTensorMode

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import rerun, store

pytestmark = pytest.mark.usefixtures("no_programs")


@pytest.fixture
def again(monkeypatch):
    """For each pass that was run again, how many stretches it had."""
    found, call = [], rerun.Rerun.__call__

    def called(self, *arguments):
        found.append(len(self.sweeps))
        return call(self, *arguments)

    monkeypatch.setattr(rerun.Rerun, "__call__", called)
    return found


def check(layers, *inputs, **options):
    for xs in inputs:
        assert_same(outcome(layers, xs, **options), outcome(layers, xs, compile=False))


@pytest.mark.usefixtures("long_chunks")
@pytest.mark.parametrize(("T", "stretches"), [(1, 1), (7, 1), (8, 1), (16, 1), (21, 2)])
def test_other_tensors(again, T, stretches):
    layers = net()
    check(layers, *(2 * torch.rand(4, T, 3, 4)))
    assert again == [stretches] * 2 * 2  # forward and backward, at the third and the fourth call
    with torch.no_grad():
        layers[0].raw_tau += 0.1
    check(layers, *(2 * torch.rand(T, batch, 4) for batch in (3, 5, 5, 5)))


@pytest.mark.parametrize("kind", [OuterProduct, nd.LIF, nd.MorrisLecar])
def test_products_and_fixed_parameters(again, kind):
    layers = kind((5, 5) if kind is OuterProduct else 5)
    check(layers, *(5 * torch.randn(4, 19, 3, 5)))
    assert again


def test_without_gradients(again):
    layers, inputs = net(), 2 * torch.rand(4, 21, 3, 4)
    for xs in inputs:
        with torch.no_grad():
            assert_same([nd.unroll(layers, xs)], [nd.unroll(layers, xs, compile=False)])
    assert again == [2, 2]


@pytest.mark.parametrize("shared", [True, False])
def test_inputs_that_share_their_memory(again, shared):
    """What was learned from two tensors holds for one at both places; from one, nothing is learned."""
    layer, xs = Difference(), torch.rand(65, 3, 4)
    pairs = [(xs[1:], xs[1:]), (xs[1:], xs[:-1]), (xs[:-1], xs[:-1])]
    pairs = pairs if shared else [(xs[1:], torch.rand(64, 3, 4)), (xs[1:], torch.rand(64, 3, 4)), *pairs]
    for pair in pairs:
        assert torch.equal(nd.unroll(layer, pair), nd.unroll(layer, pair, compile=False))
    assert bool(again) != shared


def test_gradients_that_are_the_input(again):
    layer, xs = nd.LIF(4), torch.rand(16, 3, 4, requires_grad=True)
    for _ in range(2):
        for gradient in (xs.detach(), xs.detach(), torch.rand(16, 3, 4), torch.rand(16, 3, 4), xs.detach()):
            found, wanted = (
                torch.autograd.grad(nd.unroll(layer, xs, compile=way), xs, gradient)[0] for way in (True, False)
            )
            assert torch.equal(found, wanted)


def test_results_are_nobody_elses(again):
    layer, xs = nd.LIF(4), torch.rand(16, 3, 4)
    ys = [nd.unroll(layer, xs, return_states=True) for _ in range(4)]
    wanted = [value.clone() for y, states in ys[1:] for value in (y, *states.values())]
    ys[0][0].zero_()
    ys[0][1]["V"].zero_()
    assert again
    assert_same([value for y, states in ys[1:] for value in (y, *states.values())], wanted, 0)


def test_nothing_is_kept_alive(again):
    layer, xs = nd.LIF(4), torch.rand(16, 3, 4, requires_grad=True)
    for _ in range(3):
        xs.grad, ys = None, nd.unroll(layer, xs)
        ys.sum().backward()
    assert again
    seen = [weakref.ref(tensor.untyped_storage()) for tensor in (xs, xs.grad, ys, layer.V)]
    layer.unset_state()
    del xs, ys
    gc.collect()
    assert not any(storage() for storage in seen)


def test_many_shapes(monkeypatch, again):
    monkeypatch.setattr(rerun, "_KEPT", 4)
    monkeypatch.setattr(store, "_KEPT", 2)
    layer = nd.LIF(4)
    for batches in ((1, 2), (1, 2), (1, 2), (1, 2, 3), (1, 2, 3)):
        check(layer, *(torch.rand(16, batch, 4) for batch in batches))
    assert again[:4] == [1] * 4


@pytest.mark.parametrize("change", ["in place", "behind autograd", "another tensor"])
def test_initial_values_that_change(change):
    layer, xs = nd.LIF(4), torch.rand(9, 3, 4)
    check(layer, xs, xs)
    if change == "in place":
        layer.V_initializer += 0.4
    elif change == "behind autograd":
        layer.V_initializer.data.fill_(0.4)
    else:
        layer.V_initializer = torch.full((4,), 0.4)
    nd.unroll(layer, xs[:1])
    before = layer.V.clone()
    layer.reset_state(3)
    layer(xs[0])
    assert_same([before], [layer.V])
    check(layer, xs, xs)


def test_initial_states_are_the_same_whatever_was_done_with_states():
    layer, xs = nd.LIF(4), torch.rand(9, 3, 4)
    wanted = nd.unroll(layer, xs)
    for spoil in (lambda: layer.V.add_(1), lambda: layer.reset_state(5), layer.unset_state, layer.double):
        spoil()
        assert torch.equal(nd.unroll(layer, xs), wanted)


def test_known_under_inference_mode_and_used_in_training():
    layer, xs = nd.LIF(4), torch.rand(9, 3, 4)
    with torch.inference_mode():
        nd.unroll(layer, xs)
        nd.unroll(layer, xs)
    check(layer, xs, xs)


def test_random_initial_states_are_drawn_once():
    class Random(nd.LIF):
        def reset_state(self, *batch):
            super().reset_state(*batch)
            self.V = torch.rand(*batch, *self.size)

    layer, xs = Random(4), torch.rand(9, 3, 4)
    for _ in range(3):
        torch.manual_seed(0)
        found = nd.unroll(layer, xs), torch.rand(1)
        torch.manual_seed(0)
        assert_same(found, [nd.unroll(layer, xs, compile=False), torch.rand(1)])


def test_an_input_left_over_from_a_transform():
    layer, xs, left = nd.LIF(4, learn="tau"), torch.rand(9, 3, 4), []

    def keep(x):
        left.append(x)
        return x.sum()

    torch.func.grad(keep)(xs)
    assert torch.equal(nd.unroll(layer, left[0]), nd.unroll(layer, xs, compile=False))


def test_initial_values_with_other_strides():
    layer = nd.LIF((4, 5), V_initializer=torch.rand(5, 4).T * u.mV)
    check(layer, *(torch.rand(9, batch, 4, 5) for batch in (1, 3, 3)))


def test_initial_values_that_are_marked_as_negative():
    layer, xs = nd.LIF(4), torch.rand(9, 3, 4)
    for value in (torch.tensor(0.5), torch.tensor(0.5j).conj().imag, torch.tensor(0.5)):
        layer.V_initializer = value
        check(layer, xs, xs)


def test_an_input_that_is_marked_as_negative():
    xs = torch.complex(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)).conj().imag
    assert xs.is_contiguous()
    assert torch.equal(nd.unroll(nd.Expon(1), xs), nd.unroll(nd.Expon(1), xs, compile=False))


def test_a_reset_that_changes_more_than_states():
    class Noisy(nd.LIF):
        def __init__(self, size):
            super().__init__(size)
            self.register_buffer("noise", torch.zeros(self.size))
            self.gain = 1.0

        def reset_state(self, *batch):
            super().reset_state(*batch)
            self.noise, self.gain = torch.rand(self.size), (1.0, 2.0)[int(torch.randint(2, ()))]

        def step(self, x, V):
            return super().step(self.gain * x + self.noise, V)

    xs = torch.rand(9, 3, 4)
    layer, twin = Noisy(4), Noisy(4)
    for seed in range(8):
        torch.manual_seed(seed)
        found = nd.unroll(layer, xs)
        torch.manual_seed(seed)
        assert torch.equal(found, nd.unroll(twin, xs, compile=False))


def test_another_default_device():
    layer, xs = nd.LIF(4), torch.rand(9, 3, 4)
    wanted = nd.unroll(layer, xs)
    other = xs[:, :2].clone()
    with torch.device("meta"):
        for batch in (other, other, xs, xs):
            assert torch.equal(nd.unroll(layer, batch), wanted[:, : batch.shape[1]])


def test_an_unroll_inside_a_step():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.outer, self.inner = nd.LIF(4), nd.LIF(4)

        def forward(self, x):
            return self.outer(x + nd.unroll(self.inner, torch.stack([x, 2 * x]))[1])

    layer = Nested()
    nd.unroll(layer.inner, torch.rand(2, 3, 4))
    with pytest.warns(nd.EagerWarning, match="unroll is called where tensors have no values"):
        check(layer, 2 * torch.rand(19, 3, 4))
    check(layer, 2 * torch.rand(19, 3, 4))
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(RuntimeError, match="compile=False"):
        nd.unroll(layer.inner, torch.rand(2, 3, 4))
