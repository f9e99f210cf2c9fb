"""One layer of LIF neurons over a sequence, beside the other libraries and the time to stream the same bytes.

The forward pass has to read its input and write its output; the backward pass reads the input and the gradient of the
output and writes the gradient of the input. Outputs are fresh tensors everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import neurodyn as nd
from neurodyn import units as u

from . import torch_peers
from .remote import brainstate
from .timing import RECORDED, Comparison, Options, Work, alternate

#: T, batch, neurons, tau learned, dtype. The smallest comes first: after large ones glibc has more free memory to look
#: through for a tensor, which small work feels.
CASES: list[tuple[int, int, int, bool, torch.dtype]] = [
    (128, 32, 10, False, torch.float32),
    (128, 32, 1024, False, torch.float32),
    (128, 32, 1024, True, torch.float32),
    (128, 32, 1024, False, torch.bfloat16),
    (128, 32, 1024, False, torch.float64),
    (1000, 1, 1024, False, torch.float32),
    (16, 1, 1_000_000, False, torch.float32),
]


def neurodyn(size: Any, learn: bool = False, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """As the layers of `torch_peers`; with 16-bit inputs the states are float32, as always."""
    states = dtype if dtype.itemsize >= 4 else torch.float32
    tau = torch_peers.taus(size) * u.ms if learn else torch_peers.TAU * u.ms
    lif = nd.LIF(size, tau=tau, learn=("tau",) if learn else (), device=device, dtype=states, **RECORDED)
    return lambda xs: nd.unroll(lif, xs), list(lif.parameters())


def forward(run: Callable[[Tensor], Tensor], xs: Tensor) -> Callable[[], Tensor]:
    """The work of a forward pass without gradients."""

    def call() -> Tensor:
        with torch.no_grad():
            return run(xs)

    return call


def both(run: Callable[[Tensor], Tensor], parameters: list[Tensor], xs: Tensor, weight: Tensor) -> Callable[[], Any]:
    """The work of a forward pass and the gradients of input and parameters."""
    leaf = xs.detach().requires_grad_()
    return lambda: torch.autograd.grad(run(leaf), [leaf, *parameters], weight)


def of_peer(make: Callable[..., torch_peers.Layer], *arguments: Any) -> Callable[[Callable], Work]:
    """What `make` gives, turned into work; or the reason why there is none."""
    try:
        layer = make(*arguments)
    except Exception as error:
        missing = isinstance(error, ImportError)
        reason = "not installed, see benchmarks/peers.sh" if missing else f"{type(error).__name__}: {error}"
        return lambda _: reason.partition("\n")[0]
    return lambda work: work(*layer)


def compare(T: int, batch: int, size: int, learn: bool, dtype: torch.dtype, options: Options) -> list[Comparison]:
    """Forward, and forward + backward, of one case."""
    torch.manual_seed(0)
    xs, weight = (1 + 2 * torch.randn(T, batch, size)).to(dtype), torch.rand(T, batch, size).to(dtype)
    makers: dict[str, Callable[..., Any]] = {"neurodyn": neurodyn}
    if options.peers:
        makers |= torch_peers.LAYERS
    layers = {name: of_peer(make, size, learn, dtype) for name, make in makers.items()}
    name = f"LIF, T={T}, batch {batch}, {size} neurons, {str(dtype)[6:]}, tau {'learned' if learn else 'fixed'}"
    found = []
    standard = (T, batch, size) == (128, 32, 1024) and dtype == torch.float32
    for backward in (False, True):
        work: dict[str, Work] = {}
        for way, of in layers.items():
            work[way] = of(
                lambda run, parameters: both(run, parameters, xs, weight) if backward else forward(run, xs)  # noqa: B023
            )
        arguments = {"T": T, "batch": batch, "size": size, "learn": learn, "dtype": str(dtype)[6:]}
        if options.peers:
            work["brainstate"] = brainstate(options, "layer", backward=backward, **arguments)
        work["streaming the same bytes"] = (lambda: (xs * 2, xs * weight)) if backward else (lambda: xs * 2)
        bars = dict.fromkeys(torch_peers.LAYERS, 5.0 if standard and backward else 1.0)
        bars["brainstate"] = 2.0 if standard and backward else 1.0
        if standard:
            bars["streaming the same bytes"] = 0.2
        found.append(alternate(f"{name}, forward{' + backward' * backward}", work, options, bars))
    return found


def run(options: Options) -> list[Comparison]:
    """All cases."""
    found = []
    for T, batch, size, learn, dtype in CASES[: 3 if options.toy else None]:
        T, batch, size = options.size(T, 5), options.size(batch, 2), options.size(size, 3)
        for comparison in compare(T, batch, size, learn, dtype, options):
            print(comparison, flush=True)
            found.append(comparison)
    return found
