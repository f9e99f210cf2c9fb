"""The strength of a projection: one factor of all its weights, which may differ between the samples of a batch."""

from __future__ import annotations

from torch import Tensor

from ..core.fields import Param, Parametrised, param
from ..core.loading import broadcasts


class Strength(Parametrised):
    """A factor of what a connection gives.

    Input and output: ``(*batch, target)``.
    """

    may_have_batch = True

    factor: Param = param(1.0, doc="a number, or one for each sample ``(*batch, 1)`` or target ``(target,)``")

    def forward(self, x: Tensor) -> Tensor:
        if not broadcasts(self.factor, tuple(x.shape)):
            own, got = tuple(self.factor.shape), tuple(x.shape)
            batch = ", ".join(map(str, own[:-1]))
            wanted = f"; call nd.reset_states(net, {batch}) or pass batch=({batch},)" if batch else ""
            raise ValueError(
                f"Projection: strength has shape {own}, which does not broadcast to the output of the connection, "
                f"{got}: (*batch, target){wanted}"
            )
        return x * self.factor
