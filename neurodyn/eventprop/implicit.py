"""The gradients of spike times: implicit functions of what the potential depends on."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .events_in_time import Neurons, Spikes, kernel


def attached(found: Tensor, given: Spikes, neurons: Neurons, back: Spikes | None, tau_back: Tensor) -> Tensor:
    r"""The spike times `found` (batch, N, M) with a gradient: $dt = -A^{-1} dF$, $F_k = V(t_k) - V_{th}$.

    $A = \partial F/\partial t$ has the slope of the potential at each spike, and how later spikes of the same neuron,
    and of others that it drives through `back`, depend on it: triangular in the order of time. It is a constant for
    autograd, so that second derivatives would be wrong, and are refused.
    """
    parts = _once([*given, *neurons, tau_back, *(() if back is None else back)])
    given, neurons, tau_back = Spikes(*parts[:4]), Neurons(*parts[4:9]), parts[9]
    back = None if back is None else Spikes(*parts[10:])
    real = found.isfinite()
    t = torch.where(real, found, 0.0).detach()
    tau, tau_s, R, height, jump = (value[:, None] for value in neurons)  # (N, 1)
    since = t[..., :, None] - t[..., None, :]
    earlier = torch.ones_like(since, dtype=torch.bool).tril(-1) & real[..., None, :]
    fades = torch.where(earlier, torch.exp(-torch.where(earlier, since, 0.0) / tau[..., None]), 0.0)
    F = -jump * fades.sum(-1) - height
    g = torch.zeros_like(t)
    for spikes, tau_g in ((given, tau_s), (back, tau_back[:, None])):
        if spikes is None:
            continue
        lag, late = _lags(t, spikes)
        size = None if spikes.size is None else spikes.size[:, None, None]
        wide = [value[..., None, None] for value in (tau, tau_g, R)]
        F = F + torch.einsum("bnmi,ni->bnm", _times(kernel(lag, *wide), size).sum(-1), spikes.weight)
        with torch.no_grad():
            charge = _times(torch.exp(-lag / wide[1]) * late, size)
            g = g + torch.einsum("bnmi,ni->bnm", charge.sum(-1), spikes.weight)
    dF = torch.where(real, F - F.detach(), 0.0)
    with torch.no_grad():
        slope = torch.where(real, (R * g - height - F) / tau, 1.0)
        A = torch.diag_embed(slope) - (jump / tau)[..., None] * fades * real[..., None]
    if back is None:
        change = torch.linalg.solve_triangular(A, dF[..., None], upper=False)[..., 0]
        return torch.where(real, t - change, math.inf)
    with torch.no_grad():
        lag, late = _lags(t, back)  # (batch, N, M, N, M)
        wide = [value[..., None, None] for value in (tau, tau_back[:, None], R)]
        rises = (wide[2] * torch.exp(-lag / wide[1]) - kernel(lag, *wide)) / wide[0]
        mutual = torch.where(late & real[..., None, None], -rises * back.weight[:, None, :, None], 0.0)
        N, M = t.shape[1:]
        mutual.diagonal(dim1=1, dim2=3).add_(A.permute(0, 2, 3, 1))
        order = found.flatten(1).argsort(-1)  # the infinite ones are last
        A = mutual.reshape(len(t), N * M, N * M)
        A = A.gather(1, order[..., None].expand_as(A)).gather(2, order[:, None].expand_as(A))
    change = torch.linalg.solve_triangular(A, dF.flatten(1).gather(1, order)[..., None], upper=False)[..., 0]
    change = torch.zeros_like(change).scatter(1, order, change).view_as(t)
    return torch.where(real, t - change, math.inf)


class _Refusal(torch.autograd.Function):
    """A gradient, which depends on tensors and has no gradient by these."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *_by: Tensor) -> Tensor:  # type: ignore[override]
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *_gradients: Any) -> Any:  # type: ignore[override]
        raise RuntimeError(
            "spike times have first derivatives only, and this asks for a derivative of their gradient; leave "
            "create_graph=True out, or take differences of gradients, as of torch.autograd.grad at two values of a "
            "parameter"
        )


def _once(values: list[Any]) -> list[Any]:
    """The same, where tensors with a gradient have one that cannot be differentiated again, by none of them."""
    learned = [value for value in values if isinstance(value, Tensor) and value.requires_grad]

    def refuse(gradient: Tensor) -> Tensor:
        return _Refusal.apply(gradient, *learned) if torch.is_grad_enabled() else gradient  # type: ignore[return-value]

    values = [value.view_as(value) if any(value is one for one in learned) else value for value in values]
    for value in values:
        if isinstance(value, Tensor) and value.requires_grad:
            value.register_hook(refuse)
    return values


def _lags(t: Tensor, spikes: Spikes) -> tuple[Tensor, Tensor]:
    """How long before each spike another has arrived (batch, N, M, inputs, K), and whether it has; 0 if not."""
    lag = t[..., None, None] - spikes.arrivals()[:, :, None]
    late = lag > 0  # also where an input never comes
    return torch.where(late, lag, 0.0), late


def _times(value: Tensor, size: Tensor | None) -> Tensor:
    return value if size is None else value * size
