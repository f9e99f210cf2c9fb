"""A rule inside a network: a loop of one's own, `unroll`, `Projection`, files, gradients, and what is refused."""

import copy
import pickle

import pint
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u

XS = (torch.rand(40, 3, 6, generator=torch.Generator().manual_seed(5)) < 0.3).double()


class Layer(nn.Module):
    def __init__(self, rule):
        super().__init__()
        self.rule, self.neuron = rule, nd.LIF(4, tau=10 * u.ms)

    def forward(self, x):
        spikes = self.neuron(self.rule(x))
        self.rule.learn(spikes)
        return spikes


def sparse(**values):
    return nd.FixedProb(6, 4, 0.5, weight=0.5, generator=torch.Generator().manual_seed(1), **values)


def made(weights="lasting", connection=None, **values):
    values = {"w_max": 2.0, "A_plus": 0.05, "A_minus": 0.03} | values
    return Layer(nd.STDP(sparse() if connection is None else connection, weights=weights, **values))


def test_compiled_plain_and_a_loop_of_ones_own_are_the_same():
    compiled, plain, own = made(), made(), made()
    ys = nd.unroll(compiled, XS)
    assert_close(nd.unroll(plain, XS, compile=False), ys)
    nd.reset_states(own, 3)
    assert_close(torch.stack([own(x) for x in XS]), ys)
    for net in (plain, own):
        for name, value in nd.get_states(compiled).items():
            assert_close(nd.get_states(net)[name], value)
    assert "step by step" not in "".join(nd.explain(compiled).path)
    assert compiled.rule.weight.std() > 0.1


def test_what_is_learned_stays_and_is_saved(tmp_path):
    net = made()
    nd.unroll(net, XS, compile=False)
    once = net.rule.weight.clone()
    nd.unroll(net, XS, compile=False)
    assert not torch.equal(net.rule.weight, once)
    assert net.rule.connection.weight.unique().tolist() == [0.5]
    nd.save(tmp_path / "file", net=net)
    other = made(connection=nd.FixedNum(6, 4, 3, weight=0.1, generator=torch.Generator()))  # other synapses
    nd.load(tmp_path / "file", net=other)
    for twin in (other, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert_close(twin.rule.weight, net.rule.weight)
        assert_close(nd.unroll(twin, XS, compile=False), nd.unroll(copy.deepcopy(net), XS, compile=False))
    net.rule.reset_parameters()
    assert net.rule.weight.unique().tolist() == [0.5]


@pytest.mark.parametrize("kind", ["restarting", "each"])
def test_others_begin_again(kind):
    net = made(kind, sparse(learn="weight"))
    runs = []
    for _ in range(2):
        nd.unroll(net, XS, compile=False)
        runs.append(net.rule.weight.detach().clone())
    assert_close(*runs)
    assert "rule.weight" not in net.state_dict()


def test_the_gradient_reaches_where_the_weights_begin():
    def loss(weight, **options):
        rule = nd.STDP(nd.OneToOne(2, weight=weight), w_max=2.0, A_plus=0.3, mu_plus=1.0, weights="restarting")
        xs = (torch.rand(2, 20, 2, generator=torch.Generator().manual_seed(1)) < 0.4).double()

        class Teacher(nn.Module):
            def __init__(self):
                super().__init__()
                self.rule = rule

            def forward(self, pre, post):
                return self.rule(pre, post)

        return (nd.unroll(Teacher(), tuple(xs), compile=False, **options) ** 2).sum()

    start = torch.tensor([0.5, 0.7])
    weight = nn.Parameter(start.clone())
    (gradient,) = torch.autograd.grad(loss(weight), weight)
    (again,) = torch.autograd.grad(loss(weight, checkpoint=6), weight)
    assert_close(again, gradient)
    for k in range(2):
        step = torch.zeros(2)
        step[k] = 1e-6
        assert abs((loss(start + step) - loss(start - step)).item() / 2e-6 - gradient[k].item()) < 1e-6


def test_a_lasting_weight_is_no_parameter():
    layer = nn.Linear(6, 4)
    nn.init.uniform_(layer.weight, 0, 1)
    net = made(connection=layer)
    assert [name for name, _ in net.named_parameters()] == ["rule.connection.bias"]
    nd.unroll(net, XS, compile=False).sum().backward()
    assert layer.bias.grad.any()


def test_in_a_projection_with_a_delay():
    """The rule sees spikes when they arrive."""

    def run(delay, xs):
        rule = nd.STDP(sparse(), w_max=2.0, A_plus=0.05)
        late = nd.Delay(6, delay * u.ms) if delay else None
        projection, neuron = nd.Projection(rule, delay=late, synapse=nd.Expon(4)), nd.LIF(4)
        nd.reset_states(nn.ModuleList([projection, neuron]), 3)
        for x in xs:
            projection.learn(neuron(projection(x)))
        return rule.weight

    silent = torch.zeros(4, 3, 6)
    assert_close(run(4, torch.cat((XS, silent))), run(0, torch.cat((silent, XS))))
    with pytest.raises(TypeError, match=r"Linear.* does not learn; build it with a rule"):
        nd.Projection(nn.Linear(2, 2)).learn(torch.zeros(2))


def test_a_weight_has_its_unit_in_a_projection():
    weight = u.quantity(0.5, "nS")
    connection = nd.FixedNum(6, 4, 2, weight=weight, generator=torch.Generator())
    nd.Projection(nd.STDP(connection, w_max=1 * u.nS), output=nd.COBA(E=0 * u.mV))
    connection = nd.FixedNum(6, 4, 2, weight=0.5 * u.mV, generator=torch.Generator())
    with pytest.raises(pint.DimensionalityError, match="COBA takes a conductance"):
        nd.Projection(nd.STDP(connection, w_max=1 * u.mV), output=nd.COBA(E=0 * u.mV))


def test_a_rule_follows_synapses_that_are_edited():
    random = torch.Generator().manual_seed(2)
    kept, edited = made(), made()
    nd.unroll(edited, XS[:3], compile=False)
    other = torch.randint(4, kept.rule.connection.indices.shape, dtype=torch.int32, generator=random)
    for net in (kept, edited):
        net.rule.reset_parameters()
    kept.rule.connection.indices = other
    edited.rule.connection.indices.copy_(other)
    fresh = made(connection=nd.Sparse((kept.rule.connection.pre_index, other), (6, 4), weight=0.5))
    assert_close(nd.unroll(kept, XS), nd.unroll(fresh, XS))
    assert_close(nd.unroll(edited, XS, compile=False), nd.unroll(made(connection=fresh.rule.connection), XS))
    for net in (kept, edited):
        assert_close(net.rule.weight, fresh.rule.weight)


def test_export():
    net = made()
    nd.reset_states(net, 3)
    program = torch.export.export(copy.deepcopy(net), (XS[0],), strict=False).module()
    for x in XS[:10]:
        assert_close(program(x), net(x))
    assert_close(dict(program.named_buffers())["rule.weight"], net.rule.weight)


def test_a_rule_of_ones_own():
    class Hebb(nd.Plasticity):
        rate = nd.param(0.1)
        spikes = nd.state(0.0, shape="synapses")

        def change(self, pre, post, weight, spikes):
            return weight + self.rate * self.outer(post, pre), spikes + self.pairs(post, pre)

    rule = Hebb(nn.Linear(2, 3, bias=False), w_max=None)
    start = rule.weight.clone()
    rule(torch.ones(4, 2), torch.eye(4)[:, :3])
    assert rule.spikes.shape == (4, 3, 2)
    assert_close(rule.weight, start + 0.1 / 4)


class Wrong(nd.Plasticity):
    trace = nd.state(0.0, shape="size")

    def change(self, pre, post, weight, trace):
        return weight.sum(), trace


def test_what_is_refused():
    one = lambda weight=0.5, n=2, **v: nd.OneToOne(n, weight=torch.full((n,), weight), **v)  # noqa: E731
    for connection in (nn.Conv1d(2, 2, 3), nd.ScaledWSLinear(2, 2), nd.LIF(2), nd.SignedLinear(2, 2)):
        with pytest.raises(
            TypeError, match=f"STDP: the connection is {type(connection).__name__}, which has no weight"
        ):
            nd.STDP(connection, w_max=1.0)
    with pytest.raises(TypeError, match=r"STDP\(2\): w_max is required, the bound of the weights: w_max=1"):
        nd.STDP(one())
    with pytest.raises(ValueError, match=r"STDP\(2\): the weights lie from -0.5 to -0.5, wanted 0 to w_max=1"):
        nd.STDP(one(-0.5), w_max=1.0)
    with pytest.raises(ValueError, match="wanted 0 to w_max=-1"):
        nd.STDP(one(), w_max=-1.0)
    with pytest.raises(ValueError, match=r"wanted 0 to w_max=0\.4"):
        nd.STDP(one(), w_max=0.4)
    with pytest.raises(ValueError, match="w_max must not be 0"):
        nd.STDP(one(), w_max=0.0)
    with pytest.raises(TypeError, match=r"w_max is required.*nS"):
        nd.STDP(nd.FixedNum(2, 2, 1, weight=0.5 * u.nS))
    with pytest.raises(pint.DimensionalityError, match="w_max"):
        nd.STDP(nd.FixedNum(2, 2, 1, weight=0.5 * u.nS), w_max=1 * u.mV)
    with pytest.raises(TypeError, match="tau_plus needs a unit"):
        nd.STDP(one(), w_max=1.0, tau_plus=20.0)
    with pytest.raises(ValueError, match="tau_plus has 2 values, wanted one for all"):
        nd.STDP(one(), w_max=1.0, tau_plus=[20.0, 30.0] * u.ms)
    with pytest.raises(ValueError, match="mu_plus must be a number, 0 or positive, got -1"):
        nd.STDP(one(), w_max=1.0, mu_plus=-1)
    with pytest.raises(ValueError, match="pairing must be 'all' or 'nearest', got 'some'"):
        nd.STDP(one(), w_max=1.0, pairing="some")
    with pytest.raises(ValueError, match="weights must be 'lasting', 'restarting' or 'each', got 'kept'"):
        nd.STDP(one(), w_max=1.0, weights="kept")


def test_what_is_refused_at_a_call():
    rule = nd.STDP(nd.OneToOne(2, weight=0.5), w_max=1.0)
    with pytest.raises(nd.UnsetState, match=r"learn\(\) comes after the presynaptic spikes"):
        rule.learn(torch.ones(2))
    with pytest.raises(ValueError, match=r"the input has shape \(3,\), wanted \(\*batch, 2\)"):
        rule(torch.ones(3))
    rule(torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"learn: post has shape \(2,\), wanted \(4, 2\)"):
        rule.learn(torch.ones(2))
    with pytest.raises(TypeError, match="reward without post"):
        rule(torch.ones(4, 2), reward=1.0)
    with pytest.raises(ValueError, match="the state weight with shape"):
        Wrong(nd.OneToOne(2))(torch.ones(2), torch.ones(2))
    with pytest.raises(NotImplementedError, match="Plasticity defines no change"):
        nd.Plasticity(nd.OneToOne(2))(torch.ones(2), torch.ones(2))
