"""Spikes of LIF neurons of other systems, for docs/migration.md and tests/test_pages.py.

Usage: pip install torch==2.13.0 snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3;
python tests/reference/make_peers.py. Writes tests/reference/peers.npz: 300 steps of 4 neurons, float64.
"""

from __future__ import annotations

from pathlib import Path

import norse.torch as norse
import numpy as np
import sinabs.activation
import sinabs.layers
import snntorch
import torch
from spikingjelly.activation_based import neuron

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
x = torch.rand(300, 4)
found = {"x": x.numpy()}

for reset in ("subtract", "zero"):
    leaky = snntorch.Leaky(beta=0.9, reset_mechanism=reset).double()
    mem, spikes = leaky.reset_mem().double(), []
    for row in x:
        spike, mem = leaky(row, mem)
        spikes.append(spike)
    found[f"snntorch_{reset}"] = torch.stack(spikes).detach().numpy()

for decayed in (True, False):
    for reset, V_reset in (("hard", 0.0), ("soft", None)):
        lif = neuron.LIFNode(tau=20.0, decay_input=decayed, v_reset=V_reset).double()
        rows = (4 if decayed else 0.25) * x
        found[f"spikingjelly_{'decayed' if decayed else 'plain'}_{reset}"] = (
            torch.stack([lif(row) for row in rows]).detach().numpy()
        )

cell, state, spikes = norse.LIFCell().double(), None, []
for row in x:
    spike, state = cell(row, state)
    spikes.append(spike)
found["norse"] = torch.stack(spikes).detach().numpy()

for normed in (True, False):
    lif = sinabs.layers.LIF(tau_mem=20.0, norm_input=normed, spike_fn=sinabs.activation.SingleSpike).double()
    rows = (4 if normed else 0.25) * x
    found[f"sinabs_{'normed' if normed else 'plain'}"] = lif(rows.unsqueeze(0))[0].detach().numpy()

packed = {name: values if name == "x" else values.astype(np.uint8) for name, values in found.items()}
np.savez_compressed(Path(__file__).with_name("peers.npz"), **packed)
print({name: int(values.sum()) for name, values in packed.items()})
