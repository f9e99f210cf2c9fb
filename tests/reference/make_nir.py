"""Records files and traces of snnTorch and Norse into the folder nir.

Run once, in an environment of its own: pip install torch==2.13.0 numpy nir==1.0.8 nirtorch==2.6, then
pip install --no-deps snntorch==1.0.0 norse==1.1.0 (norse asks for torchvision, which only its tasks need).

Both step by forward Euler. snnTorch computes the time constants of every file with dt = 1e-4 s, and resets in the
spiking step only with reset_delay=False. Norse 1.1.0 multiplies its time constants by the dt that to_nir is given, so
that dt=1 keeps them; its IAF adds its input without dt, which is a step of 1 s; it writes LIFCell with a w_in that is
off by dt / tau_syn, so that only its box models are recorded.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import nir
import numpy as np
import torch
from torch import nn

OUT = Path(__file__).parent / "nir"
T, BATCH = 60, 2


def record(name: str, graph, step, n: int, dt_ms: float, reset: str = "hard", gain: float = 1.0) -> None:
    xs = gain * torch.rand(T, BATCH, n, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ys = torch.stack([step(x) for x in xs])
    nir.write(OUT / f"{name}.nir", graph)
    np.savez_compressed(OUT / f"{name}.npz", xs=xs.numpy(), ys=ys.numpy(), dt_ms=dt_ms, reset=reset)
    print(name, [type(node).__name__ for node in graph.nodes.values()], float(ys.mean()))


def snntorch_files() -> None:
    import snntorch as snn
    from snntorch.export_nir import export_to_nir

    def beta(n: int) -> torch.Tensor:
        return torch.linspace(0.8, 0.95, n)

    def threshold(n: int) -> torch.Tensor:
        return torch.linspace(0.8, 1.2, n)

    for mechanism, reset in (("zero", "hard"), ("subtract", "soft")):
        options = {"init_hidden": True, "reset_mechanism": mechanism, "reset_delay": False}
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(4, 6),
            snn.Leaky(beta(6), threshold=threshold(6), **options),
            nn.Linear(6, 3, bias=False),
            snn.Leaky(beta(3), threshold=threshold(3), **options),
        )
        net[2].weight.data.abs_()
        graph = export_to_nir(net, torch.ones(1, 4), ignore_dims=[0])
        record(f"snntorch_leaky_{mechanism}", graph, net, 4, 0.1, reset)
    torch.manual_seed(0)
    options = {"init_hidden": True, "reset_mechanism": "subtract", "reset_delay": False}
    net = nn.Sequential(nn.Linear(4, 6), snn.Synaptic(beta(6).flip(0), beta(6), threshold=threshold(6), **options))
    record("snntorch_synaptic", export_to_nir(net, torch.ones(1, 4), ignore_dims=[0]), net, 4, 0.1, "soft")

    torch.manual_seed(0)
    recurrent = snn.RLeaky(beta=beta(5), threshold=threshold(5), all_to_all=True, linear_features=5, **options)
    net = nn.Sequential(nn.Linear(4, 5), recurrent)
    record("snntorch_recurrent", export_to_nir(net, torch.ones(1, 4), ignore_dims=[0]), net, 4, 0.1, "soft")


def norse_files() -> None:
    for name in ("norse.benchmark", "norse.dataset", "norse.task"):  # they need torchvision
        sys.modules[name] = types.ModuleType(name)
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    def stepper(net):
        state = None

        def step(x):
            nonlocal state
            y, state = net(x, state)
            return y

        return step

    inverse = torch.linspace(80.0, 300.0, 6)
    lif = norse.LIFBoxParameters(tau_mem_inv=inverse, v_leak=torch.full((6,), 0.1), v_th=torch.linspace(0.4, 0.8, 6))
    li = norse.LIBoxParameters(tau_mem_inv=torch.linspace(50.0, 100.0, 3), v_leak=torch.zeros(3))
    torch.manual_seed(0)
    net = norse.SequentialState(nn.Linear(4, 6), norse.LIFBoxCell(lif), nn.Linear(6, 3), norse.LIBoxCell(li))
    record("norse_box", to_nir(net, torch.ones(1, 4), dt=1), stepper(net), 4, 1.0, gain=6.0)
    torch.manual_seed(0)
    iaf = norse.IAFParameters(v_th=torch.linspace(0.5, 1.5, 6))
    net = norse.SequentialState(nn.Linear(4, 6), norse.IAFCell(iaf))
    record("norse_iaf", to_nir(net, torch.ones(1, 4), dt=1), stepper(net), 4, 1000.0)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    snntorch_files()
    norse_files()
