"""The states with which a module starts, and that trying a step leaves nothing behind."""

import contextlib
import copy
import random
import warnings
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u


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


TENSOR, SEEN = torch.zeros(3), []


class Writes(nn.Module):
    """Does something to tensors, containers and generators that are no states, before it reads a state or after."""

    def __init__(self, does, early):
        super().__init__()
        self.first, self.neuron, self.does, self.early = nn.Linear(3, 3), nd.LIF(3), does, early
        self.norm, self.dropout = nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros(3))
        self.held, self.inside, self.sparse = torch.zeros(3), [torch.zeros(3)], torch.eye(3).to_sparse()
        self.counts, self.order = Counter(a=1), OrderedDict(a=1, b=2)

    def forward(self, x):
        found = self.does(self, x) if self.early else 0.0
        y = self.neuron(self.first(x) + 0.1 * self.neuron.V)
        return y + (found if self.early else self.does(self, x))

    def left(self):
        """What may have been changed."""
        held = self.held.detach(), self.inside[0], self.first.weight.detach(), self.norm.running_mean, self.seen, TENSOR
        numbers = [self.counts["a"], *self.order.values(), len(SEEN), torch.rand(()), np.random.rand(), random.random()]  # noqa: NPY002
        return [value.clone() for value in (*held, self.sparse.to_dense())] + [torch.tensor(numbers)]


def adds(net, x):
    return net.held.add_(1).clone()


def assigns_a_part(net, x):
    net.held[1:] = net.held[:-1] + 1
    return net.held.clone()


def adds_inside(net, x):
    return net.inside[0].add_(1).clone()


def adds_to_a_global(net, x):
    return TENSOR.add_(1).clone()


def adds_to_a_parameter(net, x):
    with torch.no_grad():
        return net.first.weight.add_(0.1)[0].clone()


def writes_its_output(net, x):
    return torch.add(net.held, 1, out=net.held).clone()


def goes_through_data(net, x):
    net.seen.data.add_(1)
    return net.held.data.add_(1).clone()


def goes_through_an_array(net, x):
    net.held.numpy()[:] += 1
    return net.held.clone()


def sets_a_tensor(net, x):
    net.held.set_(net.held + 1)
    return net.held.clone()


def scales_a_sparse_one(net, x):
    return net.sparse.mul_(2).to_dense().sum()


def counts(net, x):
    net.counts.update("a")
    return net.counts["a"]


def moves(net, x):
    net.order.move_to_end(next(iter(net.order)))
    net.order["b"] += 1
    return net.order["b"] + 10 * (next(iter(net.order)) == "a")


def notes(net, x):
    SEEN.append(1)
    return len(SEEN)


def normalises(net, x):
    return net.norm(x)


def drops(net, x):
    return net.dropout(x) + torch.rand(3) + np.random.rand() + random.random()  # noqa: NPY002


EFFECTS = [adds, assigns_a_part, adds_inside, adds_to_a_global, adds_to_a_parameter, writes_its_output]
EFFECTS += [goes_through_data, goes_through_an_array, sets_a_tensor, scales_a_sparse_one, counts, moves, notes]
EFFECTS += [normalises, drops]


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("does", EFFECTS)
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_what_a_step_does_is_done_once_a_step(does, early):
    """Also where half a step is tried, in which a state is read that has no value yet."""
    if early and does is adds_to_a_parameter:
        pytest.skip("a parameter that is written to before a state is read, in the plain loop, is written to once more")
    torch.manual_seed(3)
    xs, first, found = 3 * torch.rand(5, 2, 3), Writes(does, early), []
    for way in ("loop", "plain", "compiled"):
        net = copy.deepcopy(first)
        TENSOR.zero_()
        SEEN.clear()
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(1)
        with torch.no_grad():
            if way == "loop":
                nd.reset_states(net, 2)
                ys = torch.stack([net(x) for x in xs])
            else:
                ys = nd.unroll(net, xs, compile=way == "compiled")
        found.append((ys, *net.left()))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_half_a_step_leaves_no_graph_behind():
    def does(net, x):
        return net.held.add_(x.sum(0) @ net.first.weight).clone()

    xs, grads = 3 * torch.rand(4, 2, 3), []
    for way in ("loop", "plain", "compiled"):
        torch.manual_seed(3)
        net = Writes(does, True)
        if way == "loop":
            nd.reset_states(net, 2)
            ys = torch.stack([net(x) for x in xs])
        else:
            ys = nd.unroll(net, xs, compile=way == "compiled")
        grads.append(torch.autograd.grad(ys.sum(), net.first.weight)[0])
    torch.testing.assert_close(grads[1], grads[0])
    torch.testing.assert_close(grads[2], grads[0])


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


def test_lazy_layers_elsewhere(unsaid, tmp_path):
    def make():
        torch.manual_seed(1)
        return nn.Sequential(nn.LazyLinear(4), nd.LIF(4))

    xs = 3 * torch.rand(8, 5)
    net = make()
    for name, call in {"explain": lambda: nd.explain(net, xs), "Stream": lambda: nd.Stream(net, xs[0])}.items():
        with pytest.raises(ValueError, match=f"{name}: LazyLinear gets its parameters in its first call"):
            call()
    with pytest.raises(TypeError, match="weight gets its values in the first call"):
        nd.save(tmp_path / "net.safetensors", net=net)
    with pytest.warns(nd.EagerWarning, match="its first call makes the parameters of LazyLinear"):
        found = nd.simulate(net, 8 * u.ms, nd.series(xs), ["output"], progress=False)["output"]
    again = nd.simulate(net, 8 * u.ms, nd.series(xs), ["output"], progress=False)["output"]
    wanted = nd.simulate(make(), 8 * u.ms, nd.series(xs), ["output"], progress=False, compile=False)["output"]
    assert torch.equal(found.values, wanted.values)
    assert torch.equal(again.values, wanted.values)


class Normalised(nn.Module):
    """Reads its own spikes of the step before, in front of batch norm and dropout."""

    def __init__(self, lazy):
        super().__init__()
        self.norm = nn.LazyBatchNorm1d() if lazy else nn.BatchNorm1d(3)
        self.first = nn.LazyLinear(3) if lazy else nn.Linear(3, 3)
        self.dropout, self.neuron = nn.Dropout(0.5), nd.LIF(3)

    def forward(self, x):
        x = self.dropout(self.norm(self.first(x)))
        return self.neuron(x + self.neuron.V)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_half_a_step_leaves_batch_norm_dropout_and_earlier_graphs_as_they_were(lazy):
    """A second call with another batch tries half a step before the backward pass of the first."""
    xs, found = 3 * torch.rand(4, 2, 3), []
    for way in ("loop", "plain", "compiled"):
        torch.manual_seed(3)
        net = Normalised(lazy and way != "loop")
        torch.manual_seed(4)
        if lazy:
            net.first = nn.LazyLinear(3) if way != "loop" else nn.Linear(3, 3)
        losses = []
        for batch in (2, 4):
            x = xs.repeat(1, batch // 2, 1)
            if way == "loop":
                nd.reset_states(net, batch)
                losses.append(torch.stack([net(step) for step in x]).sum())
            else:
                losses.append(nd.unroll(net, x, compile=way == "compiled").sum())
        grads = torch.autograd.grad(losses[0], list(net.parameters()))
        found.append([*losses, *grads, net.norm.running_mean, net.norm.num_batches_tracked])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


class Flattens(nn.Module):
    """Takes inputs of more dimensions than its neurons have."""

    def __init__(self):
        super().__init__()
        self.first, self.neuron, self.last = nn.LazyLinear(5), nd.LIF(5), nn.LazyLinear(5)

    def forward(self, x):
        return self.last(self.neuron(self.first(x.flatten(1))))


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_lazy_layers_are_made_by_no_half_step(compile):
    xs, found = torch.ones(4, 2, 1, 5), []
    for own in (True, False):
        torch.manual_seed(0)
        net = Flattens()
        if own:
            nd.reset_states(net, 2)
            ys = torch.stack([net(x) for x in xs])
        else:
            ys = nd.unroll(net, xs, compile=compile)
        found.append([ys, *net.parameters(), torch.rand(1)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert not net.first.weight.equal(net.last.weight)


class CallsSometimes(nn.Module):
    """A layer that `forward` calls only while `on` is set."""

    def __init__(self):
        super().__init__()
        self.lif = nd.LIF(3)
        self.on = True

    def forward(self, x):
        return self.lif(x) if self.on else 2 * x


@pytest.mark.parametrize("compile", [True, False])
def test_a_layer_that_is_not_called_keeps_no_state_of_an_older_batch(compile):
    net = CallsSometimes()
    first = nd.unroll(net, torch.ones(4, 2, 3), compile=compile)
    assert net.lif.batch == (2,)
    net.on = False
    for _ in range(2):  # the second call knows the batches from the first
        nd.unroll(net, torch.ones(4, 5, 3), compile=compile)
        assert not net.lif.is_set
    net.on = True
    again = nd.unroll(net, torch.ones(4, 5, 3), compile=compile)
    assert net.lif.batch == (5,)
    assert torch.equal(again[:, :2], first)


@pytest.mark.parametrize("compile", [True, False])
def test_a_recorded_state_of_a_layer_that_is_not_called_is_its_initial_one(compile):
    net = CallsSometimes()
    net.on = False
    _, trace = nd.unroll(net, torch.ones(4, 5, 3), record=["lif.V"], compile=compile)
    assert torch.equal(trace["lif.V"].values, torch.zeros(4, 5, 3))


HOOKED = []


def test_hooks_of_half_a_step_are_undone(unsaid):
    """A hook has run when the step fails that reads a state too early."""

    class Early(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.lif = nn.Linear(3, 3), nd.LIF(3)

        def forward(self, x):
            x = self.weight(x)
            return self.lif(x + self.lif.V)

    net = Early()
    net.weight.register_forward_hook(lambda module, x, y: HOOKED.append(len(x)))
    nd.unroll(net, torch.ones(4, 2, 3), compile=False)
    assert len(HOOKED) == 4
