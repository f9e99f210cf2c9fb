"""What `simulate` can record of a whole population in place of all its values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..core.fields import check
from ..units import registry


class PopulationMean:
    """A record of `simulate`: the mean over a population, and over bins of time, in place of all values.

    It becomes a `Trace` with one value for each bin, whose memory does not depend on the number of neurons. Bins are
    counted from the time 0; one that is not full at the end is left out.

    Args:
        of: what is averaged, as for ``record=``: a state such as "N.V", or an output. The mean is over the last
            dimension.
        bin: a time, a multiple of dt.
        groups: names and sizes of the parts of the population, in order, such as ``{"E": 3200, "I": 800}``; the record
            then has a value for each of them. None for one of all.

    Example:
        >>> net = nd.LIF(100, tau=nd.init.Uniform(5 * u.ms, 20 * u.ms), R=1 * u.Gohm)
        >>> record = {"V": nd.PopulationMean("V", 10 * u.ms), "rate": nd.PopulationRate("spikes", 20 * u.ms)}
        >>> recording = nd.simulate(net, 100 * u.ms, 1.5 * u.pA, record, compile=False)
        >>> recording["rate"].values.shape, recording["rate"].unit, recording["rate"].dt
        (torch.Size([5]), <Unit('hertz')>, 20.0)
        >>> recording["V"].values.shape, recording["V"].unit
        (torch.Size([10]), <Unit('millivolt')>)
    """

    of_spikes: ClassVar[bool] = False

    def __init__(self, of: str, bin: Any, *, groups: Mapping[str, int] | None = None):
        label = f"{type(self).__name__}: bin"
        self.of, self.groups = of, None if groups is None else dict(groups)
        for name, n in (self.groups or {}).items():
            if isinstance(n, bool) or not isinstance(n, int) or n < 1:
                raise ValueError(
                    f"{type(self).__name__}: group {name!r} has {n!r} neurons, wanted a whole number from 1"
                )
        self.bin = float(check(bin, registry.Unit("ms"), (), label, None, torch.float64))
        if self.bin <= 0:
            raise ValueError(f"{label} must be positive, got {self.bin:g} ms")

    def __call__(self, values: Tensor) -> Tensor:
        """The mean of a step: over the last dimension, or over each group in it."""
        if not values.is_floating_point():
            values = values.to(torch.get_default_dtype())
        if self.groups is None:
            return values.mean(-1)
        sizes = list(self.groups.values())
        if sum(sizes) != values.shape[-1]:
            raise ValueError(
                f"{type(self).__name__}: the groups have {sum(sizes)} neurons together, {self.of!r} has "
                f"{values.shape[-1]}"
            )
        return torch.stack([part.mean(-1) for part in values.split(sizes, -1)], -1)


class PopulationRate(PopulationMean):
    """A record of `simulate`: the mean rate of a population in bins of time, in Hz, in place of all spikes.

    Of an output that is 0 or 1. The numbers are those of `analysis.population_rate` from all spikes; see
    `PopulationMean` for the arguments.
    """

    of_spikes = True
