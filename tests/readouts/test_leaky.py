import pytest
import torch
from reference.traces import load
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u


def load_weight(linear, weight):
    with torch.no_grad():
        linear.weight.copy_(weight.T)


def test_trace_of_the_rate_readout():
    trace = load("readout_LeakyRateReadout")
    readout = nd.LeakyRateReadout(8, 3, dt=trace.dt, **trace.params)
    load_weight(readout.linear, trace["w_weight"])
    r = nd.unroll(readout, trace["in_x"], compile=False)
    assert_close(r.detach(), trace["st_r"], rtol=1e-9, atol=1e-9)


def test_trace_of_the_spike_readout():
    trace = load("readout_LeakySpikeReadout")
    readout = nd.LeakySpikeReadout(6, 6, dt=trace.dt, **trace.params)
    load_weight(readout.linear, trace["w_weight"])
    nd.reset_states(readout, *trace.batch)
    nd.set_states(readout, {"neuron.V": trace["init_V"]})
    for x, spike, V in zip(trace["in_spike"], trace["out_spike"], trace["st_V"], strict=True):
        found = readout(x).detach()
        assert torch.equal(found, spike)
        before = readout.neuron.V.detach() + spike * readout.neuron.V_th  # the trace resets at the start of a step
        assert_close(before, V, rtol=1e-9, atol=1e-9)


def test_one_time_constant_per_output_and_any_sizes():
    """tau had the size of the input, the weight had to be square, resetting raised."""
    tau = u.quantity(torch.tensor([2.0, 5.0, 9.0]), "ms")
    for cls in (nd.LeakyRateReadout, nd.LeakySpikeReadout):
        readout = cls(8, 3, tau=tau)
        nd.reset_states(readout, 4)
        assert readout(torch.ones(4, 8)).shape == (4, 3)
        assert nd.unroll(readout, torch.ones(6, 2, 8), compile=False).shape == (6, 2, 3)
    with pytest.raises(ValueError, match="does not broadcast"):
        nd.LeakySpikeReadout(3, 8, tau=tau)


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_spike_is_that_of_the_final_potential(reset):
    readout = nd.LeakySpikeReadout(1, 1, tau=2 * u.ms, V_th=0.7 * u.mV, reset=reset)
    load_weight(readout.linear, torch.tensor([[3.0]]))
    V = 0.0
    for _ in range(30):
        spike = readout(torch.ones(1)).item()
        V = 3 + (V - 3) * torch.exp(torch.tensor(-0.5)).item()
        assert spike == float(V >= 0.7)
        V = (0.0 if reset == "hard" else V - 0.7) if spike else V
        assert abs(readout.neuron.V.item() - V) < 1e-12


def test_surrogate_and_gradient():
    readout = nd.LeakySpikeReadout(4, 2, surrogate=nd.surrogate.Sigmoid(), learn=("tau", "V_th"))
    out = nd.unroll(readout, torch.rand(10, 3, 4), compile=False)
    out.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in readout.parameters())
    with pytest.raises(ValueError, match="V_th must be positive"):
        nd.LeakySpikeReadout(4, 2, V_th=-1 * u.mV)
    with pytest.raises(ValueError, match="reset must be"):
        nd.LeakySpikeReadout(4, 2, reset="sfot")


@pytest.mark.parametrize(("V_th", "spikes"), [(1 - 1e-9, 1.0), (1 + 1e-9, 0.0)])
def test_threshold(V_th, spikes):
    readout = nd.LeakySpikeReadout(1, 1, V_th=V_th * u.mV, V_initializer=1 * u.mV)
    load_weight(readout.linear, torch.ones(1, 1))
    assert readout(torch.ones(1)).item() == spikes  # V stays at 1 mV
