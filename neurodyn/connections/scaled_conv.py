"""Convolutions with weight standardisation."""

from __future__ import annotations

from typing import Any

import pint
from torch import Tensor, nn
from torch.nn import functional as F

from .. import units
from ..core.recipe import Rebuildable
from ..loop.layers import ITEM_DIMENSIONS
from .base import evaluated, make_weight, unit_of
from .scaled import standardised


class _ScaledWSConv(Rebuildable):
    """What the convolutions share; they are those of torch.nn, but for the kernel.

    The input and output, and all arguments but these are those of torch.nn.

    Args:
        gain: one trainable factor for each output channel, ``(out_channels, 1, ...)`` or a scalar, plain or with a
            unit, which the output and the bias then have; True for ones, False for none.
        eps: lower bound of n var(w).
        bias: whether there is one, as in torch.nn.
        padding_mode: "zeros", "reflect", "replicate" or "circular", as in torch.nn.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    gain: nn.Parameter | None
    unit: pint.Unit
    dimensions = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        *args: Any,
        gain: Any = True,
        eps: float = 1e-4,
        **values: Any,
    ):
        super().__init__(in_channels, out_channels, kernel_size, *args, **values)  # type: ignore[call-arg]
        label = f"{type(self).__name__}({in_channels}, {out_channels}, {kernel_size})"
        self.eps, self.gain, self.unit = eps, None, units.canonical_unit("dimensionless")
        if gain is not False and gain is not None:
            shape = (out_channels, *[1] * (self.dimensions + 1))
            gain = 1.0 if gain is True else evaluated(gain, shape)
            self.unit, like = unit_of(gain), self.weight
            self.gain = make_weight(gain, self.unit, shape, f"{label}: gain", like.device, like.dtype)

    def kernel(self) -> Tensor:
        """The kernel that is used, ``(out_channels, in_channels / groups, ...)``."""
        kernel = standardised(self.weight, self.eps)
        return kernel if self.gain is None else self.gain * kernel

    def forward(self, x: Tensor) -> Tensor:
        padding: Any = self.padding
        mode: Any = self.padding_mode
        if mode != "zeros":
            x, padding = F.pad(x, self._sides(), mode), 0
        settings: Any = self.stride, padding, self.dilation, self.groups
        return _CONVOLUTIONS[self.dimensions](x, self.kernel(), self.bias, *settings)

    def _sides(self) -> list[int]:
        """What is added before and after along each dimension, the last one first; "same" adds the odd one after."""
        sizes, dilation, kind = (getattr(self, name) for name in ("kernel_size", "dilation", "padding"))
        if kind == "same":
            totals = [step * (n - 1) for n, step in zip(sizes, dilation, strict=True)]
            sides = [(total // 2, total - total // 2) for total in totals]
        else:
            sides = [(n, n) for n in ((0,) * self.dimensions if kind == "valid" else kind)]
        return [side for pair in reversed(sides) for side in pair]

    def reset_parameters(self) -> None:
        """See `neurodyn.core.recipe.Rebuildable`."""
        if "_recipe" in vars(self):
            super().reset_parameters()
        else:  # torch's constructor is at work
            super(Rebuildable, self).reset_parameters()  # type: ignore[misc]

    def extra_repr(self) -> str:
        """That of torch.nn, and the unit."""
        return super().extra_repr() + ("" if self.unit.dimensionless else f", unit={self.unit:~}")


_CONVOLUTIONS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class ScaledWSConv1d(_ScaledWSConv, nn.Conv1d):
    r"""``torch.nn.Conv1d`` with scaled weight standardisation.

    The kernel w of each output channel is used as $g\,(w - \bar w)/\sqrt{\max(n\,var(w), \epsilon)}$ with its n numbers
    and their population variance, and the gain g. Arguments: those of ``torch.nn.Conv1d``, and

    - gain: one trainable factor for each output channel, ``(out_channels, 1, 1)`` or a scalar, plain or with a unit,
      which the output and the bias then have; True for ones, False for none.
    - eps: lower bound of n var(w), 1e-4.

    Example:
        >>> layer = nd.ScaledWSConv1d(3, 8, 5, padding=2, gain=2 * u.nS)
        >>> layer(torch.randn(4, 3, 20)).shape
        torch.Size([4, 8, 20])
        >>> round(layer.kernel()[0].norm().item(), 5)
        2.0

    Source: Brock, De and Smith (2021), Characterizing signal propagation to close the performance gap in
    unnormalized ResNets, ICLR.
    """

    dimensions = 1


class ScaledWSConv2d(_ScaledWSConv, nn.Conv2d):
    """``torch.nn.Conv2d`` with scaled weight standardisation, see `ScaledWSConv1d`; gain ``(out_channels, 1, 1, 1)``.

    Example:
        >>> nd.ScaledWSConv2d(3, 8, 5, stride=2, bias=False)(torch.randn(4, 3, 20, 20)).shape
        torch.Size([4, 8, 8, 8])
    """

    dimensions = 2


class ScaledWSConv3d(_ScaledWSConv, nn.Conv3d):
    """``torch.nn.Conv3d`` with scaled weight standardisation, see `ScaledWSConv1d`; gain ``(out_channels, 1, ...)``.

    Example:
        >>> nd.ScaledWSConv3d(3, 8, (1, 3, 3))(torch.randn(4, 3, 5, 9, 9)).shape
        torch.Size([4, 8, 5, 7, 7])
    """

    dimensions = 3


# In unroll they run on all time steps at once, as torch's do. `rowwise` would not say what one item is, which a
# sequence without a batch needs.
ITEM_DIMENSIONS.update({ScaledWSConv1d: 2, ScaledWSConv2d: 3, ScaledWSConv3d: 4})
