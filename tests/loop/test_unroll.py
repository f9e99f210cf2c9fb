"""The time loop: every path gives the same numbers."""

import functools

import pytest
import torch
from catalogue import MODELS
from paths import NETS, assert_as_plain, assert_same, chain, fallback, outcome
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.core.states import pure
from neurodyn.engine import compiled_chunk


@pytest.mark.kernels
@pytest.mark.parametrize("name", NETS)
def test_paths_agree_for_networks(name, request):
    if name == "chain":
        request.getfixturevalue("long_chunks")
    net = NETS[name]()
    for T, batch in ((21, (3,)), (7, (1,)), (1, (4,)), (16, (2,))):
        xs = torch.rand(T, *batch, 5) * 3
        compiled = outcome(net, xs)
        assert T == 1 or compiled[0].abs().sum() > 1  # it spikes
        for options in ({"compile": False}, {"checkpoint": 9}, {"compile": False, "checkpoint": 4}):
            assert_same(compiled, outcome(net, xs, **options))
        nd.reset_states(net, *batch)
        assert_same(compiled[:1], [torch.stack([net(x) for x in xs]).detach()])


def test_paths_agree_for_every_model(model):
    """As graphs; `-m long` compiles all models with Inductor, and the test after this one a model of each kind."""
    paths_agree(model)


SOME, LARGE = ("LIF", "AdEx", "ALIF", "STP", "Alpha", "LeakySpike"), ("PinskyRinzel", "HH", "ExpIF", "Izhikevich")


@pytest.mark.kernels
@pytest.mark.parametrize("name", [*SOME, *(pytest.param(name, marks=pytest.mark.long) for name in LARGE)])
def test_paths_agree_with_kernels(name):
    paths_agree(next(model for model in MODELS if model.name == name))


def paths_agree(model):
    layer = model(learn=[name for name in model().params if name.startswith("tau") and name not in model.fixed])
    xs = model.input(model.steps, 3, 5)
    eager = outcome(layer, xs, compile=False)
    compiled = outcome(layer, xs)
    assert_same(compiled, eager)
    if model.spiking:
        assert torch.equal(compiled[0], eager[0])
        assert eager[0].sum() > 0
    assert_same(outcome(layer, xs, compile=False, checkpoint=4), eager)
    layer.reset_state(3)
    assert_same([torch.stack([layer(x) for x in xs]).detach()], eager[:1])


def test_the_first_sequence_chooses_a_length_of_chunks_that_divides_it(long_chunks, compilations):
    net = nd.LIF(3)
    for T, few in [(5, 1), (100, 2), (50, 2), (12, 2), (97, 2)]:  # single steps first, then ten, and both again
        nd.unroll(net, torch.rand(T, 2, 3))
        assert len(compilations) == few


def test_a_sequence_is_cut_in_the_same_way_at_any_time(long_chunks):
    """A backward pass finds the rows that its forward pass has left, whatever ran in between."""
    net = nd.LIF(3, learn="tau")
    ys = nd.unroll(net, 3 * torch.rand(7, 2, 3))
    (program,) = [p for p in vars(net)["_remembered_programs"].programs.values() if p.differentiable]
    before = program.stretches(7)
    nd.unroll(net, 3 * torch.rand(12, 2, 3))
    assert program.steps == 6
    program._stretches.clear()
    assert program.stretches(7) == before
    ys.sum().backward()


def test_no_recompilation_for_other_lengths_and_batches(compilations):
    layer = nd.LIF(11, tau=3 * u.ms)
    for T in (50, 1, 7, 333):
        for batch in (32, 1, 57):
            xs = torch.rand(T, batch, 11) * 3
            assert torch.equal(nd.unroll(layer, xs), nd.unroll(layer, xs, compile=False))
            x = xs.clone().requires_grad_()
            nd.unroll(layer, x).sum().backward()
    few = len(compilations)
    assert few <= 6  # with and without gradients, forward and backward, of a whole chunk and of one step
    twin = nd.LIF(11, tau=7 * u.ms, V_th=0.8 * u.mV)
    nd.unroll(twin, xs)
    assert len(compilations) == few  # values of parameters are not compiled in


def test_gradcheck_through_the_smooth_part():
    net = nn.Sequential(
        nd.STP(3, learn=("U", "tau_f", "tau_d")),
        nd.Expon(3, learn="tau"),
        nd.COBA(E=3 * u.mV, learn="E"),
        nd.LIF(
            3, V_th=50 * u.mV, tau=9 * u.ms, learn=("tau", "R", "V_rest"), surrogate=nd.surrogate.ReluGrad(width=0.1)
        ),
    )
    names = [name for name, _ in net.named_parameters()]
    nd.unroll(net, torch.rand(2, 2, 3), compile=False)
    parameters = [p.detach().clone().requires_grad_() for p in net.parameters()]

    def potentials(xs, *values):
        states = {f"{i}.{k}": v for i, k, v in (("0", "u", 0), ("0", "x", 1), ("1", "g", 0), ("3", "V", 0))}
        states = {k: torch.full((2, 3), float(v)) for k, v in states.items()}
        total = 0.0
        for x in xs:
            tensors = dict(zip(names, values, strict=True)) | states
            torch.func.functional_call(net, tensors, (x,))
            _, states = pure(net, tensors, x)
            total = total + states["3.V"]
        return total

    xs = torch.rand(50, 2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(potentials, (xs, *parameters), fast_mode=True)


def test_final_states_stay_detached_and_can_be_continued():
    net, xs = chain(), torch.rand(30, 2, 5)
    whole = nd.unroll(net, xs)
    first, states = nd.unroll(net, xs[:13], return_states=True)
    assert all(value.requires_grad for key, value in states.items() if not key.endswith(".x"))
    assert not any(value.requires_grad for value in nd.get_states(net).values())
    second = nd.unroll(net, xs[13:], states=states)
    assert_same([torch.cat([first, second]).detach()], [whole.detach()])
    parameters = list(net.parameters())
    a = torch.autograd.grad(whole.square().sum(), parameters)
    b = torch.autograd.grad(first.square().sum() + second.square().sum(), parameters)
    assert_same(b, a)
    truncated = nd.unroll(net, xs[13:], states={k: v.detach() for k, v in states.items()})
    c = torch.autograd.grad(truncated.square().sum(), parameters)
    assert not torch.allclose(c[0], a[0])


@pytest.mark.parametrize("compile", [True, False])
def test_returned_states_are_apart_from_the_module(compile):
    layer, xs = nd.LIF(3), torch.rand(9, 2, 3)
    with torch.no_grad():
        _, states = nd.unroll(layer, xs, return_states=True, compile=compile)
    states["V"].requires_grad_()
    assert not layer.V.requires_grad


def test_given_states_may_change_before_the_backward_pass():
    layer, xs = nd.LIF(3), torch.rand(20, 2, 3, requires_grad=True)
    V = torch.rand(2, 3)
    (wanted,) = torch.autograd.grad(nd.unroll(layer, xs, states={"V": V.clone()}).sum(), xs)
    ys = nd.unroll(layer, xs, states={"V": V})
    V.fill_(5)
    assert torch.equal(torch.autograd.grad(ys.sum(), xs)[0], wanted)


def test_states_of_inference_start_a_training_step():
    layer, xs = nd.LIF(3), torch.rand(20, 2, 3)
    with torch.inference_mode():
        nd.unroll(layer, xs)
    grads = []
    for compile in (True, False):
        leaf = xs.clone().requires_grad_()
        states = {"V": nd.get_states(layer)["V"].clone() if grads else layer.V}
        ys = nd.unroll(layer, leaf, states=states, compile=compile)
        grads.append(torch.autograd.grad(ys.sum(), leaf)[0])
        states = None
        with torch.inference_mode():
            nd.unroll(layer, xs)
    assert_same(grads[:1], grads[1:])


def test_unroll_as_a_module():
    net = nn.Sequential(nn.Linear(5, 4), nd.Unroll(nd.LIF(4)), nn.Linear(4, 2))
    xs = torch.rand(9, 3, 5) * 4
    assert_same([net(xs).detach()], [nd.unroll(nn.Sequential(net[0], net[1].module, net[2]), xs).detach()])


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nd.LIF(4), nd.Expon(4)

        def forward(self, x, jump):
            g = self.b(jump)
            return {"spikes": self.a(x + g), "g": g}

    net, xs = Two(), (torch.rand(9, 2, 4), torch.rand(9, 2, 4))
    compiled, eager = nd.unroll(net, xs), nd.unroll(net, xs, compile=False)
    assert compiled.keys() == eager.keys() == {"spikes", "g"}
    assert all(torch.allclose(compiled[k], eager[k], rtol=1e-12) for k in eager)


def test_random_numbers_in_the_step_run_eagerly():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif, self.drop = nd.LIF(4), nn.Dropout(0.5)

        def forward(self, x):
            return self.lif(self.drop(x))

    fallback(Noisy(), torch.rand(5, 2, 4), "Noisy runs step by step in Python: its step draws random numbers")
    nd.unroll(Noisy().eval(), torch.rand(5, 2, 4))


def test_writing_to_buffers_runs_eagerly():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.lif = nn.BatchNorm1d(4), nd.LIF(4)

        def forward(self, x):
            return self.lif(self.norm(x))

    net = Normed()
    fallback(net, torch.rand(5, 3, 4), "in place")
    assert net.norm.num_batches_tracked == 10


def test_control_flow_on_values_runs_eagerly():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.lif = nd.LIF(4)

        def forward(self, x):
            return self.lif(2 * x if x.sum() > 4 else x)

    net, xs = Branching(), torch.rand(12, 2, 4) * 2
    ys = fallback(net, xs, "cannot be traced")
    assert torch.equal(ys, nd.unroll(net, xs, compile=False))


def test_hooks_are_called_at_every_step():
    layer, seen = nd.LIF(4), []
    layer.register_forward_hook(lambda *_: seen.append(1))
    fallback(layer, torch.rand(5, 2, 4), "has hooks")
    assert len(seen) == 10


def test_a_failing_compiler_is_said_and_survived(monkeypatch, no_programs, unsaid):
    def broken(*_):
        raise RuntimeError("InvalidCxxCompiler")

    xs = torch.rand(5, 2, 13)
    with monkeypatch.context() as patch:
        patch.setattr(compiled_chunk, "compiled", broken)
        ys = fallback(nd.LIF(13), xs, r"no working C\+\+ compiler; install one")
        assert torch.equal(ys, nd.unroll(nd.LIF(13), xs, compile=False))
    assert_as_plain(nd.LIF(13), xs)


def test_mistakes_in_the_module_show_in_their_own_words():
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nd.LIF(4), nd.LIF(5)

        def forward(self, x):
            return self.b(self.a(x))

    with pytest.raises(ValueError, match=r"LIF\(5\): the input has shape \(2, 4\), wanted \(\*batch, 5\)"):
        nd.unroll(Wrong(), torch.rand(3, 2, 4))


def test_bad_arguments():
    lif = nd.LIF(4)
    with pytest.raises(ValueError, match=r"no time step, its shape is \(0, 2, 4\)"):
        nd.unroll(lif, torch.rand(0, 2, 4))
    with pytest.raises(ValueError, match="same number of time steps"):
        nd.unroll(lif, (torch.rand(3, 4), torch.rand(2, 4)))
    with pytest.raises(ValueError, match="checkpoint must be a positive whole number of steps, got 0"):
        nd.unroll(lif, torch.rand(3, 4), checkpoint=0)
    with pytest.raises(KeyError, match="no state 'W'; the network has V"):
        nd.unroll(lif, torch.rand(3, 4), states={"W": torch.zeros(4)})
    mixed = nn.Sequential(nd.LIF(4), nd.Expon(4, dt=0.1 * u.ms))
    with pytest.raises(ValueError, match=r"two time steps: LIF\(4\) '0' has dt=1 ms, Expon\(4\) '1' dt=0.1 ms"):
        nd.unroll(mixed, torch.rand(3, 4))


def test_inside_torch_func():
    net = chain()
    x = torch.rand(6, 2, 5)
    parameters = {k: v.detach() for k, v in net.named_parameters()}

    def loss(parameters, x):
        return (
            torch.func.functional_call(nd.Unroll(net), {f"module.{k}": v for k, v in parameters.items()}, (x,))
            .square()
            .sum()
        )

    grads = torch.func.grad(loss)(parameters, x)
    direct = torch.autograd.grad(nd.unroll(net, x).square().sum(), list(net.parameters()))
    assert_same(list(grads.values()), list(direct))


def test_fullgraph_compilation_of_steps(model):
    layer = model()
    layer(model.input(2, 5))
    states = list(nd.get_states(layer).values())
    step = torch.compile(layer.step, fullgraph=True, backend="aot_eager")
    for got, wanted in zip(step(model.input(2, 5), *states), layer.step(model.input(2, 5), *states), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-14)


def test_fullgraph_compilation_of_a_training_forward():
    net, xs = chain(4), torch.rand(2, 2, 5)

    def loss(xs):
        return torch.stack([net(x) for x in xs]).square().mean()

    nd.reset_states(net, 2)
    wanted = loss(xs)
    wanted_grads = torch.autograd.grad(wanted, list(net.parameters()))
    nd.reset_states(net, 2)
    got = torch.compile(loss, fullgraph=True, backend="aot_eager")(xs)
    grads = torch.autograd.grad(got, list(net.parameters()))
    assert_same([got.detach(), *grads], [wanted.detach(), *wanted_grads])


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # Dynamo looks at it
@pytest.mark.parametrize("options", [{}, {"checkpoint": 3}, {"compile": False}], ids=str)
def test_between_two_graphs_of_torch_compile(options):
    net, xs = chain(4), torch.rand(7, 2, 5)
    inputs = [*net.parameters()]

    def loss(xs):
        return nd.unroll(net, 2 * xs, **options).square().mean()

    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(loss, backend=backend)
    for T in (7, 5):
        found, wanted = compiled(xs[:T]), nd.unroll(net, 2 * xs[:T], compile=False).square().mean()
        assert_same([found.detach()], [wanted.detach()])
        assert_same(torch.autograd.grad(found, inputs), torch.autograd.grad(wanted, inputs))
    assert all(len(graph.graph.nodes) < 12 for graph in graphs)  # the steps are in none of them


def test_one_module_under_two_names():
    linear, neuron = nn.Linear(5, 5), nd.LIF(5, learn="tau")

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = linear
            self.neuron = nd.LIF(5)

        def forward(self, x):
            return self.neuron(self.second(3 * self.first(x)))

    weight, tau = linear.weight, neuron.raw_tau
    xs = torch.rand(8, 3, 5) * 3
    with torch.no_grad():
        for net in (Twice(), nn.Sequential(linear, neuron, linear, neuron)):
            assert torch.equal(nd.unroll(net, xs), nd.unroll(net, xs, compile=False))
    assert linear.weight is weight
    assert neuron.raw_tau is tau


def test_one_tensor_as_a_buffer_and_later_as_a_parameter():
    class Weighted(nd.Dynamics):
        V = nd.state(0.0)

        def __init__(self, weight, offset):
            super().__init__(3)
            self.register_buffer("offset", torch.full((3,), offset))
            if isinstance(weight, nn.Parameter) and offset > 8:
                self.weight = weight
            else:
                self.register_buffer("weight", weight)

        def step(self, x, V):
            V = 0.5 * V + x * self.weight + self.offset
            return V, V

    weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    net, xs = nn.Sequential(Weighted(weight, 7.0), Weighted(weight, 11.0)), torch.rand(16, 2, 3)
    found, wanted = outcome(net, xs), outcome(net, xs, compile=False)
    assert_same(found, wanted)


@pytest.mark.parametrize("options", [{}, {"compile": False}], ids=str)
def test_checkpoint_around_an_unrolled_block(options):
    net, xs = chain(), torch.rand(9, 2, 5)
    parameters = list(net.parameters())
    direct = torch.autograd.grad(nd.unroll(net, xs).square().sum(), parameters)
    block = functools.partial(nd.unroll, net, **options)
    ys = torch.utils.checkpoint.checkpoint(block, xs, use_reentrant=False)
    assert_same(torch.autograd.grad(ys.square().sum(), parameters), direct)


def test_where_tensors_have_no_values_it_says_so():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nd.LIF(3)

        def forward(self, x):
            return nd.unroll(self.inner, x, progress=False)

    xs = torch.rand(4, 5, 2, 3)
    ys = fallback(Outer(), xs, "inside the step of a module that is unrolled itself")
    assert torch.equal(ys, torch.stack([nd.unroll(nd.LIF(3), x) for x in xs]))


def test_a_ddp_module_is_refused():
    net = nd.LIF(3, learn="tau")
    ddp = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(ddp)
    ddp.module = net
    with pytest.raises(TypeError, match=r"use nd\.distributed\.ddp"):
        nd.unroll(ddp, torch.rand(4, 2, 3))


@pytest.mark.parametrize("compile", [True, False])
def test_start_states_must_be_complete(compile):
    net = nn.Sequential(nd.LIF(3), nd.Expon(3))
    with pytest.raises(KeyError, match=r"states= leaves out 1\.g"):
        nd.unroll(net, torch.rand(4, 2, 3), states={"0.V": torch.zeros(2, 3)}, compile=compile)
