"""Modules that know how they were built, so that their values can be had again: for the meta device."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .signature import Called, signature

#: What Python itself writes to a class, some of it late: to copy or pickle an object sets `__slotnames__`.
MADE_BY_PYTHON = frozenset(
    {"__dict__", "__weakref__", "__doc__", "__annotations__", "__annotations_cache__", "__slotnames__"}
    | {"_abc_impl", "__abstractmethods__"}
)


class Recipe(Called):
    """Keeps the arguments of a module. For the meta device it is built on the CPU, where values can be checked.

    Attributes:
        changes: how often an attribute of such a class has been set, so that compiled programs notice.
    """

    changes = 0

    def __setattr__(cls, name: str, value: Any) -> None:
        Recipe.changes += name not in MADE_BY_PYTHON
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        Recipe.changes += name not in MADE_BY_PYTHON
        super().__delattr__(name)

    def __dir__(cls) -> list[str]:
        # For `help`: a thousand lines of nn.Module would follow those of the model. `dir` of an instance has them.
        owners = [owner for owner in cls.__mro__ if owner not in nn.Module.__mro__]
        return sorted({name for owner in owners for name in vars(owner) if not name.startswith("_")})

    if not TYPE_CHECKING:  # they read the constructor of the class instead

        def __call__(cls, *args: Any, **values: Any) -> Any:
            if not args and "size" not in values:
                _check_without_size(cls)
            if torch.device(values.get("device") or torch.get_default_device()).type == "meta":
                with torch.device("cpu"):
                    real = super().__call__(*args, **{k: v for k, v in values.items() if k != "device"})
                module = real.to("meta")
            else:
                module = super().__call__(*args, **values)
            vars(module)["_recipe"] = args, values
            return module


def _check_without_size(cls: type) -> None:
    """Refuse to build a model without its size, where it needs one.

    Raises:
        TypeError: with the calls that give one.
    """
    first = next(iter(list(inspect.signature(cls.__init__).parameters.values())[1:]), None)
    if first is None or first.name != "size" or first.default is not first.empty:
        return
    public = getattr(sys.modules.get("neurodyn"), cls.__name__, None) is cls
    name = f"nd.{cls.__name__}" if public else cls.__name__
    required = [p for p in signature(cls).parameters.values() if p.name != "size" and p.default is p.empty]
    rest = ", ..." if required else ""
    any_shape = f", or {name}((){rest}), which takes any shape" if getattr(cls, "may_have_batch", False) else ""
    raise TypeError(
        f"{name}: size is missing, the shape of the population; write {name}(10{rest}), {name}((8, 8){rest}){any_shape}"
    )


class Rebuildable(nn.Module, metaclass=Recipe):
    """A module whose `reset_parameters` gives it the values that it was built with."""

    _recipe: tuple[tuple[Any, ...], dict[str, Any]] | None

    def reset_parameters(self) -> None:
        """Set parameters and buffers to the values given at construction; initialisers draw anew.

        After ``net.to_empty(device=...)`` call it on every module that has it, as with torch.nn's own.

        Raises:
            RuntimeError: a copy or a loaded pickle, which does not keep the arguments.
        """
        if self._recipe is None:
            raise RuntimeError(
                f"{type(self).__name__}: a copy does not know how it was built; copy the values with "
                "load_state_dict, or call reset_parameters before copying"
            )
        args, values = self._recipe
        fresh = type(self)(*args, **{k: v for k, v in values.items() if k != "device"})
        with torch.no_grad():
            for mine, theirs in ((self._parameters, fresh._parameters), (self._buffers, fresh._buffers)):
                for name, value in theirs.items():
                    if value is not None:
                        mine[name].copy_(value)  # type: ignore[union-attr]

    def __dir__(self) -> list[str]:
        inherited = {name for kind in type(self).__mro__ for name in vars(kind)}
        return sorted(inherited.union(super().__dir__(), dir(nn.Module)))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_recipe": None}  # an initialiser may be a function, which cannot be pickled
