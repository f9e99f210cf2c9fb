"""The pictures of these pages: python docs/make_pictures.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import neurodyn as nd
from neurodyn import plot
from neurodyn import units as u
from neurodyn.examples import inhibitory_plasticity

FOLDER = Path(__file__).parent / "pictures"


def figure(rows: int, columns: int, width: float = 8.0, height: float = 2.4) -> tuple[Figure, list[Any]]:
    """A figure and its axes, row by row."""
    made = Figure(figsize=(width, height * rows), layout="constrained", dpi=110)
    return made, list(made.subplots(rows, columns, squeeze=False).flat)


def neurons() -> None:
    """V of eight models under a constant current."""
    fig, axes = figure(4, 2, height=1.6)
    fine = {"dt": 0.05 * u.ms}
    models = [
        (nd.LIF(1, tau=20 * u.ms, V_th=15 * u.mV, R=0.1 * u.Gohm, **fine), 180.0, 150),
        (nd.ALIF(1, tau=20 * u.ms, R=1 * u.Gohm, beta=0.3 * u.mV, **fine), 2.0, 150),
        (nd.ExpIF(1, **fine), 10.0, 150),
        (nd.AdEx(1, **fine), 800.0, 150),
        (nd.Izhikevich(1, **fine), 10.0, 150),
        (nd.QuaIF(1, **fine), 20.0, 150),
        (nd.MorrisLecar(1, **fine), 100.0, 300),
        (nd.HH(1, **fine), 10.0, 100),
    ]
    for ax, (neuron, I, duration) in zip(axes, models, strict=True):
        recording = nd.simulate(neuron, duration * u.ms, torch.tensor([I]), ("V", "spikes"), progress=False)
        plot.traces(recording["V"], ax=ax, linewidth=1.0)
        top = recording["V"].values.max().item()
        ax.plot(recording["spikes"].times.magnitude, [top] * len(recording["spikes"]), "|", color="black")
        ax.set_title(f"{type(neuron).__name__}, {I:g} pA", fontsize="medium")
    for ax in axes[:-2]:
        ax.set_xlabel("")
    fig.savefig(FOLDER / "neurons.png")


def planes() -> None:
    """Phase planes, and f-I curves."""
    fig, axes = figure(1, 3, width=11, height=3.4)
    adex = nd.AdEx(1, dt=0.1 * u.ms)
    recording = nd.simulate(adex, 200 * u.ms, torch.tensor([800.0]), ("V", "w"), progress=False)
    limits = {"x": (-85, -40) * u.mV, "y": (-60, 480) * u.pA}
    plot.phase_plane(adex, 800 * u.pA, trajectory=recording, ax=axes[0], **limits)
    fibre = nd.MorrisLecar(1, dt=0.1 * u.ms)
    recording = nd.simulate(fibre, 300 * u.ms, torch.tensor([100.0]), ("V", "w"), progress=False)
    plot.phase_plane(fibre, 100 * u.pA, trajectory=recording, ax=axes[1])
    taus = torch.tensor([5.0, 10.0, 20.0])
    lif, currents = nd.LIF(3, tau=taus * u.ms, R=1 * u.Gohm, dt=0.1 * u.ms), torch.linspace(0.5, 4, 30) * u.pA
    plot.f_I(currents, nd.analysis.f_I_curve(lif, currents, 1 * u.s), ax=axes[2])
    axes[2].legend([f"{tau:g} ms" for tau in taus.tolist()], title="LIF, tau", **plot.LEGEND)
    fig.savefig(FOLDER / "planes.png")


def dendrite() -> None:
    """NMDA spikes of the distal dendrite of `ThreeCompartments`."""
    fig, (left, right) = figure(1, 2, width=8, height=3)
    peaks, times = torch.linspace(0, 200, 101), torch.arange(0.1, 200, 0.1)
    shape = torch.exp(-times / 50) - torch.exp(-times / 2)
    steep, coba = nd.MgBlock(alpha=0.1 / u.mV, cc_Mg=0.3 * 3.57 * u.mM), nd.COBA(E=0 * u.mV)
    open_at_rest = nd.MgBlock()(torch.ones(1))(torch.tensor([-60.0])).item() / 60
    outputs = {"MgBlock()": nd.MgBlock(), "0.1/mV": steep, "no block": lambda g: coba(open_at_rest * g)}
    for color, (name, output) in zip(plot.COLORS, outputs.items(), strict=False):
        neuron, found = nd.ThreeCompartments(101, V_th=1e3 * u.mV, dt=0.1 * u.ms), []
        with torch.no_grad():
            for g in shape / shape.max():
                neuron(torch.zeros(101), distal=output(g * peaks))
                found.append(neuron.V_d)
        V = torch.stack(found)
        right.plot(peaks, V.amax(0) + 60, color=color, label=name)
        if name == "MgBlock()":
            left.plot(times, V[:, 5:31:5], color=color)
    left.set(xlabel="time (ms)", ylabel="V_d (mV)")
    right.set(xlabel="peak of the conductance (nS)", ylabel="peak of V_d - E_L (mV)")
    right.legend(fontsize="small", **plot.LEGEND)
    fig.savefig(FOLDER / "dendrite.png")


def synapses() -> None:
    """The conductance after one spike, and what the magnesium block leaves of a current."""
    fig, (left, right) = figure(1, 2, width=8, height=3)
    fine = {"dt": 0.1 * u.ms}
    models = {
        "Expon": nd.Expon(1, tau=5 * u.ms, **fine),
        "DualExpon": nd.DualExpon(1, tau_rise=1 * u.ms, tau_decay=10 * u.ms, **fine),
        "Alpha": nd.Alpha(1, tau=5 * u.ms, **fine),
        "AMPA": nd.AMPA(1, **fine),
        "GABAa": nd.GABAa(1, **fine),
        "NMDA": nd.NMDA(1, **fine),
    }
    spike = torch.zeros(400, 1)
    spike[20] = 1
    for color, (name, synapse) in zip(plot.COLORS, models.items(), strict=True):
        g = nd.unroll(synapse, spike, compile=False)
        plot.traces(g / g.max(), dt=0.1 * u.ms, ax=left, color=color, label=name)
    left.set(ylabel="conductance / its peak")
    left.legend(fontsize="small", **plot.LEGEND)
    V = torch.linspace(-90, 40, 131)
    for color, (name, output) in zip(
        plot.COLORS,
        {"COBA(E=0 mV)": nd.COBA(E=0 * u.mV), "MgBlock()": nd.MgBlock(), "CUBA()": nd.CUBA()}.items(),
        strict=False,
    ):
        right.plot(V, output(torch.ones(131))(V), color=color, label=name)
    right.set(xlabel="V (mV)", ylabel="current of 1 nS (pA)")
    right.legend(fontsize="small", **plot.LEGEND)
    fig.savefig(FOLDER / "synapses.png")


def plasticity() -> None:
    """A depressing and a facilitating synapse: what ten spikes at 20 Hz and one half a second later release."""
    fig, axes = figure(2, 2, width=8, height=2)
    spikes = torch.zeros(1100, 1)
    spikes[[*range(50, 550, 50), 1050]] = 1
    sorts = {
        "depressing": nd.STP(1, U=0.5, tau_f=1 * u.ms, tau_d=800 * u.ms),
        "facilitating": nd.STP(1, U=0.03, tau_f=1 * u.s, tau_d=130 * u.ms),
    }
    for column, (name, stp) in enumerate(sorts.items()):
        release, recording = nd.unroll(stp, spikes, record=("u", "x"), compile=False)
        for color, state in zip(plot.COLORS, "ux", strict=False):
            plot.traces(recording[state], ax=axes[column], color=color, label=state)
        axes[column].set(title=name, ylabel="u, x", xlabel="", ylim=(0, 1.05))
        axes[column].legend(fontsize="small", **plot.LEGEND)
        times = spikes[:, 0].nonzero()[:, 0]
        axes[2 + column].vlines(times, 0, release[times, 0], color="black")
        axes[2 + column].set(xlim=(0, 1100), xlabel="time (ms)", ylabel="release", ylim=(0, None))
    fig.savefig(FOLDER / "plasticity.png")


def online() -> None:
    """How near the gradients of the online rules are to those of backpropagation through time."""
    fig, axes = figure(1, 2, width=8, height=2.6)
    rules = {"DRTRL": nd.online.DRTRL, "EProp": nd.online.EProp, "ESDRTRL": nd.online.ESDRTRL, "SLTT": nd.online.SLTT}
    for ax, recurrent in zip(axes, (False, True), strict=True):
        torch.manual_seed(0)
        neurons = nd.ALIF(30, tau=10 * u.ms, reset_gradient="detached")
        layer = nd.Recurrent(neurons, torch.nn.Linear(30, 30, bias=False)) if recurrent else neurons
        net = torch.nn.Sequential(torch.nn.Linear(5, 30), layer, nd.LeakyRateReadout(30, 2, tau=20 * u.ms))
        with torch.no_grad():
            net[0].weight.mul_(6)
        xs, targets = torch.rand(100, 4, 5), torch.rand(100, 4, 2)
        (nd.unroll(net, xs, compile=False) - targets).square().mean((1, 2)).sum().backward()
        wanted = net[0].weight.grad.flatten()
        for k, (rule, color) in enumerate(zip(rules.values(), plot.COLORS, strict=False)):
            net.zero_grad()
            nd.online.unroll(rule(net), xs, lambda y, t, targets=targets: (y - targets[t]).square().mean())
            ax.bar(k, torch.cosine_similarity(wanted, net[0].weight.grad.flatten(), 0).item(), color=color)
        ax.set_xticks(range(len(rules)), list(rules))
        ax.set(title="a recurrent layer" if recurrent else "a layer without recurrence", ylim=(0, 1.05))
    axes[0].set_ylabel("cosine of the angle")
    fig.savefig(FOLDER / "online.png")


def spike_times() -> None:
    """A spike time as a function of one weight, with the exact slope; and spikes on their way to their targets."""
    fig, (left, right) = figure(1, 2, width=8, height=2.8)
    torch.manual_seed(1)

    def layer(inputs: int, outputs: int) -> tuple[torch.nn.Module, ...]:
        linear = torch.nn.Linear(inputs, outputs, bias=False)
        torch.nn.init.uniform_(linear.weight, 1.0, 2.0)
        return linear, nd.Expon(outputs, tau=5 * u.ms), nd.LIF(outputs, tau=10 * u.ms, R=1 * u.Gohm)

    net = torch.nn.Sequential(*layer(4, 10), *layer(10, 2))
    times, weight, weights, firsts = torch.tensor([[1.0], [2.0], [3.0], [5.0]]), net[0].weight, [], []
    start = weight[0, 0].item()
    for k in range(41):
        with torch.no_grad():
            weight[0, 0] = 0.1 * k
        net.zero_grad()
        first = nd.spike_times(net[:3], times, until=40.0)[0, 0]
        weights.append(0.1 * k)
        firsts.append(first.item())
        if k % 10 == 5:
            first.backward()
            slope = weight.grad[0, 0].item()
            at = [0.1 * k - 0.4, 0.1 * k + 0.4]
            left.plot(at, [first.item() + slope * (w - 0.1 * k) for w in at], color=plot.COLORS[1], linewidth=2.5)
    left.plot(weights, firsts, color=plot.COLORS[0])
    left.set(xlabel="weight", ylabel="first spike (ms)", title="lines: the gradient")
    with torch.no_grad():
        weight[0, 0] = start
    optimizer = torch.optim.Adam(net.parameters(), 0.005)
    targets = torch.tensor([8.0, 9.5])
    for step in range(150):
        found = nd.spike_times(net, times, until=40.0)
        optimizer.zero_grad()
        (found[:, 0] - targets).square().sum().backward()
        optimizer.step()
        for n in range(2):
            spikes = found[n, found[n].isfinite()].tolist()
            right.plot([step] * len(spikes), spikes, ".", color=plot.COLORS[n], markersize=1.5)
    for target, color in zip(targets.tolist(), plot.COLORS, strict=False):
        right.axhline(target, color=color, linewidth=0.8, linestyle="--")
    right.set(xlabel="steps of the optimizer", ylabel="spikes of two outputs (ms)", title="dashed: wanted first spikes")
    fig.savefig(FOLDER / "spike_times.png")


class Learner(torch.nn.Module):
    """The one of the page on plasticity."""

    def __init__(self) -> None:
        super().__init__()
        connection = nd.AllToAll(100, 1, weight=torch.full((1, 100), 0.5) * u.mV)
        self.synapses = nd.STDP(connection, w_max=1 * u.mV, A_plus=0.01, A_minus=0.011)
        self.neuron = nd.LIF(1, V_th=6 * u.mV, tau=10 * u.ms)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        jump = self.synapses(spikes)
        out = self.neuron(torch.zeros_like(jump), delta=jump)
        self.synapses.learn(out)
        return out


def stdp() -> None:
    """Inputs that spike together win."""
    fig, axes = figure(1, 2, width=8, height=2.6)
    torch.manual_seed(0)
    events, spikes = torch.rand(30_000, 1) < 0.01, torch.rand(30_000, 100) < 0.02
    spikes[:, :40] = (torch.rand(30_000, 40) < 0.015) | (events & (torch.rand(30_000, 40) < 0.5))
    with torch.no_grad():
        _, recording = nd.unroll(Learner(), spikes.float(), record=("synapses.weight",))
    weights = recording["synapses.weight"].values[::50, 0]
    time = torch.arange(len(weights)) * 0.05
    bins = [k / 20 for k in range(21)]
    groups = {"the others": (slice(40, 100), "#9aa5b1"), "spike together": (slice(0, 40), "#1f4e79")}
    for name, (group, color) in groups.items():
        axes[0].plot(time, weights[:, group][:, ::4], color=color, linewidth=0.4, alpha=0.6)
        axes[0].plot(time, weights[:, group].mean(1), color=color, linewidth=2.0)
        axes[1].hist(weights[-1, group].tolist(), bins=bins, color=color, label=name, alpha=0.8)
    axes[0].set(xlabel="time (s)", ylabel="weight (mV)", ylim=(0, 1))
    axes[1].set(xlabel="weight (mV)", ylabel="synapses")
    axes[1].legend(fontsize="small", **plot.LEGEND)
    fig.savefig(FOLDER / "stdp.png")


def inhibition() -> None:
    """Inhibition learns: spikes before and after, and the rate."""
    fig, axes = figure(1, 3, width=11, height=3)
    net = inhibitory_plasticity.InhibitoryPlasticity()
    spikes = inhibitory_plasticity.run(net, 10 * u.s, progress=False)["spikes"]
    shown = (spikes.neurons % 4 == 0) & (spikes.neurons < net.exc)  # 200 of the excitatory neurons
    time, neuron = spikes.steps[shown] * 0.1, spikes.neurons[shown] // 4
    for ax, (title, start, length) in zip(axes, (("at first", 0, 200), ("after 9.8 s", 9800, 200)), strict=False):
        part = (time >= start) & (time < start + length)
        ax.plot(time[part] - start, neuron[part], ".", markersize=1.5, color="black")
        ax.set(title=title, xlabel="time (ms)", ylabel="excitatory neuron", xlim=(0, length))
    counts = nd.analysis.counts(spikes, 50 * u.ms)[:, : net.exc].double().mean(1) * 20
    axes[2].semilogy(torch.arange(len(counts)) * 0.05, counts, color=plot.COLORS[0])
    axes[2].axhline(5, color="black", linewidth=0.8, linestyle="--")
    axes[2].set(title="mean rate, and its target", xlabel="time (s)", ylabel="rate (Hz)")
    fig.savefig(FOLDER / "inhibition.png")


if __name__ == "__main__":
    torch.manual_seed(0)
    FOLDER.mkdir(exist_ok=True)
    for picture in (neurons, planes, dendrite, synapses, plasticity, stdp, online, spike_times, inhibition):
        picture()
