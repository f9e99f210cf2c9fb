"""IF, LIF, LIFRef and ALIF against the numbers of brainstate 0.1.3."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference.traces import BRAINSTATE, Trace, load, names
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

STATES, GRADIENTS = names("neuron_"), names("ngrad_")


def build(trace: Trace, **values: Any) -> nd.Dynamics:
    model = getattr(nd, trace.meta["model"])
    values = {name: q for name, q in trace.params.items() if name in model.params} | values
    options = {"surrogate": trace.surrogate, "reset": trace.meta["options"]["spk_reset"]}
    return model(trace.size, dt=trace.dt, dtype=torch.float64, **(BRAINSTATE | options | values))


def inputs(trace: Trace) -> list[tuple[Any, Tensor | None]]:
    """Current and delta of each step."""
    keys, params = trace.keys("in_"), trace.params
    I = trace["in_x"] + (trace["in_current"] if "current" in keys else 0.0)
    delta = trace["in_delta"] if "delta" in keys else [None] * len(I)
    if "g_f" not in params:
        return list(zip(I, delta, strict=True))
    g, E = (u.to_canonical(params[name]) for name in ("g_f", "E_f"))
    return [(nd.Current(lambda V: g * (E - V), x) + x, d) for x, d in zip(I, delta, strict=True)]


def start(neuron: nd.Dynamics, trace: Trace, V: Tensor) -> None:
    """Set the states to the start of a trace; brainstate resets a V above the threshold in the first step."""
    neuron.reset_state(*trace.batch)
    if "a" not in neuron.states:
        spike = neuron.fire(V - neuron.V_th)
    else:
        a = trace["init_a"] if "a" in trace.keys("init_") else neuron.a
        spike = neuron.fire(V - neuron.V_th - neuron.beta * a)
        nd.set_states(neuron, {"a": a + spike})
    nd.set_states(neuron, {"V": neuron.reset_potential(V, spike, neuron.V_th, neuron.V_reset)})


def after_reset(neuron: nd.Dynamics, V: Tensor, spike: Tensor) -> Tensor:
    """brainstate stores V before the reset, and resets at the start of the next step."""
    if neuron.reset == "hard":
        return torch.where(spike > 0, neuron.V_reset, V)
    return V - (neuron.V_th - neuron.V_reset) * spike


def test_every_trace_is_here():
    assert len(STATES) == 17
    assert len(GRADIENTS) == 9


@pytest.mark.parametrize("name", STATES)
def test_spikes_and_states(name: str):
    trace = load(name)
    neuron = build(trace)
    start(neuron, trace, trace["init_V"])
    spikes, states = [], []
    for I, delta in inputs(trace):
        spikes.append(neuron(I, delta=delta))
        states.append(nd.get_states(neuron))
    recorded = trace["out_spike"]
    assert recorded.sum() == trace.meta["n_spikes"] > 0
    assert torch.equal(torch.stack(spikes), recorded)

    expected = {"V": after_reset(neuron, trace["st_V"], recorded)}
    if isinstance(neuron, nd.ALIF):
        expected["a"] = trace["st_a"] + recorded
    if isinstance(neuron, nd.LIFRef):
        since = (trace["t"].view(-1, *[1] * recorded[0].dim()) - trace["st_last_spike_time"]) / neuron.dt
        steps = torch.ceil(neuron.tau_ref / neuron.dt - 1e-9) - 1
        expected["held"] = (steps - since.round()).clamp(min=0)
    assert set(expected) == set(neuron.states)
    for key, value in expected.items():
        torch.testing.assert_close(torch.stack([s[key] for s in states]), value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str):
    trace = load(name)
    params = {key: trace.params[key] for key in trace.keys("grad_") if key not in ("x", "V0")}
    learned = {key: nn.Parameter(torch.from_numpy(q.magnitude)) for key, q in params.items()}
    neuron = build(trace, **{key: u.quantity(p, params[key].units) for key, p in learned.items()})
    learned["x"], learned["V0"] = trace["in_x"].requires_grad_(), trace["init_V"].requires_grad_()

    start(neuron, trace, learned["V0"].expand(*trace.batch, *trace.size))
    stored = []  # V before the reset, which is what the loss of the trace sees
    reset = neuron.reset_potential
    neuron.reset_potential = lambda V, *args: (stored.append(V), reset(V, *args))[1]
    spikes = torch.stack([neuron(x) for x in learned["x"]])
    torch.testing.assert_close(torch.stack(stored), trace["st_V"], rtol=0, atol=1e-9)
    assert torch.equal(spikes, trace["out_spike"])

    loss = (trace["in_coef_spike"] * spikes).sum() + (trace["in_coef_V"] * torch.stack(stored)).sum()
    torch.testing.assert_close(loss, trace["out_loss"], rtol=1e-9, atol=0)
    loss.backward()
    for key in trace.keys("grad_"):
        expected = trace[f"grad_{key}"]
        assert expected.abs().max() > 0
        torch.testing.assert_close(learned[key].grad, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
