"""Linear connection with weight standardisation."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor, nn

from .base import Connection, evaluated, make_factor, make_weight, unit_of
from .keywords import ScaledKeywords


def standardised(weight: Tensor, eps: float) -> Tensor:
    """What belongs to one output, a row of the first dimension, with mean 0 and sum of squares 1.

    A row whose sum of squares about its mean is below `eps` is divided by the root of `eps`.
    """
    rest = tuple(range(1, weight.dim()))
    centred = weight - weight.mean(rest, keepdim=True)
    return centred / centred.square().sum(rest, keepdim=True).clamp(min=eps).sqrt()


class ScaledWSLinear(Connection):
    r"""Linear map with scaled weight standardisation.

    Each row w of the weight, all inputs of one target, is used as $g\,(w - \bar w)/\sqrt{\max(n\,var(w), \epsilon)}$
    with n inputs and the population variance. The scale of the weight drops out, so it has no unit; the gain g may.

    Input: ``(*batch, in_features)``. Output: ``(*batch, out_features)``, in the unit of the gain.

    Args:
        in_features, out_features: sizes.
        gain: one trainable factor for each target, ``(out_features, 1)`` or a scalar, plain or with a unit; True for
            ones, False for none.
        mask: fixed factors of the standardised weight that broadcast to ``(out_features, in_features)``.
        eps: lower bound of n var(w).
        values: ``weight``, ``bias``, ``device`` and ``dtype``, see `Connection`; the bias has the unit of the gain.

    Example:
        >>> matrix = nd.ScaledWSLinear(100, 10, gain=2 * u.nS).matrix()
        >>> round(matrix.norm(dim=1).mean().item(), 5)
        2.0

    Source: Brock, De and Smith (2021), Characterizing signal propagation to close the performance gap in
    unnormalized ResNets, ICLR.
    """

    factors = ("mask", "gain")
    gain: nn.Parameter | None
    mask: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: Any = True,
        mask: Any = None,
        eps: float = 1e-4,
        bias: Any = False,
        **values: Unpack[ScaledKeywords],
    ):
        super().__init__(in_features, out_features, **values)
        label, shape = self._label(), (out_features, 1)
        if not self.unit.dimensionless:
            raise TypeError(f"{label}: weight is standardised and has no unit, got {self.unit:~}; give gain the unit")
        self.eps, self.gain = eps, None
        if gain is not False and gain is not None:
            gain = 1.0 if gain is True else evaluated(gain, shape)
            self.unit, like = unit_of(gain), self.weight
            self.gain = make_weight(gain, self.unit, shape, f"{label}: gain", like.device, like.dtype)
        self.set_bias(bias)
        mask = None if mask is None else make_factor(mask, self.weight_shape(), f"{label}: mask", self.weight)
        self.register_buffer("mask", mask)

    def fits(self, name: str, value: Tensor) -> bool:
        return tuple(value.shape) == (self.out_features, 1) if name == "gain" else super().fits(name, value)

    def matrix(self) -> Tensor:
        matrix = standardised(self.weight, self.eps)
        matrix = matrix if self.gain is None else self.gain * matrix
        return matrix if self.mask is None else matrix * self.mask
