"""Physical units: pint checks them when a model is built; after that there are plain tensors.

``from neurodyn import units as u`` gives every unit that pint knows: ``20 * u.ms``, ``u.nS``, ``u.Gohm``.
They come from pint's application registry, so quantities of your own code mix freely with neurodyn's. Units of two
registries cannot be compared in pint: quantities of another one are converted there, and only names are kept.

Inside a model every number is in one coherent set, in which products need no factors:

    ms  mV  pA  nS  Gohm  pF  mM  1/ms        nS * mV = pA    Gohm * pA = mV    pF / nS = ms
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pint
import torch
from torch import Tensor

registry = pint.get_application_registry()  # a proxy: it follows pint.set_application_registry
Quantity = pint.Quantity  # type: ignore[type-arg]

#: The units that carry a name of their own in the coherent set; others are products of these.
NAMED = ("ms", "mV", "pA", "nS", "Gohm", "pF", "mM", "1/ms", "um", "K", "dimensionless")


def __getattr__(name: str) -> Any:  # a pint.Unit; type checkers can make nothing of pint's products
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        return getattr(registry, name)
    except pint.UndefinedUnitError as error:
        raise AttributeError(f"neurodyn.units: pint knows no unit {name!r}") from error


@functools.cache
def _canonical(dimensions: frozenset[tuple[str, float]]) -> str:
    for named in NAMED:
        if frozenset(registry.Unit(named).dimensionality.items()) == dimensions:
            return named
    power = dict(dimensions)
    mass, length, time, current, amount, temperature = (
        power.pop(f"[{name}]", 0) for name in ("mass", "length", "time", "current", "substance", "temperature")
    )
    if power:
        raise pint.UndefinedUnitError(sorted(power))
    # mV = mass length^2 / (time^3 current) and mM = substance / length^3 fix the exponents one by one.
    exponents = {
        "mV": mass,
        "pA": current + mass,
        "ms": time + 3 * mass,
        "mM": amount,
        "um": length - 2 * mass + 3 * amount,
        "K": temperature,
    }
    return " * ".join(f"{unit}**{n}" for unit, n in exponents.items() if n)


def _parsed(make: Callable[..., Any], *values: Any) -> Any:
    """What pint makes of `values`, which may hold strings; a ValueError for one that cannot be read at all."""
    try:
        return make(*values)
    except (pint.PintError, AttributeError, TypeError, ValueError):
        raise
    except Exception as error:  # of the tokenizer and of assertions in pint
        raise ValueError(f"neurodyn.units: {values[-1]!r} is no unit, for example 'mV' or '1/ms'") from error


def canonical_unit(unit: str | pint.Unit) -> pint.Unit:
    """The unit in which neurodyn stores values of this dimension: ``canonical_unit("s") == u.ms``."""
    return registry.Unit(_canonical(frozenset(_parsed(registry.Unit, unit).dimensionality.items())))


def is_quantity(value: Any) -> bool:
    """Whether `value` carries a pint unit, of any registry."""
    return isinstance(value, pint.Quantity)


def quantity(value: Any, unit: str | pint.Unit) -> Any:
    """`value` (a tensor, an ``nn.Parameter``, an array or a number) with a unit: ``u.quantity(lif.V, "mV")``."""
    return _parsed(registry.Quantity, value, unit)


def to_canonical(value: Any) -> Tensor | float:
    """The magnitude of `value` in the coherent set: a float for a scalar, a tensor for an array or tensor.

    A tensor that is already in its canonical unit is returned as it is, so an ``nn.Parameter`` stays the same object.
    """
    if isinstance(value, (pint.Unit, str)):
        value = _parsed(registry.Quantity, *((value,) if isinstance(value, str) else (1, value)))
    if not is_quantity(value):
        value = registry.Quantity(value, "dimensionless")
    target = _canonical(frozenset(value.dimensionality.items()))
    is_there = registry.Unit(value.units) == registry.Unit(target)
    magnitude = value.magnitude if is_there else value.to(target).magnitude
    if isinstance(magnitude, Tensor):
        return magnitude
    if isinstance(magnitude, (np.ndarray, list, tuple)) and np.ndim(magnitude):
        return torch.as_tensor(np.asarray(magnitude))
    return float(magnitude)  # type: ignore[arg-type]
