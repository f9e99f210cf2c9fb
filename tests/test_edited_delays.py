"""Delays that are edited in place or assigned are used by everything that runs, at once."""

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def sparse():
    pairs = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 2])
    return nn.Sequential(nd.Sparse(pairs, (3, 3), weight=1.0, delay=1 * u.ms), nd.Expon(3))


def dense():
    return nn.Sequential(nd.Delay(3, delay=1 * u.ms), nd.Expon(3))


def assign(net):
    net[0].delay = 4 * u.ms


def fill(net, delay=4.0):
    with torch.no_grad():
        getattr(net[0], "delays", net[0]).delay.fill_(delay)


XS = torch.rand(14, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_hand(make, edit, when):
    """The outputs of single steps, with an edit before step `when`."""
    net = make()
    nd.reset_states(net)
    ys = []
    with torch.no_grad():
        for t, x in enumerate(XS):
            if t == when:
                edit(net)
            ys.append(net(x))
    return torch.stack(ys)


def again(stream):
    """The stream, or another one where a state has changed its shape, which it says."""
    if isinstance(stream.net[0], nd.Delay):
        return stream
    with pytest.raises(ValueError, match=r"arrivals.pending has shape .* make another nd.Stream"):
        stream(XS[0])
    return nd.Stream(stream.net, XS[0])


@pytest.mark.parametrize("make", [sparse, dense])
@pytest.mark.parametrize("edit", [assign, fill])
def test_before_a_run(make, edit):
    wanted = by_hand(make, edit, 0)
    for run in ("simulate", "unroll", "stream"):
        for compile in (True, False) if run != "stream" else (True,):
            net = make()
            nd.simulate(net, 5 * u.ms, nd.series(XS[:5]), compile=compile)
            stream = nd.Stream(net, XS[0])
            edit(net)
            if run == "simulate":
                ys = nd.simulate(net, 14 * u.ms, nd.series(XS), ["output"], compile=compile)["output"].values
            elif run == "unroll":
                ys = nd.unroll(net, XS, compile=compile)
            else:
                nd.reset_states(net)
                stream = again(stream)
                ys = torch.stack([stream(x) for x in XS])
            torch.testing.assert_close(ys, wanted, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("make", [sparse, dense])
@pytest.mark.parametrize("edit", [assign, fill])
@pytest.mark.parametrize("compile", [True, False])
def test_within_a_run(make, edit, compile):
    """What is on its way when delays become longer stays so."""
    wanted, net = by_hand(make, edit, 7), make()
    every = (7 * u.ms, lambda net, t: edit(net))
    run = nd.simulate(net, 14 * u.ms, nd.series(XS), ["output"], every=every, compile=compile)
    torch.testing.assert_close(run["output"].values, wanted, rtol=1e-12, atol=0.0)
    net = make()
    nd.reset_states(net)
    stream, ys = nd.Stream(net, XS[0]), []
    for t, x in enumerate(XS):
        if t == 7:
            edit(net)
            stream = again(stream)
        ys.append(stream(x))
    torch.testing.assert_close(torch.stack(ys), wanted, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("make", [sparse, dense])
@pytest.mark.parametrize("delay", [12.0, 2.0])
def test_states_go_with_the_delays(make, delay, tmp_path):
    """Those that are taken after an edit fit the network, also when it is loaded again."""
    net, other = make(), make()
    for one in (net, other):
        nd.simulate(one, 5 * u.ms, nd.series(XS[:5]), compile=False)
        fill(one, delay)
    states = nd.get_states(net)
    nd.save(tmp_path / "net.safetensors", net=net, states=states)
    found = nd.simulate(net, 9 * u.ms, nd.series(XS[5:]), ["output"], states=states, compile=False)["output"].values
    with torch.no_grad():
        wanted = torch.stack([other(x) for x in XS[5:]])
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0.0)
    loaded = make()
    states = nd.load(tmp_path / "net.safetensors", net=loaded)["states"]
    again = nd.simulate(loaded, 9 * u.ms, nd.series(XS[5:]), ["output"], states=states, compile=False)
    torch.testing.assert_close(again["output"].values, wanted, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("make", [sparse, dense])
def test_states_of_a_net_are_set_in_one_with_the_same_edit(make):
    net, other = make(), make()
    for one in (net, other):
        fill(one, 12.0)
    nd.simulate(net, 5 * u.ms, nd.series(XS[:5]), compile=False)
    states = nd.get_states(net)
    nd.set_states(other, states)
    with torch.no_grad():
        wanted = torch.stack([net(x) for x in XS[5:]])
        torch.testing.assert_close(torch.stack([other(x) for x in XS[5:]]), wanted, rtol=0.0, atol=0.0)
    another = make()
    fill(another, 12.0)
    torch.testing.assert_close(nd.unroll(another, XS[5:], states=states), wanted, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("value", [2.5 * u.ms, -1 * u.ms, torch.tensor(float("nan")), torch.ones(7)])
def test_a_refused_delay_leaves_the_one_of_before(value):
    for layer in (nd.Delay(3, delay=2 * u.ms), sparse()[0]):
        before = layer.delay.clone()
        with pytest.raises(ValueError, match="delay"):
            layer.delay = value
        assert torch.equal(layer.delay, before)


def test_whole_numbers_become_a_delay_that_can_be_loaded():
    layer, other = nd.Delay(3, delay=2 * u.ms), nd.Delay(3, delay=2 * u.ms)
    layer.delay = torch.tensor(4)
    assert layer.delay.dtype is torch.float64
    other.load_state_dict(layer.state_dict())
    assert float(other.delay) == 4.0


def test_the_bound_of_a_learned_delay_is_set_and_the_delay_stays():
    layer = nd.Delay(3, delay=2 * u.ms, learn="delay", interpolation="linear", max_delay=6 * u.ms)
    layer.max_delay = 12 * u.ms
    assert layer.length == 12
    torch.testing.assert_close(layer.delay.detach(), torch.tensor(2.0), rtol=1e-12, atol=0.0)
    with pytest.raises(ValueError, match="delay must be between dt and max_delay, got 2 ms"):
        layer.max_delay = 1.5 * u.ms
    assert float(layer.max_delay) == 12.0
    torch.testing.assert_close(layer.delay.detach(), torch.tensor(2.0), rtol=1e-12, atol=0.0)
    with pytest.raises(ValueError, match="max_delay is the bound of a learned delay; build it with learn='delay'"):
        nd.Delay(3, delay=2 * u.ms).max_delay = 3 * u.ms


def test_a_refused_parameter_leaves_the_delay_and_the_parameter_as_they_were():
    delay, parameter = nd.Delay(3, 4 * u.ms), nn.Parameter(torch.tensor(1.5))
    with pytest.raises(ValueError, match=r"1\.5 ms is no multiple of dt=1 ms"):
        delay.delay = parameter
    assert parameter.item() == 1.5
    assert delay.delay.item() == 4
    assert not list(delay.parameters())
