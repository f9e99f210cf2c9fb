"""The states with which a module starts, and that trying a step leaves nothing behind."""

import contextlib
import copy
import warnings
from collections import Counter, OrderedDict

import pytest
import torch
from torch import nn

import neurodyn as nd


def test_a_batch_that_the_layer_finds_itself():
    class Own(nd.LIF):
        def batch_of(self, input):
            assert input.dim() == 3
            return super().batch_of(input)

    assert nd.unroll(Own(3), torch.rand(4, 2, 5, 3)).shape == (4, 2, 5, 3)


class Counting(nn.Module):
    """Two layers of different batches, and everything that a step could leave behind."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nd.LIF(4), nd.Expon(3)
        self.weight, self.calls, self.log = nn.Linear(4, 3), 0, []
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.log.append(1)
        self.seen += 1
        return self.b(self.weight(self.a(x)).mean(0))


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_a_tried_step_leaves_nothing_behind(compile):
    net, xs = Counting(), 3 * torch.rand(5, 2, 4)
    before = torch.get_rng_state()
    for n in (5, 10):
        nd.unroll(net, xs, compile=compile)
        assert (net.calls, len(net.log), float(net.seen)) == (n, n, n)
    assert torch.equal(torch.get_rng_state(), before)
    assert (net.a.batch, net.b.batch) == ((2,), ())


@pytest.mark.parametrize("compile", [True, False])
def test_every_layer_has_the_batch_of_its_own_input(compile):
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nd.LIF(4), nd.Expon(4)

        def forward(self, x):
            return self.b(self.a(x).mean(0))

    net = Mean()
    for batch in ((2,), (3, 5), (1,), (2,)):
        ys = nd.unroll(net, 3 * torch.rand(5, *batch, 4), compile=compile)
        assert ys.shape == (5, *batch[1:], 4)
        assert (net.a.batch, net.b.batch) == (batch, batch[1:])


@pytest.mark.parametrize("compile", [True, False])
def test_a_state_that_is_read_before_its_layer_is_called(compile):
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif, self.back = nd.LIF(4), nn.Linear(4, 4)

        def forward(self, x):
            return self.lif(x + self.back(self.lif.V))

    net = Loop()
    for batch in ((), (2,), (3, 2), (2,)):
        xs = 3 * torch.rand(5, *batch, 4)
        ys = nd.unroll(net, xs, compile=compile)
        nd.reset_states(net, *batch)
        torch.testing.assert_close(ys, torch.stack([net(x) for x in xs]))


@pytest.mark.parametrize("compile", [True, False])
def test_states_start_anew_at_every_call(compile):
    net, xs = nn.Sequential(nn.Linear(4, 4), nd.LIF(4)), 3 * torch.rand(5, 2, 4)
    first = nd.unroll(net, xs, compile=compile)
    assert torch.equal(nd.unroll(net, xs, compile=compile), first)


@pytest.mark.parametrize("compile", [True, False])
def test_an_error_of_the_first_step_is_the_users(compile):
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = nd.LIF(4)

        def forward(self, x):
            raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        nd.unroll(Wrong(), torch.rand(3, 2, 4), compile=compile)


def test_learned_and_random_initial_states_are_drawn_once():
    random = torch.Generator().manual_seed(3)
    net = nd.LIF(4, V_initializer=nd.init.Uniform(0 * nd.units.mV, 1 * nd.units.mV, random))
    with torch.no_grad():
        ys = nd.unroll(net, 3 * torch.rand(5, 2, 4))
    assert ys.shape == (5, 2, 4)


@pytest.mark.parametrize("compile", [True, False])
def test_a_misspelt_name_is_what_the_error_says(compile):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif, self.weight = nd.LIF(4), nn.Parameter(torch.ones(4))

        def forward(self, x):
            return self.lif(x * self.wieght)

    with pytest.raises(AttributeError, match="wieght"):
        nd.unroll(Net(), torch.rand(5, 2, 4), compile=compile)


class Writing(nd.Dynamics):
    """Writes to its input."""

    v = nd.state(0.0)

    def step(self, x, v):
        v = v + x.mul_(0.5)
        return v, v


class Late(nn.Module):
    """Reads a state after it has written, so that the first way to start may fail behind the write."""

    def __init__(self):
        super().__init__()
        self.first, self.last = Writing(3), nd.LIF(3)

    def forward(self, x):
        y = self.first(x)
        return self.last(y + self.last.V) + x


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("make", [lambda: nn.ModuleList([Writing(3)]), Late])
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_an_input_that_the_step_writes_to_is_written_to_once(make, compile):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make()

        def forward(self, x):
            return self.inner[0](x) if isinstance(self.inner, nn.ModuleList) else self.inner(x)

    xs = torch.rand(4, 2, 3)
    given, net = xs.clone(), Net()
    nd.unroll(net, given, compile=compile)
    assert torch.equal(given, 0.5 * xs)


TENSOR = torch.zeros(3)


class Writes(nn.Module):
    """Writes in place to tensors, or to containers with methods of their own, that are no buffers."""

    def __init__(self, does):
        super().__init__()
        self.first, self.neuron, self.does = nn.Linear(3, 3), nd.LIF(3), does
        self.held, self.inside = torch.zeros(3), [torch.zeros(3)]
        self.counts, self.order = Counter(a=1), OrderedDict(a=1, b=2)

    def forward(self, x):
        return self.neuron(self.first(x)) + self.does(self)


def adds(net):
    return net.held.add_(1).clone()


def assigns_a_part(net):
    net.held[1:] = net.held[:-1] + 1
    return net.held.clone()


def adds_inside(net):
    return net.inside[0].add_(1).clone()


def adds_to_a_global(net):
    return TENSOR.add_(1).clone()


def adds_to_a_parameter(net):
    with torch.no_grad():
        return net.first.weight.add_(0.1)[0].clone()


def writes_its_output(net):
    return torch.add(net.held, 1, out=net.held).clone()


def counts(net):
    net.counts.update("a")
    return net.counts["a"]


def moves(net):
    net.order.move_to_end(next(iter(net.order)))
    net.order["b"] += 1
    return net.order["b"] + 10 * (next(iter(net.order)) == "a")


@pytest.mark.parametrize(
    "does",
    [adds, assigns_a_part, adds_inside, adds_to_a_global, adds_to_a_parameter, writes_its_output, counts, moves],
)
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_what_is_written_in_place_is_written_once_a_step(does):
    first, xs, found = Writes(does), 3 * torch.rand(5, 2, 3), []
    for way in ("loop", "plain", "compiled"):
        net = copy.deepcopy(first)
        TENSOR.zero_()
        with torch.no_grad():
            if way == "loop":
                nd.reset_states(net, 2)
                ys = torch.stack([net(x) for x in xs])
            else:
                ys = nd.unroll(net, xs, compile=way == "compiled")
        left = net.held, net.inside[0], net.first.weight, TENSOR.clone(), torch.tensor(net.counts["a"])
        found.append((ys, *left, torch.tensor(list(net.order.values()))))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("options", [{}, {"compile": False}, {"checkpoint": 3}])
def test_the_first_call_makes_the_parameters_of_lazy_layers(options, unsaid):
    net, xs = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nd.LIF(4)), 3 * torch.rand(8, 2, 5)
    torch.manual_seed(1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ys = nd.unroll(net, xs, **options)
    assert ("checkpoint" in options) == bool(said)
    assert all("makes the parameters of Lazy" in str(w.message) and w.filename == __file__ for w in said)
    torch.manual_seed(1)
    wanted = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nd.LIF(4))
    assert torch.equal(ys, nd.unroll(wanted, xs, compile=False))
    again = nd.unroll(net, xs, **options)  # without a warning, which would be an error
    assert torch.equal(again, ys)


def test_lazy_layers_inside_another_module(unsaid):
    class Own(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.first, self.neuron = kind, nd.LIF(4)

        def forward(self, x):
            return self.neuron(self.first(x))

    xs, found = 3 * torch.rand(8, 2, 5), []
    for first in (lambda: nn.LazyLinear(4), lambda: nn.Linear(5, 4)):
        torch.manual_seed(1)
        net = Own(first())
        with contextlib.ExitStack() as said:
            if isinstance(net.first, nn.LazyLinear):
                match = "its first call makes the parameters of LazyLinear; later ones are compiled"
                said.enter_context(pytest.warns(nd.EagerWarning, match=match))
            first_call = nd.unroll(net, xs)
        found.append((first_call, nd.unroll(net, xs)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
