"""Recorded events as tensors: `frames` counts them in time steps, `EventFile` reads files of the SHD format."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import units as u
from ..core.dynamics import as_dt, get_default_dt
from ..core.fields import as_size, check
from ..tools.extras import needed

ON_BOUNDARY = 1e-6  # of a step


def frames(
    times: Any,
    places: Any,
    size: int | tuple[int, ...],
    *,
    steps: int | None = None,
    dt: Any = None,
    start: Any = 0 * u.ms,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""The number of events in each time step and at each place, ``(steps, *size)``.

    Step i counts the events from ``start + i dt`` up to, and without, ``start + (i + 1) dt``. A time that is less than
    a millionth of a step before a boundary counts as on it, because a decimal time is seldom exact in floating point.
    For 0 and 1 in place of numbers take ``frames(...).clamp(max=1)``.

    Args:
        times: a quantity with the time of each event, in any order: ``events["t"] * u.us`` for microseconds.
        places: the place of each event, ints; for a size with several axes a tuple, one array of ints for each axis.
        size: number of places, such as 700 channels, or ``(2, 34, 34)`` for two polarities, rows and columns.
        steps: number of steps; later events are left out. Without it, the last event is in the last step.
        dt: time step, a quantity; `get_default_dt()` if not given.
        start: time at which the first step begins.
        dtype: of the result; ``torch.get_default_dtype()`` if not given.

    Raises:
        TypeError: times without a unit of time, or places that are no ints.
        ValueError: an event before `start` or outside of `size`, or not one place for each time.

    Example:
        >>> data.frames([100, 200, 1000, 2700] * u.us, [0, 0, 1, 0], 2).tolist()
        [[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """
    sizes, step = as_size(size, "frames"), as_dt(get_default_dt() if dt is None else dt, "frames: dt")
    axes = [_ints(axis) for axis in (places if isinstance(places, tuple) else (places,))]
    n = len(axes[0])
    if len(axes) != len(sizes) or any(axis.shape != (n,) for axis in axes):
        shapes = ", ".join(str(tuple(axis.shape)) for axis in axes)
        raise ValueError(f"frames: places need {len(sizes)} arrays of one length for the size {sizes}, got {shapes}")
    ms = _ms(times, n, "times") - _ms(start, None, "start")
    bins = (ms / step + ON_BOUNDARY).floor().long()
    if n and int(bins.min()) < 0:
        k = int(bins.argmin())
        raise ValueError(f"frames: event {k} comes {-float(ms[k]):g} ms before the start; pass start=")
    for axis, (place, most) in enumerate(zip(axes, sizes, strict=True)):
        if bool(((place < 0) | (place >= most)).any()):
            k = int(((place < 0) | (place >= most)).nonzero()[0])
            raise ValueError(f"frames: event {k} is at {int(place[k])} on axis {axis}, whose size is {most}")
    total = int(steps) if steps is not None else int(bins.max()) + 1 if n else 0
    flat = torch.zeros(n, dtype=torch.long)
    for place, most in zip(axes, sizes, strict=True):
        flat = flat * most + place
    inside, places_in_all = bins < total, math.prod(sizes)
    counts = torch.bincount((bins * places_in_all + flat)[inside], minlength=total * places_in_all)
    return counts.view(total, *sizes).to(dtype or torch.get_default_dtype())


def _ms(value: Any, n: int | None, name: str) -> Tensor:
    """`value` in ms, float64: n times, or one."""
    if n == 0:
        return torch.zeros(0, dtype=torch.float64)
    shape = () if n is None else (n,)
    ms = check(value, u.canonical_unit("ms"), shape, f"frames: {name}", None, torch.float64)
    if ms.shape != shape:
        raise ValueError(f"frames: there are {n} places and {name} of shape {tuple(ms.shape)}")
    return ms


def _ints(values: Any) -> Tensor:
    """Places as a tensor of int64; unsigned ints of any width are read too."""
    array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if not array.size:
        return torch.zeros(array.shape, dtype=torch.long)
    if array.dtype.kind not in "iub":
        raise TypeError(f"frames: places must be ints, got {array.dtype}")
    return torch.as_tensor(array.astype(np.int64))


class EventFile(torch.utils.data.Dataset):
    """The recordings of an HDF5 file in the format of the Spiking Heidelberg Digits, as a dataset of torch.

    The file has three arrays: times of events in seconds (one row of any length for each recording), their channels,
    and one label for each recording. Item i is ``(x, label)`` with x from `frames`, ``(steps, size)``. A batch of a
    `DataLoader` is ``(batch, steps, size)``; `unroll` takes ``x.transpose(0, 1)``. The file is opened in each worker.

    Args:
        path: the file.
        size: number of channels, 700 for SHD and SSC.
        steps: number of steps of every item; later events are left out.
        dt: time step, a quantity; `get_default_dt()` if not given.
        times, channels, labels: names of the three arrays in the file.
        unit: unit of the times.

    Raises:
        MissingExtra: h5py is not installed: ``pip install 'neurodyn[hdf5]'``.
        ValueError: a file without one of the arrays, or whose arrays differ in length.

    Source of the format: Cramer, Stradmann, Schemmel and Zenke (2022), The Heidelberg spiking data sets for the
    systematic evaluation of spiking neural networks, IEEE Transactions on Neural Networks and Learning Systems 33.
    """

    def __init__(
        self,
        path: str | Path,
        size: int = 700,
        *,
        steps: int,
        dt: Any = None,
        times: str = "spikes/times",
        channels: str = "spikes/units",
        labels: str = "labels",
        unit: Any = u.s,
    ):
        self.path, self.size, self.steps, self.unit = Path(path), size, int(steps), unit
        self.dt = as_dt(get_default_dt() if dt is None else dt, "EventFile: dt")
        self.names = times, channels, labels
        self._file: Any = None
        self._process = 0
        file = self.file
        missing = [name for name in self.names if name not in file]
        if missing:
            raise ValueError(f"EventFile: {self.path} has no {missing[0]!r}; it has {', '.join(file)}; name it")
        lengths = [len(file[name]) for name in self.names]
        if len(set(lengths)) > 1:
            raise ValueError(f"EventFile: the arrays {self.names} of {self.path} have {lengths} rows, not the same")
        self.labels = torch.as_tensor(np.asarray(file[labels]).astype(np.int64))

    @property
    def file(self) -> Any:
        """The open file of this process."""
        if self._file is None or self._process != os.getpid():
            h5py = needed("h5py", "hdf5", "EventFile")
            self._file, self._process = h5py.File(self.path, "r"), os.getpid()
        return self._file

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        times, channels = (np.asarray(self.file[name][index]) for name in self.names[:2])
        x = frames(times.astype(np.float64) * self.unit, channels, self.size, steps=self.steps, dt=self.dt * u.ms)
        return x, self.labels[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}
