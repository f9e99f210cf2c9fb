"""What a wrong call says: the model, the parameter, what came, what was wanted, and the call that is right."""

import copy
import dataclasses
import pickle
import warnings

import numpy as np
import pint
import pytest
import torch
from torch import nn
from torch.nn.utils import rnn

import neurodyn as nd
from neurodyn import units as u


@pytest.mark.parametrize("learn", [True, False, None, 3, [1], {"tau": True}], ids=str)
def test_learn_takes_names(learn):
    with pytest.raises(
        TypeError, match=r"LIF\(3\): learn must name the parameters to train, got .*learn=\('R', 'tau'\)"
    ):
        nd.LIF(3, learn=learn)
    with pytest.raises(TypeError, match=r"Expon\(3\): learn must name .* for example learn=\"tau\""):
        nd.Expon(3, learn=learn)


def test_learn_takes_any_iterable_of_names():
    assert set(dict(nd.LIF(3, learn=(name for name in ("tau", "R"))).named_parameters())) == {"raw_tau", "raw_R"}


def test_learn_of_a_connection_takes_names():
    with pytest.raises(TypeError, match=r"learn takes .*got True"):
        nd.FixedProb(3, 3, 0.5, weight=1.0 * u.mV, learn=True)


@pytest.mark.parametrize(
    "layer",
    [nd.LIF, lambda n, **k: nd.LeakySpikeReadout(2, n, **k), nd.DeltaEncoder],
    ids=["LIF", "readout", "encoder"],
)
@pytest.mark.parametrize(
    ("given", "got", "example"),
    [
        ("arctan", "'arctan'", "Arctan"),
        ("piecewise_exp", "'piecewise_exp'", "PiecewiseExp"),
        ("fast", "'fast'", "Arctan"),
        (nd.surrogate.Sigmoid, "the class Sigmoid", "Sigmoid"),
        (None, "None", "Arctan"),
        (2.0, "2.0", "Arctan"),
    ],
    ids=str,
)
def test_a_surrogate_is_an_instance(layer, given, got, example):
    with pytest.raises(
        TypeError, match=rf"3\): surrogate must .* got {got}; write surrogate=nd.surrogate.{example}\(\)"
    ):
        layer(3, surrogate=given)


def test_a_surrogate_may_be_any_function():
    assert nd.LIF(3, surrogate=lambda x: nd.surrogate.Arctan()(x))(torch.full((3,), 2.0)).sum() == 3


@dataclasses.dataclass
class Pair:
    y: torch.Tensor
    r: torch.Tensor


class Returning(nd.Dynamics):
    """Its step returns what it is told to."""

    r = nd.state(0.0)

    def __init__(self, f):
        super().__init__(3)
        self.f = f

    def step(self, x, r):
        return self.f(x, r)


TUPLE = r"Returning\(3\): Returning.step must return the tuple \(output, r\), .* got {}; end it with `return output, r`"
STATE = (
    r"Returning.step returned {} for the state r, wanted a tensor of shape \(2, 3\); a constant is torch.full_like\(r"
)
OUTPUT = r"Returning.step returned {} as its output or in it; wanted a tensor, or a tuple, list or dict of tensors"
STEPS = {
    "a tensor": (lambda x, r: x + r, TUPLE.format(r"one tensor of shape \(2, 3\)")),
    "one value": (lambda x, r: (x,), TUPLE.format("1 value")),
    "three values": (lambda x, r: (x, r, r), TUPLE.format("3 values")),
    "None": (lambda x, r: None, TUPLE.format("None")),
    "a dict": (lambda x, r: {"y": x, "r": r}, TUPLE.format("a dict")),
    "a dataclass": (lambda x, r: Pair(x, r), TUPLE.format("a Pair")),
    "a float as state": (lambda x, r: (x, 2.0), STATE.format("2.0, a float,")),
    "None as state": (lambda x, r: (x, None), STATE.format("None")),
    "a float as output": (lambda x, r: (1.0, r + x), OUTPUT.format("1.0, a float,")),
    "None in the output": (lambda x, r: ((x, None), r + x), OUTPUT.format("None")),
    "a dataclass as output": (lambda x, r: (Pair(x, r), r + x), OUTPUT.format("a Pair")),
}


@pytest.mark.parametrize(("step", "wanted"), STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("how", ["call", "eager", "compiled"])
def test_what_a_step_returns(how, step, wanted):
    layer, x = Returning(step), torch.rand(2, 3)  # a batch of 2, as many as there are values
    with pytest.raises(TypeError, match=wanted):
        layer(x) if how == "call" else nd.unroll(layer, x.expand(4, 2, 3), compile=how == "compiled")


def test_a_dynamics_without_states():
    class Scale(nd.Dynamics):
        gain = nd.param(1.0)

        def step(self, x):
            return (self.gain * x,)

    with pytest.raises(
        TypeError, match=r"Scale\(3\): Scale declares no state.*V = nd.state\(0.0\), or derive Scale from nn"
    ):
        Scale(3)


@pytest.mark.parametrize("compile", [False, True])
def test_a_smaller_last_batch(compile):
    net = nn.Sequential(nn.Linear(5, 3), nd.LIF(3))
    _, states = nd.unroll(net, torch.rand(4, 8, 5), compile=False, return_states=True)
    xs = torch.rand(4, 6, 5)
    wanted = r"LIF\(3\): V holds batch \(8,\) .* batch \(6,\).*states=\{name: value\[:6\] for .*drop_last=True"
    with pytest.raises(ValueError, match=wanted):
        nd.unroll(net, xs, states=states, compile=compile)
    ys = nd.unroll(net, xs, states={name: value[:6] for name, value in states.items()}, compile=False)
    assert ys.shape == (4, 6, 3)


SEQUENCES = [torch.ones(4, 5), torch.ones(3, 5)]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("xs", "error", "wanted"),
    [
        (rnn.pack_sequence(SEQUENCES), TypeError, r"xs is packed .*pad_packed_sequence\(xs\).*nd.last.*nd.step_mask"),
        ("strided", TypeError, r"xs is nested.*pad_sequence\(xs.unbind\(\)\).*nd.last.*nd.step_mask"),
        ("jagged", TypeError, r"xs is nested.*pad_sequence\(xs.unbind\(\)\).*nd.last.*nd.step_mask"),
        (SEQUENCES, ValueError, r"xs holds tensors with 4 and 3 time steps.*pad_sequence\(sequences\)"),
        (torch.ones(4, 5).numpy(), TypeError, r"xs is a ndarray, wanted a tensor .*torch.as_tensor\(xs\)"),
        ({"x": torch.ones(4, 5)}, TypeError, "xs is a dict, wanted a tensor"),
        ((torch.ones(4, 5), 1.0), TypeError, "xs holds a float"),
        ((), ValueError, "xs holds no tensor"),
        (torch.tensor(1.0), ValueError, "xs holds a single number"),
        (torch.ones(0, 5), ValueError, r"xs has no time step, its shape is \(0, 5\)"),
    ],
    ids=["packed", "nested", "jagged", "list", "array", "dict", "float", "empty", "number", "no step"],
)
def test_inputs_of_unroll(xs, error, wanted):
    if isinstance(xs, str):
        xs = torch.nested.nested_tensor(SEQUENCES, layout=getattr(torch, xs))
    with pytest.raises(error, match=f"unroll: {wanted}"):
        nd.unroll(nn.Sequential(nn.Linear(5, 3), nd.LIF(3)), xs, compile=False)


def test_batch_in_front():
    net = nn.Sequential(nn.Linear(5, 3), nd.LIF(3))
    _, states = nd.unroll(net, torch.rand(4, 8, 5), compile=False, return_states=True)
    last = r"\(8, 5, 20\), perhaps \(batch, 5, time\): use xs.permute\(2, 0, 1\)"
    with pytest.raises(RuntimeError, match=last):
        nd.unroll(net, torch.rand(8, 5, 20), compile=False)
    with pytest.raises(ValueError, match=last):
        nd.unroll(nd.LIF(5), torch.rand(8, 5, 20), compile=False)
    with pytest.raises(ValueError, match=r"as the states have batch \(8,\): use xs.transpose\(0, 1\)"):
        nd.unroll(net, torch.rand(8, 20, 5), states=states, compile=False)
    with pytest.raises(ValueError, match="holds batch") as other:  # nothing to tell it by
        nd.unroll(net, torch.rand(9, 20, 5), states=states, compile=False)
    assert not hasattr(other.value, "__notes__")
    with pytest.raises(ValueError, match=r"last: .*ys has its batch in front, use ys.transpose\(0, 1\)"):
        nd.last(torch.rand(2, 20, 3), torch.tensor([1, 2]))


def test_batch_in_front_of_a_loss():
    labels = torch.randint(3, (8,))
    with pytest.raises(
        ValueError, match=r"spike_count: labels .* shape \(20,\).*got .* \(8,\); .* use .transpose\(0, 1\)"
    ):
        nd.losses.spike_count(torch.rand(8, 20, 3), labels, true=4, false=0)
    with pytest.raises(ValueError, match=r"got .* \(7,\)$"):
        nd.losses.spike_count(torch.rand(8, 20, 3), labels[:7], true=4, false=0)


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_cells_of_torch(cell):
    with pytest.raises(TypeError, match=rf"{cell.__name__} in an nn.Sequential forgets .* use nd.{cell.__name__}"):
        nd.unroll(nn.Sequential(cell(3, 3)), torch.rand(4, 2, 3))


def test_another_size_names_the_layer_for_any_shape():
    any_shape = r"LIF\(3\): the input has shape \(2, 5\), wanted \(\*batch, 3\); LIF\(\(\), ...\), .* takes any shape"
    with pytest.raises(ValueError, match=any_shape):
        nd.unroll(nd.LIF(3), torch.rand(4, 2, 5), compile=False)
    xs = torch.rand(4, 2, 5)
    assert torch.equal(nd.unroll(nd.LIF(()), xs, compile=False), nd.unroll(nd.LIF(5), xs, compile=False))
    for layer in (nd.GRUCell(3, 3), nd.Recurrent(nd.LIF(3), nn.Identity())):  # which have no such size
        with pytest.raises(ValueError, match="wanted") as other:
            layer(torch.rand(2, 5))
        assert "any shape" not in str(other.value)


def slow(tau, dtype, how):
    if how == "dtype=":
        return nd.LIF(3, R=1 * u.Gohm, tau=tau * u.ms, dtype=dtype)
    return nn.Sequential(nd.LIF(3, R=1 * u.Gohm, tau=tau * u.ms)).to(dtype)[0]


@pytest.mark.parametrize("how", ["dtype=", "to"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 512), (torch.float16, 4096)])
def test_a_time_constant_that_is_lost_in_rounding(dtype, bound, how):
    kind = str(dtype).removeprefix("torch.")
    text = rf"LIF\(3\): tau=\d+ ms is too slow for {kind} at dt=1 ms.*above {bound} ms.*layer.float\(\).*torch.autocast"
    with pytest.warns(UserWarning, match=text) as said:
        layer = slow(1.1 * bound, dtype, how)
    assert len(said) == 1
    with warnings.catch_warnings(action="error"):
        moving = slow(0.5 * bound, dtype, how)
        layer.to("cpu"), layer.eval()
        slow(1.1 * bound, torch.float32, how)
    xs = torch.zeros(50, 3, dtype=dtype)

    def last(layer):
        layer.reset_state()
        layer.V += 0.7
        nd.unroll(layer, xs, states=nd.get_states(layer), compile=False)
        return layer.V

    start = torch.full((3,), 0.7, dtype=dtype)
    assert torch.equal(last(layer), start)  # it does stand still
    assert (last(moving) < start).all()
    assert (last(layer.float()) < start).all()  # and no longer does


def test_what_only_counts_is_not_lost():
    with warnings.catch_warnings(action="error"):
        nd.LIFRef(3, tau_ref=2000 * u.ms, dtype=torch.bfloat16)
        nd.Delay(3, 600 * u.ms, dtype=torch.bfloat16)


def raised(kind, match, call):
    with pytest.raises(kind, match=match) as found:
        call()
    return found.value


def test_inputs_that_are_no_tensors():
    raised(
        TypeError,
        r"LIF\(6\): the input is 3.0, a float; wanted a tensor of shape \(\*batch, 6\)",
        lambda: nd.LIF(6)(3.0),
    )
    raised(TypeError, r"a Quantity; wanted a tensor .*magnitude", lambda: nd.LIF(6)(3 * u.pA))
    raised(TypeError, r"a Quantity; wanted a tensor .*magnitude", lambda: nd.LIF(6)(torch.ones(6) * u.pA))


def test_arguments_of_unroll():
    xs = torch.ones(4, 2, 6)
    raised(TypeError, "first argument is a function, wanted a torch.nn.Module", lambda: nd.unroll(lambda x: x, xs))
    for n in (2.5, "3", 0):
        raised(ValueError, "positive whole number of steps", lambda n=n: nd.unroll(nd.LIF(6), xs, checkpoint=n))
    error = raised(TypeError, "positional", lambda: nd.unroll(nd.LIF(6), [xs[:, 0]] * 2))
    assert "torch.stack(xs, 1)" in error.__notes__[0]
    states = {"V": torch.zeros(2, 6, dtype=torch.float32)}
    raised(TypeError, "the state V that was set is torch.float32", lambda: nd.unroll(nd.LIF(6), xs, states=states))


def test_a_rule_without_its_reward():
    rule = nd.RewardSTDP(nd.OneToOne(2, weight=[0.5, 0.5]), w_max=1.0)
    rule(torch.zeros(2))
    raised(TypeError, r"reward is missing; call learn\(post, reward=...\)", lambda: rule.learn(torch.zeros(2)))


def test_online_rules_name_the_cells_to_take():
    raised(
        NotImplementedError,
        r"0 is torch's LSTM, .*nd.LSTMCell",
        lambda: nd.online.DRTRL(nn.Sequential(nn.LSTM(3, 4), nd.LIF(4))),
    )


def test_a_file_with_nan():
    other = nd.LIF(6, learn="tau")
    with torch.no_grad():
        other.raw_tau.fill_(torch.nan)
    raised(RuntimeError, r"LIF\(6\): tau must be finite", lambda: nd.LIF(6).load_state_dict(other.state_dict()))


def test_inputs_of_simulate():
    net = nd.LIF(6)
    raised(
        TypeError,
        r"wanted f\(first, steps, generator\)",
        lambda: nd.simulate(net, 3 * u.ms, lambda t, n: torch.ones(6)),
    )
    for batch in (-1, 2.0, (2, "3")):
        raised(ValueError, "batch must be a whole number", lambda b=batch: nd.simulate(net, 3 * u.ms, 1.0, batch=b))
    raised(IndexError, "'V' has 6 neurons, 0 to 5, and index", lambda: nd.simulate(net, 3 * u.ms, 1.0, {"V": [7]}))
    raised(TypeError, "of 'V' must be whole numbers", lambda: nd.simulate(net, 3 * u.ms, 1.0, {"V": [1.5]}))


def test_states_of_a_recording_are_its_own():
    net = nd.LIF(6)
    run = nd.simulate(net, 5 * u.ms, 1.0, ["V"], compile=False)
    held = run.states["V"].clone()
    net.V.fill_(9.0)
    assert torch.equal(run.states["V"], held)
    _, states = nd.unroll(net, torch.ones(4, 2, 6), return_states=True)
    held = states["V"].clone()
    net.V.fill_(9.0)
    assert torch.equal(states["V"], held)


def test_spike_times_takes_times():
    net = nn.Sequential(nn.Linear(3, 2, bias=False), nd.Expon(2, tau=5 * u.ms), nd.LIF(2, tau=10 * u.ms))
    nn.init.constant_(net[0].weight, 0.4)
    times = torch.tensor([[1.0], [2.0], [4.0]])
    assert torch.equal(nd.spike_times(net, times, 0.05 * u.s), nd.spike_times(net, times, 50.0))
    for wrong in (torch.nan, -torch.inf):
        raised(ValueError, "times holds NaN or -inf", lambda x=wrong: nd.spike_times(net, times * x, 50.0))
    wanted = nd.spike_times(net, times, 50.0)
    assert torch.isfinite(wanted[:, 0]).all()
    for same in (times.int(), times.tolist(), times.numpy() * u.ms, times / 1000 * u.s):
        torch.testing.assert_close(nd.spike_times(net, same, 50.0), wanted)
    raised(pint.DimensionalityError, "millivolt", lambda: nd.spike_times(net, times * u.mV, 50.0))


def test_conditions_of_simulate():
    def run(value):
        return lambda: nd.simulate(nd.LIF(6), 5 * u.ms, 1.0, until=(1 * u.ms, lambda net, t: value), compile=False)

    raised(
        TypeError, r"until returned a Tensor of shape \(6,\), wanted True or False; .*any\(\)", run(torch.ones(6) > 0)
    )
    raised(TypeError, r"until returned a str \('no'\)", run("no"))
    for n in (0, -3, 2.5, True):
        raised(ValueError, f"group 'I' has {n} neurons", lambda n=n: nd.PopulationMean("V", 1 * u.ms, groups={"I": n}))


@pytest.mark.parametrize("learn", [(), "delay"])
def test_delays_of_synapses_are_set(learn):
    given = {"interpolation": "linear", "max_delay": 6 * u.ms, "learn": "delay"} if learn else {}
    xs = torch.zeros(8, 3)
    xs[0, 0] = 1.0
    connection = nd.Sparse(([0, 0], [1, 2]), (3, 4), weight=[1.0, 2.0], delay=[3.0, 3.0] * u.ms, **given)
    connection.delay = [2.0, 5.0] * u.ms
    torch.testing.assert_close(connection.delay.detach(), torch.tensor([2.0, 5.0]))
    ys, wanted = nd.unroll(connection, xs), torch.zeros(8, 4)
    wanted[2, 1], wanted[5, 2] = 1.0, 2.0
    torch.testing.assert_close(ys.detach(), wanted)
    connection.delay = 3 * u.ms
    assert nd.unroll(connection, xs).detach().nonzero().tolist() == [[3, 1], [3, 2]]
    without = nd.Sparse(([0], [1]), (3, 4), weight=1.0)
    assert without.delay is None
    raised(TypeError, r"Sparse\(3, 4\) was built without delays", lambda: setattr(without, "delay", 2 * u.ms))


def recorded() -> nd.Recording:
    return nd.simulate(nd.LIF(3), 5 * u.ms, 1.5 * u.pA, {"spikes": None, "V": [0, 2]}, compile=False)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: recorded().spikes, AttributeError, r'^Recording has no spikes; write recording\["spikes"\]$'),
        (lambda: recorded().V_m, AttributeError, "^Recording has no V_m$"),
        (lambda: recorded()["spikes"].i, AttributeError, "^Events have no i; write .senders$"),
        (lambda: recorded()["V"].t, AttributeError, "^Trace has no t; write .times$"),
        (lambda: nd.analysis.rates(recorded()), TypeError, r'got Recording; .* recording\["spikes"\]'),
        (lambda: nd.plot.traces(recorded()), TypeError, r'got Recording; .* recording\["V"\]'),
        (lambda: nd.simulate(nd.LIF(3), 5 * u.ms, record=["V"]), TypeError, "LIF takes an input .* such as 0 . u.pA"),
        (lambda: nd.simulate(nd.LIF(3), 5 * u.ms, 0 * u.pA, [0, 1]), TypeError, r'got 0; .* record=\{"V": \[0\]'),
        (lambda: nd.LIF(3, beta=0.9), TypeError, r"did you mean tau=\? \(tau = -dt / ln\(beta\)"),
        (lambda: nd.LIF(3, threshold=1.0), TypeError, r"did you mean V_th=\?$"),
        (lambda: nd.STP(3, tau_rec=9 * u.ms), TypeError, r"did you mean tau_d=\?$"),
        (lambda: nd.LIFRef(3, refractory=2 * u.ms), TypeError, r"did you mean tau_ref=\?$"),
        (lambda: nd.LeakyRateReadout(4, 3, tau=10), TypeError, r"^LeakyRateReadout\(4, 3\): tau needs a unit of time"),
        (lambda: nd.LeakySpikeReadout(4, 3, tau=9 * u.mV), TypeError, r"LeakySpikeReadout\(4, 3\): tau, got 9 milli"),
    ],
)
def test_first_guesses_are_answered(call, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_records_are_arrays_and_keep_through_copies() -> None:
    recording = recorded()
    assert np.asarray(recording["V"]).shape == (5, 2)
    assert np.array_equal(recording["V"], recording["V"].values)
    for again in (copy.deepcopy(recording), pickle.loads(pickle.dumps(recording))):
        assert torch.equal(again["spikes"].steps, recording["spikes"].steps)
        assert not hasattr(again, "spikes")
