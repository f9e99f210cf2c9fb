"""`Stream` is the network itself, one compiled step at a time."""

import copy

import pytest
import torch
from composed import composed, inputs
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def assert_same_steps(net, xs, step=None):
    """A stream beside a copy of its network that is called itself."""
    step = step or nd.Stream(net, xs[0])
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for x in xs:
            torch.testing.assert_close(step(x), twin(x), rtol=1e-10, atol=1e-12)
        for name, value in nd.get_states(twin).items():
            torch.testing.assert_close(nd.get_states(net)[name], value, rtol=1e-10, atol=1e-12)
    return step


def test_layer():
    assert_same_steps(nd.LIF(5), 2 * torch.rand(9, 3, 5))


def test_composed_network():
    assert_same_steps(composed(), inputs(9, 2))


def test_several_inputs_and_outputs():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = nd.LIF(4)

        def forward(self, pair, offset):
            spikes = self.neuron(pair["a"] - pair["b"] + offset)
            return {"spikes": spikes, "V": self.neuron.V}

    net, pair, offset = Both(), {"a": 3 * torch.rand(4), "b": torch.rand(4)}, torch.ones(4)
    step = nd.Stream(net, (pair, offset))
    twin = copy.deepcopy(net)
    for _ in range(5):
        found, wanted = step(pair, offset), twin(pair, offset)
        assert list(found) == list(wanted)
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    with pytest.raises(ValueError, match="the inputs are arranged as"):
        step({"b": pair["b"], "a": pair["a"]}, offset)


def test_states_and_parameters_may_change_between_steps():
    net, xs = nd.LIF(5, learn="tau"), 2 * torch.rand(6, 5)
    step = assert_same_steps(net, xs)
    net.reset_state()
    assert_same_steps(net, xs, step)
    with torch.no_grad():
        net.raw_tau.mul_(1.5)
    assert_same_steps(net, xs, step)
    net.load_state_dict({name: value + 0.1 for name, value in net.state_dict().items()})
    assert_same_steps(net, xs, step)
    before = net.V
    step(xs[0])
    assert net.V is not before
    assert not net.V.requires_grad


def test_starts_where_the_network_is():
    net = nd.LIF(5)
    nd.unroll(net, 2 * torch.rand(7, 3, 5))
    assert_same_steps(net, torch.rand(4, 3, 5))


def test_an_input_that_is_part_of_the_network():
    net = nd.LIF(5, tau=torch.linspace(1, 3, 5) * u.ms, V_th=0.5 * u.mV)
    step, twin = nd.Stream(net, torch.zeros(5)), copy.deepcopy(net)
    for x in (net.tau, net.V, torch.ones(5), net.tau, torch.zeros(5), net.V):
        given = x.clone()
        assert torch.equal(step(x), twin(given))
    assert torch.equal(net.V, twin.V)
    assert torch.equal(net.tau, torch.linspace(1, 3, 5))


def test_tensors_with_other_strides():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.neuron = nn.Parameter(torch.rand(4, 3).t()), nd.LIF((3, 4))

        def forward(self, x):
            return self.neuron(3 * x * self.weight)

    xs = torch.rand(6, 2, 4, 3).mT
    net = Scaled()
    assert_same_steps(net, xs)
    nd.set_states(net, {"neuron.V": torch.rand(2, 4, 3).mT})
    assert_same_steps(net, xs)
    found, wanted = (nd.simulate(net, 6 * u.ms, xs, "neuron.V", batch=(2,), compile=c) for c in (True, False))
    torch.testing.assert_close(found["neuron.V"].values, wanted["neuron.V"].values, rtol=1e-10, atol=1e-12)


def test_errors():
    net = nd.LIF(5)
    step = nd.Stream(net, torch.zeros(2, 5))
    for x in (torch.zeros(3, 5), torch.zeros(2, 5, dtype=torch.float32)):
        with pytest.raises(ValueError, match=r"Stream: input 0 has shape .* made for shape \(2, 5\) of torch.float64"):
            step(x)
    with pytest.raises(ValueError, match="made for 1 input, got 2"):
        step(torch.zeros(2, 5), torch.zeros(2, 5))
    with pytest.raises(TypeError, match="Stream: input 0 is a float"):
        step(1.0)
    net.reset_state(4)
    with pytest.raises(ValueError, match=r"Stream: V has shape \(4, 5\).*nd.reset_states"):
        step(torch.zeros(2, 5))
    net.unset_state()
    with pytest.raises(ValueError, match="Stream: V has no value"):
        step(torch.zeros(2, 5))
    net.reset_state(2)
    with pytest.raises(RuntimeError, match="gradients"):
        step(torch.zeros(2, 5, requires_grad=True))
    with pytest.raises(ValueError, match="no neurodyn layer"):
        nd.Stream(nn.Linear(2, 2), torch.zeros(2))


def test_what_cannot_be_compiled_runs_in_python():
    class Noisy(nd.Dynamics):
        r = nd.state(0.0)

        def step(self, x, r):
            r = r + x * torch.rand_like(x)
            return r, r

    net = Noisy(3)
    with pytest.warns(nd.EagerWarning, match="Stream runs Noisy in Python: its step draws random numbers"):
        step = nd.Stream(net, torch.ones(3))
    assert (step(torch.ones(3)) > 0).all()
    assert torch.equal(net.r, step(torch.zeros(3)))


def test_a_wide_weight_that_changes():
    net = nn.Sequential(nn.Linear(784, 100), nd.LIF(100)).to(torch.float32)
    xs = torch.rand(4, 784, dtype=torch.float32)
    step, twin = nd.Stream(net, xs[0]), copy.deepcopy(net)
    with torch.no_grad():
        for x in xs:
            torch.testing.assert_close(step(x), twin(x))
            torch.testing.assert_close(net[1].V, twin[1].V, rtol=1e-4, atol=1e-5)
            for layer in (net, twin):
                layer[0].weight.mul_(2)


def test_a_state_that_gets_another_shape():
    class Grows(nd.Dynamics):
        r = nd.state(0.0)

        def __init__(self):
            super().__init__(10)
            self.register_buffer("b", torch.zeros(2000, 1, 10))

        def step(self, x, r):
            return 2 * x, 0.5 * r + x + self.b

    x = torch.rand(4, 10)
    with pytest.warns(nd.EagerWarning, match="shape"):
        step = nd.Stream(Grows(), x)
    with pytest.raises(ValueError, match="shape"):
        step(x)


def test_a_transposed_parameter_is_replaced():
    net, x = nn.Sequential(nn.Linear(64, 64, bias=False), nd.Expon(64)), torch.ones(64)
    step = nd.Stream(net, x)
    for i in range(4):
        net[0].weight = None
        net[0].weight = nn.Parameter(torch.full((64, 64), float(i)).t())
        nd.reset_states(net)
        assert step(x)[0] == 64 * i


def test_what_is_no_tensor_is_told():
    for example in ([1.0, 2.0], 3.0, None, ()):
        with pytest.raises(TypeError, match=r"Stream: the example is .*, wanted a tensor, the input of one step"):
            nd.Stream(nd.LIF(2), example)
    step = nd.Stream(nd.LIF(2), torch.zeros(2))
    with pytest.raises(TypeError, match="Stream: input 0 is a NoneType, wanted a tensor"):
        step(None)


def test_a_network_whose_step_cannot_be_tried():
    class Prints(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = nd.LIF(2)

        def forward(self, x):
            print(end="")
            return self.neuron(x)

    net = Prints()
    with pytest.raises(ValueError, match=r"calls print, .* call nd\.reset_states\(net, \*batch\) before"):
        nd.Stream(net, torch.zeros(2))
    nd.reset_states(net)
    with pytest.warns(nd.EagerWarning, match="calls print"):
        nd.Stream(net, torch.zeros(2))


def test_inside_vmap_the_network_runs():
    net = nn.Sequential(nn.Linear(3, 3), nd.LIF(3))
    nd.reset_states(net)
    step, x = nd.Stream(net, torch.ones(3)), torch.rand(4, 3)
    found = torch.func.vmap(step)(x)
    nd.reset_states(net)
    assert found.equal(torch.func.vmap(net)(x))


def test_a_state_that_was_deleted_is_named():
    net = nd.LIF(3)
    nd.reset_states(net)
    del net.V
    with pytest.raises(KeyError, match="the state V of a layer has been deleted"):
        net(torch.ones(3))
