"""Prints digests of a simulation and of a training step; run by test_processes.py with a number of threads."""

from __future__ import annotations

import hashlib
import json
import sys

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import vogels_abbott


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(20, 128),
        nd.LIF(128, tau=nd.init.Normal(6 * u.ms, 1 * u.ms), learn="tau"),
        nd.Expon(128, learn="tau"),
        nn.Linear(128, 5),
    )
    ys = nd.unroll(net, 3 * torch.randn(48, 64, 20))
    ys.square().mean().backward()
    recording = vogels_abbott.run(vogels_abbott.coba(0.5), 50 * u.ms, compile=False)
    spikes = recording["spikes"]
    bits = {"ys": ys, "steps": spikes.steps, "neurons": spikes.neurons, "V": recording.states["neurons.V"]}
    found = {
        "bits": {name: digest(tensor) for name, tensor in bits.items()},
        "gradients": {name: float(p.grad.double().norm()) for name, p in net.named_parameters()},
        "gradient bits": {name: digest(p.grad) for name, p in net.named_parameters()},
        "spikes": len(spikes),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
