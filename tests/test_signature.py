"""Models show their keywords: signature, docstring and type checkers say what their declarations say."""

from __future__ import annotations

import copy
import inspect
import pydoc
from pathlib import Path

import pytest
import torch
from catalogue import BESIDE, MODELS
from torch import nn
from type_checked import check_flagged

import neurodyn as nd
from neurodyn import units as u
from neurodyn.core.recipe import Recipe
from neurodyn.core.signature import Default, rows

CLASSES = {model.build: None for model in (*MODELS, *BESIDE) if isinstance(model.build, type)}
CLASSES |= dict.fromkeys((nd.COBA, nd.CUBA, nd.MgBlock, nd.Delay, nd.GRUCell, nd.LSTMCell, nd.nir.PerfectIF, nd.nir.LI))
DYNAMICS = [cls for cls in CLASSES if issubclass(cls, nd.Dynamics)]
OUTPUTS = [cls for cls in CLASSES if issubclass(cls, nd.SynapticOutput)]


@pytest.mark.parametrize("cls", [*DYNAMICS, *OUTPUTS], ids=lambda cls: cls.__name__)
@pytest.mark.filterwarnings("ignore::neurodyn.TimeStepWarning")
def test_the_signature_is_the_declarations(cls: type[nd.Dynamics]) -> None:
    taken = inspect.signature(cls).parameters
    for name, field in cls.params.items():
        default = taken[name].default
        if isinstance(default, Default):
            assert default.value is field.default
        else:  # a required one, or one that the constructor itself names
            assert field.default is None or name in inspect.signature(cls.__init__).parameters
    common = {"learn", "device", "dtype"} | ({"dt"} if cls in DYNAMICS else set())
    assert common <= set(taken)
    assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in taken.values())
    required = {
        "size": 3,
        "connection": nd.OneToOne(3),
        "w_max": 1.0,
        "delay": 2 * u.ms,
        "input_size": 2,
        "hidden_size": 3,
        "E": 0 * u.mV,
    }
    given = {name: required[name] for name, p in taken.items() if p.default is p.empty}
    for name, p in taken.items():  # every name is taken, with the default that is shown
        if p.default is not p.empty and name not in ("learn", "w_max") and repr(p.default) != "...":
            shown = p.default.value if isinstance(p.default, Default) else p.default
            cls(**given, **{name: shown})
    with pytest.raises(TypeError, match=r"has no parameter 'tua'; it takes \w+"):
        cls(**given, tua=1 * u.ms)


@pytest.mark.parametrize("cls", [*DYNAMICS, *OUTPUTS], ids=lambda cls: cls.__name__)
def test_the_docstring_explains_each_keyword(cls: type[nd.Dynamics]) -> None:
    doc = inspect.getdoc(cls) or ""
    found = {
        name: (default, allowed, meaning)
        for name, default, allowed, meaning in rows(cls, inspect.signature(cls).parameters)
    }
    for name in inspect.signature(cls).parameters:
        if name in found:
            default, allowed, meaning = found[name]
            line = next(line for line in doc.split("\n") if line.startswith(f"    {name} "))
            assert default in line
            assert allowed in line
            assert meaning in line
            assert len(meaning) > 3
            assert len(line) <= 120
        else:
            assert f"{name}=" in doc or f"    {name}: " in doc or f" {name}," in doc or f" {name}:" in doc


def test_lif_as_it_is_shown() -> None:
    shown = str(inspect.signature(nd.LIF))
    assert shown.startswith(
        "(size, *, R=..., tau=5 ms, V_th=1 mV, V_reset=0 mV, V_rest=0 mV, V_initializer=0 mV, reset="
    )
    assert shown.endswith("dt=None, learn=(), device=None, dtype=None)")
    assert "omega=0.1 / ms" in str(inspect.signature(nd.BRF))
    assert str(inspect.signature(nd.COBA)).startswith("(size=(), *, E, learn=")
    assert str(inspect.signature(nd.GRUCell)).startswith(
        "(input_size, hidden_size, *, h_initializer=0, activation=tanh"
    )
    assert str(inspect.signature(nd.Recurrent)) == "(cell, feedback)"
    doc = inspect.getdoc(nd.LIF) or ""
    assert "\n    tau              5 ms                     positive  time constant of the membrane\n" in doc
    assert "what V does after a spike; 'soft' or 'hard'" in doc
    assert len(doc.split("\n")) < 40
    page = pydoc.render_doc(nd.LIF, renderer=pydoc.plaintext)
    assert len(page.split("\n")) < 220
    assert "named_parameters" not in page
    first = "\n".join(page.split("\n")[:40])  # a screen
    assert "LIF(size, *, R=..., tau=5 ms" in first
    assert "time constant of the membrane" in first


def test_dir_of_an_instance_has_all_names() -> None:
    layer = nd.LIF(2, learn="tau")
    layer(torch.ones(2))
    names = set(dir(layer))
    assert names >= set(dir(nn.Module())) | {"tau", "raw_tau", "V", "step", "reset_state", "_recipe", "__init__"}
    assert {"tau", "step", "reset_state"} <= set(dir(nd.LIF))
    assert inspect.getdoc(nd.LIF.tau) == "time constant of the membrane"


def test_instances_keep_their_own_signature_and_nothing_is_changed() -> None:
    layer, before = nd.LIF(2), Recipe.changes
    assert next(iter(inspect.signature(nd.LIF).parameters)) == "size"
    assert list(inspect.signature(layer).parameters)[:1] != ["size"]
    assert list(inspect.signature(layer.forward).parameters) == ["input", "inputs"]
    assert not hasattr(copy.deepcopy(layer), "__signature__")
    assert Recipe.changes == before
    assert list(inspect.signature(nd.AllToAll).parameters)[:2] == ["in_features", "out_features"]


class Leak(nd.Dynamics):
    """Leaky integrator.

    Args:
        gain: factor of the input. It may be negative.

    Example:
        >>> Leak(2)
    """

    tau: nd.Param = nd.param(10 * u.ms, domain=nd.positive, doc="time constant")
    E: nd.Param = nd.param(unit=u.mV)
    each: nd.Param = nd.param(torch.zeros(3))
    drawn: nd.Param = nd.param(nd.init.Uniform(0.0, 1.0))
    r: nd.State = nd.state(default=0.0, alias="r_initializer")

    def __init__(self, size: int, bins: int, *, gain: float = 1.0, **values):
        super().__init__(size, **values)


class Faster(Leak):
    tau: nd.Param = nd.param(1 * u.ms)


class Closed(nd.Dynamics):
    """A model with a constructor of its own, which passes on no keywords."""

    tau: nd.Param = nd.param(1 * u.ms)

    def __init__(self, module: nn.Module):
        super().__init__(3)


def test_models_of_a_user() -> None:
    wanted = "(size, bins, *, tau=10 ms, E, each=..., drawn=Uniform("
    assert str(inspect.signature(Leak)).startswith(wanted)
    assert str(inspect.signature(Faster)).startswith(wanted.replace("10 ms", "1 ms"))
    assert str(inspect.signature(Closed)) == "(module)"
    doc = inspect.getdoc(Leak) or ""
    assert doc.index("Leaky integrator.") < doc.index("Keywords:") < doc.index("Args:") < doc.index("Example:")
    assert "    E      required, mV" in doc
    assert (inspect.getdoc(Faster) or "").startswith("Keywords:")
    assert "factor of the input\n" in (inspect.getdoc(Faster) or "")
    with pytest.raises(TypeError, match=r"the alias of the state V .* alias='V_initializer', got 'V_0'"):
        type("Wrong", (nd.Dynamics,), {"V": nd.state(0.0, alias="V_0")})


CHECKED = """
import torch
import neurodyn as nd
from neurodyn import units as u


class Leak(nd.Dynamics):
    tau: nd.Param = nd.param(10 * u.ms)
    r: nd.State = nd.state(default=0.0, alias="r_initializer")
    s: nd.State = nd.state(0.0)

    def step(self, x: torch.Tensor, r: torch.Tensor, s: torch.Tensor):
        return nd.relax(r, x, self.tau, self.dt), r, s


lif: nd.LIF = nd.LIF((2, 3), tau=20 * u.ms, reset="hard", learn="tau", dt=1 * u.ms, V_initializer=u.quantity(1, "mV"))
tau: torch.Tensor = lif.tau
lif.tau = 3 * u.ms
{lif: lif.size[0]}
nd.LIFRef(3, tau_ref=2 * u.ms, surrogate=nd.surrogate.Arctan())
nd.STP(3, U=0.3, tau_f=nd.init.Constant(3 * u.ms), rule="brainstate")
nd.HH(3, g_Na=1 * u.nS, m_initializer=0.2, surrogate_scale=1 * u.mV)
nd.COBA(E=0 * u.mV), nd.GIF(3, A1=2 * u.pA), nd.DualExpon(2, A=3.0), nd.RNNCell(2, 3), nd.BRF(2, omega=1 / u.ms)
nd.STDP(nd.OneToOne(3), w_max=1.0, A_plus=0.2), nd.BCM(nd.OneToOne(3), w_max=1.0, eta=0.1), nd.Expon(3, exact=True)
nd.Delay(3, 2 * u.ms, learn="delay"), nd.FixedDropout(3, 0.2), nd.DeltaEncoder(3, threshold=0.3)
Leak(3, tau=20 * u.ms, r_initializer=1.0)
nd.FixedProb(3, 4, 0.1, weight=1.0, delay=1 * u.ms, learn="weight"), nd.AllToAll(3, 3, bias=True)
nd.DistanceProb(3, 4, torch.exp, weight=1.0, interpolation="linear"), nd.SignedLinear(3, 3, weight=1.0)
nd.Delay(3, delay=2 * u.ms, interpolation="gaussian", sigma=1 * u.ms, max_delay=5 * u.ms, learn="delay", dt=1 * u.ms)
nd.STDP(nd.OneToOne(3), w_max=1.0, mu_plus=0.5, pairing="nearest", weights="each", tau_plus=9 * u.ms)
nd.Unroll(nd.LIF(3), compile=False, checkpoint=10)
delayed: torch.Tensor = nd.Delay(3, 2 * u.ms).delay
nd.Delay(3, 2 * u.ms, laern="delay")  # wrong
nd.Delay(3, 2 * u.ms, interpolation="liner")  # wrong
nd.FixedProb(3, 4, 0.1, weight=1.0, delai=1 * u.ms)  # wrong
nd.FixedNum(3, 4, 2, weight=1.0, interpolation="liner")  # wrong
nd.FixedTotal(3, 4, 2, weight=1.0, lern="weight")  # wrong
nd.DistanceProb(3, 4, torch.exp, weight=1.0, periodik=True)  # wrong
nd.Sparse(torch.eye(3), wieght=1 * u.nS)  # wrong
nd.OneToOne(3, wieght=1 * u.nS)  # wrong
nd.AllToAll(3, 3, wieght=1 * u.nS)  # wrong
nd.SignedLinear(3, 3, wieght=1 * u.nS)  # wrong
nd.MaskedLinear(3, 3, torch.eye(3), wieght=1 * u.nS)  # wrong
nd.ScaledWSLinear(3, 3, gian=1 * u.nS)  # wrong
nd.STDP(nd.OneToOne(3), w_max=1.0, A_pls=0.2)  # wrong
nd.STDP(nd.OneToOne(3), w_max=1.0, pairing="neerest")  # wrong
nd.Unroll(nd.LIF(3), complie=False)  # wrong
nd.save("net.safetensors", nd.LIF(3))  # wrong
nd.LIF(3, tua=20 * u.ms)  # wrong
nd.LIF(3, reset="hrad")  # wrong
nd.LIFRef(3, tau_rfe=20 * u.ms)  # wrong
nd.STD(3, tau_f=20 * u.ms)  # wrong
nd.COBA(e=0 * u.mV)  # wrong
nd.BCM(nd.OneToOne(3), eat=3.0)  # wrong
Leak(3, r=1.0)  # wrong
Leak(tau=20 * u.ms)  # wrong
"""


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nd.FixedProb(4, 4, 0.5, weigth=1.0), r"FixedProb has no parameter 'weigth'.*did you mean weight="),
        (lambda: nd.FixedNum(4, 4, number=2, weight=1.0), r"FixedNum has no parameter 'number'.*did you mean num="),
        (lambda: nd.Recurrent(nd.LIF(3), feedbak=nn.Linear(3, 3)), r"Recurrent has no .*did you mean feedback="),
        (lambda: nd.PoissonSpike(4, freq=9 * u.Hz), r"PoissonSpike has no parameter 'freq'.*did you mean freqs="),
        (lambda: nd.PoissonSpike(4, 9 * u.Hz, sed=1), r"PoissonSpike has no parameter 'sed'.*did you mean seed="),
        (lambda: nd.Projection(nn.Linear(3, 3), synaps=nd.Expon(3)), r"Projection has no .*did you mean synapse="),
        (
            lambda: nd.online.DRTRL(nd.LIF(3), compil=False),
            r"DRTRL has no parameter 'compil'; it takes net, compile; did",
        ),
        (lambda: nd.online.EProp(nd.LIF(3), feedbck="random"), r"EProp has no .*did you mean feedback="),
    ],
)
def test_a_misspelt_keyword_is_named(make, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        make()


def test_an_error_that_is_not_about_keywords_stays() -> None:
    class Mine(nd.online.DRTRL):
        def __init__(self, net, **options):
            super().__init__(net, *options.pop("more", ()))
            self.other = options["other"]

    assert Mine(nn.Sequential(nn.Linear(3, 3), nd.LIF(3)), other=1).other == 1
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'freqs'"):
        nd.PoissonSpike(4)
    with pytest.raises(TypeError, match=r"Learner.__init__\(\) takes 2 positional"):
        Mine(nn.Sequential(nn.Linear(3, 3), nd.LIF(3)), more=(1,))


def test_type_checkers_find_misspelt_keywords(tmp_path: Path) -> None:
    check_flagged(CHECKED, tmp_path)
