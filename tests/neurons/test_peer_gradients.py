"""The LIF neurons of docs/migration.md have the gradients of the libraries that they come from.

The recordings are those of reference/make_peer_gradients.py.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

ROOT = Path(__file__).parents[2]

with np.load(ROOT / "tests" / "reference" / "peer_gradients.npz") as _arrays:
    RECORDED = {name: torch.from_numpy(_arrays[name]).double() for name in _arrays.files}
FORMS = [name.removesuffix(".input") for name in RECORDED if name.endswith(".input")]
PLAIN = r"plain|snntorch"  # forms that add the input without a factor, so that R is 1 / (1 - decay)


def network_of(form: str) -> tuple[nn.Module, nd.LIF]:
    """The page's neuron, with what the recorded form has besides (threshold, surrogate, detached reset); its LIF."""
    name, changes = re.sub("_(atan|fast_sigmoid|detached|half)", "", form), {}
    if form.endswith("fast_sigmoid"):
        changes["surrogate"] = nd.surrogate.InvSquareGrad(alpha=25)
    if "_detached" in form:
        changes["reset_gradient"] = "detached"
    if form.endswith("_half"):
        changes["V_th"] = 0.5 * u.mV
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "migration.md").read_text(), re.DOTALL):
        exec(block, names)
        if name in names:
            break
    net = names[name] if name == "norse" else nn.Sequential(names[name])
    (size,), values = net[-1]._recipe
    net[-1] = nd.LIF(size, **(values | changes | {"learn": ("tau", "R", "V_reset")}))
    return net, net[-1]


def close(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted).abs().max() <= 1e-10 * wanted.abs().max())


#: Of each kind of equation one, compiled; the others with -m long.
COMPILED = ("spikingjelly_decayed_soft", "snntorch_subtract_atan", "norse", "sinabs_normed")


@pytest.mark.parametrize(
    ("form", "compile"),
    [
        *((form, False) for form in FORMS),
        *(pytest.param(form, True, marks=() if form in COMPILED else pytest.mark.long) for form in FORMS),
    ],
)
def test_gradients_are_those_of_the_peer(form: str, compile: bool):
    net, neuron = network_of(form)
    x = (RECORDED["x"] * RECORDED[f"{form}.scale"]).requires_grad_()
    spikes = nd.unroll(net, x, compile=compile)
    assert torch.equal(spikes, RECORDED[f"{form}.spikes"])
    (RECORDED["weights"] * spikes).sum().backward()
    assert close(x.grad, RECORDED[f"{form}.input"])

    decay = torch.exp(-1 / neuron.tau.detach()).requires_grad_()
    raw = neuron.raw_tau.grad * (-1 / decay.log()).log()  # positive parameters are learned as logarithms
    if re.search(PLAIN, form):
        raw = raw + neuron.raw_R.grad * (1 / (1 - decay)).log()
    if form.startswith("snntorch_subtract"):
        raw = raw + neuron.V_reset.grad * (1 - 1 / decay)
    raw.backward()
    assert close(decay.grad, RECORDED[f"{form}.decay"])


@pytest.mark.parametrize("form", FORMS)
def test_another_choice_gives_other_gradients(form: str):
    """So that the test above can fail."""
    net, neuron = network_of(form)
    x = (RECORDED["x"] * RECORDED[f"{form}.scale"]).requires_grad_()
    neuron.reset_gradient = "attached" if neuron.reset_gradient == "detached" else "detached"
    spikes = nd.unroll(net, x, compile=False)
    (RECORDED["weights"] * spikes).sum().backward()
    assert (x.grad - RECORDED[f"{form}.input"]).abs().max() > 1e-3 * RECORDED[f"{form}.input"].abs().max()


CHOICES = {  # derivative of V after the reset by V before it, of V_reset = -0.5 and V_th = 1
    ("soft", "attached"): lambda V, S, dS: 1 - 1.5 * dS,
    ("soft", "detached"): lambda V, S, dS: 1.0,
    ("soft", "through"): lambda V, S, dS: 1 - 1.5 * dS,
    ("hard", "attached"): lambda V, S, dS: 1 - S - (V + 0.5) * dS,
    ("hard", "detached"): lambda V, S, dS: 1 - S,
    ("hard", "through"): lambda V, S, dS: 1 - (V + 0.5) * dS,
}


@pytest.mark.parametrize(("reset", "gradient"), CHOICES)
@pytest.mark.parametrize("scale", [None, 1 * u.mV, 250 * u.uV])
@pytest.mark.parametrize("model", [nd.LIF, nd.LIFRef, nd.ALIF])
def test_each_choice_is_what_it_says(model: type, reset: str, gradient: str, scale: object):
    flat = nd.surrogate.LeakyRelu(alpha=0.4, beta=0.4)
    values = {"reset": reset, "reset_gradient": gradient, "surrogate_scale": scale, "surrogate": flat}
    neuron = model(2, V_reset=-0.5 * u.mV, learn=("V_reset",), **values)
    V = torch.tensor([1.3, 0.7], requires_grad=True)
    spike = neuron(torch.zeros(2), delta=V)
    dS = 0.4 / (1.5 if scale is None else scale.m_as("mV"))
    (by_V,) = torch.autograd.grad(neuron.V.sum(), V, retain_graph=True)
    wanted = CHOICES[reset, gradient](V.detach(), torch.tensor([1.0, 0.0]), dS)
    torch.testing.assert_close(by_V, wanted * torch.ones(2), rtol=1e-12, atol=1e-12)
    (by_V,) = torch.autograd.grad(spike.sum(), V, retain_graph=True)
    torch.testing.assert_close(by_V, torch.full((2,), dS), rtol=1e-12, atol=0)
    (by_reset,) = torch.autograd.grad(neuron.V.sum(), neuron.V_reset)
    if scale is not None:  # else V_reset is in the scale too
        assert by_reset.item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("gradient", ["attached", "detached"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("overshoot", [1e9, math.inf])
def test_a_hard_reset_is_exact_with_each_choice(gradient: str, dtype: torch.dtype, overshoot: float):
    values = {"V_reset": -71.3 * u.mV, "V_th": -50 * u.mV, "reset": "hard", "reset_gradient": gradient}
    neuron = nd.LIF(2, dtype=dtype, learn=("V_initializer",), **values)
    neuron(torch.zeros(2, dtype=dtype), delta=torch.tensor([overshoot, -99.0], dtype=dtype))
    assert neuron.V[0] == neuron.V_reset
    neuron.V.sum().backward()
    assert neuron.V_initializer.grad.isfinite().all()


def test_errors():
    with pytest.raises(ValueError, match=r"LIF\(1\): reset_gradient must be 'attached', 'detached' or 'through', got"):
        nd.LIF(1, reset_gradient="detach")
    with pytest.raises(TypeError, match=r"LIF\(1\): surrogate_scale needs a unit"):
        nd.LIF(1, surrogate_scale=1.0)
    with pytest.raises(ValueError, match=r"surrogate_scale must be positive, got -2 mV; for example"):
        nd.LIF(1, surrogate_scale=-2 * u.mV)
    with pytest.raises(ValueError, match="surrogate_scale has shape"):
        nd.LIF(2, surrogate_scale=torch.ones(2) * u.mV)


def test_a_graph_of_nir_keeps_the_choice():
    pytest.importorskip("nir")
    neuron = nd.from_nir(nd.to_nir(nd.LIF(3, reset_gradient="detached", surrogate_scale=2 * u.mV)))
    (found,) = [module for module in neuron.modules() if isinstance(module, nd.LIF)]
    assert (found.reset_gradient, found.surrogate_scale) == ("detached", 2.0)
