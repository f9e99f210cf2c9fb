"""Makes brian2_decision.npz: Wang's decision network (2002) with Brian2 2.10, in two forms.

Run it in an environment of its own: ``pip install brian2 "numpy<2.3"``.

The first has the scheme of neurodyn, and a quarter of the neurons: the current of NMDA receptors is linearised at the
potential before the step, by Brian2's `run_regularly`; conductances that decay within the step count with their mean;
`exponential_euler` solves what is then linear. It holds ``steps`` and ``neurons`` of all spikes over `STEPS`, and the
potentials ``V`` (mV) of `WATCHED` in the first steps. `start` and `counts` say which potentials and external spikes.

The second is the network as it is published, at full size, with the method rk4, which linearises nothing and knows
of no mean. It holds rates in Hz of the four groups, ``rates`` ``(trials, windows, groups)`` in `WINDOWS`, and the mean
coefficient of variation ``cv`` ``(trials, 2)``: of inhibitory neurons before the stimulus, of A in the last window.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

GROUPS, EXC, WATCHED, STEPS, TRACED = (240, 240, 1120, 400), 1600, (0, 70, 200, 450), 6000, 150
SCALE, TRIALS, COHERENCE, ONSET = 0.25, 20, 51.2, 15_000
WINDOWS = ((2000, 15_000), (20_000, 25_000))  # steps: at rest; late in the stimulus


def start(scale: float = SCALE) -> np.ndarray:
    """V in mV of all neurons before the first step."""
    return np.random.RandomState(3).uniform(-70, -50, round(2000 * scale))


def counts(scale: float = SCALE, steps: int = STEPS) -> np.ndarray:
    """External spikes, ``(steps, neurons)``: 2,400 Hz, from 0.1 s on 2,600 Hz for A; of a stream that is fixed."""
    rates = np.full((steps, round(2000 * scale)), 0.24)
    rates[1000:, : round(240 * scale)] = 0.26
    return np.random.RandomState(4).poisson(rates).astype(np.uint8)


def main() -> None:
    import brian2 as b2
    from coba_network import irregularity

    b2.defaultclock.dt = 0.1 * b2.ms

    def network(scale: float, linearised: bool) -> tuple[b2.Network, b2.NeuronGroup, b2.SpikeMonitor]:
        n, exc = round(2000 * scale), round(EXC * scale)
        sizes = [round(size * scale) for size in GROUPS]
        bounds = np.cumsum([0, *sizes])
        names = {"nS": b2.nS, "E": 0 * b2.mV, "EI": -70 * b2.mV, "VL": -70 * b2.mV}
        if linearised:
            mean = {tau: tau / 0.1 * -np.expm1(-0.1 / tau) for tau in (2.0, 5.0)}
            names |= {"mean_2": mean[2.0], "mean_5": mean[5.0]}
            dv = "(F + L*(v - v0))/C"
        else:
            names |= {"mean_2": 1.0, "mean_5": 1.0}
            dv = "(gL*(VL - v) + g*(E - v) + h*(EI - v) + gn*(E - v)/(1 + exp(-0.062*v/mV)/3.57))/C"
        group = b2.NeuronGroup(
            n,
            f"""dv/dt = {dv} : volt (unless refractory)
            dg/dt = -g/(2*ms) : siemens
            dh/dt = -h/(5*ms) : siemens
            dx/dt = -x/(2*ms) : 1
            ds/dt = -s/(100*ms) + 0.5/ms*x*mean_2*(1 - s) : 1
            gn : siemens
            v0 : volt
            F : amp
            L : siemens
            C : farad (constant)
            gL : siemens (constant)
            external : siemens (constant)
            tau_ref : second (constant)
            kind : integer (constant)""",
            threshold="v >= -50*mV",
            reset="v = -55*mV",
            refractory="tau_ref",
            method="exponential_euler" if linearised else "rk4",
            namespace=names,
        )
        inh = np.arange(n) >= exc
        group.C, group.gL = np.where(inh, 0.2, 0.5) * b2.nF, np.where(inh, 20, 25) * b2.nS
        group.external, group.tau_ref = np.where(inh, 1.62, 2.1) * b2.nS, np.where(inh, 1, 2) * b2.ms
        group.kind = np.repeat(range(4), sizes)
        if linearised:
            group.run_regularly(
                """v0 = v
                block = 1/(1 + exp(-0.062*v/mV)/3.57)
                F = gL*(VL - v) + g*mean_2*(E - v) + h*mean_5*(EI - v) + gn*block*(E - v)
                L = -gL - g*mean_2 - h*mean_5 + gn*(0.062/mV*block*(1 - block)*(E - v) - block)""",
                when="start",
                order=1,
            )
        weaker = 1 - 0.15 * 0.7 / 0.85
        relative = np.array([[1.7, weaker, weaker], [weaker, 1.7, weaker], [1, 1, 1], [1, 1, 1]])
        kind = group.kind[:]

        @b2.network_operation(when="start", order=0)
        def slow() -> None:
            s = group.s[:]
            sums = [s[a:b].sum() for a, b in itertools.pairwise(bounds[:4])]
            total = np.array([0.165, 0.165, 0.165, 0.13]) * (relative @ sums) / scale
            group.gn_[:] = total[kind] * 1e-9

        jump = np.array([0.05, 0.05, 0.05, 0.04])[:, None] * relative / scale
        AMPA = b2.Synapses(group, group, "w : siemens (constant)", on_pre="g += w", delay=0.5 * b2.ms)
        AMPA.connect(i=np.repeat(np.arange(exc), n), j=np.tile(np.arange(n), exc))
        AMPA.w = jump[np.tile(kind, exc), np.repeat(kind[:exc], n)] * b2.nS
        own = b2.Synapses(group[:exc], group, on_pre="x_post += 1", delay=0.5 * b2.ms)
        own.connect(j="i")
        GABA = b2.Synapses(group, group, "w : siemens (constant)", on_pre="h += w", delay=0.5 * b2.ms)
        GABA.connect(i=np.repeat(np.arange(exc, n), n), j=np.tile(np.arange(n), n - exc))
        GABA.w = np.tile(np.where(inh, 1.0, 1.3), n - exc) / scale * b2.nS
        spikes = b2.SpikeMonitor(group)
        return b2.Network(group, slow, AMPA, own, GABA, spikes), group, spikes

    net, group, spikes = network(SCALE, True)
    given = counts()
    group.v = start() * b2.mV
    group.g_ = given[0] * np.asarray(group.external)

    @b2.network_operation(when="end")
    def external(t: b2.Quantity) -> None:
        step = round(float(t / b2.defaultclock.dt)) + 1
        if step < STEPS:
            group.g_[:] = group.g_[:] + given[step] * np.asarray(group.external)

    trace = b2.StateMonitor(group, "v", record=WATCHED, when="end")
    net.add(external, trace)
    net.run(STEPS * b2.defaultclock.dt)
    found = {"V": (trace.v / b2.mV).T[:TRACED]}
    found["steps"] = np.round(spikes.t / b2.defaultclock.dt).astype(np.int32)
    found["neurons"] = np.asarray(spikes.i).astype(np.int16)
    print(len(found["steps"]), "spikes")

    rates, cv, bounds = [], [], np.cumsum([0, *GROUPS])
    for trial in range(TRIALS):
        b2.seed(trial)
        random = np.random.default_rng(trial)
        net, group, spikes = network(1.0, False)
        group.v = random.uniform(-70, -50, 2000) * b2.mV
        windows = WINDOWS[-1][1] // 500
        stimulus = 40 * (1 + COHERENCE / 100 * np.array([1, -1])) + 4 * random.standard_normal((windows, 2))
        stimulus[: ONSET // 500] = 0
        values = np.concatenate((stimulus, np.zeros((windows, 2))), 1)
        group.namespace["stim"] = b2.TimedArray(values * b2.Hz, dt=50 * b2.ms)
        group.run_regularly("g += external*poisson((2400*Hz + stim(t, kind))*dt)", when="end")
        net.run(WINDOWS[-1][1] * b2.defaultclock.dt)
        steps, neurons = np.round(spikes.t / b2.defaultclock.dt).astype(int), np.asarray(spikes.i)
        of_windows, of_cv = [], []
        for (first, stop), chosen in zip(WINDOWS, (3, 0), strict=True):
            inside = (steps >= first) & (steps < stop)
            number = np.histogram(neurons[inside], bounds)[0]
            of_windows.append(number / np.array(GROUPS) / ((stop - first) * 1e-4))
            mine = inside & (neurons >= bounds[chosen]) & (neurons < bounds[chosen + 1])
            of_cv.append(irregularity(steps[mine], neurons[mine]))
        rates.append(of_windows)
        cv.append(of_cv)
        print(np.round(of_windows, 2).tolist(), np.round(of_cv, 3), flush=True)
    found["rates"], found["cv"] = np.array(rates), np.array(cv)
    print(found["rates"].mean(0).round(2), found["cv"].mean(0).round(3))
    np.savez_compressed(Path(__file__).with_name("brian2_decision.npz"), **found)


if __name__ == "__main__":
    main()
