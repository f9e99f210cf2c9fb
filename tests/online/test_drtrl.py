"""D-RTRL against backpropagation through time, where it is exact."""

from __future__ import annotations

import functools

import pytest
import torch
from catalogue import MODELS
from learning import assert_equal, gradients, online, through_time
from torch import nn

import neurodyn as nd
from neurodyn import units as u


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_model_learns_all_its_parameters_as_through_time(model):
    learn = [name for name, f in model().params.items() if f.learnable and name not in model.fixed]
    net = nn.Sequential(nn.Linear(5, 5), model(5, learn=learn), nn.Linear(5, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(5) + 0.1 * torch.rand(5, 5))
    wanted = assert_equal(net, model.input(16, 2, 5), functools.partial(nd.online.DRTRL, compile=False))
    assert len(wanted) >= 4  # neither weights nor parameters of the model are missing
    assert bool(wanted["0.weight"].any())


def test_a_synapse_and_its_neuron_carry_one_trace():
    synapse = nd.Expon(6, tau=3 * u.ms, learn="tau")
    net = nn.Sequential(nn.Linear(4, 6), synapse, nd.ALIF(6, learn=("tau", "beta")), nn.Linear(6, 2))
    assert_equal(net, 4 * torch.rand(30, 3, 4))


def test_a_delay_line_carries_traces():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6), nd.Delay(6, 3 * u.ms), nn.Linear(6, 2))
    wanted = assert_equal(net, 4 * torch.rand(30, 3, 4))
    assert bool(wanted["0.weight"].any())


class Late(nn.Module):
    """A map whose input of the step before is what a later map makes."""

    def __init__(self):
        super().__init__()
        self.enter, self.out = nn.Linear(4, 6), nn.Linear(6, 2)
        self.neuron, self.past = nd.LIF(6, learn="tau"), nd.Delay(6, 1 * u.ms)

    def forward(self, x):
        y = self.out(self.past.read())
        self.past(self.neuron(self.enter(x)))
        return y


def test_layers_may_be_called_from_the_last_to_the_first():
    net = Late()
    xs, weights = 4 * torch.rand(20, 3, 4), torch.randn(20, 3, 2)
    nd.reset_states(net, 3)
    (torch.stack([net(x) for x in xs]) * weights).sum().backward()
    wanted = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    learner = nd.online.DRTRL(net)
    learner.reset(3)
    for x, w in zip(xs, weights, strict=True):
        learner.backward((learner(x) * w).sum())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-12, atol=1e-12)
    assert bool(wanted["enter.weight"].any())


@pytest.mark.parametrize(
    "connection",
    [
        nd.SignedLinear(4, 6, bias=True),
        nd.MaskedLinear(4, 6, mask=torch.tensor([1.0, 0.0, 1.0, 1.0])),
        nd.ScaledWSLinear(4, 6),
        nd.LoRA(4, 2, 6),
        nd.AllToAll(4, 6, weight=0.3),
    ],
    ids=lambda connection: type(connection).__name__,
)
def test_connections_of_all_kinds(connection):
    net = nn.Sequential(connection.double(), nd.LIF(6), nn.Linear(6, 2))
    wanted = assert_equal(net, 6 * torch.rand(20, 3, 4))
    assert all(bool(wanted[name].any()) for name in wanted)


def test_what_follows_without_states_may_be_anything():
    head = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
    assert_equal(nn.Sequential(nn.Linear(4, 6), nd.LIF(6), *head), 4 * torch.rand(20, 3, 4))


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_batches_of_all_shapes(batch):
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF((2, 6), learn="tau"), nn.Linear(6, 2))
    assert_equal(net, 4 * torch.rand(20, *batch, 2, 4))


def test_recurrence_leaves_out_only_paths_through_the_feedback():
    feedback = nn.Linear(6, 6, bias=False)
    cell = nd.LIF(6, tau=10 * u.ms)
    net = nn.Sequential(nn.Linear(4, 6), nd.Recurrent(cell, feedback), nn.Linear(6, 2))

    class Cut(nd.Recurrent):
        def step(self, x, y):
            return super().step(x, y.detach())

    cut = nn.Sequential(net[0], Cut(cell, feedback), net[2])
    xs, weights = 4 * torch.rand(20, 3, 4), torch.randn(20, 3, 2)
    wanted = {id(cut.get_parameter(name)): g for name, g in gradients(cut, xs, weights, through_time).items()}
    got = gradients(net, xs, weights, online(nd.online.DRTRL))
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(got[name], wanted[id(parameter)], rtol=1e-12, atol=1e-12)


def test_an_optimizer_may_step_in_every_time_step():
    net = nn.Sequential(nn.Linear(4, 16), nd.LIF(16, learn="tau"), nn.Linear(16, 1))
    learner, optimizer = nd.online.DRTRL(net), torch.optim.Adam(net.parameters(), 1e-2)
    xs, losses = torch.rand(50, 8, 4), []
    for _ in range(4):
        learner.reset(8)
        for x in xs:
            loss = (learner(x) - x.sum(-1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            learner.backward(loss)
            optimizer.step()
            losses.append(loss.item())
    assert sum(losses[-50:]) < 0.3 * sum(losses[:50])


def test_steps_without_a_loss_and_losses_in_two_parts():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6), nn.Linear(6, 2))
    xs = 4 * torch.rand(20, 3, 4)
    nd.unroll(net, xs, compile=False)[-1].square().sum().backward()
    wanted = net[0].weight.grad.clone()
    net.zero_grad()
    learner = nd.online.DRTRL(net)
    learner.reset(3)
    for x in xs:
        y = learner(x)
    learner.backward(0.25 * y.square().sum())
    learner.backward(0.75 * y.square().sum())
    torch.testing.assert_close(net[0].weight.grad, wanted, rtol=1e-12, atol=1e-12)


def test_outputs_and_states_are_those_of_the_network():
    net = nn.Sequential(nn.Linear(4, 6), nd.Recurrent(nd.LIF(6), nn.Linear(6, 6)), nd.LeakyRateReadout(6, 2))
    xs = 4 * torch.rand(10, 3, 4)
    wanted = nd.unroll(net, xs, compile=False)
    states = nd.get_states(net)
    learner = nd.online.DRTRL(net)
    learner.reset(3)
    assert torch.equal(torch.stack([learner(x) for x in xs]), wanted)
    for name, value in nd.get_states(net).items():  # a product of all steps at once may round in another way
        torch.testing.assert_close(value, states[name], rtol=1e-13, atol=1e-14)
        assert not value.requires_grad


def test_float32():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6, dtype=torch.float32, learn="tau"), nn.Linear(6, 2)).float()
    assert_equal(net, 4 * torch.rand(20, 3, 4, dtype=torch.float32), tolerance=1e-5)


def test_a_layer_that_is_not_called_does_not_disturb():
    class Spare(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(4, 6), nd.LIF(6), nn.Linear(6, 2))
            self.__dict__["order"] = list(self)
            self.spare = nd.LIF(3)

        def forward(self, x):
            for part in self.order:
                x = part(x)
            return x

    net, xs = Spare(), 4 * torch.rand(10, 3, 4)
    wanted = nd.unroll(nn.Sequential(*net.order), xs, compile=False).detach()
    for part in net.order:
        if isinstance(part, nd.Dynamics):
            part.unset_state()
    learner = nd.online.DRTRL(net)
    assert torch.equal(torch.stack([learner(x) for x in xs]).detach(), wanted)
