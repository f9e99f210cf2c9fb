"""Are modules as they were when their steps were first computed, so that they can be computed again?"""

from __future__ import annotations

import random
import types
from collections.abc import Iterable

import numpy as np
from torch import Tensor, nn

from ..tools.errors import NotCompilable
from .snapshot import HOOKS, Snapshot, is_trusted_name

_GENERATORS = {"random": getattr(random, "_inst", None), "numpy.random": getattr(np.random.mtrand, "_rand", None)}


class Unchanged:
    """What computing steps of some modules reads besides inputs and states, as it is now.

    Python objects are seen as far as a `Snapshot` looks: attributes, containers, hooks, closures, the global variables
    that the functions of the modules name, and random generators but torch's own. Of tensors the version is seen, so
    that they must not be changed in place.

    Args:
        layers: the modules.
        tensors: their parameters, buffers but for states, and inputs, by name.
    """

    def __init__(self, layers: Iterable[nn.Module], tensors: dict[str, Tensor]):
        self.tensors = {name: tensor for name, tensor in tensors.items() if not tensor.is_inference()}
        self.versions = [tensor._version for tensor in self.tensors.values()]
        self.objects = Snapshot(effects=True)
        self.unknown: str | None = None
        try:
            for layer in layers:
                self.objects.take(type(layer).__name__, layer)
                for part in layer.modules():
                    self._take_hooks(part)
            for owner in [part.owner for part in self.objects.parts.values()]:
                if isinstance(owner, types.FunctionType) and not is_trusted_name(owner.__module__):
                    self._take_globals(owner)
            for name, generator in _GENERATORS.items():
                self.objects.take(f"the generator of {name}", generator)
        except NotCompilable as reason:
            self.unknown = str(reason)

    def _take_hooks(self, module: nn.Module) -> None:
        for name in HOOKS:
            for hook in getattr(module, name, {}).values():
                self.objects.take(f"a hook of {type(module).__name__}", hook)

    def _take_globals(self, function: types.FunctionType) -> None:
        names: Iterable[str] = function.__code__.co_names
        for name in names:
            if name in function.__globals__ and not isinstance(
                function.__globals__[name], (type, types.ModuleType, types.FunctionType)
            ):
                self.objects.take_name(f"the global variable {name}", function.__globals__, name)

    def change(self) -> str | None:
        """What has changed, for people; None if nothing has."""
        for (name, tensor), version in zip(self.tensors.items(), self.versions, strict=True):
            if tensor._version != version:
                return name
        return self.unknown or self.objects.change()
