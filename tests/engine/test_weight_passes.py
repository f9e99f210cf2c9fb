"""Weights that learn are changed in place in a chunk, and come out as without it."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

import neurodyn as nd
from neurodyn.engine import chunk_graphs, program_cache, weight_passes

XS = (torch.rand(36, 3, 6, generator=torch.Generator().manual_seed(5)) < 0.3).double()


class Layer(nn.Module):
    """A layer that learns; it may read the weights of before once more, after they have changed."""

    def __init__(self, later: bool):
        super().__init__()
        connection = nd.FixedProb(6, 4, 0.5, weight=0.5, generator=torch.Generator().manual_seed(1))
        self.rule = nd.STDP(connection, w_max=2.0, A_plus=0.05, A_minus=0.03)
        self.neuron, self.later = nd.LIF(4, tau=10 * nd.units.ms), later

    def forward(self, x):
        before = self.rule.weight
        spikes = self.neuron(self.rule(x))
        self.rule.learn(spikes)
        return spikes + 0 * before.sum() if self.later else spikes


@pytest.fixture
def in_place(monkeypatch, no_programs):
    """How many weights each graph has had changed in place."""
    found: list[int] = []

    def counted(graph):
        rings = weight_passes.change_in_place(graph)
        found.append(sum(node.target is weight_passes.ops.event_add_pairs_.default for node in graph.nodes))
        return rings

    monkeypatch.setattr(chunk_graphs, "change_in_place", counted)
    return found


@pytest.mark.kernels
@pytest.mark.parametrize(("later", "wanted"), [(False, 4), (True, 0)])
def test_numbers_are_those_of_the_plain_loop(in_place, later, wanted):
    """In chunks of two steps. A weight that is recorded is that of its step."""
    nets, found = [Layer(later), Layer(later)], []
    with torch.no_grad():
        for net, compile in zip(nets, (True, False), strict=True):
            ys, recording = nd.unroll(net, XS, record=("rule.weight",), compile=compile)
            found.append((ys, recording["rule.weight"].values, net.rule.weight))
    assert_close(*found)
    assert found[0][2].std() > 0.1
    assert in_place == [wanted]
    programs = [found.program for each in program_cache._shared.values() for found in each]
    # The operators too, without the one that copies.
    assert all("called by the loop in C++" in program.path() for program in programs) != later


@pytest.mark.kernels
def test_weights_and_marks_that_wait_for_a_reward(in_place):
    """Both are changed in place, by two operators, one of which reads the marks."""

    class Rewarded(nn.Module):
        def __init__(self):
            super().__init__()
            connection = nd.FixedNum(6, 4, 2, weight=0.5, generator=torch.Generator().manual_seed(1))
            self.rule = nd.RewardSTDP(connection, w_max=1.0, A_plus=0.5, A_minus=0.2, tau_c=3 * nd.units.ms)

        def forward(self, pre, post, reward):
            return self.rule(pre, post, reward=reward)

    random = torch.Generator().manual_seed(2)
    pre, post = [(torch.rand(60, n, generator=random) < 0.3).double() for n in (6, 4)]
    reward = torch.randn(60, generator=random) * (torch.rand(60, generator=random) < 0.5)
    nets, ys = [Rewarded(), Rewarded()], []
    with torch.no_grad():
        for net, compile in zip(nets, (True, False), strict=True):
            ys.append(nd.unroll(net, (pre, post, reward), compile=compile))
    assert_close(*ys)
    assert_close(nd.get_states(nets[0]), nd.get_states(nets[1]))
    assert nets[0].rule.weight.std() > 0.05
    assert "called by the loop in C++" in nd.explain(nets[0]).path[0]


@pytest.mark.kernels
def test_an_index_that_was_changed_is_refused_by_the_operators_in_the_loop():
    net = Layer(False)
    with torch.no_grad():
        nd.unroll(net, XS)
        wanted = nd.unroll(net, XS)
        for name, words in (
            ("indices", r"event_matmul: indices\[2\] = 9 is out of range"),
            ("order", "event_add_pairs"),
        ):
            index = net.rule.layout.matrix._asdict()[name]
            before = int(index[2])
            index.data[2] = 9 if name == "indices" else 10**6  # no version of a tensor tells of this
            with pytest.raises(ValueError, match=words):
                nd.unroll(net, XS)
            index.data[2] = before
        net.rule.reset_parameters()
        nd.unroll(net, XS)
        assert_close(nd.unroll(net, XS), wanted)


@pytest.mark.kernels
def test_a_weight_that_does_not_lie_in_a_row(no_programs):
    """A column of a matrix, which is taken out of the loop as a view."""

    class Column(nn.Module):
        def __init__(self):
            super().__init__()
            self.connection, self.synapse = nd.FixedNum(6, 4, 2, weight=torch.zeros(12)), nd.Expon(4)
            self.table = nn.Parameter(torch.rand(12, 3, generator=torch.Generator().manual_seed(1)))

        def forward(self, x):
            return self.synapse(functional_call(self.connection, {"weight": self.table[:, 1]}, (x,)))

    net = Column()
    with torch.no_grad():
        assert_close(nd.unroll(net, XS[:4]), nd.unroll(net, XS[:4], compile=False))
    (program,) = [found.program for each in program_cache._shared.values() for found in each]
    assert "is not contiguous" in program.path()
