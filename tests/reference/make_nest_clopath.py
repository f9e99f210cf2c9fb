"""Records ``nest_clopath.npz`` with NEST 3.10.0 (``pip install nest-simulator==3.10.0``): `clopath_synapse`.

"held": the potential of `aeif_psc_delta_clopath` is moved by given jumps and held in between (no leak, no adaptation,
no spikes; the synapse is weak), so that NEST's solver has only the traces of the potential to solve, and does it to
rounding. 2 s at a step of 0.1 ms; pre, the steps of the presynaptic spikes; for each case the steps at which V changed,
V since then, and the weight at each presynaptic spike.

"spiking": the same neuron with its defaults, driven by pairs of spikes, at two steps; V in each step, and the weights.
"""

from pathlib import Path

import nest
import numpy as np

CASES = {
    "plain": {"delay_u_bars": 0.0, "delay": 0.1, "A_LTD": 14e-8, "A_LTP": 8e-8},
    "dendrite": {"delay_u_bars": 0.0, "delay": 1.3, "A_LTD": 14e-8, "A_LTP": 8e-8},
    "late": {"delay_u_bars": 5.0, "delay": 0.1, "A_LTD": 14e-8, "A_LTP": 8e-8},
    "bounds": {"delay_u_bars": 0.0, "delay": 0.1, "A_LTD": 7e-6, "A_LTP": 3e-6},
}
HELD = {"g_L": 0.0, "a": 0.0, "b": 0.0, "Delta_T": 0.0, "V_th_rest": 100.0, "V_th_max": 100.0, "V_peak": 100.0}
STEPS = 20_000


def simulate(neuron, synapse, w_max, pre, jumps, duration, resolution=0.1):
    """V in each step, and the steps of the presynaptic spikes with the weights at them."""
    nest.ResetKernel()
    nest.set(resolution=resolution, print_time=False)
    post, parrot = nest.Create("aeif_psc_delta_clopath", params=neuron), nest.Create("parrot_neuron")
    source = nest.Create("spike_generator", params={"spike_times": pre})
    nest.Connect(source, parrot, syn_spec={"delay": resolution})
    pushes = nest.Create("spike_generator", params={"spike_times": jumps[0], "spike_weights": jumps[1]})
    nest.Connect(pushes, post, syn_spec={"delay": resolution})
    recorder = nest.Create("weight_recorder")
    meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": resolution})
    nest.Connect(meter, post)
    nest.CopyModel("clopath_synapse", "recorded", {"weight_recorder": recorder})
    nest.Connect(parrot, post, syn_spec={"synapse_model": "recorded", "weight": w_max / 2, "Wmax": w_max} | synapse)
    nest.Simulate(duration)
    steps = np.round(recorder.events["times"] / resolution).astype(np.int32)
    assert np.allclose(meter.events["times"] / resolution, np.arange(1, len(meter.events["times"]) + 1))
    return meter.events["V_m"], steps, recorder.events["weights"]


if __name__ == "__main__":
    nest.set_verbosity("M_WARNING")
    rng = np.random.default_rng(2)
    pre = np.flatnonzero(rng.random(STEPS - 100) < 0.006) + 10
    moves = np.flatnonzero(rng.random(STEPS - 100) < 0.03) + 10
    levels = np.concatenate(([-70.6], rng.uniform(-95, -15, len(moves))))
    jumps = (np.round(moves * 0.1, 1), np.diff(levels))
    found = {"version": nest.__version__}
    for name, case in CASES.items():
        neuron = HELD | {key: case[key] for key in ("delay_u_bars", "A_LTD", "A_LTP")}
        V, steps, w = simulate(neuron, {"delay": case["delay"]}, 2e-3, np.round(pre * 0.1, 1), jumps, STEPS * 0.1 + 5)
        V = V[:STEPS]
        changed = np.flatnonzero(np.diff(V, prepend=np.nan) != 0)
        print(name, len(w), w.min(), w.max(), w[-1], len(changed), V.min(), V.max())
        values = case | {"step": (changed + 1).astype(np.int32), "V": V[changed], "w": w}
        found |= {f"held_{name}_{key}": value for key, value in values.items()} | {"held_pre": steps}
    pairs = np.arange(10.0, 90.0, 20.0)  # ms; a jump of 60 mV, a spike, 10 ms after each presynaptic one, or before
    for name, shift, late in (("growth", 10.0, 0.0), ("growth_late", 10.0, 5.0), ("shrink", -6.0, 0.0)):
        for resolution in (0.2, 0.1):
            jumps = (pairs + shift, np.full(len(pairs), 60.0))
            spikes = np.append(pairs, 105.0)  # the last one collects what has changed since the one before
            V, steps, w = simulate({"delay_u_bars": late}, {"delay": resolution}, 2.0, spikes, jumps, 110.0, resolution)
            print(name, resolution, V.max(), w[-1], len(w))
            key = f"spiking_{name}_{resolution}"
            found |= {f"{key}_V": V.astype(np.float32), f"{key}_pre": steps, f"{key}_w": w}
    np.savez_compressed(Path(__file__).parent / "nest_clopath.npz", **found)
