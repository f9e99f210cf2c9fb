"""Spikes at given times."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import units as u
from ..core.dynamics import as_dt, get_default_dt
from ..core.fields import as_size, check


class SpikeTime(nn.Module):
    r"""Spikes at given times: neuron ``indices[k]`` spikes in step ``times[k] / dt``, step 0 at time 0.

    Output: spikes, 0 or 1; ``source(T, *batch)`` is the sequence ``(T, *batch, *size)``, ``source.at(i, *batch)`` the
    input of step i alone; ``nd.simulate(net, duration, source)`` takes the source itself. Times need no order; those
    from T dt on are not part of a sequence.

    Args:
        size: shape of the population.
        indices: neuron of each spike, ints; in a population with several axes the index into the flattened one.
        times: time of each spike, a quantity, each a multiple of dt.
        dt: time step, a quantity; `get_default_dt()` at construction if not given.
        device, dtype: as in torch.nn.

    Raises:
        ValueError: a time that is negative or no multiple of dt; an index outside of the population; two spikes of one
            neuron in the same step.

    Example:
        >>> source = nd.SpikeTime(3, indices=[0, 2, 0], times=[0, 1, 3] * u.ms)
        >>> source(4).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """

    steps: Tensor
    neurons: Tensor
    one: Tensor

    def __init__(
        self,
        size: int | tuple[int, ...],
        indices: Any,
        times: Any,
        *,
        dt: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.size, self.dt = (
            as_size(size, "SpikeTime"),
            as_dt(get_default_dt() if dt is None else dt, "SpikeTime: dt"),
        )
        neurons = torch.as_tensor(np.asarray(indices) if len(indices) else np.zeros(0, int))
        if neurons.is_floating_point() or neurons.dtype == torch.bool or neurons.dim() != 1:
            raise TypeError(f"SpikeTime: indices must be a list of ints, got {indices!r}")
        n = len(neurons)
        ms = check(times, u.canonical_unit("ms"), (n,), "SpikeTime: times", None, torch.float64)
        if tuple(ms.shape) != (n,):
            raise ValueError(f"SpikeTime: there are {n} indices and times of shape {tuple(ms.shape)}")
        exact = ms / self.dt
        steps = exact.round()
        single = getattr(getattr(times, "magnitude", None), "dtype", None) in (torch.float32, np.dtype("float32"))
        off = (exact - steps).abs() > 1e-6 + exact.abs() * (1e-6 if single else 1e-12)
        outside = (neurons < 0) | (neurons >= self.flat)
        for wrong, values, text in (
            (off, ms, f"is no multiple of dt={self.dt:g} ms; round the times, or choose a dt that divides them"),
            (steps < 0, ms, "is negative"),
            (outside, neurons, f"is no neuron of a population of {self.flat}"),
        ):
            if bool(wrong.any()):
                k = int(wrong.nonzero()[0])
                what = f"times[{k}] = {values[k]:g} ms" if values is ms else f"indices[{k}] = {values[k]}"
                raise ValueError(f"SpikeTime: {what} {text}")
        cells, count = (steps.long() * self.flat + neurons).unique(return_counts=True)
        if bool((count > 1).any()):
            step, neuron = divmod(int(cells[count > 1][0]), self.flat)
            raise ValueError(f"SpikeTime: neuron {neuron} has two spikes in step {step}; use a smaller dt")
        self.register_buffer("steps", steps.long().to(device), persistent=False)
        self.register_buffer("neurons", neurons.long().to(device), persistent=False)
        one = torch.ones((), dtype=dtype or torch.get_default_dtype(), device=device)
        self.register_buffer("one", one, persistent=False)

    @property
    def flat(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.size))

    def forward(self, T: int, *batch: int) -> Tensor:
        """A sequence of T steps, ``(T, *batch, *size)``."""
        return self.rows(0, T, *batch)

    def rows(self, first: int, steps: int, *batch: int, generator: Any = None) -> Tensor:
        """The inputs of `steps` steps from step `first` on, as a simulation asks for them."""
        inside = (self.steps >= first) & (self.steps < first + steps)
        spikes = self.one.new_zeros(steps, self.flat)
        spikes[self.steps[inside] - first, self.neurons[inside]] = 1
        return spikes.view(steps, *(1 for _ in batch), *self.size).expand(steps, *batch, *self.size)

    def at(self, i: int, *batch: int) -> Tensor:
        """The input of step `i`, ``(*batch, *size)``."""
        return self.rows(i, 1, *batch)[0]

    def extra_repr(self) -> str:
        """Size, number of spikes and dt."""
        return f"{', '.join(map(str, self.size))}, {len(self.steps)} spikes, dt={self.dt:g} ms"
