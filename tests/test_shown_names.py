"""What is shown of models: signatures and docstrings; and of networks that are silent, or run over time themselves."""

from __future__ import annotations

import copy
import inspect
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from type_checked import check_flagged

import neurodyn as nd
from neurodyn import units as u
from neurodyn.core import silence
from neurodyn.core.signature import Whole, no_keyword, signature
from neurodyn.inspection.whole import runs_over_time
from neurodyn.tools import errors


class Own(nn.Module):
    """Runs over time by a call of `unroll`."""

    def __init__(self, net: nn.Module, **options: object):
        super().__init__()
        self.net, self.options = net, options

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        return nd.unroll(self.net, xs.flatten(2), **self.options)


class Hand(Own):
    """Runs over time by a loop of its own."""

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        nd.reset_states(self.net, xs.shape[1])
        return torch.stack([self.net(x.flatten(1)) for x in xs])


class Inner(nn.Module):
    """Takes one step, in which a part runs over a sequence of its own."""

    def __init__(self):
        super().__init__()
        self.fast, self.slow = nd.Unroll(nd.LIF(3), compile=False), nd.LIF(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.slow(self.fast(x.expand(4, *x.shape)).sum(0))


def stack() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nd.LIF(8), nn.Linear(8, 4), nd.LIF(4))


def without_paths(lines: list[str]) -> list[str]:
    return [line if line.startswith(" ") else line.split(": ", 1)[-1] for line in lines]


WHOLE = {
    "sequential": lambda net: nn.Sequential(nn.Flatten(2), nd.Unroll(net, compile=False)),
    "eager": lambda net: Own(net, compile=False),
    "compiled": lambda net: Own(net),
    "checkpoint": lambda net: Own(net, checkpoint=5, compile=False),
    "loop": Hand,
}


@pytest.mark.parametrize("name", WHOLE)
def test_explain_of_a_model_that_runs_over_time_is_that_of_its_part(name: str) -> None:
    net, xs = stack(), torch.rand(20, 5, 2, 3)
    model = WHOLE[name](net)
    wanted = without_paths(nd.explain(net, xs.flatten(2)).activity)
    before = {key: value.clone() for key, value in model.state_dict().items()}, set(errors._said)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = nd.explain(model, xs)
    assert without_paths(found.activity) == wanted
    assert any("Hz" in line for line in wanted)
    assert any("gradient at its spikes" in line for line in wanted)
    assert all(torch.equal(before[0][key], value) for key, value in model.state_dict().items())
    assert errors._said == before[1]  # what later calls say, they say
    assert not any(layer._forward_hooks for layer in model.modules())
    if name == "sequential":
        eager = "LIF(8): step by step in Python, because of compile=False"
        assert found.path == nd.explain(model).path
        assert found.path[:2] == ["Linear: once, on all time steps as one batch", eager]
    else:
        assert "runs over time itself" in found.path[0]


def test_a_row_whose_first_part_takes_any_shape_is_not_stepped() -> None:
    """A step of it would take the batch for the time."""
    net, xs = stack(), torch.rand(20, 5, 6)
    model = nn.Sequential(net[0], nd.Unroll(net[1:], compile=False))
    rates = [line for line in nd.explain(net, xs).activity if "Hz" in line]
    assert [line for line in nd.explain(model, xs).activity if "Hz" in line] == rates


def test_what_takes_one_step_is_told_from_it() -> None:
    xs = torch.rand(6, 5, 3)
    per_sample = nd.LIF(3, tau=torch.full((5, 1), 4.0) * u.ms)
    recurrent = nd.Recurrent(nd.LIF(3), nn.Linear(3, 3))
    for net in (nd.LIF(3), nd.LIF(()), per_sample, recurrent, nn.Sequential(nn.Linear(3, 4), nd.LIF(4)), Inner()):
        generator = torch.get_rng_state()
        assert not runs_over_time(net, xs), net
        assert not any(module.is_set for module in net.modules() if isinstance(module, nd.Dynamics))
        assert torch.equal(torch.get_rng_state(), generator)
    assert runs_over_time(nd.Unroll(per_sample), xs)
    assert "Hz" in str(nd.explain(Inner(), xs))


@pytest.mark.parametrize("name", WHOLE)
def test_weights_are_set_in_the_part(name: str) -> None:
    net, xs = stack(), torch.rand(20, 5, 2, 3)
    model = WHOLE[name](net)
    part = r"net\[1\]\.module" if name == "sequential" else "the one that its forward runs step by step"
    kind, before = type(model).__name__, copy.deepcopy(model.state_dict())
    for caller, call in (
        ("scale_weights", lambda: nd.scale_weights(model, xs, 20 * u.Hz, compile=False)),
        ("fluctuation_driven_", lambda: nd.init.fluctuation_driven_(model, xs)),
    ):
        with pytest.raises(ValueError, match=f"{caller}: {kind} already runs over time .* {part}, and for xs"):
            call()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    if name == "sequential":  # what the error says works
        nd.init.fluctuation_driven_(model[1].module, xs.flatten(2))
        assert "fluctuation" not in str(nd.explain(model, xs))
        assert nd.init.fluctuation_driven_(model, rate=20 * u.Hz)  # which needs no run of the model


@pytest.mark.parametrize(
    ("layer", "there", "absent"),
    [
        (lambda: nd.LIF(4, V_th=90 * u.mV), ("fluctuation_driven_(net, xs)", "a larger R="), ("DEFAULT", "AdEx")),
        (
            lambda: nd.LIF(4, V_th=90 * u.mV, surrogate=nd.surrogate.ReluGrad()),
            ("surrogate=nd.surrogate.DEFAULT", "nd.scale_weights"),
            (),
        ),
        (lambda: nd.AdEx(4), ("nd.scale_weights(net, xs, 20 * u.Hz)",), ("DEFAULT", "fluctuation_driven_")),
    ],
)
def test_a_silent_layer_is_told_what_it_can_do(layer, there: tuple[str, ...], absent: tuple[str, ...]) -> None:
    with torch.no_grad():
        net = nn.Sequential(nn.Linear(3, 4), layer())
        net[0].weight.mul_(1e-3)
    model = nd.Unroll(net, compile=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(silence.CALLS + 2):
            model(torch.rand(12, 2, 3)).sum().backward()
    (text,) = [str(one.message) for one in said]
    assert all(words in text for words in there), text
    assert not any(words in text for words in absent), text
    assert "net is the Sequential that nd.unroll runs, of an nd.Unroll its module" in text


def test_readouts_show_all_their_keywords() -> None:
    for readout, inner, own in (
        (nd.LeakyRateReadout, "leak", {"tau"}),
        (nd.LeakySpikeReadout, "neuron", {"tau", "V_th", "surrogate", "reset"}),
    ):
        shown = inspect.signature(readout).parameters
        assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in shown.values())
        assert shown["tau"].default.value == 5 * u.ms
        assert "tau=5 ms" in str(inspect.signature(readout))
        made = readout(3, 2)
        assert set(inspect.signature(type(getattr(made, inner))).parameters) - {"size"} == set(shown) - {
            "in_features",
            "out_features",
        }
        assert own <= set(shown)
        assert list(inspect.signature(made).parameters)[:1] != ["in_features"]  # that of a call
    leak = nd.LeakyRateReadout(3, 2, tau=7 * u.ms, r_initializer=0.5, dt=2 * u.ms, learn="tau", dtype=torch.float32)
    assert (leak.leak.dt, leak.leak.r_initializer.item(), leak.linear.weight.dtype) == (2.0, 0.5, torch.float32)
    assert leak.leak.raw_tau.requires_grad
    spikes = nd.LeakySpikeReadout(3, 2, V_initializer=0.2 * u.mV, surrogate_scale=2 * u.mV, reset_gradient="detached")
    assert (spikes.neuron.V_initializer.item(), spikes.neuron.surrogate_scale) == (0.2, 2.0)
    assert spikes.neuron.reset_gradient == "detached"


def test_a_misspelt_keyword_names_the_nearest() -> None:
    with pytest.raises(
        TypeError, match=r"LeakyRateReadout\(3, 2\) has no parameter 'tauu'; it .*; did you mean tau=\?"
    ):
        nd.LeakyRateReadout(3, 2, tauu=1 * u.ms)
    with pytest.raises(TypeError, match=r"no parameter 'surogate'; it takes .*; did you mean surrogate=\?"):
        nd.LeakySpikeReadout(3, 2, surogate=nd.surrogate.ReluGrad())
    assert no_keyword("LIF(3)", nd.LIF, "rest").endswith("did you mean reset=?")
    assert "did you mean" not in no_keyword("LIF(3)", nd.LIF, "qqqq")


def test_connections_have_a_whole_signature() -> None:
    for kind, first in (
        (nd.Sparse, "matrix"),
        (nd.FixedProb, "pre"),
        (nd.FixedNum, "pre"),
        (nd.FixedTotal, "pre"),
        (nd.DistanceProb, "pre"),
    ):
        found = signature(kind).parameters
        assert next(iter(found)) == first
        assert {"weight", "bias", "delay", "interpolation", "dt", "learn", "device", "dtype"} <= set(found)
        assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in found.values())

    class Shown(nd.FixedProb):
        __signature__ = Whole()

    assert list(inspect.signature(Shown).parameters) == list(signature(nd.FixedProb).parameters)


@pytest.mark.parametrize("kind", [nd.LIF, nd.COBA, nd.STDP, nd.Expon, nd.GRUCell, nd.Delay, nd.Recurrent])
def test_constructors_do_not_show_what_torch_says_of_its_own(kind: type) -> None:
    assert not inspect.getdoc(kind.__init__)


def test_a_name_of_a_namespace_is_named() -> None:
    for name, wanted in {
        "synaptic_operations": "; there is nd.analysis.synaptic_operations$",
        "raster": "; there is nd.plot.raster$",
        "SoftSign": "; there is nd.surrogate.SoftSign$",
        "ms": "; there is nd.units.ms$",
        "LFI": "^neurodyn has no LFI$",
        "__wrapped__": "^neurodyn has no __wrapped__$",
    }.items():
        with pytest.raises(AttributeError, match=wanted) as caught:
            getattr(nd, name)
        assert (caught.value.name, caught.value.obj) == (name, nd)  # of which Python makes "Did you mean: 'LIF'?"


def test_what_ipython_shows_of_lif_is_short() -> None:
    oinspect = pytest.importorskip("IPython.core.interactiveshell")
    shell = oinspect.InteractiveShell()
    text = shell.inspector._get_info(nd.LIF, "LIF", None)["text/plain"]
    assert "Init docstring" not in text
    lines = text.splitlines()
    table = next(i for i, line in enumerate(lines) if "time constant of the membrane" in line)
    assert table < 36
    assert len(lines) <= 50


CHECKED = """
import torch
import neurodyn as nd
from neurodyn import units as u

nd.LeakyRateReadout(2, 3, tau=1 * u.ms, dt=1 * u.ms, learn="tau", r_initializer=0.0, dtype=torch.float64)
nd.LeakySpikeReadout(2, 3, V_th=2 * u.mV, reset="hard", surrogate_scale=1 * u.mV)
nd.GRUCell(2, 3, h_initializer=0.0, dt=1 * u.ms, learn="h_initializer", activation=torch.relu)
nd.LSTMCell(2, 3, c_initializer=0.0, bias=False), nd.URLSTMCell(2, 3, c_initializer=0.0), nd.MGUCell(2, 3)
nd.LFI(3)  # wrong
nd.LeakyRateReadout(2, 3, tauu=1 * u.ms)  # wrong
nd.LeakySpikeReadout(2, 3, V_thh=1 * u.mV)  # wrong
nd.LeakySpikeReadout(2, 3, reset="hrad")  # wrong
nd.GRUCell(2, 3, foo=1)  # wrong
nd.MGUCell(2, 3, c_initializer=0.0)  # wrong
nd.RNNCell(2, 3, h_intializer=0.0)  # wrong
nd.URLSTMCell(2, 3, foo=1)  # wrong
"""


def test_type_checkers_find_misspelt_keywords(tmp_path: Path) -> None:
    check_flagged(CHECKED, tmp_path)
