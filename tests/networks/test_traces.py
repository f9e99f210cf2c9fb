"""Networks against the reference traces: projections first, then the neurons; states to 1e-9, spikes exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from reference import traces
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u


def linear(weight: Tensor) -> nn.Linear:
    """A dense connection with a weight ``(n_in, n_out)`` of a trace."""
    layer = nn.Linear(*weight.shape, bias=False)
    layer.weight = nn.Parameter(weight.T.clone())
    return layer


def run(net: nn.Module, *inputs: Tensor) -> tuple[list[Any], dict[str, Tensor]]:
    """Step `net` through the inputs: its outputs, and all states after each step."""
    outs, states = [], []
    with torch.no_grad():
        for x in zip(*inputs, strict=True):
            outs.append(net(*x))
            states.append(nd.get_states(net))
    return outs, {name: torch.stack([state[name] for state in states]) for name in states[0]}


def close(found: Tensor, wanted: Tensor) -> None:
    assert (found - wanted).abs().max() < 1e-9


def after_reset(neuron: nd.Dynamics, V: Tensor, spikes: list[Tensor]) -> Tensor:
    """The traces store V before the (soft) reset, which they do at the start of the next step."""
    return V - (neuron.V_th - neuron.V_reset) * torch.stack(spikes)


def same(spikes: list[Tensor], wanted: Tensor) -> None:
    assert torch.equal(torch.stack(spikes).double(), wanted.double())


class Net(nn.Module):
    """Parts by name, and a step made of them."""

    def __init__(self, step: Any, **parts: nn.Module):
        super().__init__()
        self.step = step
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.step(self, *inputs)


def test_stp_expon_coba_lif() -> None:
    trace = traces.load("net_a_stp_expon_coba_lif")
    p = trace.params
    with nd.default_dt(trace.dt):
        projection = nd.Projection(
            linear(trace["w_W"]),
            plasticity=nd.STP(10, U=p["stp_U"], tau_f=p["stp_tau_f"], tau_d=p["stp_tau_d"], rule="brainstate"),
            synapse=nd.Expon(6, tau=p["syn_tau"]),
            output=nd.COBA(E=p["syn_E"]),
        )
        names = ("R", "tau", "V_th", "V_reset", "V_rest")
        lif = nd.LIF(6, V_initializer=u.quantity(trace["init_V"], "mV"), **{name: p[f"lif_{name}"] for name in names})
    spikes, states = run(nn.Sequential(projection, lif), trace["in_spike"])
    same(spikes, trace["out_spike"])
    close(states["1.V"], after_reset(lif, trace["st_V"], spikes))
    close(states["0.synapse.g"], trace["st_g"])
    close(states["0.plasticity.u"], trace["st_u"])
    close(states["0.plasticity.x"], trace["st_x"])


def test_excitation_and_inhibition() -> None:
    trace = traces.load("net_b_ei_coba")
    p, dt = trace.params, trace.dt

    def step(net: Net, x: Tensor) -> Tensor:
        before = net.delay.read()
        spikes = net.neurons(net.E(before[:80]) + net.I(before[80:]) + x)
        net.delay(spikes)
        return spikes

    with nd.default_dt(dt):
        names = ("R", "tau", "tau_ref", "V_th", "V_reset", "V_rest")
        net = Net(
            step,
            neurons=nd.LIFRef(100, V_initializer=u.quantity(trace["init_V"], "mV"), **{n: p[n] for n in names}),
            delay=nd.Delay(100, dt),
            E=nd.Projection(linear(trace["w_E"]), synapse=nd.Expon(100, tau=p["tau_E"]), output=nd.COBA(E=p["E_E"])),
            I=nd.Projection(linear(trace["w_I"]), synapse=nd.Expon(100, tau=p["tau_I"]), output=nd.COBA(E=p["E_I"])),
        )
    nd.reset_states(net)
    spikes, states = run(net, trace["in_x"])
    same(spikes, trace["out_spike"])
    close(states["E.synapse.g"], trace["st_g_E"])
    close(states["I.synapse.g"], trace["st_g_I"])
    close(states["neurons.V"], after_reset(net.neurons, trace["st_V"], spikes))


def test_two_populations_with_a_delay() -> None:
    trace = traces.load("net_d_two_pop_delay")
    p = trace.params

    def step(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        pre = net.pre(x)
        return pre, net.post(net.projection(pre))

    with nd.default_dt(trace.dt):
        net = Net(
            step,
            pre=nd.LIF(8, tau=p["pre_tau"], **traces.BRAINSTATE),
            projection=nd.Projection(
                linear(trace["w_W"]),
                delay=nd.Delay(8, p["delay"]),
                synapse=nd.Expon(5, tau=p["syn_tau"]),
                output=nd.CUBA(scale=p["scale"]),
            ),
            post=nd.LIF(5, tau=p["post_tau"], V_th=p["post_V_th"], **traces.BRAINSTATE),
        )
    outs, states = run(net, trace["in_x"])
    pre, post = zip(*outs, strict=True)
    same(pre, trace["out_pre_spike"])
    same(post, trace["out_post_spike"])
    close(states["projection.synapse.g"], trace["st_g"])
    close(states["pre.V"], after_reset(net.pre, trace["st_pre_V"], pre))
    close(states["post.V"], after_reset(net.post, trace["st_post_V"], post))


def test_synapse_at_the_source_with_a_delay() -> None:
    trace = traces.load("net_e_align_pre_ampa_delay")
    p = trace.params

    def step(net: Net, x: Tensor, I: Tensor) -> tuple[Tensor, ...]:
        g = net.weights(net.delay.read())
        pre = net.pre(x)
        net.delay(net.synapse(pre))
        return pre, net.post(net.output(g) + I), g

    with nd.default_dt(trace.dt):
        net = Net(
            step,
            pre=nd.LIF(6, tau=p["pre_tau"], **traces.BRAINSTATE),
            synapse=nd.AMPA(6, **{name: p[name] for name in ("alpha", "beta", "T", "T_dur")}),
            delay=nd.Delay(6, p["delay"]),
            weights=linear(trace["w_W"]),
            output=nd.COBA(E=p["E"]),
            post=nd.LIF(5, tau=p["post_tau"], **traces.BRAINSTATE),
        )
    nd.reset_states(net)
    outs, states = run(net, trace["in_x"], trace["in_post"])
    pre, post, g = zip(*outs, strict=True)
    same(pre, trace["out_pre_spike"])
    same(post, trace["out_post_spike"])
    close(torch.stack(g), trace["out_conductance"])
    close(states["synapse.g"], trace["st_syn_g"])
    close(states["post.V"], after_reset(net.post, trace["st_post_V"], post))

    # Delayed spikes through the synapse are the delayed synapse.
    with nd.default_dt(trace.dt):
        projection = nd.Projection(
            linear(trace["w_W"]), delay=nd.Delay(6, p["delay"]), synapse=net.synapse, align="pre"
        )
    nd.reset_states(projection)
    outs, _ = run(projection, torch.stack(pre))
    close(torch.stack(outs), trace["out_conductance"])


def test_mixed_projections() -> None:
    trace = traces.load("net_f_mixed_projections")
    p = trace.params

    def step(net: Net, s1: Tensor, s2: Tensor, s3: Tensor) -> Tensor:
        g = net.alpha(s3)
        I = net.receptor(net.A(s1), net.B(s2)) + net.output(net.current(g))
        return net.post(I, delta=net.delta(s2))

    with nd.default_dt(trace.dt):
        net = Net(
            step,
            A=linear(trace["w_A"]),
            B=linear(trace["w_B"]),
            receptor=nd.Receptor(nd.Expon(5, tau=p["syn_tau"]), nd.CUBA(scale=p["scale"])),
            alpha=nd.Alpha(6, tau=p["alpha_tau"]),
            current=linear(trace["w_cur"]),
            output=nd.CUBA(scale=p["scale_cur"]),
            delta=linear(trace["w_delta"]),
            post=nd.LIF(5, tau=p["post_tau"], **traces.BRAINSTATE),
        )
    jump = 1e-3  # 1 mS in a trace whose siemens read as nanosiemens
    spikes, states = run(net, trace["in_s1"], trace["in_s2"], jump * trace["in_s3"])
    same(spikes, trace["out_spike"])
    close(states["receptor.synapse.g"], trace["st_g"])
    close(states["alpha.g"], trace["st_g_alpha"])
    close(states["post.V"], after_reset(net.post, trace["st_V"], spikes))


def recurrent(trace: traces.Trace) -> Net:
    """Input and recurrent spikes share a synapse; the hidden spikes go to a readout."""

    def step(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
        spikes = net.hidden(net.receptor(net.W_in(x), net.W_rec(net.delay.read())))
        net.delay(spikes)
        return spikes, net.readout(spikes)

    p, options, n = trace.params, trace.meta["options"], trace.meta["hidden"]
    model = getattr(nd, options["hidden"])
    output = nd.COBA(E=p["E"]) if options["out"] == "coba" else nd.CUBA(scale=p["scale"])
    with nd.default_dt(trace.dt):
        net = Net(
            step,
            W_in=linear(trace["w_W_in"]),
            W_rec=linear(trace["w_W_rec"]),
            receptor=nd.Receptor(nd.Expon(n, tau=p["syn_tau"]), output),
            hidden=model(
                n,
                R=1 * u.Gohm,
                surrogate=trace.surrogate,
                reset=options["spk_reset"],
                **{name: q for name, q in p.items() if name in ("tau", "tau_ref", "tau_a", "beta")},
            ),
            delay=nd.Delay(n, options.get("recurrent_delay_steps", 1) * trace.dt),
            readout=nd.LeakyRateReadout(n, trace.meta["out_size"][0], tau=p["out_tau"]),
        )
    net.readout.linear.weight = nn.Parameter(trace["w_W_out"].T.clone())
    return net


@pytest.mark.parametrize("name", traces.names("net_c"))
@pytest.mark.parametrize("compile", [False, True])
def test_gradients(name: str, compile: bool) -> None:
    if compile and "net_c6" not in name:
        pytest.skip("one compiled network is enough")
    trace = traces.load(name)
    net = recurrent(trace)
    spikes, r = nd.unroll(net, trace["in_spike"], compile=compile)
    assert torch.equal(spikes.detach(), trace["out_spike"])
    close(r.detach(), trace["st_r"])
    if trace.meta["options"]["loss"] == "ce":
        loss = nn.functional.cross_entropy(r.mean(0), trace["in_label"].long())
    else:
        loss = ((r - trace["in_target"]) ** 2).mean()
    close(loss.detach(), trace["out_loss"])
    loss.backward()
    weights = {"W_in": net.W_in.weight, "W_rec": net.W_rec.weight, "W_out": net.readout.linear.weight}
    for key, weight in weights.items():
        wanted = trace[f"grad_{key}"].T
        assert (weight.grad - wanted).abs().max() < 1e-9 * wanted.abs().max()


def test_every_trace_is_here() -> None:
    assert len(traces.names("net_")) == 11
    assert len(traces.names("delay_")) == 3
