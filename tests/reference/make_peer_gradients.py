"""Gradients of LIF neurons of other systems, for docs/migration.md and tests/neurons/test_peer_gradients.py.

Usage: pip install torch==2.13.0 snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3;
python tests/reference/make_peer_gradients.py. Writes tests/reference/peer_gradients.npz, float64: inputs `x` of 100
steps of 4 neurons, and `weights` of the loss sum(weights * spikes). They are float32 numbers, as snnTorch has spikes of
that type, which rounds gradients. For each form `<form>.scale`, by which x is multiplied before it is given to the
neuron, and `<form>.spikes`, `<form>.input` (gradient by the scaled x) and `<form>.decay` (gradient by the decay of V in
one step).
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
x, weights = torch.rand(100, 4), torch.randn(100, 4).float().double()
found = {"x": x.numpy(), "weights": weights.numpy()}


def record(form, scale, run, parameter, per_decay):
    """`per_decay`: by how much the decay grows with the parameter."""
    rows = (scale * x).requires_grad_()
    spikes = run(rows)
    by_input, by_parameter = torch.autograd.grad((weights * spikes).sum(), (rows, parameter))
    found[f"{form}.scale"] = np.array(scale)
    found[f"{form}.spikes"] = spikes.detach().numpy().astype(np.uint8)
    found[f"{form}.input"] = by_input.numpy()
    found[f"{form}.decay"] = by_parameter.sum().numpy() / per_decay


def stepped(cell, rows, state=None):
    """The spikes of a cell that takes and returns its state."""
    spikes = []
    for row in rows:
        spike, state = cell(row, state)
        spikes.append(spike)
    return torch.stack(spikes)


for reset in ("subtract", "zero"):
    for spike, grad in (("atan", None), ("fast_sigmoid", snntorch.surrogate.fast_sigmoid(slope=25))):
        leaky = snntorch.Leaky(beta=0.9, reset_mechanism=reset, spike_grad=grad, learn_beta=True).double()
        record(f"snntorch_{reset}_{spike}", 1.0, lambda rows, leaky=leaky: stepped(leaky, rows), leaky.beta, 1.0)

for threshold in (1.0, 0.5):
    for decayed in (True, False):
        for reset, V_reset in (("hard", 0.0), ("soft", None)):
            for detach in (False, True):
                lif = neuron.ParametricLIFNode(20.0, decayed, threshold, V_reset, detach_reset=detach).double()
                form = f"spikingjelly_{'decayed' if decayed else 'plain'}_{reset}"
                form += "_detached" * detach + "_half" * (threshold == 0.5)
                rate = lif.w.sigmoid().item()  # V decays to 1 - rate
                assert abs(rate - 1 / 20) < 1e-12
                scale = threshold * (4 if decayed else 0.25)
                run = lambda rows, lif=lif: torch.stack([lif(row) for row in rows])  # noqa: E731
                record(form, scale, run, lif.w, -rate * (1 - rate))

rate = torch.tensor(100.0, requires_grad=True)  # V decays to 1 - 0.001 rate
cell = norse.LIFCell(norse.LIFParameters(torch.tensor(200.0), rate))
record("norse", 1.0, lambda rows: stepped(cell, rows), rate, -0.001)


class SingleSpike(sinabs.activation.SingleSpike):
    """Sinabs' spikes are float32, which would round the gradients that pass a reset; these have the dtype of V."""

    @staticmethod
    def forward(ctx, V, threshold, surrogate):
        return sinabs.activation.SingleSpike.forward(ctx, V, threshold, surrogate).to(V.dtype)


for normed in (True, False):
    lif = sinabs.layers.LIF(tau_mem=20.0, norm_input=normed, spike_fn=SingleSpike).double()
    per_decay = np.exp(-1 / 20) / 20**2  # the parameter is tau
    form, scale = ("sinabs_normed", 4) if normed else ("sinabs_plain", 0.25)
    record(form, scale, lambda rows, lif=lif: lif(rows.unsqueeze(0))[0], lif.tau_mem, per_decay)

np.savez_compressed(Path(__file__).with_name("peer_gradients.npz"), **found)
print({name: int(values.sum()) for name, values in found.items() if name.endswith("spikes")})
