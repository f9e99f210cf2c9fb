"""What dense connections share: weights with units, in torch's layout."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Unpack

import pint
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import units
from ..core.fields import check, is_initialiser
from ..core.loading import broadcasts, take_shape
from ..core.recipe import Rebuildable
from ..core.signature import Misspelt, refuse_misspelt


def evaluated(
    value: Any, shape: tuple[int, ...], generator: torch.Generator | None = None, label: str = "evaluated"
) -> Any:
    """`value`, or what it returns for `shape` if it is an initialiser, whose random numbers are those of `generator`.

    Raises:
        ValueError: see `drawing_from`.
    """
    if not is_initialiser(value):
        return value
    with drawing_from(generator, label):
        return value(shape)


@contextlib.contextmanager
def drawing_from(generator: torch.Generator | None, label: str) -> Iterator[None]:
    """Inside, the numbers of torch's default generator on the CPU are the next ones of `generator`, if that is given.

    Raises:
        ValueError: also `generator` itself was drawn from, so that the same numbers came twice.
    """
    if generator is None or generator is torch.default_generator:
        yield
        return
    kept, start = torch.get_rng_state(), generator.get_state()
    torch.set_rng_state(start)
    try:
        yield
        end = torch.get_rng_state()
    finally:
        torch.set_rng_state(kept)
    if torch.equal(end, start):
        return  # nothing random, or from a generator of its own
    if not torch.equal(generator.get_state(), start):
        raise ValueError(
            f"{label}: the initialiser draws from the connection's generator= and from torch's default one, whose "
            "place it takes here; leave generator out of the initialiser, or pass it to all of its draws"
        )
    generator.set_state(end)


def unit_of(value: Any) -> pint.Unit:
    """The canonical unit of `value`; dimensionless for plain numbers and tensors."""
    return units.canonical_unit(getattr(value, "units", "dimensionless"))


def make_weight(
    value: Any, unit: pint.Unit, shape: tuple[int, ...], label: str, device: Any, dtype: torch.dtype
) -> nn.Parameter:
    """A trainable weight of exactly this shape in canonical units; a scalar fills it, an ``nn.Parameter`` is kept."""
    with telling_of_strength(value, shape):
        tensor = check(value, unit, shape, label, device, dtype)
    if isinstance(tensor, nn.Parameter) and tuple(tensor.shape) == shape:
        return tensor
    if isinstance(tensor, nn.Parameter) or (tensor.dim() and tuple(tensor.shape) != shape):
        raise ValueError(f"{label} must have shape {shape}, as in torch.nn.Linear (out, in), got {tuple(tensor.shape)}")
    return nn.Parameter(tensor.expand(shape).clone())


@contextlib.contextmanager
def telling_of_strength(weight: Any, shape: tuple[int, ...]) -> Iterator[None]:
    """An error about a weight with more dimensions than `shape` says what takes one for each sample of a batch."""
    try:
        yield
    except ValueError as error:
        dimensions = getattr(getattr(weight, "magnitude", weight), "ndim", 0)
        if dimensions <= len(shape) or "broadcast" not in str(error):
            raise
        raise ValueError(
            f"{error}; for a factor for each sample of a batch use nd.Projection(..., strength=g) with g of shape "
            "(*batch, 1)"
        ) from None


def make_factor(value: Any, shape: tuple[int, ...], label: str, like: Tensor) -> Tensor:
    """A fixed factor of a weight, such as a mask or signs: dimensionless, and it broadcasts to `shape`."""
    return check(value, units.canonical_unit("dimensionless"), shape, label, like.device, like.dtype)


def as_float(x: Tensor, weight: Tensor) -> Tensor:
    """Bool spikes in the dtype of the weight; other inputs as they are."""
    return x.to(weight.dtype) if x.dtype == torch.bool else x


class Connection(Rebuildable):
    r"""Base of the dense connections: $y = x\,M^T + b$ with the matrix M = `matrix()` of shape (out, in).

    Args:
        in_features, out_features: sizes of source and target.
        weight: a tensor or array ``(out_features, in_features)`` or a scalar, plain or with a unit
            (``u.quantity(w, "nS")``); an initialiser ``f(shape) -> quantity`` such as ``nd.init.Normal(0.5 * u.nS,
            0.1 * u.nS)``; an ``nn.Parameter``, also inside a quantity. As ``torch.nn.Linear`` by default.
        bias: a value like `weight`, of shape ``(out_features,)`` and the same dimension; True for zeros.
        device, dtype: as in torch.nn.
    """

    bias: nn.Parameter | None
    factors: tuple[str, ...] = ()  # tensors that broadcast to the shape of the weight, such as a mask

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        weight: Any = None,
        bias: Any = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **misspelt: Unpack[Misspelt],
    ):
        super().__init__()
        refuse_misspelt(misspelt, type(self).__name__, type(self))
        for name, n in (("in_features", in_features), ("out_features", out_features)):
            if isinstance(n, bool) or not hasattr(n, "__index__") or int(n) < 0:
                raise TypeError(
                    f"{type(self).__name__}({in_features}, {out_features}): {name} must be a whole number, the last "
                    f"dimension of its {name.partition('_')[0]}put, got {n!r}; nn.Flatten makes one of several, and "
                    "nd.FixedProb, FixedNum and Sparse take populations of any shape"
                )
        dtype = dtype or torch.get_default_dtype()
        self.in_features, self.out_features = in_features, out_features
        shape = self.weight_shape(weight)
        if weight is None:
            bound = 1 / math.sqrt(in_features)
            weight = torch.empty(shape).uniform_(-bound, bound)
        weight = evaluated(weight, shape)
        self.unit = unit_of(weight)
        self.weight = make_weight(weight, self.unit, shape, f"{self._label()}: weight", device, dtype)
        self.set_bias(bias)

    def set_bias(self, bias: Any) -> None:
        """Make the bias, in the unit of the output."""
        if bias is None or bias is False:
            self.bias = None
            return
        value = units.quantity(0.0, self.unit) if bias is True else bias
        like, shape = self.weight, (self.out_features,)
        self.bias = make_weight(value, self.unit, shape, f"{self._label()}: bias", like.device, like.dtype)

    def _label(self) -> str:
        return f"{type(self).__name__}({self.in_features}, {self.out_features})"

    def weight_shape(self, weight: Any = None) -> tuple[int, ...]:
        """The shape in which `weight` is stored."""
        return (self.out_features, self.in_features)

    def matrix(self) -> Tensor:
        """The matrix (out, in) that multiplies the input, in canonical units."""
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        """``(*batch, in_features)`` to ``(*batch, out_features)``; bool spikes count as 0 and 1."""
        self.check_shapes(x)
        return F.linear(as_float(x, self.weight), self.matrix(), self.bias)

    def fits(self, name: str, value: Tensor) -> bool:
        """Whether the shape of `value` is one that its tensor `name` may have."""
        full = (self.out_features, self.in_features)
        if name in self.factors:
            return broadcasts(value, full)
        return tuple(value.shape) == (full if name == "weight" else full[:1])

    def check_shapes(self, x: Tensor) -> None:
        """Raise ValueError if the input, or a tensor that was assigned, has a wrong shape."""
        if not x.dim() or x.shape[-1] != self.in_features:
            shape = tuple(x.shape)
            raise ValueError(f"{self._label()}: the input has shape {shape}, wanted (*batch, {self.in_features})")
        for name in ("weight", "bias", *self.factors):
            value = getattr(self, name)
            if value is not None and not self.fits(name, value):
                raise ValueError(
                    f"{self._label()}: {name} has shape {tuple(value.shape)}, which does not fit {self.out_features} "
                    f"outputs and {self.in_features} inputs; assign one of the shape that it had"
                )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("weight", *self.factors):
            value = state_dict.get(f"{prefix}{name}")
            if isinstance(value, Tensor) and self.fits(name, value):
                take_shape(self, name, value)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Sizes, bias and unit."""
        unit = "" if self.unit.dimensionless else f", unit={self.unit:~}"
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}{unit}"
