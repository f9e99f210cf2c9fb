"""Synapses and short-term plasticity against brainstate 0.1.3: numbers to 1e-9, gradients to 1e-9 relative."""

import pytest
import torch
from reference.traces import load, names
from torch import nn
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u


def run(model, inputs):
    """Outputs and states of every step."""
    steps = []
    for x in inputs:
        out = model(x)
        steps.append([out, *(getattr(model, name) for name in model.states)])
    return dict(zip(["out", *model.states], map(torch.stack, zip(*steps, strict=True)), strict=True))


def build(trace, **changes):
    model = getattr(nd, trace.meta["model"])(trace.size, dt=trace.dt, **(trace.params | changes))
    model.reset_state(*trace.batch)
    nd.set_states(model, {name: trace[f"init_{name}"] for name in trace.keys("init_") if name in model.states})
    return model


@pytest.mark.parametrize("case", names("syn_Expon", "syn_DualExpon", "syn_Alpha"))
def test_synapse(case):
    trace = load(case)
    model = build(trace, **({"A": trace["p_a"]} if "A" in trace.params else {}))  # A is dimensionless here
    jumps = trace["in_x"] if "x" in trace.keys("in_") else trace["in_delta"]
    if "current" in trace.keys("in_"):  # dg/dt = (I - g)/tau: over a step, a jump of (1 - exp(-dt/tau)) I
        jumps = jumps + trace["in_current"] * -torch.expm1(-model.dt / model.tau)
    found = run(model, jumps)
    for name in model.states:
        assert_close(found[name], trace[f"st_{name}"], rtol=1e-9, atol=1e-9)
    out = "out_g_normalised" if model.__class__ is nd.DualExpon else "out_g"
    assert_close(found["out"], trace[out], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", names("syn_AMPA", "syn_GABAa"))
def test_receptor(case):
    trace = load(case)
    model = build(trace)
    found = run(model, trace["in_x"])
    assert_close(found["out"], trace["out_g"], rtol=1e-9, atol=1e-9)
    elapsed = trace["t"].view(-1, *[1] * (found["pulse"].dim() - 1)) - trace["st_spike_arrival_time"]
    assert torch.equal(found["pulse"] > 0, elapsed < model.T_dur)


@pytest.mark.parametrize("case", names("stp_"))
def test_plasticity(case):
    trace = load(case)
    model = build(trace, rule="brainstate")
    assert_close(model.x, trace["init_x"], rtol=0, atol=0)
    found = run(model, trace["in_spike"])
    assert_close(found["out"], trace["out"], rtol=1e-9, atol=1e-9)
    for name in model.states:
        assert_close(found[name], trace[f"st_{name}"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", names("sgrad_"))
def test_gradients(case):
    trace = load(case)
    params = {name: nn.Parameter(torch.as_tensor(value.magnitude)) for name, value in trace.params.items()}
    changes = {name: u.quantity(value, trace.params[name].units) for name, value in params.items()}
    if case.startswith("sgrad_ST"):
        changes["rule"] = "brainstate"
    model = build(trace, **changes)
    recorded = {key: torch.from_numpy(value) for key, value in trace.arrays.items()}  # numbers of mS stand for nS
    x = recorded["in_x"].requires_grad_()
    out = nd.unroll(model, x, compile=False)
    assert_close(out, recorded["out"], rtol=1e-9, atol=1e-9)
    (recorded["in_coef"] * out).sum().backward()
    for name, value in (params | {"x": x}).items():
        assert_close(value.grad, recorded[f"grad_{name}"], rtol=1e-9, atol=1e-12)
