"""Records ``nest_compartments.npz`` with NEST 3.10.0: ``python make_nest_compartments.py``.

NEST is that of ``pip install nest-simulator==3.10.0``. A `cm_default` of three passive compartments in a row, with an
AMPA receptor at the second and one of AMPA and NMDA at the third, and their spikes: the potentials in mV every 0.4 ms,
from three time steps.
"""

from pathlib import Path

import nest
import numpy as np

DURATION, EVERY, DELAY = 160.0, 0.4, 1.0
C, G_L, G_C, E_L = (200.0, 50.0, 50.0), (10.0, 2.5, 2.5), (0.0, 15.0, 10.0), -65.0  # pF, nS, nS, mV
AMPA, BOTH = 2.0, 1.5  # nS; the NMDA part of the second is twice its AMPA part
TAU = {"tau_r_AMPA": 0.2, "tau_d_AMPA": 3.0, "tau_r_NMDA": 0.2, "tau_d_NMDA": 43.0}
at_proximal = np.array([20.0, 30.0, 33.0, 130.0, 132.0, 134.0])
at_distal = np.concatenate([[10.0, 40.0], np.arange(80.0, 94.0, 0.4)])  # a burst that makes an NMDA spike

found = {}
for dt in (0.2, 0.1, 0.05):
    nest.ResetKernel()
    nest.set(resolution=dt, print_time=False)
    cell = nest.Create("cm_default", params={"V_th": 1000.0})
    cell.compartments = [
        {"parent_idx": i - 1, "params": {"C_m": C[i], "g_L": G_L[i], "g_C": G_C[i], "e_L": E_L, "v_comp": E_L}}
        for i in range(3)
    ]
    cell.receptors = [
        {"comp_idx": 1, "receptor_type": "AMPA", "params": {k: v for k, v in TAU.items() if "AMPA" in k}},
        {"comp_idx": 2, "receptor_type": "AMPA_NMDA", "params": TAU | {"NMDA_ratio": 2.0}},
    ]
    for port, (times, weight) in enumerate(((at_proximal, AMPA), (at_distal, BOTH))):
        source = nest.Create("spike_generator", params={"spike_times": times - DELAY})
        nest.Connect(
            source,
            cell,
            syn_spec={"synapse_model": "static_synapse", "weight": weight, "delay": DELAY, "receptor_type": port},
        )
    names = [f"v_comp{i}" for i in range(3)]
    meter = nest.Create("multimeter", params={"record_from": names, "interval": EVERY})
    nest.Connect(meter, cell)
    nest.Simulate(DURATION + 2 * dt)
    found[f"V_{dt:g}"] = np.stack([meter.events[name] for name in names], 1)
    found["t"] = meter.events["times"]
np.savez_compressed(
    Path(__file__).parent / "nest_compartments.npz",
    C=C, g_L=G_L, g_C=G_C, E_L=E_L, AMPA=AMPA, BOTH=BOTH, tau=[0.2, 3.0, 43.0], version=nest.__version__,
    at_proximal=at_proximal, at_distal=at_distal, **found,
)  # fmt: skip
print({key: (value.shape, value.max(0)) for key, value in found.items() if key[0] == "V"}, found["t"][:3])
