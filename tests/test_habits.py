"""Habits of users of Brian2, said or refused: units of inputs, the order of states, states set by quantities."""

from __future__ import annotations

import math
import warnings

import pint
import pytest
import torch
from catalogue import BESIDE, MODELS
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def raised(kind, match, call):
    with pytest.raises(kind, match=match) as found:
        call()
    return found.value


def two():
    return nd.OneToOne(2, weight=[0.5, 0.5])


# --- the unit of an input ---


@pytest.mark.parametrize("wrong", [800 * u.mV, 800 * u.ms, 0.8 * u.nS, 800 * u.dimensionless], ids=str)
@pytest.mark.parametrize(
    "net",
    [
        lambda: nd.AdEx(1),
        lambda: nn.Sequential(nd.AdEx(1), nn.Linear(1, 2)),
        lambda: nn.Sequential(nn.Identity(), nn.Sequential(nd.AdEx(1))),
    ],
    ids=["alone", "first", "nested"],
)
def test_a_current_in_another_unit(net, wrong):
    def run(inputs):
        return lambda: nd.simulate(net(), 5 * u.ms, inputs, compile=False)

    match = rf"AdEx\(1\): input, got {wrong.units:~}; takes pA, for example 1.0 \* u.pA"
    for inputs in (wrong, nd.constant(wrong), [wrong.magnitude] * 5 * wrong.units):
        raised(pint.DimensionalityError, match, run(inputs))
    raised(pint.DimensionalityError, match, run(lambda first, n, generator: torch.ones(n, 1) * wrong.units))


def test_a_current_in_its_unit_is_what_it_was():
    def spikes(inputs):
        return nd.simulate(nd.AdEx(1), 50 * u.ms, inputs, "spikes", compile=False)["spikes"].steps.tolist()

    wanted = spikes(800.0)
    assert wanted
    for same in (800 * u.pA, 0.8 * u.nA, torch.full((1,), 800.0), torch.full((1,), 0.8) * u.nA):
        assert spikes(same) == wanted
    assert spikes(lambda first, n, generator: torch.full((n, 1), 0.8) * u.nA) == wanted


def test_where_the_unit_is_not_known_all_are_taken():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.n = nd.LIF(2)

        def forward(self, V):
            return self.n(V / 2)

    class Leak(nd.Dynamics):
        r = nd.state(0.0)

        def step(self, x, r):
            return r + x, r + x

    hooked = nd.LIF(2)
    hooked.register_forward_pre_hook(lambda module, args: (args[0] / 2,))
    for net in (Own(), Leak(2), hooked, nn.Sequential(nn.Linear(2, 2), nd.LIF(2)), nd.Expon(2)):
        nd.simulate(net, 3 * u.ms, torch.ones(2) * u.mV, compile=False)


# --- the order of states ---


def body(**more):
    return {"V": nd.state(0 * u.mV), "w": nd.state(0 * u.pA)} | more


def test_states_in_another_order():
    match = r"Cell: step\(self, x, w, V, delta=None\) .* declared, .*: V, w; write step\(self, x, V, w\)"
    raised(TypeError, match, lambda: type(nd.Dynamics)("Cell", (nd.Dynamics,), body(step=swapped)))


def swapped(self, x: torch.Tensor, w, V, delta=None) -> tuple:
    raise AssertionError


def without_input(self, V, w):
    raise AssertionError


def without_input_but_delta(self, V, w, delta=None):
    raise AssertionError


def other_first(self, x, w, *rest):
    raise AssertionError


def input_behind(self, V, w, x):
    raise AssertionError


@pytest.mark.parametrize("step", [swapped, without_input, without_input_but_delta, other_first, input_behind])
def test_orders_that_are_refused(step):
    raised(TypeError, "Cell: step", lambda: type(nd.Dynamics)("Cell", (nd.Dynamics,), body(step=step)))


@pytest.mark.parametrize(
    "step",
    [
        lambda self, x, V, w: (x, V, w),
        lambda self, x, V, w, delta=None: (x, V, w),
        lambda self, x, a, b: (x, a, b),
        lambda self, x, a, w: (x, a, w),
        lambda self, x, *states: (x, *states),
        lambda self, x, V, *rest: (x, V, *rest),
        lambda self, x, V, w, /, *, t=0.0: (x, V, w),
        lambda self, V, V_old, w: (V, V_old, w),  # an input that is called as a state
        torch.no_grad()(lambda self, x, V, w: (x, V, w)),
    ],
)
def test_orders_that_are_right(step):
    cell = type(nd.Dynamics)("Cell", (nd.Dynamics,), body(step=step))(2)
    cell.reset_state()
    cell.V = torch.tensor([1.0, 2.0])
    assert cell(torch.zeros(2)).tolist() == [0.0, 0.0]
    assert cell.V.tolist() == [1.0, 2.0]
    assert cell.w.tolist() == [0.0, 0.0]


def test_a_subclass_that_adds_a_state():
    class Cell(nd.Dynamics):
        V = nd.state(0 * u.mV)

        def step(self, x, V):
            return V, V + x

    def before():
        class Wrong(Cell):
            a = nd.state(0.0)

            def step(self, x, a, V):
                raise AssertionError

    raised(TypeError, r"Wrong: step\(self, x, a, V\) .*a base class first: V, a; write step\(self, x, V, a\)", before)

    class Right(Cell):
        a = nd.state(0.0)

        def step(self, x, V, a):
            return V, V + x, a + 1

    layer = Right(1)
    layer(torch.ones(1))
    assert (layer.V.item(), layer.a.item()) == (1.0, 1.0)


def test_a_forward_of_ones_own_may_have_several_inputs():
    class Two(nd.Dynamics):
        V, w = nd.state(0.0), nd.state(0.0)

        def forward(self, a, b):
            if not self.is_set:
                self.reset_state(*self.batch_of(a))
            return self._stepped(self.step, a, b)

        def step(self, a, b, V, w):
            return a, V + a, w + b

    layer = Two(1)
    layer(torch.tensor([1.0]), torch.tensor([2.0]))
    assert (layer.V.item(), layer.w.item()) == (1.0, 2.0)

    def wrong():
        class Swapped(Two):
            def step(self, a, b, w, V):
                raise AssertionError

    raised(TypeError, r"Swapped: step\(self, a, b, w, V\).*write step\(self, ..., V, w\)", wrong)


def test_traces_of_a_rule_in_another_order():
    def wrong():
        class Rule(nd.Plasticity):
            x, y = nd.state(0.0, shape="pre_size"), nd.state(0.0, shape="size")

            def change(self, pre, post, weight, y, x):
                raise AssertionError

    match = r"Rule: change\(self, pre, post, weight, y, x\).*write change\(self, pre, post, weight, x, y\)"
    raised(TypeError, match, wrong)


# --- states that are set ---


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_state_is_set_by_a_quantity(dtype):
    layer = nd.LIF((2, 3), dtype=dtype)
    raised(nd.UnsetState, r"state V has no value yet.*reset_states\(net, \*batch\)", lambda: set_V(layer, -60 * u.mV))
    nd.reset_states(layer, 4)
    for given in (-60 * u.mV, -0.06 * u.V):
        layer.V = given
        assert layer.V.dtype == dtype
        torch.testing.assert_close(layer.V, torch.full((4, 2, 3), -60.0, dtype=dtype))
    layer.V.add_(1)  # each neuron has a place of its own
    layer.V = [1.0, 2.0, 3.0] * u.mV
    assert torch.equal(layer.V, torch.tensor([1.0, 2.0, 3.0], dtype=dtype).expand(4, 2, 3))
    layer.V[0, 0, 0] = 9.0
    assert layer.V[1, 0, 0] == 1.0
    layer(torch.zeros(4, 2, 3, dtype=dtype))
    layer.V = None
    assert not layer.is_set


def set_V(layer, value):
    layer.V = value


def test_what_a_state_is_not_set_by():
    layer = nd.LIF((2, 3))
    nd.reset_states(layer, 4)
    raised(
        pint.DimensionalityError,
        r"\(a time\) to 'millivolt' \(a voltage\): LIF\(2, 3\): the state V, got 5",
        lambda: set_V(layer, 5 * u.ms),
    )
    raised(ValueError, r"state V has shape \(2,\), which does not", lambda: set_V(layer, [1.0, 2.0] * u.mV))
    raised(ValueError, "state V must be finite", lambda: set_V(layer, math.nan * u.mV))
    how = (
        r"set by a tensor of shape \(\*batch, 2, 3\), got {}; write layer.V = torch.full_like\(layer.V, value\), or a "
    )
    how += r"quantity, layer.V = 1.0 \* u.mV"
    for value, shown in (
        (-60, "-60, an int"),
        (-60.0, "-60.0, a float"),
        ([1.0], "a list"),
        (layer.V.numpy(), "a ndarray"),
    ):
        raised(TypeError, how.replace("{}", shown), lambda v=value: set_V(layer, v))
    layer.V = torch.full_like(layer.V, -60.0)
    assert (layer.V == -60).all()


def test_other_states():
    clock = nd.Clock()
    clock.read()
    clock.steps = 3 * u.dimensionless
    assert (clock.steps.dtype, clock().item()) == (torch.int64, 3.0)
    raised(
        ValueError,
        "state steps holds whole numbers, torch.int64, got 2.5",
        lambda: setattr(clock, "steps", 2.5 * u.m / u.m),
    )
    rule = nd.STDP(nd.OneToOne(2, weight=[0.5, 0.5] * u.nS), w_max=1 * u.nS)
    rule.weight = [0.2, 0.3] * u.nS
    assert rule.weight.tolist() == [0.2, 0.3]
    raised(pint.DimensionalityError, "a voltage.*a conductance", lambda: setattr(rule, "weight", 1 * u.mV))


@pytest.mark.parametrize("model", [*MODELS, *BESIDE], ids=lambda model: model.name)
def test_every_state_of_the_library_is_set_by_a_quantity(model):
    net = model(3)
    nd.reset_states(net, 2)
    for layer in net.modules():
        for name in layer.states if isinstance(layer, nd.Dynamics) else ():
            before = getattr(layer, name)
            setattr(layer, name, u.quantity(1.0, layer.state_unit(name)))
            after = getattr(layer, name)
            assert torch.equal(after, torch.ones_like(before))
            assert after.dtype == before.dtype


# --- inputs by keyword ---


def test_keywords_with_units():
    layer = nd.LIF(2)
    x = torch.zeros(2)
    raised(
        TypeError,
        r"LIF\(2\): delta is the quantity 5 millivolt; .* in mV, for example delta=torch.full\(\(2,\), 5.0\)",
        lambda: layer(x, delta=5 * u.mV),
    )
    raised(TypeError, "5 millisecond, a time; wanted a tensor in mV", lambda: layer(x, delta=5 * u.ms))
    raised(TypeError, r"u.to_canonical\(delta\)", lambda: layer(x, delta=torch.ones(2) * u.mV))
    dendrite = nd.ThreeCompartments(2)
    raised(
        TypeError,
        r"distal is the quantity .* in pA.*distal=torch.full\(\(2,\), 300.0\)",
        lambda: dendrite(x, distal=0.3 * u.nA),
    )

    class Timed(nd.Dynamics):
        r = nd.state(0.0)

        def step(self, x, r, t):
            return r, r + t

    raised(TypeError, r"Timed\(2\): t is the quantity .* in ms", lambda: Timed(2)(x, t=1 * u.s))
    assert layer(x, delta=torch.full((2,), 5.0)).tolist() == [1.0, 1.0]


# --- words for dimensions ---


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (1 * u.V, "a voltage"),
        (1 * u.nA, "a current"),
        (1 * u.uS, "a conductance"),
        (1 * u.Mohm, "a resistance"),
        (1 * u.nF, "a capacitance"),
        (1 * u.Hz, "a rate"),
        (1 * u.mm, "a length"),
        (1 * u.uM, "a concentration"),
        (1 * u.degK, "a temperature"),
        (1 * u.fC, "a charge"),
        (20e3 * u.um**2, "an area"),
        (1 * u.uF / u.cm**2, "a capacitance per area"),
        (1 * u.dimensionless, "a plain number"),
        (1 * u.mV**2, r"\[mass\]"),  # no name
    ],
    ids=str,
)
def test_dimensions_in_words(given, word):
    match = rf"\({word}.*\) to 'millisecond' \(a time\): LIF\(2\): tau, got"
    error = raised(pint.DimensionalityError, match, lambda: nd.LIF(2, tau=given))
    assert word.startswith("\\") or "[" not in str(error)


def test_a_number_without_its_unit():
    raised(TypeError, "V_th needs a unit of voltage, got -50; for example V_th=1.0", lambda: nd.LIF(2, V_th=-50))
    raised(TypeError, "C needs a unit of capacitance, got 200", lambda: nd.AdEx(2, C=200))


# --- sizes ---


def test_a_layer_without_a_size():
    raised(
        TypeError,
        r"nd.LIF: size is missing.* nd.LIF\(10\), nd.LIF\(\(8, 8\)\), or nd.LIF\(\(\)\), which takes any shape",
        nd.LIF,
    )
    raised(TypeError, r"nd.LIF: size is missing", lambda: nd.LIF(tau=20 * u.ms, N=3))
    raised(TypeError, r"nd.Delay: size is missing.* nd.Delay\(10, ...\)", nd.Delay)

    class Own(nd.LIF):
        pass

    raised(TypeError, r"^Own: size is missing.* Own\(10\)", Own)
    assert nd.LIF(size=3).size == (3,)
    assert nd.COBA(E=0 * u.mV).size == ()
    raised(TypeError, "connection", lambda: nd.STDP(w_max=1.0))  # which has another first argument


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_a_nested_tensor(layout):
    x = torch.nested.nested_tensor([torch.ones(4, 3), torch.ones(2, 3)], layout=layout)
    match = r"{}: the input is nested.*tensor \(\*batch, 3\).*pad_sequence\(xs.unbind\(\)\).*nd.last.*nd.step_mask"
    raised(TypeError, match.format(r"LIF\(3\)"), lambda: nd.LIF(3)(x))
    raised(TypeError, match.format(r"Expon\(3\)"), lambda: nd.Expon(3)(x))


# --- plasticity ---


def test_the_potential_of_a_rule():
    rule = nd.VoltageSTDP(two(), w_max=1.0)
    rule(torch.ones(2))
    post = torch.zeros(2)
    raised(
        TypeError,
        r"VoltageSTDP\(2\): V is the quantity -50 millivolt; .* in mV, .*V=torch.full\(\(2,\), -50.0\)",
        lambda: rule.learn(post, V=-50 * u.mV),
    )
    raised(
        TypeError,
        r"V is -50.0, a float; wanted a tensor of shape \(2,\) in mV, such as learn\(spikes, V=neuron.V\)",
        lambda: rule.learn(post, V=-50.0),
    )
    raised(ValueError, r"V has shape \(3,\), wanted \(2,\), in mV", lambda: rule.learn(post, V=torch.zeros(3)))
    rule.learn(post, V=torch.full((2,), -50.0))


@pytest.mark.parametrize("kind", [nd.STDP, nd.RewardSTDP])
def test_the_signs_of_stdp(kind):
    raised(
        ValueError,
        rf"{kind.__name__}\(2\): A_minus=-0.01 with A_plus=0.02 strengthens .* has A_minus=0.01 here",
        lambda: kind(two(), w_max=1.0, A_plus=0.02, A_minus=-0.01),
    )
    raised(ValueError, "A_minus=-0.01 with A_plus=0.005", lambda: kind(two(), w_max=1.0, A_minus=-0.01))
    for signs in ((1, 1), (-1, -1), (1, 0), (0, -1)):  # with both negative anti-Hebbian
        kind(two(), w_max=1.0, A_plus=0.01 * signs[0], A_minus=0.01 * signs[1])


# --- thresholds ---

BRIAN = {"V_rest": -60 * u.mV, "V_reset": -60 * u.mV, "V_th": -50 * u.mV}


@pytest.mark.parametrize("kind", [nd.LIF, nd.LIFRef, nd.ALIF, nd.AdLIF])
def test_a_start_above_the_threshold(kind):
    match = (
        r"\(5\): V_initializer is 0 mV by default, and V_th is -50 mV, .*first step. Give V_initializer=-60 \* u.mV$"
    )
    with pytest.warns(nd.ThresholdWarning, match=kind.__name__ + match) as said:
        layer = kind(5, **BRIAN)
    assert len(said) == 1
    assert said[0].filename == __file__
    assert layer(torch.zeros(5)).tolist() == [1.0] * 5  # it is true
    with warnings.catch_warnings(action="error"):
        assert kind(5, **BRIAN, V_initializer=-60 * u.mV)(torch.zeros(5)).sum() == 0
        kind(5, **BRIAN, V_initializer=0 * u.mV)  # as it was asked for
        kind(5, **BRIAN | {"V_th": torch.tensor([-50.0, 1.0, 1.0, 1.0, 1.0]) * u.mV})  # not all


def test_a_rest_above_the_threshold():
    rest = r"LIF\(5\): V_rest is 0 mV by default, and V_th is -50 mV, so that every neuron fires for ever"
    given = {"V_th": -50 * u.mV, "V_reset": -60 * u.mV}
    with pytest.warns(nd.ThresholdWarning, match=rest + r". Give V_rest=-60 \* u.mV$"):
        layer = nd.LIF(5, **given, V_initializer=-60 * u.mV)
    assert sum(layer(torch.zeros(5)) for _ in range(100)).min() > 10  # it is true
    both = r"; V_initializer is 0 mV .* first step. Give V_rest=-60 \* u.mV, V_initializer=-60 \* u.mV$"
    with pytest.warns(nd.ThresholdWarning, match=rest + both):
        nd.LIF(5, **given)
    with warnings.catch_warnings(action="error"):
        nd.LIF(5, **given, V_initializer=-60 * u.mV, V_rest=-40 * u.mV)  # as it was asked for: it fires by itself


def test_the_thresholds_of_others():
    with pytest.warns(nd.ThresholdWarning, match=r"IF\(2\): V_init.*; it rests at 0 mV, nd.LIF has V_rest"):
        nd.IF(2, V_th=-50 * u.mV)
    with pytest.warns(nd.ThresholdWarning, match=r"AdEx\(2\): E_L is -70.6 mV .*Give E_L=-85 \* u.mV, V_initializer"):
        nd.AdEx(2, V_th=-75 * u.mV)
    with pytest.warns(
        nd.ThresholdWarning, match=r"GIF\(2\): E_L is -70 mV by default, and Theta_inf is -75 mV, .*ever"
    ):
        nd.GIF(2, Theta_inf=-75 * u.mV)
    with warnings.catch_warnings(action="error"):  # which fire where V goes up through V_th
        nd.HH(2, V_th=-70 * u.mV, dt=0.05 * u.ms)
        nd.MorrisLecar(2, V_th=-70 * u.mV)


def test_no_default_is_above_its_threshold():
    with warnings.catch_warnings(action="error"):
        for model in MODELS:
            model(3)
        nd.LIF(2, device="meta")
