"""Rules on connections whose synapses have delays of their own: spikes count when they arrive."""

import copy
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u

from .test_brian2_stdp import PreFirst
from .test_rules import RULES, M, N, T, signals, teach, trains

PRE, POST = (torch.rand(N, M, generator=torch.Generator().manual_seed(1)) < 0.7).nonzero().T
STEPS = torch.randint(0, 5, (len(PRE),), generator=torch.Generator().manual_seed(2))
START = torch.rand(len(PRE), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def delayed(steps=STEPS, **values):
    return nd.Sparse((PRE, POST), (N, M), weight=START, delay=steps * u.ms, **values)


@pytest.mark.parametrize("nearest", [False, True])
def test_stdp_against_a_loop_over_synapses(nearest):
    X, Y = trains(4, T, N), trains(5, T, M)
    pairing = "nearest" if nearest else "all"
    rule = nd.STDP(delayed(bias=0.5), w_max=1.0, A_plus=0.03, A_minus=0.04, mu_minus=0.5, pairing=pairing)
    w, x, y, decay = START.numpy().copy(), np.zeros(len(PRE)), np.zeros(M), math.exp(-1 / 20)
    for t in range(T):
        came = np.array([float(X[t - d, i]) if t >= d else 0.0 for d, i in zip(STEPS, PRE, strict=True)])
        sent = np.full(M, 0.5)
        np.add.at(sent, POST.numpy(), w * came)  # with the weight at the arrival
        assert abs(rule(X[t], Y[t]).numpy() - sent).max() < 1e-12
        x, y = x * decay, y * decay
        for k, j in enumerate(POST):
            w[k] = min(1, w[k] + 0.03 * x[k] * float(Y[t, j]))
            w[k] = max(0, w[k] - 0.04 * w[k] ** 0.5 * y[j] * came[k])
        x = np.where(came > 0, 1.0, x) if nearest else x + came
        y = np.where(Y[t] > 0, 1.0, y) if nearest else y + Y[t].numpy()
    assert_close(rule.weight.numpy(), w, rtol=1e-12, atol=1e-14)
    assert abs(w - START.numpy()).max() > 0.1


def test_as_brian2():
    """60 synapses with delays of 0 to 3 ms, of all values; recorded by reference/make_brian2_delays.py."""
    with np.load(Path(__file__).parents[1] / "reference" / "brian2_delays.npz") as file:
        found = dict(file)
    pairs, start = (torch.as_tensor(found["i"]), torch.as_tensor(found["j"])), torch.as_tensor(found["start"])
    X, Y = [torch.as_tensor(np.unpackbits(found[name], 0)[:1000]).double() for name in ("pre", "post")]
    delay = torch.as_tensor(found["delay"]) * 0.1 * u.ms
    connection = nd.Sparse(pairs, (20, 5), weight=start, delay=delay, dt=0.1 * u.ms)
    values = {"A_plus": 0.025, "A_minus": 0.02, "tau_minus": 30 * u.ms, "dt": 0.1 * u.ms}
    rule, sent = PreFirst(connection, w_max=1.0, **values), torch.zeros(5)
    for x, y in zip(X, Y, strict=True):
        sent += rule(x, y)
    assert_close(rule.weight.numpy(), found["w"], rtol=1e-10, atol=1e-12)
    assert_close(sent.numpy(), found["sent"], rtol=1e-10, atol=0)
    assert abs(found["w"] - found["start"]).mean() > 0.1


@pytest.mark.parametrize("weights", ["lasting", "each"])
@pytest.mark.parametrize("name", RULES)
def test_a_synapse_is_an_input_of_its_own(name, weights):
    build, kind = RULES[name]
    X, Y, given = trains(4, T, 2, N), trains(5, T, 2, M), signals(kind, 2)
    came = torch.zeros(T, 2, len(PRE))
    for k, (d, i) in enumerate(zip(STEPS.tolist(), PRE.tolist(), strict=True)):
        came[d:, :, k] = X[: T - d, :, i]
    single = nd.Sparse((torch.arange(len(PRE)), POST), (len(PRE), M), weight=START)
    found = teach(build(delayed(), weights=weights), X, Y, **given)
    assert_close(found, teach(build(single, weights=weights), came, Y, **given), rtol=1e-12, atol=1e-14)


def test_one_delay_for_all_is_that_of_a_projection():
    X, Y = trains(4, T, N), trains(5, T, M)
    one, plain = delayed(torch.tensor(3.0)), nd.Sparse((PRE, POST), (N, M), weight=START)
    rules = [nd.STDP(connection, w_max=1.0, A_plus=0.03) for connection in (one, plain)]
    assert rules[0].pre_size == (N,)  # as much work as without delays
    first, second = nd.Projection(rules[0]), nd.Projection(rules[1], delay=nd.Delay(N, 3 * u.ms))
    nd.reset_states(first)
    for x, y in zip(X, Y, strict=True):
        early = first.read()
        assert_close(first(x), second(x))
        assert_close(early, second.connection.sent(second.connection.arrived, second.connection.weight))
        first.learn(y)
        second.learn(y)
    assert_close(rules[0].weight, rules[1].weight, rtol=1e-12, atol=1e-14)
    rule = nd.STDP(delayed(), w_max=1.0)
    rule(X[0])
    with pytest.raises(ValueError, match=r"some delays are shorter than dt"):
        rule.read()


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.rule, self.neuron = nd.STDP(delayed(), w_max=1.0, A_plus=0.05), nd.LIF(M, tau=10 * u.ms)

    def forward(self, x):
        spikes = self.neuron(self.rule(x))
        self.rule.learn(spikes)
        return spikes


def test_compiled_plain_copied_saved_and_exported_are_the_same(tmp_path):
    X = trains(4, T, 3, N)
    compiled, plain = Layer(), Layer()
    ys = nd.unroll(compiled, X)
    assert bool(ys.any())
    assert_close(nd.unroll(plain, X, compile=False), ys)
    assert_close(plain.rule.weight, compiled.rule.weight)
    assert "step by step" not in "".join(nd.explain(compiled).path)
    nd.save(tmp_path / "file", net=plain)
    other = Layer()
    nd.load(tmp_path / "file", net=other)
    after = nd.unroll(copy.deepcopy(plain), X, compile=False)
    for twin in (other, pickle.loads(pickle.dumps(plain))):
        assert_close(nd.unroll(twin, X, compile=False), after)
    fresh = Layer()
    nd.reset_states(fresh, 3)
    program = torch.export.export(copy.deepcopy(fresh), (X[0],), strict=False).module()
    for x in X[:10]:
        assert_close(program(x), fresh(x))
    rule = nd.STDP(delayed(), w_max=1.0)
    rule(X[0], torch.ones(3, M))  # in a loop of one's own, without nd.reset_states
    assert nd.get_states(rule)["layout.axons.past"].shape == (3, 5, N)


def test_delays_that_are_set_later_are_followed():
    X, Y = trains(4, T, N), trains(5, T, M)
    rule = nd.STDP(delayed(), w_max=1.0, A_plus=0.03)
    teach(rule, X[:5], Y[:5])
    rule.connection.delay = (STEPS + 2).double() * u.ms
    rule.reset_parameters()
    nd.reset_states(rule)
    fresh = nd.STDP(delayed(STEPS + 2), w_max=1.0, A_plus=0.03)
    assert_close(teach(rule, X, Y), teach(fresh, X, Y))


def test_what_is_refused():
    with pytest.raises(TypeError, match=r"STDP: Sparse\(6, 4\) has delays between two steps, or that are learned"):
        nd.STDP(delayed(STEPS + 0.5, interpolation="linear"), w_max=1.0)
    with pytest.raises(ValueError, match=r"STDP\(4\) has dt=0.5 ms and the delays of its connection 1 ms"):
        nd.STDP(delayed(), w_max=1.0, dt=0.5 * u.ms)


class Recurrence(nn.Module):
    """Spikes come back by synapses with delays, whose output `read` gives before the spikes of the step are known."""

    def __init__(self, weights):
        super().__init__()
        connection = nd.Sparse((PRE % M, POST), (M, M), weight=START, delay=(STEPS + 1) * u.ms)
        self.back = nd.Projection(nd.STDP(connection, w_max=1.0, A_plus=0.05, weights=weights))
        self.neuron = nd.LIF(M, tau=10 * u.ms)

    def forward(self, I):
        spikes = self.neuron(self.back.read() + I)
        self.back.write(spikes)
        self.back.learn(spikes)
        return spikes


@pytest.mark.parametrize("weights", ["lasting", "each"])
def test_a_rule_that_is_read_is_compiled(weights):
    currents = 3 * torch.rand(40, 2, M, generator=torch.Generator().manual_seed(6))
    compiled, plain, loop = (Recurrence(weights) for _ in range(3))
    ys = nd.unroll(compiled, currents)
    assert "step by step" not in "".join(nd.explain(compiled).path)
    nd.reset_states(loop, 2)
    for other, found in ((plain, nd.unroll(plain, currents, compile=False)), (loop, [loop(I) for I in currents])):
        assert_close(torch.stack([*found]), ys)
        assert_close(other.back.connection.weight, compiled.back.connection.weight)
    assert (plain.back.connection.weight - START).abs().max() > 0.05
    compiled.back.connection.connection.delay = STEPS * u.ms
    with pytest.raises(ValueError, match=r"some delays are shorter than dt"):
        nd.unroll(compiled, currents)


@pytest.mark.parametrize("weights", ["lasting", "each"])
def test_no_synapses(weights):
    connection = nd.FixedProb(N, M, 0.0, weight=0.5, delay=2 * u.ms)
    rule = nd.STDP(connection, w_max=1.0, weights=weights)
    for compiles in (False, True):
        with torch.no_grad():
            ys = nd.unroll(rule, (trains(4, T, 3, N), trains(5, T, 3, M)), compile=compiles)
        assert torch.equal(ys, torch.zeros(T, 3, M))
    assert torch.equal(rule.read(), torch.zeros(3, M))
