"""A layer of leaky integrate-and-fire neurons over a sequence in the torch libraries, each in its fastest idiom.

All reset by subtraction and have a surrogate that is cheap to compute: a triangle, or what there is in its place.
The leak is exact (snnTorch, Sinabs) or an Euler step (SpikingJelly, Norse), so that the spikes are alike, not equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

TAU = 5.0
Layer = tuple[Callable[[Tensor], Tensor], list[Tensor]]


def taus(size: int | tuple[int, ...]) -> Tensor:
    """A different time constant for each neuron, in steps."""
    generator = torch.Generator().manual_seed(0)
    return 4 + 2 * torch.rand(size, generator=generator)


def spikingjelly(
    size: Any,
    learn: bool = False,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    storage: str | None = None,
) -> Layer:
    """`LIFNode`, or `ParametricLIFNode` with a weight for each neuron, in multi-step mode.

    `storage` is what its Triton kernels keep the states in, such as "fp16"; for inputs of 16 bits it has to be told.
    """
    from spikingjelly.activation_based import functional, neuron, surrogate

    options: Any = {"v_reset": None, "surrogate_function": surrogate.PiecewiseQuadratic(), "step_mode": "m"}
    if learn:
        node = neuron.ParametricLIFNode(TAU, **options)
        node.w = nn.Parameter(-torch.log(taus(size) - 1))
    else:
        node = neuron.LIFNode(TAU, **options)
    node.to(device, dtype)
    if storage is not None:
        from spikingjelly.activation_based import precision

        precision.prepare_model_for_precision(node, device, {"mode": "fp32", "neuron_storage": storage})

    def run(xs: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(xs)

    return run, list(node.parameters())


def snntorch(size: Any, learn: bool = False, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Layer:
    """`Leaky`, called step by step."""
    import snntorch

    beta = torch.exp(-1 / taus(size)) if learn else math.exp(-1 / TAU)
    options: Any = {"threshold": 1 / (1 - beta), "spike_grad": snntorch.surrogate.fast_sigmoid(), "learn_beta": learn}
    neuron = snntorch.Leaky(beta, **options).to(device, dtype)  # the input is not scaled: the threshold is

    def run(xs: Tensor) -> Tensor:
        mem, spikes = torch.zeros_like(xs[0]), []
        for x in xs:
            spike, mem = neuron(x, mem)
            spikes.append(spike)
        return torch.stack(spikes)

    return run, [neuron.beta] if learn else []


def norse(size: Any, learn: bool = False, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Layer:
    """`LIFBoxCell`, lifted over time."""
    from norse.torch import LIFBoxCell, LIFBoxParameters, Lift
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState
    from norse.torch.functional.reset import reset_subtract

    rate = (1e3 / taus(size) if learn else torch.tensor(1e3 / TAU)).to(device, dtype).requires_grad_(learn)
    scalars = {name: torch.tensor(value, dtype=dtype) for name, value in (("v_leak", 0.0), ("v_th", 1.0))}
    parameters = LIFBoxParameters(
        tau_mem_inv=rate, v_reset=scalars["v_leak"], method="triangle", reset_method=reset_subtract, **scalars
    )
    layer = Lift(LIFBoxCell(parameters))

    def run(xs: Tensor) -> Tensor:
        return layer((xs, LIFBoxFeedForwardState(torch.zeros_like(xs[0]))))[0]

    return run, [rate] if learn else []


def sinabs(size: Any, learn: bool = False, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Layer:
    """`LIF` on a transposed view: it takes batch before time."""
    from sinabs.activation import SingleExponential, SingleSpike
    from sinabs.layers import LIF

    tau = taus(size) if learn else TAU
    layer = LIF(tau, spike_fn=SingleSpike, surrogate_grad_fn=SingleExponential()).to(device, dtype)
    layer.tau_mem.requires_grad_(learn)

    def run(xs: Tensor) -> Tensor:
        layer.reset_states()
        return layer(xs.transpose(0, 1)).transpose(0, 1)

    return run, [layer.tau_mem] if learn else []


LAYERS: dict[str, Callable[..., Layer]] = {
    "SpikingJelly": spikingjelly,
    "snnTorch": snntorch,
    "Norse": norse,
    "Sinabs": sinabs,
}
