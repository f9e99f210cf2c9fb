"""`unroll(checkpoint=n)`: the same numbers, from less memory."""

import contextlib
import copy
import itertools
import pickle
import random
import types
import warnings

import numpy as np
import pytest
import torch
from composed import composed, inputs
from paths import Composite, assert_same, chain, outcome
from torch import nn
from torch.func import functional_call

import neurodyn as nd
from neurodyn import units as u
from neurodyn.loop.checkpointed import rows


@pytest.mark.parametrize("make", [chain, Composite, composed])
def test_same_numbers(make):
    net, xs = make(), inputs(31, 3)
    assert_same(outcome(net, xs, checkpoint=9), outcome(net, xs))


def test_learned_initial_states():
    net, xs = nn.Sequential(nn.Linear(5, 4), nd.LIF(4, learn="V_initializer")), inputs(20, 3)
    found = outcome(net, xs, checkpoint=6)
    assert_same(found, outcome(net, xs))
    assert found[-1].abs().sum() > 0


def test_final_states_and_a_second_backward_pass():
    net, xs = chain(), inputs(20, 2)
    ys = nd.unroll(net, xs, checkpoint=6)
    final = {name: value.clone() for name, value in nd.get_states(net).items()}
    first = torch.autograd.grad(ys.sum(), list(net.parameters()), retain_graph=True)
    assert_same(torch.autograd.grad(ys.sum(), list(net.parameters())), first)
    assert all(torch.equal(final[name], value) for name, value in nd.get_states(net).items())


def test_batch_norm_keeps_its_statistics():
    """It takes them from all steps, and counts them once."""

    def make():
        return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nd.LIF(4), nn.Linear(4, 3), nd.LIF(3))

    a, xs = make(), inputs(20, 3)
    b = make()
    b.load_state_dict(a.state_dict())
    assert [len(row) for row in rows(a, False)] == [1, 1, 3]
    assert_same(outcome(a, xs, checkpoint=6), outcome(b, xs))
    assert torch.equal(a[1].running_mean, b[1].running_mean)
    assert [len(row) for row in rows(a.eval(), False)] == [5]


def test_records():
    net, xs = chain(), inputs(20, 2)
    ys, found = nd.unroll(net, xs, checkpoint=6, record=("3.V", "1"))
    wanted_ys, wanted = nd.unroll(net, xs, record=("3.V", "1"))
    assert torch.equal(ys, wanted_ys)
    for name in ("3.V", "1"):
        assert torch.equal(found[name].values, wanted[name].values)
    gradients = [torch.autograd.grad(r["3.V"].values.sum(), net[0].weight)[0] for r in (found, wanted)]
    assert_same(gradients[:1], gradients[1:])


def test_dropout_is_drawn_once():
    net, xs = nn.Sequential(nn.Linear(5, 4), Drops(), nd.LIF(4)), inputs(20, 3)
    found = []
    for checkpoint in (None, 6):
        torch.manual_seed(3)
        loss = nd.unroll(net, xs, checkpoint=checkpoint, compile=False).square().sum()
        found.append([loss, *torch.autograd.grad(loss, net.parameters()), torch.rand(1)])
    assert_same(*found)


class Drops(nd.Dynamics):
    """Draws in each step, with a state, so that it is not run on all steps at once."""

    u = nd.state(0.0)

    def __init__(self):
        super().__init__(4)

    def step(self, x, u):
        y = nn.functional.dropout(x, 0.5)
        return y, 0.5 * u + y


def test_memory_between_the_layers_is_not_kept():
    kept = []

    def pack(tensor):
        kept.append(tensor.untyped_storage())
        return tensor

    def size(**options):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            ys = nd.unroll(net, xs, **options)
        assert ys.requires_grad
        return sum({storage.data_ptr(): storage.nbytes() for storage in kept}.values())

    net, xs = nn.Sequential(nn.Linear(5, 4), nd.Expon(4), nn.Linear(4, 6), nd.LIF(6)), inputs(1600, 3)
    size()
    assert size(checkpoint=40) < 1.2 * xs.nbytes < size() / 2


def test_other_statistics_are_kept_once():
    def normed():
        return nn.Sequential(nn.InstanceNorm1d(4, track_running_stats=True), nd.LIF((4, 7)))

    def spectral():
        return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(5, 4)), nd.LIF(4))

    for make, xs in ((normed, torch.rand(20, 3, 4, 7)), (spectral, inputs(20, 3))):
        a = make()
        b = copy.deepcopy(a)
        assert torch.equal(nd.unroll(a, xs, checkpoint=6), nd.unroll(b, xs))
        assert all(torch.equal(one, other) for one, other in zip(a.buffers(), b.buffers(), strict=True))


def test_changes_in_place_before_the_backward_pass_are_noticed():
    changes = (
        lambda net, xs: xs.zero_(),
        lambda net, xs: net[0].weight.mul_(2),
        lambda net, xs: net.eval(),
        lambda net, xs: setattr(net[0], "gain", 2.0),
    )
    for change in changes:
        net, xs = chain(), inputs(20, 2)
        loss = nd.unroll(net, xs, checkpoint=6).sum()
        with torch.no_grad():
            change(net, xs)
        with pytest.raises(RuntimeError, match="has changed since they were first computed"):
            loss.backward()


def test_inside_other_transformations():
    net, xs = nn.Sequential(nn.Linear(5, 4), nd.LIF(4)), inputs(6, 2)
    wanted = nd.unroll(net, xs)
    compiled = torch.compile(lambda xs: nd.unroll(net, xs, checkpoint=2), backend="aot_eager")
    assert_same([compiled(xs).detach()], [wanted.detach()])
    slope = torch.func.grad(lambda xs: nd.unroll(net, xs, checkpoint=2).sum())(xs)
    xs.requires_grad_()
    assert_same([slope], torch.autograd.grad(nd.unroll(net, xs).sum(), xs))


@pytest.mark.parametrize("checkpoint", [1, 5, 100])
def test_without_gradients(checkpoint):
    net, xs = chain(), inputs(11, 2)
    with torch.no_grad():
        assert_same([nd.unroll(net, xs, checkpoint=checkpoint)], [nd.unroll(net, xs, compile=False)])


def test_frozen_parameters_in_front():
    net, xs = chain(), inputs(11, 2)
    net[0].requires_grad_(False)
    wanted = [p for p in net.parameters() if p.requires_grad]
    found, other = (nd.unroll(net, xs, **how).square().sum() for how in ({"checkpoint": 4}, {}))
    assert_same(torch.autograd.grad(found, wanted), torch.autograd.grad(other, wanted))


class Forgetful(nd.Dynamics):
    """Its state does not enter what comes after, so that it has no gradient."""

    p = nd.state(0.2)

    def step(self, x, p):
        y = x * x.mean()
        return y, y


@pytest.mark.parametrize("fails", [False, True])
def test_a_block_is_recomputed_as_it_was_run(fails, monkeypatch, no_programs, unsaid):
    """Also when the first run of the program fails, so that nothing of it counts among the saved tensors."""
    if fails:
        monkeypatch.setattr("neurodyn.engine.program.backward_graph", None)
    net, xs = nn.Sequential(Forgetful(3)), torch.rand(5, 5, 3, requires_grad=True)
    with pytest.warns(nd.EagerWarning) if fails else contextlib.nullcontext():
        ys = nd.unroll(net, xs, checkpoint=3)
    (grad,) = torch.autograd.grad(ys.sum(), xs)
    (wanted,) = torch.autograd.grad(nd.unroll(net, xs, compile=False).sum(), xs)
    assert torch.allclose(grad, wanted, rtol=1e-12)


class Counts(nn.Module):
    """A neuron around which a step changes what `kind` says."""

    def __init__(self, kind):
        super().__init__()
        self.weight, self.neuron, self.kind = nn.Parameter(torch.rand(5, 5)), nd.LIF(5), kind
        self.register_buffer("gain", torch.ones(5))
        self.n, self.generator, self.seen = 0, torch.Generator().manual_seed(3), []
        self.plain = torch.ones(5)
        if kind == "iterator":
            self.count = itertools.count(1)

    def forward(self, x):
        x, factor = x @ self.weight, 1.0
        if self.kind == "counter":
            self.n += 1
            factor = 1.0 + self.n
        elif self.kind == "list":
            self.seen.append(1)
            factor = 1.0 + len(self.seen)
        elif self.kind == "assigned buffer":
            self.gain = 1.1 * self.gain
            factor = self.gain
        elif self.kind == "buffer in place":
            factor = self.gain.clone()
            self.gain += 0.1
        elif self.kind == "tensor in place":
            factor = self.plain.clone()
            self.plain += 0.1
        elif self.kind == "data":
            factor = self.plain.clone()
            self.plain.data += 0.1
        elif self.kind == "data of a parameter":
            self.weight.data *= 1.1
        elif self.kind == "iterator":
            factor = next(self.count)
        elif self.kind == "numpy":
            factor = np.random.rand()  # noqa: NPY002
        elif self.kind == "random":
            factor = random.random()
        elif self.kind == "generator":
            factor = torch.rand(5, generator=self.generator)
        elif self.kind == "helper":
            factor = helped()
        elif self.kind == "global":
            SEEN.append(1)
            factor = 1.0 + len(SEEN)
        return self.neuron(x * factor)


SEEN = []
OTHER = types.ModuleType("a_module_of_the_user")
OTHER.count = 0


def helped(seen=[]):  # noqa: B006
    """Counts in its default argument; the function that it calls in another module."""
    seen.append(1)
    counted()
    return 1.0 + len(seen) + OTHER.count


def counted():
    OTHER.count += 1


KINDS = "counter,list,assigned buffer,buffer in place,tensor in place,data,data of a parameter".split(",")
KINDS += ["iterator", "numpy", "random", "generator", "global", "helper"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_step_changes_is_changed_once(kind, unsaid):
    """The gradients are those of a loop without blocks, and nothing happens a second time in the backward pass."""
    xs, found = inputs(20, 3), []
    for checkpoint in (None, 6):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        SEEN.clear()
        helped.__defaults__[0].clear()
        OTHER.count = 0
        net = Counts(kind)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            loss = nd.unroll(net, xs, checkpoint=checkpoint, compile=False).sum() + 0 * net.weight.sum()
        assert len(said) == (checkpoint is not None)
        loss.backward()
        counts = net.n, len(net.seen), len(SEEN), OTHER.count, random.random(), np.random.rand()  # noqa: NPY002
        left = [torch.tensor(float(n)) for n in counts]
        found.append([loss.detach(), net.weight.grad, net.gain, *left])
    assert_same(*found)


def test_hooks_are_called_once(unsaid):
    net, calls = nn.Sequential(nn.Linear(5, 4), nd.LIF(4)), []
    net[1].register_forward_hook(lambda *call: calls.append(1))
    with pytest.warns(nd.EagerWarning, match="keeps all steps"):
        nd.unroll(net, inputs(20, 3), checkpoint=6, compile=False).sum().backward()
    assert len(calls) == 20


def test_parameters_are_those_of_the_forward_pass():
    """Also if they were only lent, or have been replaced since."""
    net, xs = nn.Sequential(nn.Linear(5, 4), nd.LIF(4)), inputs(20, 3)
    weight = torch.rand(4, 5, requires_grad=True)
    lent = [
        torch.autograd.grad(
            functional_call(nd.Unroll(net, compile=False, checkpoint=n), {"module.0.weight": weight}, xs).sum(), weight
        )
        for n in (None, 6)
    ]
    assert_same(*lent)
    held = net[0].weight
    wanted = torch.autograd.grad(nd.unroll(net, xs).sum(), held)
    loss = nd.unroll(net, xs, checkpoint=6).sum()
    net[0].weight = nn.Parameter(torch.zeros(4, 5))
    assert_same(torch.autograd.grad(loss, held), wanted)


def test_random_numbers_may_be_drawn_before_the_backward_pass():
    """As the next batch is: no step has drawn any."""
    net, xs = chain(), inputs(20, 2)
    wanted = torch.autograd.grad(nd.unroll(net, xs).sum(), list(net.parameters()))
    for compile in (False, True):
        loss = nd.unroll(net, xs, checkpoint=6, compile=compile).sum()
        random.random()
        np.random.rand()  # noqa: NPY002
        assert_same(torch.autograd.grad(loss, list(net.parameters())), wanted)


class Holds(nn.Module):
    """A pure step that reads an array, a size and a table."""

    def __init__(self):
        super().__init__()
        self.order, self.size, self.table = np.array([4, 2, 0, 1, 3]), (5, (2, 3)), {"gain": 2.0}
        self.first, self.neuron = nn.Linear(5, 5), nd.LIF(5)

    def forward(self, x):
        self.size = (5, (2, 3))  # as it was
        return self.neuron(self.first(x) * float(self.order[1]) * self.table["gain"])


def delayed():
    random = torch.Generator().manual_seed(2)
    return nn.Sequential(
        nn.Linear(5, 5), nd.FixedProb(5, 5, 0.6, weight=0.5, delay=3 * u.ms, generator=random), nd.LIF(5)
    )


@pytest.mark.parametrize(
    "make", [Holds, delayed, lambda: nn.Sequential(nn.Linear(5, 5), nd.FixedDropout(5), nd.LIF(5))]
)
@pytest.mark.parametrize("steps", [1, 6])
def test_pure_networks_are_computed_again_without_a_word(make, steps):
    """Also new ones, and what a hook notes in the backward pass is no change."""
    xs, found = inputs(20, 3), []
    for options in ({}, {"checkpoint": steps}, {"checkpoint": steps, "compile": False}):
        torch.manual_seed(4)
        net, seen = make(), []
        layer = next(m for m in net.modules() if isinstance(m, nn.Linear))
        layer.weight.register_hook(lambda grad, seen=seen: seen.append(1))
        torch.manual_seed(5)
        loss = nd.unroll(net, xs, **options).sum()
        found.append([loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))])
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


class Late(nn.Module):
    """Assigns a buffer in its later steps only."""

    def __init__(self):
        super().__init__()
        self.neuron, self.first = nd.LIF(5), nn.Linear(5, 5)
        self.register_buffer("gain", torch.ones(()))

    def forward(self, x):
        y = self.neuron(self.first(x)) * self.gain
        if bool(x.sum() > 1e6):
            self.gain = self.gain + 1
        return y


@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_a_buffer_that_a_later_block_assigns_is_told():
    net, xs = Late(), inputs(20, 2)
    xs[15] = 1e6
    with pytest.raises(RuntimeError, match=r"a step assigns gain, which no step of the first block did"):
        nd.unroll(net, xs, checkpoint=6)


@pytest.mark.parametrize("change", [lambda w: w.data.mul_(2), lambda w: np.multiply(w.data.numpy(), 2, w.data.numpy())])
def test_a_change_that_leaves_the_version_as_it_is_is_noticed(change):
    net, xs = chain(), inputs(20, 2)
    loss = nd.unroll(net, xs, checkpoint=6).sum()
    change(net[0].weight)
    with pytest.raises(RuntimeError, match="has changed since they were first computed"):
        loss.backward()


STEPS = [0]  # a global variable with the name of an attribute below


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.STEPS, self.first, self.neuron = 1.0, nn.Linear(5, 5), nd.LIF(5)

    def forward(self, x):
        return self.neuron(self.first(x) * self.STEPS)


def test_an_attribute_is_no_global_variable_of_its_name(unsaid):
    net = Named()
    loss = nd.unroll(net, inputs(20, 2), checkpoint=6).sum()
    STEPS[0] += 1
    loss.backward()
    assert net.first.weight.grad.abs().sum() > 0


def test_weights_in_another_order_are_seen():
    net, xs = nn.Sequential(nn.Linear(3, 4), nd.LIF(4)), 3 * torch.randn(7, 3)
    ys = nd.unroll(net, xs.requires_grad_(), compile=False, checkpoint=2)
    net[0].weight.data.copy_(net[0].weight.data.flip(0).clone())
    with pytest.raises(RuntimeError, match=r"0\.weight has changed"):
        ys.sum().backward()


def test_an_edited_delay_is_no_change_by_a_step():
    net, xs = nn.Sequential(nn.Linear(3, 3), nd.Delay(3, 3 * u.ms), nd.LIF(3)), torch.randn(7, 3)
    net[1].delay.fill_(4.0)
    nd.unroll(net, xs, checkpoint=2, compile=False).sum().backward()  # without a warning


def test_autocast_in_the_forward_pass_alone_is_no_change():
    net, xs = nn.Sequential(nn.Linear(64, 64), nd.LIF(64)).float(), torch.randn(5, 2, 64, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = nd.unroll(net, xs, compile=False, checkpoint=2).sum()
    loss.backward()
    assert net[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("buffer", [torch.rand(3).to(torch.complex64).conj(), torch.rand(3).to(torch.float8_e4m3fn)])
def test_buffers_of_rare_kinds(buffer):
    net = nn.Sequential(nn.Linear(5, 5), nd.LIF(5))
    net[0].register_buffer("rare", buffer)
    xs = 3 * torch.rand(8, 2, 5)
    assert_same(outcome(net, xs, checkpoint=3), outcome(net, xs))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net.helper))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("compile", [True, False])
def test_a_copy_between_the_passes_is_no_change(copied, compile):
    """The first copy of an object of a class writes a cache to the class."""

    class Neuron(nd.LIF):
        pass

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.helper, self.weight, self.neuron = Helper(), nn.Linear(3, 4), Neuron(4)

        def forward(self, x):
            return self.neuron(self.helper.gain * self.weight(x))

    net = Net()
    if "__slotnames__" in vars(Helper):
        del Helper.__slotnames__
    loss = nd.unroll(net, torch.rand(6, 2, 3), checkpoint=2, compile=compile).sum()
    copied(net)
    assert "__slotnames__" in vars(Helper)
    loss.backward()
    assert net.weight.weight.grad.abs().sum() > 0


class Helper:
    """An object that a network holds."""

    gain = 9.0


class CallsLate(nn.Module):
    """Of layers with different batches, one is not called in the first steps."""

    def __init__(self):
        super().__init__()
        self.first, self.pairs, self.late = nd.LIF(4), nd.Expon(2), nd.Expon(4)
        self.weight, self.calls = nn.Linear(4, 4), 0

    def always(self, x):
        y = self.first(9 * self.weight(x))
        return y + self.pairs(y.view(-1, 2, 2)).view_as(y)

    def forward(self, x):
        y, self.calls = self.always(x), self.calls + 1
        return y + (self.late(y) if self.calls % 6 > 3 else 0.0)


class CallsNever(CallsLate):
    def forward(self, x):
        return self.always(x)


@pytest.mark.parametrize("make", [CallsLate, CallsNever])
@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_a_layer_that_the_first_block_does_not_call(make, compile):
    net, xs = make(), torch.rand(6, 3, 4)
    found = []
    for options in ({"checkpoint": 2, "compile": compile}, {"compile": False}):
        net.calls = 0
        ys = nd.unroll(net, xs, **options)
        found.append([ys.detach(), *torch.autograd.grad(ys.square().sum(), [*net.parameters()])])
    assert_same(*found)
