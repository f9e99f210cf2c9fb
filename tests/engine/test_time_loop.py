"""A program over a whole sequence: tensors of their own, what autograd may do with it, inputs that lie in any way."""

import pytest
import torch
from paths import assert_as_plain, assert_equal, assert_same, chain, outcome
from torch import nn
from torch.autograd import forward_ad

import neurodyn as nd
from neurodyn import units as u


class Input(nd.Dynamics):
    """Its states are what came in, and a view of it."""

    a = nd.state(0.0)
    b = nd.state(0.0)

    def step(self, x, a, b):
        return x + a + b, x, x.view_as(x)


@pytest.mark.kernels
@pytest.mark.parametrize("layer", [nd.Delay(64, 2 * u.ms), Input(64)], ids=["delay", "views"])
def test_states_that_were_inputs_keep_their_values(layer, monkeypatch):
    monkeypatch.setattr("neurodyn.engine.time_loop.LARGE", 0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), layer, nd.LIF(64), nn.Linear(64, 3)).float()
    xs = (torch.rand(20, 4, 64) < 0.3).float()
    ys, states = nd.unroll(net, xs.requires_grad_(), return_states=True)
    before = {name: value.detach().clone() for name, value in states.items()}
    _, wanted = nd.unroll(net, xs, return_states=True, compile=False)
    ys.sum().backward()
    for name, value in states.items():
        assert torch.equal(value, before[name])
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-5)
        assert value.untyped_storage().nbytes() == value.nbytes


def test_states_of_a_stream_that_were_inputs_keep_their_values():
    layer, x = Input(64), torch.rand(64)
    stream = nd.Stream(layer, x)
    stream(x)
    kept = x.clone()
    x.zero_()
    assert_equal([layer.a, layer.b], [kept, kept])


def test_a_state_that_stays_as_it_was_is_not_the_one_that_was_given():
    class Held(nd.Dynamics):
        a = nd.state(0.0)
        b = nd.state(0.0)

        def step(self, x, a, b):
            return x + a, a, b + x

    given = {"a": torch.rand(2, 3), "b": torch.zeros(2, 3)}
    with torch.no_grad():
        _, states = nd.unroll(Held(3), torch.rand(9, 2, 3), states=given, return_states=True)
    kept = states["a"].clone()
    given["a"].zero_()
    assert torch.equal(states["a"], kept)


class Settled(nd.Dynamics):
    """A state and outputs without a derivative."""

    V = nd.state(0.0)
    count = nd.state(0.0)

    def step(self, x, V, count):
        V = 0.5 * V + x
        return (V, V > 1, V.detach()), V, count + (V.detach() > 1)


def test_outputs_and_states_without_gradients():
    net, xs = Settled(3), torch.rand(9, 2, 3, requires_grad=True)
    found, wanted = (nd.unroll(net, xs, compile=compile, return_states=True) for compile in (True, False))
    for ys, states in (found, wanted):
        assert [value.requires_grad for value in (*ys, states["V"])] == [True, False, False, True]
    assert_same([y.double().detach() for y in found[0]], [y.double().detach() for y in wanted[0]])
    assert_same([s.detach() for s in found[1].values()], [s.detach() for s in wanted[1].values()])
    weight = torch.rand(9, 2, 3)
    grads = [torch.autograd.grad((ys[0] * weight).sum(), xs)[0] for ys, _ in (found, wanted)]
    assert_same(grads[:1], grads[1:])


def test_a_gradient_of_one_final_state():
    net, xs = chain(), torch.rand(9, 2, 5)
    found, wanted = (nd.unroll(net, xs, return_states=True, compile=c)[1] for c in (True, False))

    def grads(state):
        found = torch.autograd.grad(state.sum(), list(net.parameters()), allow_unused=True, retain_graph=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(net.parameters(), found, strict=True)]

    assert [s.requires_grad for s in found.values()] == [s.requires_grad for s in wanted.values()]
    for name in found:
        if found[name].requires_grad:
            assert_same(grads(found[name]), grads(wanted[name]))


LAYOUTS = {
    "transposed": lambda xs: xs.transpose(0, 2).contiguous().transpose(0, 2),
    "expanded": lambda xs: xs[:1].expand(len(xs), -1, -1),
    "every second": lambda xs: xs.repeat_interleave(2, 0)[::2],
    "flipped": lambda xs: xs.flip(0),
    "at an odd address": lambda xs: torch.cat([xs.new_zeros(1), xs.flatten()])[1:].view_as(xs),
    "negative": lambda xs: torch.complex(xs, -xs).conj().imag,
}


@pytest.mark.kernels
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_inputs_that_lie_in_any_way(layout):
    net, xs = nd.LIF(3, learn=("tau", "V_th")), 3 * torch.rand(9, 2, 3)
    laid = layout(xs)
    assert_same([nd.unroll(net, laid).detach()], [nd.unroll(net, laid.clone(), compile=False).detach()])
    found = torch.autograd.grad(nd.unroll(net, laid).sum(), list(net.parameters()))
    assert_same(found, torch.autograd.grad(nd.unroll(net, laid.clone(), compile=False).sum(), list(net.parameters())))


@pytest.mark.kernels
def test_gradients_that_lie_in_any_way():
    net, xs, weight = nd.Expon(3, learn="tau"), torch.rand(9, 2, 3), torch.rand(3, 2, 9)
    negative = torch.complex(weight, weight).conj().imag
    for grad in (weight.permute(2, 1, 0), torch.ones(()).expand(9, 2, 3), negative.permute(2, 1, 0)):
        found, wanted = (nd.unroll(net, xs, compile=compile) for compile in (True, False))
        found = torch.autograd.grad(found, list(net.parameters()), grad)
        assert_same(found, torch.autograd.grad(wanted, list(net.parameters()), grad.clone()))


@pytest.mark.parametrize("T", [1, 2, 3, 8, 9, 23])
def test_a_batch_of_none_and_one(T):
    net = nn.Sequential(nd.Expon(3, learn="tau"), nd.LIF(3, learn="tau"))
    for batch in ((), (1,), (2, 1)):
        assert_as_plain(net, 3 * torch.rand(T, *batch, 3))


def test_an_empty_batch():
    net, xs = nn.Sequential(nd.Expon(3, learn="tau"), nd.LIF(3, learn="tau")), torch.rand(9, 0, 3)
    assert nd.unroll(net, xs).shape == nd.unroll(net, xs, compile=False).shape == xs.shape


def test_second_derivatives_are_refused():
    xs = torch.rand(5, 2, 4, requires_grad=True)
    ys = nd.unroll(nd.Expon(4), xs)
    with pytest.raises(RuntimeError, match="compile=False"):
        torch.autograd.grad(ys.sum(), xs, create_graph=True)
    ys = nd.unroll(nd.Expon(4, learn="tau"), xs, compile=False).square()
    (grad,) = torch.autograd.grad(ys.sum(), xs, create_graph=True)
    torch.autograd.grad(grad.sum(), xs)


def test_forward_derivatives_are_refused():
    net, xs = nd.Expon(4), torch.rand(5, 2, 4)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(xs, torch.ones_like(xs))
        with pytest.raises(RuntimeError, match="no forward derivatives; use unroll"):
            nd.unroll(net, dual)
        tangent = forward_ad.unpack_dual(nd.unroll(net, dual, compile=False)).tangent
    assert tangent.abs().sum() > 0


def test_learned_initial_states():
    net, xs = nn.Sequential(nn.Linear(5, 4), nd.LIF(4, learn="V_initializer")), 3 * torch.rand(9, 2, 5)
    assert_as_plain(net, xs)
    assert outcome(net, xs)[-1].abs().sum() > 0


class Unheard(nn.Module):
    """Its output depends neither on `first` nor on `weight`."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nd.LIF(3, learn="tau"), nd.Expon(3, learn="tau")
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        self.first(x) * self.weight
        return self.second(x)


@pytest.mark.parametrize("T", [1, 5])
def test_a_tensor_without_a_path_to_the_loss_has_no_gradient_and_its_hook_does_not_run(T):
    grads = []
    for compile in (False, True):
        net, called = Unheard(), []
        for name, parameter in net.named_parameters():
            parameter.register_hook(lambda grad, name=name, called=called: called.append(name) or 2 * grad)
        nd.unroll(net, torch.ones(T, 2, 3), compile=compile).sum().backward()
        assert called == ["second.raw_tau"]
        assert net.weight.grad is None
        assert net.first.raw_tau.grad is None
        grads.append(net.second.raw_tau.grad)
    assert_same([grads[1]], [grads[0]])


class TwoHeads(nn.Module):
    """Two outputs that share nothing."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 4), nd.Expon(4, learn="tau"))
        self.second = nn.Sequential(nn.Linear(3, 4), nd.Expon(4, learn="tau"))

    def forward(self, x):
        return self.first(x), self.second(x)


LOSSES = {
    "one output": lambda net, ys: ys[0].sum(),
    "the other": lambda net, ys: ys[1].square().sum(),
    "both": lambda net, ys: (ys[0] * ys[1]).sum(),
    "a final state": lambda net, states: states["second.1.g"].sum(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_the_loss_does_not_depend_on_has_no_gradient(name):
    net, xs, found = TwoHeads(), torch.rand(5, 2, 3), []
    for compile in (True, False):
        net.zero_grad()
        results = nd.unroll(net, xs, compile=compile, return_states=True)
        LOSSES[name](net, results[name == "a final state"]).backward()
        found.append({key: p.grad for key, p in net.named_parameters()})
    compiled, wanted = found
    assert {key for key, grad in compiled.items() if grad is None} == {k for k, g in wanted.items() if g is None}
    for key, grad in wanted.items():
        if grad is not None:
            torch.testing.assert_close(compiled[key], grad)


class Late(nn.Module):
    """Gives what came in two steps ago."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nd.Delay(3, 1 * u.ms), nd.Delay(3, 1 * u.ms)
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.second(self.first(self.weight * x))


@pytest.mark.parametrize("T", [1, 2, 3, 5])
def test_what_has_not_come_out_yet_has_no_gradient(T):
    found, values = [], torch.rand(T, 2, 3)
    for compile in (True, False):
        net, xs = Late(), values.clone().requires_grad_()
        ys = nd.unroll(net, xs, compile=compile)
        if ys.requires_grad:
            ys.sum().backward()
        found.append((net.weight.grad, xs.grad))
    (weight, x), (wanted_weight, wanted_x) = found
    if T <= 2:
        assert weight is None
        assert wanted_weight is None
        assert (x is None) == (wanted_x is None)
    else:
        torch.testing.assert_close(weight, wanted_weight)
        torch.testing.assert_close(x, wanted_x)


@pytest.mark.parametrize("edited", ["weight", "xs"])
@pytest.mark.parametrize("compile", [True, False])
def test_a_tensor_that_is_not_contiguous_may_not_be_written_to_before_the_backward_pass(edited, compile):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif, self.weight = nd.LIF(3), nn.Parameter(torch.rand(3, 3).t())

        def forward(self, x):
            return self.lif(x @ self.weight)

    net, xs = Net(), torch.rand(2, 5, 3).transpose(0, 1)
    xs.requires_grad_()
    ys = nd.unroll(net, xs, compile=compile)
    with torch.no_grad():
        (net.weight if edited == "weight" else xs).mul_(2)
    with pytest.raises(RuntimeError, match=r"in.?place"):
        ys.sum().backward()


def test_a_hook_is_given_a_tensor():
    net, seen = TwoHeads(), []
    for p in net.parameters():
        p.register_hook(lambda grad: seen.append(grad.clamp(-1, 1)))
    nd.unroll(net, torch.rand(5, 2, 3))[0].sum().backward()
    assert len(seen) == 6
