"""Outputs of dcls 0.1.1 (PyPI) for Gaussian kernels over delays: ``python make_dcls.py`` where torch and dcls are.

Each output channel has two synapses from each of three inputs. A kernel has a tap for each of 1 to L steps ago.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from DCLS.construct.modules import Dcls1d
from torch.nn import functional as F

T, L, INPUTS, OUTPUTS, COUNT = 60, 21, 3, 4, 2


def main() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, INPUTS, T, dtype=torch.float64) * (torch.rand(2, INPUTS, T) < 0.3)
    found = {"x": x.numpy(), "length": np.array(L)}
    delay = 1 + (L - 1) * torch.rand(OUTPUTS, INPUTS, COUNT, dtype=torch.float64)
    for i, sigma in enumerate((8.0, 2.0, 0.5)):  # in steps
        layer = Dcls1d(INPUTS, OUTPUTS, COUNT, dilated_kernel_size=L, bias=False, version="gauss").double()
        each = Dcls1d(INPUTS, INPUTS, 1, dilated_kernel_size=L, groups=INPUTS, bias=False, version="gauss").double()
        with torch.no_grad():
            # The kernel is not flipped: its tap i meets the input of L - i steps ago, and position P is tap P + L // 2.
            layer.P.copy_((L - delay - L // 2)[None])
            layer.SIG.fill_(sigma - 0.27)  # to which dcls adds 0.27
            each.P.copy_((L - delay[0, :, :1].unsqueeze(1) - L // 2)[None])
            each.SIG.fill_(sigma - 0.27)
            each.weight.fill_(1.0)
        padded = F.pad(x, (L, -1))
        found |= {f"sigma{i}": np.array(sigma), f"weight{i}": layer.weight.detach().numpy()}
        for name, module in (("synapses", layer), ("neurons", each)):
            y = module(padded)
            (slope,) = torch.autograd.grad(y.square().sum(), module.P)
            found |= {f"{name}{i}": y.detach().numpy(), f"{name}_slope{i}": -slope[0].numpy()}  # of the delay
    np.savez_compressed(Path(__file__).parent / "dcls.npz", delay=delay.numpy(), **found)


main()
