"""Records ``nest_gap.npz`` with NEST 3.10.0 (``pip install nest-simulator==3.10.0``): ``python make_nest_gap.py``.

Two neurons `hh_psc_alpha_gap`, one of them driven by a current, joined by a gap junction: V after every step in mV,
without and with the junction, and the spike steps.
"""

from pathlib import Path

import nest
import numpy as np

DT, DURATION, G = 0.05, 150.0, 20.0
currents = (180.0, 60.0)  # pA
found = {}
for name, g in (("alone", 0.0), ("joined", G)):
    nest.ResetKernel()
    nest.set(resolution=DT, print_time=False, use_wfr=True, wfr_tol=1e-8, wfr_comm_interval=DT, wfr_max_iterations=50)
    neurons = nest.Create("hh_psc_alpha_gap", 2)
    neurons.I_e = currents
    if g:
        pattern = {"rule": "all_to_all", "allow_autapses": False}
        nest.Connect(neurons, neurons, pattern, {"synapse_model": "gap_junction", "weight": g})
    meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": DT})
    spikes = nest.Create("spike_recorder")
    nest.Connect(meter, neurons)
    nest.Connect(neurons, spikes)
    start = neurons.get(["V_m", "Act_m", "Inact_h", "Act_n", "Inact_p"])
    nest.Simulate(DURATION + 2 * DT)
    V = [meter.events["V_m"][meter.events["senders"] == n] for n in neurons.tolist()]
    found[name] = np.stack(V, 1)[: round(DURATION / DT)]
    found[f"{name}_spikes"] = np.stack([spikes.events["times"], spikes.events["senders"]])
start = {f"start_{key}": value[0] for key, value in start.items()}
keys = ["C_m", "E_L", "E_K", "E_Na", "g_L", "g_Na", "g_Kv1", "g_Kv3"]
values = {f"p_{key}": neurons.get(key)[0] for key in keys}
np.savez_compressed(
    Path(__file__).parent / "nest_gap.npz", dt=DT, g=G, currents=currents, version=nest.__version__,
    **start, **values, **found,
)  # fmt: skip
print({key: len(value[0]) for key, value in found.items() if "spikes" in key}, start, values)
