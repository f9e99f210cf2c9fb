"""How far two spike trains are apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import as_dt, get_default_dt
from ..record import Events


def van_rossum_distance(a: Events | Tensor, b: Events | Tensor, tau: Any, dt: Any = None) -> Tensor:
    r"""Squared van Rossum distance $D^2 = \frac{1}{\tau} \int_0^\infty (f - g)^2 dt$ of each neuron.

    f and g are the spike trains filtered with $e^{-t/\tau}$. The integral is exact for spikes on the grid, includes the
    tail after the last step, and has a gradient: it can be a loss. One spike more or less counts 1/2.

    Output: ``(*batch, *size)``.

    Args:
        a, b: tensors ``(T, *batch, *size)`` of one shape, or `Events` over the same time.
        tau: time constant, a quantity: short ones count coincidences, long ones compare rates.
        dt: time step of tensors; `get_default_dt()` if not given.

    Source: van Rossum (2001), A novel spike distance, Neural Computation 13.

    Example:
        >>> a, b = torch.eye(10)[:, :1], torch.eye(10)[:, 2:3]  # one spike each, 2 ms apart
        >>> nd.analysis.van_rossum_distance(a, b, tau=10 * u.ms)  # 1 - exp(-2 / 10)
        tensor([0.1813])
    """
    if isinstance(a, Events) and isinstance(b, Events):
        if (a.dt, a.start, a.stop) != (b.dt, b.start, b.stop):
            raise ValueError(f"van_rossum_distance: wanted events over the same time, got {a} and {b}")
        if dt is not None:
            raise TypeError("van_rossum_distance: Events have a time step; leave out dt=")
        dt = u.quantity(a.dt, "ms")
        a, b = a.to_tensor(), b.to_tensor()
    if isinstance(a, Events) or isinstance(b, Events):
        raise TypeError("van_rossum_distance: give two tensors, or two Events")
    if a.shape != b.shape:
        raise ValueError(f"van_rossum_distance: shapes {tuple(a.shape)} and {tuple(b.shape)} differ")
    step = as_dt(get_default_dt() if dt is None else dt, "dt")
    ratio = torch.tensor(step / as_dt(tau, "tau"), dtype=torch.float64)
    keep, share = torch.exp(-ratio).item(), -torch.expm1(-2 * ratio).item()
    h, total = torch.zeros_like(a[0]), torch.zeros_like(a[0])
    for difference in (a - b).unbind():
        h = keep * h + difference
        total = total + share * h**2
    return (total + (1 - share) * h**2) / 2
