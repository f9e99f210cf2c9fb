"""Spike times in continuous time, and their gradients, against finite differences and a fine grid."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.eventprop import spikes
from neurodyn.ops import native
from neurodyn.ops.event import PlainTorchWarning


def layer(inputs, outputs, tau, tau_s, **values):
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.uniform_(linear.weight, 1.5, 3.0)
    neuron = nd.LIF(outputs, tau=tau * u.ms, V_rest=-0.1 * u.mV, V_reset=-0.3 * u.mV, R=1 * u.Gohm, **values)
    return linear, nd.Expon(outputs, tau=tau_s * u.ms, learn="tau"), neuron


def network(tau, tau_s):
    delay = nd.Delay(4, 1.5 * u.ms, interpolation="linear", learn="delay")
    first = layer(3, 4, tau, tau_s, learn=("tau", "R", "V_th", "V_reset", "V_rest"))
    return nn.Sequential(*first, delay, *layer(4, 2, tau, tau_s))


@pytest.mark.parametrize(("tau", "tau_s"), [(10, 5), (8, 8), (5, 7)])
def test_gradients_are_those_of_finite_differences(tau, tau_s):
    net = network(tau, tau_s)
    with torch.no_grad():
        net[0].weight[0, 0] = -0.3  # one synapse inhibits
        net[0].weight.mul_(10 / (tau + tau_s))
    times = (15 * torch.rand(2, 3, 2)).requires_grad_()
    equal_finite_differences(net, times, 25.0, most=3)


def equal_finite_differences(net, times, until, most):
    found = nd.spike_times(net, times, until)
    counts = found.isfinite().sum(-1)
    assert int(counts.min()) >= 1
    assert int(counts.max()) >= most
    weights = torch.randn_like(found)

    def total():
        found = nd.spike_times(net, times, until)
        assert torch.equal(found.isfinite().sum(-1), counts)
        return (torch.where(found.isfinite(), found, 0.0) * weights).sum()

    total().backward()
    tensors = dict(net.named_parameters()) | {"times": times}
    assert all(bool(tensor.grad.any()) for tensor in tensors.values())
    # All at once, each with the same weight in the derivative.
    directions = {name: torch.randn_like(x) / x.grad.norm() for name, x in tensors.items()}
    starts, step, ends = {name: x.detach().clone() for name, x in tensors.items()}, 1e-4, {}
    with torch.no_grad():
        for k in (-2, -1, 0, 1, 2):
            for name, x in tensors.items():
                x.copy_(starts[name] + k * step * directions[name])
            ends[k] = total()
    wanted = (8 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12 * step)
    got = sum((tensors[name].grad * direction).sum() for name, direction in directions.items())
    assert abs(got - wanted) <= 1e-7 * sum((tensors[n].grad * d).sum().abs() for n, d in directions.items())


def recurrent(kind):
    """A layer whose spikes come back at once, later, or after delays of single synapses, of which some are 0."""
    linear = nn.Linear(3, 5, bias=False)
    nn.init.uniform_(linear.weight, 1.0, 2.5)
    values = {"interpolation": "linear", "learn": "delay"}
    delay = nd.Delay(5, 1.3 * u.ms, **values) if kind == "delay" else None
    if kind == "sparse":
        pre, post = torch.rand(5, 5).lt(0.7).nonzero().T
        weight, late = torch.randn(len(pre)) / 2, 3 * torch.rand(len(pre)) * (torch.rand(len(pre)) < 0.7)
        back = nd.Sparse((pre, post), (5, 5), weight=weight, learn="weight", delay=late * u.ms, interpolation="linear")
    else:
        back = nn.Linear(5, 5, bias=False)
        nn.init.normal_(back.weight, 0.0, 0.5)
    feedback = nd.Projection(back, synapse=nd.Expon(5, tau=5 * u.ms), delay=delay)
    neuron = nd.LIF(5, tau=10 * u.ms, V_rest=-0.1 * u.mV, V_reset=-0.3 * u.mV, R=1 * u.Gohm, learn=("tau", "V_th"))
    synapse = nd.Expon(5, tau=5 * u.ms, learn="tau" if kind == "delay" else ())
    if kind == "delay":  # one parameter for both synapses
        feedback.synapse = nd.Expon(5, tau=5 * u.ms, learn="tau")
        feedback.synapse.raw_tau = synapse.raw_tau
    return nn.Sequential(linear, synapse, nd.Recurrent(neuron, feedback))


@pytest.mark.parametrize("kind", ["at once", "delay", "sparse"])
def test_recurrent_gradients_are_those_of_finite_differences(kind):
    torch.manual_seed(2)
    equal_finite_differences(recurrent(kind), (15 * torch.rand(2, 3, 2)).requires_grad_(), 30.0, most=3)


def test_connections_with_delays_of_their_own():
    torch.manual_seed(1)
    pre, post = [0, 0, 1, 2, 2, 3], [0, 1, 1, 0, 1, 0]
    late, values = (
        [1.0, 2.0, 0.5, 3.0, 1.5, 2.5],
        {"interpolation": "linear", "learn": ("weight", "delay"), "dt": 0.1 * u.ms},
    )
    connection = nd.Sparse((pre, post), (4, 2), weight=1.5 + torch.rand(6), delay=late * u.ms, **values)
    net = nn.Sequential(*layer(3, 4, 10, 5), connection, *layer(4, 2, 10, 5)[1:])
    equal_finite_differences(net, (15 * torch.rand(2, 3, 2)).requires_grad_(), 40.0, most=3)
    twice = nd.Sparse(([0, 0], [1, 1]), (4, 2), weight=1.0, delay=[1.0, 2.0] * u.ms)
    with pytest.raises(ValueError, match="several synapses with delays"):
        nd.spike_times(nn.Sequential(twice, *layer(4, 2, 10, 5)[1:]), torch.rand(4, 1), 40.0)


def test_any_connection_is_its_matrix():
    times, weight = 15 * torch.rand(3, 4, 2), 1.5 + torch.rand(4, 4)
    tail = layer(4, 4, 10, 5)[1:]
    pairs = torch.ones(4, 4).nonzero().T
    mask = torch.ones(4, 4) - torch.eye(4)
    for one, other in (
        (nd.Sparse((pairs[0], pairs[1]), (4, 4), weight=weight.T.flatten()), nd.AllToAll(4, 4, weight=weight)),
        (nd.AllToAll(4, 4, weight=2.0, include_self=False), nd.MaskedLinear(4, 4, mask, weight=2.0)),
        (nd.OneToOne(4, weight=3.0), nd.AllToAll(4, 4, weight=3.0 * torch.eye(4))),
        (nd.Projection(nd.AllToAll(4, 4, weight=2.0), synapse=tail[0]), None),
    ):
        other = nn.Sequential(nd.AllToAll(4, 4, weight=2.0), tail[0]) if other is None else other
        ends = [tail[1]] if isinstance(one, nd.Projection) else tail
        found = [nd.spike_times(nn.Sequential(front, *ends), times, 40.0) for front in (one, other)]
        assert bool(found[0].isfinite().any())
        torch.testing.assert_close(*found, rtol=0, atol=1e-12)


def test_unroll_takes_and_gives_spikes_on_a_grid():
    net = network(10, 5)
    xs = (torch.rand(250, 2, 3) < 0.03).double()
    steps = [[xs[:, b, i].nonzero()[:, 0] for i in range(3)] for b in range(2)]
    times = torch.full((2, 3, max(len(x) for row in steps for x in row)), math.inf)
    for b, i in ((b, i) for b in range(2) for i in range(3)):
        times[b, i, : len(steps[b][i])] = steps[b][i].double()
    xs.requires_grad_()
    found = nd.spike_times(net, times, 249.0)
    ys = nd.unroll(net, xs, gradient="eventprop")
    assert ys.shape == (250, 2, 2)
    real, k = found.isfinite(), torch.arange(250.0)[:, None, None]
    torch.testing.assert_close(ys.sum(0), real.sum(-1).double())
    torch.testing.assert_close((k * ys).sum(0), torch.where(real, found, 0.0).sum(-1))
    first = nd.losses.first_spike_times(ys)
    torch.testing.assert_close(first, found[..., 0])
    parameters = list(net.parameters())
    got = torch.autograd.grad(first.sum(), [*parameters, xs])
    wanted = torch.autograd.grad(found[..., 0].sum(), parameters)
    for a, b in zip(got, wanted, strict=False):
        torch.testing.assert_close(a, b)
    place = got[-1].abs().argmax()  # a larger input is a larger jump
    bigger = xs.detach().clone()
    ends = []
    for change in (1e-5, -1e-5):
        bigger.view(-1)[place] = 1 + change
        with torch.no_grad():
            ends.append(nd.losses.first_spike_times(nd.unroll(net, bigger, gradient="eventprop")).sum())
    assert abs((ends[0] - ends[1]) / 2e-5 / got[-1].flatten()[place] - 1) < 1e-6


def test_unroll_says_what_it_does_not_take():
    net, xs = network(10, 5), torch.zeros(5, 3)
    with pytest.raises(ValueError, match=r"gradient must be 'surrogate' or 'eventprop', got 'exact'"):
        nd.unroll(net, xs, gradient="exact")
    with pytest.raises(TypeError, match=r"without states of steps; leave out return_states, record"):
        nd.unroll(net, xs, gradient="eventprop", record="2.V", return_states=True)
    with pytest.raises(ValueError, match=r"xs has shape \(5, 4\), wanted \(T, \*batch, 3\)"):
        nd.unroll(net, torch.zeros(5, 4), gradient="eventprop")
    with pytest.raises(TypeError, match=r"got Linear, ALIF"):
        nd.unroll(nn.Sequential(nn.Linear(3, 2, bias=False), nd.ALIF(2)), xs, gradient="eventprop")
    with pytest.raises(RuntimeError, match=r"cannot be exported, nor run inside torch\.func"):
        torch.func.vmap(lambda x: nd.unroll(net, x, gradient="eventprop"))(xs[None])
    assert not bool(nd.Unroll(net, gradient="eventprop")(xs).any())


def test_a_grid_comes_to_the_same_times_as_it_gets_finer():
    """Each spike of a grid is up to a step late, and so are those that follow from it."""
    dt = 0.01
    net = nn.Sequential(*layer(3, 4, 10, 5))
    times = 15 * torch.rand(3, 2)
    exact = nd.spike_times(net, times, 40.0)
    neuron = nd.LIF(4, tau=10 * u.ms, V_rest=-0.1 * u.mV, V_reset=-0.3 * u.mV, R=1 * u.Gohm, dt=dt * u.ms)
    grid = nn.Sequential(net[0], nd.Expon(4, tau=5 * u.ms, dt=dt * u.ms), neuron)
    neuron.V = torch.full((4,), -0.1)
    xs = torch.zeros(4000, 3)
    for i in range(3):
        xs[(times[i] / dt).long(), i] = 1
    states = {"1.g": torch.zeros(4), "2.V": torch.full((4,), -0.1)}
    with torch.no_grad():
        spikes = nd.unroll(grid, xs, states=states, compile=False)
    for n in range(4):
        mine = exact[n][exact[n].isfinite()]
        theirs = dt * (1 + spikes[:, n].nonzero()[:, 0])
        assert len(mine) == len(theirs) >= 1
        assert (mine - theirs).abs().max() < 10 * dt


def test_the_same_times_in_any_order_and_batch():
    net = network(10, 5)
    times = 15 * torch.rand(2, 3, 3, 2)
    found = nd.spike_times(net, times, 40.0)
    torch.testing.assert_close(nd.spike_times(net, times.flip(-1), 40.0), found, rtol=0, atol=1e-12)
    one = nd.spike_times(net, times[1, 2], 40.0)
    torch.testing.assert_close(one, found[1, 2, :, : one.shape[-1]], rtol=0, atol=1e-12)
    padded = torch.cat((times, torch.full_like(times, math.inf)), -1)
    torch.testing.assert_close(nd.spike_times(net, padded, 40.0), found, rtol=0, atol=1e-12)
    assert bool((found[found.isfinite()] <= 40).all())
    shorter = nd.spike_times(net, times, 10.0)
    assert torch.equal(shorter.isfinite().sum(-1), (found <= 10).sum(-1))


@pytest.mark.parametrize(("tau", "tau_s"), [(10, 5), (8, 8), (5, 7)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_without_a_compiler_the_same_times_and_a_warning(tau, tau_s, dtype, tolerance, monkeypatch):
    net = network(tau, tau_s).to(dtype)
    with torch.no_grad():
        net[0].weight[0, 0] = -0.3
    others = [recurrent(kind).to(dtype) for kind in ("at once", "delay", "sparse")]
    times = 15 * torch.rand(5, 3, 2, dtype=dtype)
    times[1, 2, 1] = math.inf
    found, more = nd.spike_times(net, times, 25.0), [nd.spike_times(other, times, 25.0) for other in others]
    assert int(found.isfinite().sum(-1).max()) >= 3

    def load(*_):
        raise native.NotAvailable("no compiler")

    monkeypatch.setattr(native, "load", load)
    spikes._library.cache_clear()
    with pytest.warns(PlainTorchWarning, match=r"nd\.spike_times runs in plain torch.*no compiler"):
        plain = nd.spike_times(net, times, 25.0)
    for other, wanted in zip(others, more, strict=True):
        torch.testing.assert_close(nd.spike_times(other, times, 25.0), wanted, rtol=0, atol=tolerance)
    spikes._library.cache_clear()
    assert plain.shape == found.shape
    torch.testing.assert_close(plain, found, rtol=0, atol=tolerance)


def test_silence_has_gradients_of_zero():
    net = network(10, 5)
    with torch.no_grad():
        net[0].weight.mul_(1e-3)
    found = nd.spike_times(net, 15 * torch.rand(3, 2), 40.0)
    assert not bool(found.isfinite().any())
    torch.where(found.isfinite(), found, 0.0).sum().backward()
    assert all(p.grad is None or not bool(p.grad.any()) for p in net.parameters())


def test_wrong_networks_and_times():
    linear, synapse, neuron = layer(3, 4, 10, 5)
    with pytest.raises(TypeError, match=r"nn\.Linear\(bias=False\), .* nd\.Expon, and nd\.LIF .* got Linear, LIF"):
        nd.spike_times(nn.Sequential(linear, neuron), torch.rand(3, 1), 10.0)
    with pytest.raises(TypeError, match=r"has a bias, a jump at no moment.* Got Linear, Expon, LIF"):
        nd.spike_times(nn.Sequential(nn.Linear(3, 4), synapse, neuron), torch.rand(3, 1), 10.0)
    with pytest.raises(ValueError, match=r"times has shape \(4, 1\), wanted \(\*batch, 3, K\)"):
        nd.spike_times(nn.Sequential(linear, synapse, neuron), torch.rand(4, 1), 10.0)
    neuron = nd.LIF(4, V_rest=2 * u.mV)
    with pytest.raises(ValueError, match=r"LIF\(4\) must have V_th above V_rest and V_reset"):
        nd.spike_times(nn.Sequential(linear, synapse, neuron), torch.rand(3, 1), 10.0)
    different = recurrent("at once")
    different[2].feedback.synapse.tau = 6 * u.ms
    with pytest.raises(ValueError, match=r"have different tau.*give both nd\.Expon the same"):
        nd.spike_times(different, torch.rand(3, 1), 10.0)
    with pytest.raises(TypeError, match="with the feedback Linear"):
        nd.spike_times(nn.Sequential(linear, synapse, nd.Recurrent(neuron, nn.Linear(4, 4))), torch.rand(3, 1), 10.0)
    wild = recurrent("at once")
    nn.init.constant_(wild[2].feedback.connection.weight, 300.0)
    with pytest.raises(RuntimeError, match=r"spike more than 10000 times until 200 ms.*delay=nd\.Delay"):
        nd.spike_times(wild, torch.rand(3, 1), 200.0)


@pytest.mark.parametrize(
    ("label", "name", "value"),
    [(r"LIF\(4\): the weight of Linear\(.*", "0.weight", x) for x in (math.nan, math.inf, -math.inf)]
    + [(rf"LIF\(4\): {name}", f"2.{name}", math.nan) for name in ("tau", "R", "V_th", "V_reset", "V_rest")]
    + [
        (r"LIF\(4\), Expon\(4\): tau", "1.tau", math.nan),
        (r"LIF\(2\): the delay of its inputs", "3.delay", math.nan),
        (r"LIF\(2\): the weight of Linear\(.*", "4.weight", math.inf),
        (r"LIF\(5\): the weight of Linear\(.*", "2.feedback.connection.weight", math.inf),
    ],
)
def test_nan_and_infinities_are_refused_with_the_layer_and_what_holds_them(label, name, value):
    net = recurrent("at once") if "feedback" in name else network(10, 5)
    place, part = name.rpartition(".")[::2]
    module = net.get_submodule(place)
    with torch.no_grad():
        getattr(module, f"raw_{part}", getattr(module, part)).view(-1)[0] = value
    kind = "NaN" if math.isnan(value) else "an infinity"
    with pytest.raises(ValueError, match=f"{label} .*holds {kind}, with which there are no spike times"):
        nd.spike_times(net, torch.rand(3, 2), 20.0)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("weight", [1e6, 1e30])
def test_a_layer_without_feedback_has_a_bound_of_its_spikes(weight, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(spikes, "function_for", lambda *_: None)
        monkeypatch.setattr("neurodyn.eventprop.layer._MOST", 50)
    linear, *others = layer(1, 1, 10, 5)
    nn.init.constant_(linear.weight, weight)
    most = 10_000 if compiled else 50
    with pytest.raises(RuntimeError, match=rf"'2', LIF\(1\): .* more than {most} times until 40 ms; make its weights"):
        nd.spike_times(nn.Sequential(linear, *others), torch.ones(1, 1), 40.0)
    nn.init.constant_(linear.weight, 20.0)  # at most as many as there may be are found, on both ways
    found = nd.spike_times(nn.Sequential(linear, *others), torch.ones(1, 1), 40.0)
    count = int(found.isfinite().sum())
    monkeypatch.setattr("neurodyn.eventprop.layer._MOST", count)
    assert torch.equal(nd.spike_times(nn.Sequential(linear, *others), torch.ones(1, 1), 40.0), found)
    monkeypatch.setattr("neurodyn.eventprop.layer._MOST", count - 1)
    with pytest.raises(RuntimeError, match=f"more than {count - 1} times"):
        nd.spike_times(nn.Sequential(linear, *others), torch.ones(1, 1), 40.0)


@pytest.mark.parametrize("way", ["times", "grid", "recurrent"])
def test_derivatives_of_gradients_are_refused(way):
    net = recurrent("delay") if way == "recurrent" else network(10, 5)
    if way == "grid":
        times, step = (torch.rand(40, 3) < 0.2).double().requires_grad_(), torch.arange(40.0)[:, None]
        value = (step * nd.unroll(net, times, gradient="eventprop")).sum()
    else:
        times = (15 * torch.rand(3, 2)).requires_grad_()
        found = nd.spike_times(net, times, 30.0)
        value = found[found.isfinite()].sum()
    parameters = [*net.parameters(), times]
    plain = torch.autograd.grad(value, parameters, retain_graph=True)
    gradients = torch.autograd.grad(value, parameters, create_graph=True)
    for one, other in zip(plain, gradients, strict=True):
        assert torch.equal(one, other)
    for gradient in gradients:
        for parameter in parameters:
            with pytest.raises(RuntimeError, match=r"spike times have first derivatives only.*create_graph=True"):
                torch.autograd.grad(gradient.sum(), parameter, retain_graph=True, allow_unused=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        (value + gradients[0].square().sum()).backward()


def test_several_spikes_in_the_step_of_the_first_are_warned_of():
    linear, synapse, neuron = layer(1, 2, 10, 5)
    net, xs = nn.Sequential(linear, synapse, neuron), torch.zeros(60, 1)
    xs[3] = 1
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[20.0], [15.0]]))
    exact = nd.spike_times(net, torch.tensor([[3.0]]), 59.0)[:, 0]
    torch.testing.assert_close(nd.losses.first_spike_times(nd.unroll(net, xs, gradient="eventprop")), exact)
    for weight in (60.0, 200.0):
        nn.init.constant_(linear.weight[1:], weight)
        found = nd.spike_times(net, torch.tensor([[3.0]]), 59.0)
        with pytest.warns(
            nd.TimeStepWarning, match=r"a neuron of '2', LIF\(2\) spikes twice or more in the dt=1 ms of"
        ):
            ys = nd.unroll(net, xs, gradient="eventprop")
        late = found[:, 0] - nd.losses.first_spike_times(ys)
        assert abs(late[0]) < 1e-12
        assert 0 < late[1] < 1
        torch.testing.assert_close(ys.sum(0), found.isfinite().sum(-1).double())


def test_sizes_are_those_of_the_grid():
    values = {"tau": 10 * u.ms, "R": 1 * u.Gohm}
    wide = nd.FixedProb((2, 3), (2, 2), 0.9, weight=1.0)
    xs = (torch.rand(20, 3, 2, 3) < 0.2).double()
    taus = torch.tensor([[8.0], [12.0]])
    for neuron in (nd.LIF((), **values), nd.LIF((2, 2), **values), nd.LIF((2, 2), tau=taus * u.ms, R=1 * u.Gohm)):
        net = nn.Sequential(wide, nd.Expon(()), neuron)
        ys = nd.unroll(net, xs, gradient="eventprop")
        assert ys.shape == nd.unroll(net, xs, compile=False).shape == (20, 3, 2, 2)
        assert bool(ys.any())
    each = nd.LIF((2, 2), tau=taus.expand(2, 2) * u.ms, R=1 * u.Gohm)  # the taus of the rows
    assert torch.equal(nd.unroll(nn.Sequential(wide, nd.Expon(()), each), xs, gradient="eventprop"), ys)


def test_what_does_not_fit_is_refused():
    linear, synapse, neuron = layer(5, 4, 10, 5)
    times = torch.rand(5, 2)
    back = nn.Sequential(nn.Linear(4, 5, bias=False), nd.Expon(5, tau=5 * u.ms))
    three, samples = torch.tensor([5.0, 6.0, 7.0]) * u.ms, torch.tensor([[5.0], [9.0], [15.0]]) * u.ms
    for match, *parts in (
        (r"'2', LIF\(4\): Expon\(3\) stands behind Linear.*gives \(4,\)", linear, nd.Expon(3), neuron),
        (r"'3', LIF\(4\): Delay\(4\) stands before Linear.*takes \(5,\)", nd.Delay(4, 1 * u.ms), *layer(5, 4, 10, 5)),
        (r"'2', LIF\(3\) stands behind Linear.*gives \(4,\)", linear, synapse, nd.LIF(3)),
        (r"'2', LIF\(2, 2\) stands behind Linear.*gives \(4,\)", linear, synapse, nd.LIF((2, 2))),
        (r"'5', LIF\(3\): Linear.* takes \(6,\), and the layer before it gives \(4,\)",
         linear, synapse, neuron, *layer(6, 3, 10, 5)),
        (r"'2.cell', LIF\(4\): its feedback, Linear.*, takes \(4,\) and gives \(5,\); wanted \(4,\) on both sides",
         linear, synapse, nd.Recurrent(neuron, back)),
        (r"Expon\(\): tau has shape \(3,\)", linear, nd.Expon((), tau=three), neuron),
        (r"'2', LIF\(4\): tau has shape \(3, 1\), .* one for each, \(4,\)", linear, synapse, nd.LIF(4, tau=samples)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            nd.spike_times(nn.Sequential(*parts), times, 20.0)
    net = nn.Sequential(linear, synapse, neuron)
    with pytest.raises(ValueError, match=r"xs has no time step, its shape is \(0, 3, 5\)"):
        nd.unroll(net, torch.zeros(0, 3, 5), gradient="eventprop")
    with pytest.raises(TypeError, match=r"wanted an nn\.Sequential of layers.* got nothing"):
        nd.unroll(nn.Sequential(), torch.zeros(2, 5), gradient="eventprop")
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(TypeError, match=rf"'2', LIF\(4\) .* are in {dtype}; .* net\.float\(\)"):
            nd.spike_times(net.to(dtype), times, 20.0)
    net.float()
    linear.double()
    with pytest.raises(TypeError, match=r"are in torch\.float32, torch\.float64"):
        nd.spike_times(net, times, 20.0)


def test_times_of_another_dtype_and_autocast():
    net = network(10, 5).float()
    times = 15 * torch.rand(3, 2)
    found = nd.spike_times(net, times.float(), 25.0)
    assert torch.equal(nd.spike_times(net, times, 25.0), found)  # of float64
    gradients = []
    for enabled in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found = nd.spike_times(net, times, 25.0)
        found[found.isfinite()].sum().backward()
        gradients.append(net[0].weight.grad.clone())
    assert torch.equal(*gradients)
