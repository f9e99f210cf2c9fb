"""Records ``nest_*.npz`` with NEST 3.10.0 (``pip install nest-simulator==3.10.0``): ``python make_nest.py``.

Each file holds the steps of the input spikes, V after every step in mV, and the steps of the output spikes. Step i ends
at time (i + 1) dt; an input spike of step i arrives at that time.
"""

from pathlib import Path

import nest
import numpy as np

HERE = Path(__file__).parent
NEURON = {"tau_m": 12.0, "C_m": 250.0, "E_L": -65.0, "V_th": -52.0, "V_reset": -63.0, "V_m": -65.0, "t_ref": 0.0}


def record(model, name, *, dt, weight, count, current, duration=400.0, **extra):
    """A neuron with a constant current and spikes of one weight, at irregular multiples of 0.4 ms."""
    nest.ResetKernel()
    nest.set(resolution=dt, print_time=False)
    parameters = NEURON | extra | {"I_e": current}
    neuron = nest.Create(model, params=parameters)
    steps = round(duration / dt)
    slots = np.random.default_rng(3).choice(np.arange(2, int(duration / 0.4)), count, replace=False)
    arrivals = np.round(np.sort(slots) * 0.4 / dt).astype(int) - 1
    times = arrivals * dt  # sent one step before they arrive at (arrivals + 1) dt
    source = nest.Create("spike_generator", params={"spike_times": np.round(times, 6)})
    nest.Connect(source, neuron, syn_spec={"weight": weight, "delay": dt})
    meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": dt})
    spikes = nest.Create("spike_recorder")
    nest.Connect(meter, neuron)
    nest.Connect(neuron, spikes)
    nest.Simulate(steps * dt + 2 * dt)
    V = meter.events["V_m"][:steps]
    assert np.allclose(meter.events["times"][:steps], (np.arange(steps) + 1) * dt)
    out = np.round(spikes.events["times"] / dt).astype(int) - 1
    values = {f"p_{key}": value for key, value in parameters.items()}
    np.savez_compressed(
        HERE / f"nest_{name}.npz", arrivals=arrivals, V=V, spikes=out[out < steps], dt=dt, weight=weight,
        version=nest.__version__, **values,
    )  # fmt: skip
    print(name, "spikes:", len(out))


def record_plasticity():
    """The amplitudes of a tsodyks2 synapse for 200 irregular spikes; u and x are those of the first spike."""
    nest.ResetKernel()
    nest.set(resolution=0.5, print_time=False)
    parameters = {"U": 0.22, "tau_fac": 800.0, "tau_rec": 130.0, "u": 0.22, "x": 1.0}
    steps = np.cumsum(1 + np.random.default_rng(5).exponential(40, 200).astype(int))
    source = nest.Create("spike_generator", params={"spike_times": steps * 0.5})
    relay, target = nest.Create("parrot_neuron"), nest.Create("iaf_psc_delta")
    recorder = nest.Create("weight_recorder")
    nest.CopyModel("tsodyks2_synapse", "recorded", {"weight_recorder": recorder})
    nest.Connect(source, relay, syn_spec={"delay": 0.5})
    nest.Connect(relay, target, syn_spec={"synapse_model": "recorded", "weight": 1.0, "delay": 0.5, **parameters})
    nest.Simulate(steps[-1] * 0.5 + 5)
    weights = recorder.events["weights"]
    assert len(weights) == len(steps)
    values = {f"p_{key}": value for key, value in parameters.items()}
    np.savez_compressed(
        HERE / "nest_tsodyks2.npz", arrivals=steps, release=weights, dt=0.5, version=nest.__version__, **values
    )


RANDOM = {"tau_m": 20.0, "C_m": 250.0, "E_L": -65.0, "V_th": -52.0, "V_reset": -63.0, "V_m": -65.0, "t_ref": 2.0}


def record_random(model, name, *, weights, ports=None, I_e=150.0, dt=0.1, every=1, duration=2000.0, **extra):
    """2 s of Poisson input to each of some receptors, which `weights` lists, in each or `every` so many steps.

    ``counts`` has a row for each step of `duration` and a column for each receptor: the spikes that arrive at the
    beginning of the step, so that V at its end is the first to feel them.
    """
    nest.ResetKernel()
    nest.set(resolution=dt, print_time=False)
    parameters = RANDOM | extra | {"I_e": I_e}
    if "g_L" in parameters:
        del parameters["tau_m"]
    neuron = nest.Create(model, params=parameters)
    steps = round(duration / dt)
    counts = np.zeros((steps, len(weights)), int)
    drawn = np.random.default_rng(11).poisson([0.15, 0.06][: len(weights)], (steps // every, len(weights)))
    counts[::every] = drawn
    counts[:2] = 0
    for column, weight in enumerate(weights):
        at = np.repeat(np.arange(steps), counts[:, column])
        source = nest.Create("spike_generator", params={"spike_times": np.round((at - 1) * dt, 6)})
        for receptor, factor in [(0, 1.0)] if ports is None else ports:
            synapse = {"weight": weight * factor, "delay": dt, "receptor_type": receptor}
            nest.Connect(source, neuron, syn_spec=synapse)
    meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": dt})
    spikes = nest.Create("spike_recorder")
    nest.Connect(meter, neuron)
    nest.Connect(neuron, spikes)
    nest.Simulate((steps + 2) * dt)
    assert np.allclose(meter.events["times"][:steps], (np.arange(steps) + 1) * dt)
    out = np.round(spikes.events["times"] / dt).astype(int) - 1
    values = {f"p_{key}": np.asarray(value) for key, value in parameters.items()}
    np.savez_compressed(
        HERE / f"nest_random_{name}.npz", counts=counts.astype(np.uint8), V=meter.events["V_m"][:steps],
        spikes=out[out < steps], dt=dt, weights=np.asarray(weights), version=nest.__version__, **values,
    )  # fmt: skip
    print(name, "spikes:", len(out), "V", meter.events["V_m"].min(), meter.events["V_m"].max())


def record_exact():
    """The linear synapses of `exact=True`, and conductances."""
    two = {"tau_syn_ex": 2.0, "tau_syn_in": 5.0}
    record_random("iaf_psc_exp", "exp", weights=[90.0, -80.0], **two)
    record_random("iaf_psc_exp", "exp_1ms", weights=[200.0, -100.0], dt=1.0, **two)
    record_random("iaf_psc_alpha", "alpha", weights=[150.0, -25.0], tau_syn_ex=0.325, tau_syn_in=4.0)
    ratio = 2.0 / 6.0
    factor = 1 / (1 - ratio) * ratio ** (-ratio / (1 - ratio))  # for a peak of 1: tau_rise 2 ms, tau_decay 6 ms
    record_random("iaf_psc_exp_multisynapse", "dual", weights=[8.0], ports=[(1, factor), (2, -factor)],
                  tau_syn=[6.0, 2.0])  # fmt: skip
    for every, dt in ((1, 0.4), (2, 0.2), (4, 0.1)):
        pair = {"E_ex": 0.0, "E_in": -80.0, "g_L": 12.5, "V_th": 1e3}  # below threshold
        record_random("iaf_cond_exp", f"cond_{dt}", weights=[3.0, -4.0], dt=dt, every=every, duration=200.0, **pair,
                      **two)  # fmt: skip


if __name__ == "__main__":
    record_exact()
    record("iaf_psc_delta", "delta", dt=0.1, weight=1.7, count=400, current=200.0)
    record("iaf_psc_delta", "delta_ref", dt=0.1, weight=1.7, count=400, current=330.0, t_ref=2.7)
    record_plasticity()
