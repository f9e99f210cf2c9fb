"""What is not supported is said, with what to do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def test_a_convolution_has_no_trace_for_each_weight():
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nd.LIF((2, 4)))
    with pytest.raises(NotImplementedError, match=r"DRTRL: 0 is a Conv1d.*nd\.online\.ESDRTRL"):
        nd.online.DRTRL(net)
    net[0].requires_grad_(False)
    nd.online.DRTRL(net)(torch.rand(3, 1, 6))


@pytest.mark.parametrize("rule", [nd.online.DRTRL, nd.online.ESDRTRL, nd.online.EProp])
def test_what_mixes_neurons_between_a_map_and_them(rule):
    net = nn.Sequential(nn.Linear(4, 6), nn.Softmax(-1), nd.LIF(6))
    with pytest.raises(NotImplementedError, match=r"2\.V \(3, 6\) of Sequential does not depend on 0 .* by neuron"):
        rule(net)(torch.rand(3, 4))


def test_a_parameter_in_time_without_a_trace():
    net = nn.Sequential(nn.Linear(4, 6), nn.PReLU(), nd.LIF(6))
    with pytest.raises(NotImplementedError, match=r"1\.weight of Sequential acts on the state 2\.V"):
        nd.online.DRTRL(net)(torch.rand(3, 4))
    net[1].requires_grad_(False)
    nd.online.DRTRL(net)(torch.rand(3, 4))


@pytest.mark.parametrize("rule", [lambda net: nd.online.OTTT(net, decay=0.8), nd.online.SLTT])
def test_a_delay_hides_a_layer_from_rules_within_a_step(rule):
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6), nd.Delay(6, 2 * u.ms), nn.Linear(6, 2))
    with pytest.raises(NotImplementedError, match=r"0 of Sequential does not act on the output within a step"):
        rule(net)(torch.rand(3, 4))


class Ring(nn.Module):
    """Two populations that excite each other, one of which gets the input, and the other is the output."""

    def __init__(self):
        super().__init__()
        self.enter, self.there, self.back = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.one, self.two = nd.Delay(6, 1 * u.ms), nd.Delay(6, 1 * u.ms)

    def forward(self, x):
        one, two = self.one.read(), self.two.read()
        self.one(torch.tanh(self.back(two) + self.enter(x)))
        y = torch.tanh(self.there(one))
        self.two(y)
        return y


def test_a_loop_that_is_the_only_way_to_the_output():
    net = Ring()
    nd.reset_states(net, 3)
    learner = nd.online.DRTRL(net)
    with pytest.raises(NotImplementedError, match=r"(back|enter) of Ring acts on the output only by way of a loop"):
        learner(torch.rand(3, 4))
    net.enter.requires_grad_(False)
    net.back.requires_grad_(False)
    nd.online.DRTRL(net)(torch.rand(3, 4))


def test_ottt_names_neurons_without_one_leak():
    net = nn.Sequential(nn.Linear(4, 6), nd.AdEx(6), nn.Linear(6, 2))
    learner = nd.online.OTTT(net)
    with pytest.raises(ValueError, match=r"OTTT: 0 feeds AdEx\(6\).*decay=\{'0': 0\.9\}"):
        learner(torch.rand(3, 4))
    learner = nd.online.OTTT(net, decay={"0": 0.9})
    learner.backward(learner(torch.rand(3, 4)).sum())
    net[1] = nd.LIF(6, tau=torch.linspace(3, 9, 6) * u.ms)
    learner = nd.online.OTTT(net)
    with pytest.raises(ValueError, match=r"tau differs from neuron to neuron, from 3 to 9 ms"):
        learner(torch.rand(3, 4))
    with pytest.raises(KeyError, match="no linear map 'first'; the network has 0, 2"):
        nd.online.OTTT(net, decay={"first": 0.9})
    with pytest.raises(ValueError, match=r"decay must be from 0 to 1, got 1\.5 for 0"):
        nd.online.OTTT(net, decay={"0": 1.5})


def test_wrong_arguments():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6))
    with pytest.raises(ValueError, match="decay must be at least 0 and below 1, got 1"):
        nd.online.ESDRTRL(net, decay=1)
    with pytest.raises(ValueError, match="feedback must be 'symmetric', 'random', 'adaptive' or B by name, got 'rand'"):
        nd.online.EProp(net, "rand")
    with pytest.raises(ValueError, match="no linear map 'out'; the network has 0"):
        nd.online.EProp(net, {"out": torch.ones(2, 6)})
    with pytest.raises(ValueError, match=r"feedback of 0 has shape \(4, 6\), wanted \(6, 4\)"):
        nd.online.EProp(net, {"0": torch.ones(4, 6)})
    with pytest.raises(ValueError, match="no neurodyn layer"):
        nd.online.DRTRL(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="same number of time steps"):
        nd.online.unroll(nd.online.DRTRL(net), torch.zeros(0, 3, 4), lambda y, t: y.sum())


def test_a_readout_with_two_time_constants_has_no_filter_for_traces():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6), nd.LeakyRateReadout(6, 2, tau=torch.tensor([5.0, 9.0]) * u.ms))
    learner = nd.online.EProp(net)
    with pytest.raises(ValueError, match=r"2\.leak\.r behind 2\.linear decays by factors from 0\.81.* to 0\.89"):
        learner.backward(learner(torch.rand(3, 4)).sum())


def test_states_that_somebody_else_has_set():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6))
    learner = nd.online.DRTRL(net)
    learner(torch.rand(3, 4))
    nd.reset_states(net, 3)
    with pytest.raises(RuntimeError, match=r"states of Sequential have been set.* learner\.reset\(\*batch\)"):
        learner(torch.rand(3, 4))
    learner.reset(2)
    learner(torch.rand(2, 4))
    learner.restart()
    learner(torch.rand(5, 4))


def test_maps_that_are_called_in_some_steps_only():
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.neuron, self.steps = nn.Linear(4, 6), nn.Linear(4, 6), nd.LIF(6), 0

        def forward(self, x):
            self.steps += 1
            return self.neuron((self.first if self.steps < 3 else self.second)(x))

    net = Sometimes()
    nd.reset_states(net, 3)
    learner = nd.online.DRTRL(net, compile=False)
    learner(torch.rand(3, 4))
    learner(torch.rand(3, 4))
    with pytest.raises(RuntimeError, match="has called the linear maps second, in the first first"):
        learner(torch.rand(3, 4))


def test_backward_wants_the_loss_of_the_last_step():
    learner = nd.online.DRTRL(nn.Sequential(nn.Linear(4, 6), nd.LIF(6)))
    with pytest.raises(RuntimeError, match="no step has been made yet"):
        learner.backward(torch.zeros((), requires_grad=True))
    old = learner(torch.rand(3, 4)).sum()
    learner(torch.rand(3, 4))
    with pytest.raises(RuntimeError, match="does not depend on what the learner returned in its last step"):
        learner.backward(old)


class OwnWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.neuron, self.out = nn.Parameter(torch.rand(6, 4)), nd.LIF(6), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.neuron(x @ self.weight.T))


DELAYED = {"weight": nd.init.Uniform(0.0, 2.0), "learn": "weight", "delay": 3 * u.ms}
UNTRACED = {
    "a parameter of one's own": (OwnWeight, r"weight of OwnWeight acts on the state neuron\.V"),
    "a norm": (lambda: nn.Sequential(nn.LayerNorm(4), nd.LIF(4), nn.Linear(4, 2)), r"0\.weight .* the state 1\.V"),
    "a norm before a map": (
        lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 5), nd.LIF(5)),
        r"0\.weight of Sequential acts on the input of 1",
    ),
    "a recurrent cell": (lambda: nn.Sequential(nd.RNNCell(4, 6), nn.Linear(6, 2)), r"0 is RNNCell\(6\), whose gates"),
    "delays": (lambda: nn.Sequential(nd.FixedProb(4, 6, 0.9, **DELAYED), nd.LIF(6)), r"0\.weight .* acts on the state"),
}


@pytest.mark.parametrize("rule", [nd.online.DRTRL, nd.online.ESDRTRL, nd.online.EProp])
@pytest.mark.parametrize("kind", UNTRACED)
def test_what_no_trace_follows_is_refused(kind, rule):
    """In 0.1.0 such a parameter got no gradient, without a word."""
    make, message = UNTRACED[kind]
    with pytest.raises(NotImplementedError, match=message):
        rule(make(), compile=False)(torch.rand(3, 4))


@pytest.mark.parametrize("rule", [nd.online.OTTT, nd.online.SLTT])
def test_delayed_weights_are_refused_by_rules_within_a_step(rule):
    with pytest.raises(NotImplementedError, match="belongs to a connection with delays"):
        rule(UNTRACED["delays"][0](), compile=False)(torch.rand(3, 4))


def test_random_feedback_needs_a_matrix():
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6), nd.FixedProb(6, 2, 0.9, weight=0.5, learn="weight"), nd.Expon(2))
    with pytest.raises(NotImplementedError, match="there is no random feedback for 2, a FixedProb"):
        nd.online.EProp(net, feedback="random", compile=False)(torch.rand(3, 4))


@pytest.mark.parametrize("rule", [nd.online.DRTRL, nd.online.ESDRTRL, nd.online.EProp, nd.online.SLTT])
def test_cells_and_what_takes_their_place(rule):
    with pytest.raises(NotImplementedError, match=r"1 is torch's GRUCell.*nd\.MGUCell.*nd\.Recurrent"):
        rule(nn.Sequential(nn.Linear(4, 6), nn.GRUCell(6, 5)))
    trained = [lambda: nd.Recurrent(nd.LIF(6), nn.Linear(6, 6)), lambda: nd.Recurrent(nd.Expon(6), nn.Linear(6, 6))]
    trained += [lambda: nd.MGUCell(6, 6)] if rule in (nd.online.DRTRL, nd.online.ESDRTRL) else []
    trained += [lambda: nd.GRUCell(6, 6), lambda: nd.LSTMCell(6, 6)] if rule is nd.online.SLTT else []
    for make in trained:  # the messages recommend these
        net = nn.Sequential(nn.Linear(4, 6), make(), nn.Linear(6, 2))
        learner = rule(net, compile=False)
        for x in 6 * torch.rand(8, 2, 4):
            learner.backward(learner(x).square().sum())
        assert all(p.grad is not None and bool(p.grad.any()) for p in net[1].parameters())
    if rule is not nd.online.SLTT:
        for cell in (nd.GRUCell(6, 5), nd.RNNCell(6, 5), nd.LSTMCell(6, 5)):
            with pytest.raises(NotImplementedError, match=rf"1 is {type(cell).__name__}\(5\).*use nd\.MGUCell"):
                rule(nn.Sequential(nn.Linear(4, 6), cell))


@pytest.mark.parametrize("rule", [nd.online.DRTRL, nd.online.ESDRTRL, nd.online.EProp])
@pytest.mark.parametrize("interpolation", ["linear", "gaussian"])
def test_a_learned_delay_has_no_trace(rule, interpolation):
    delay = nd.Delay(6, 3.5 * u.ms, interpolation=interpolation, learn="delay")
    net = nn.Sequential(nn.Linear(4, 6), nd.LIF(6), delay, nn.Linear(6, 2))
    with pytest.raises(NotImplementedError, match=r"2 is Delay\(6\), whose delay is learned.*requires_grad_\(False\)"):
        rule(net)
    delay.requires_grad_(False)
    learner = rule(net, compile=False)
    for x in torch.rand(3, 2, 4):
        learner.backward(learner(x).square().sum())
