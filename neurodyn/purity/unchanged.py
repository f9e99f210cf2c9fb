"""Are modules as they were when their steps were first computed, so that they can be computed again?"""

from __future__ import annotations

import types
from collections.abc import Iterable

from torch import Tensor, nn

from ..tools.errors import NotCompilable
from ..tools.generators import generator_states
from .snapshot import HOOKS, Snapshot, is_trusted_name


class Unchanged:
    """What computing steps of some modules reads besides inputs and states, as it is now.

    Python objects are seen as far as a `Snapshot` looks: attributes, containers, hooks, closures, the global variables
    that the functions of the modules name, and random generators of their own. Of tensors the version is seen, so that
    they must not be changed in place.

    Args:
        layers: the modules.
        tensors: their parameters, buffers but for states, and inputs, by name.
    """

    def __init__(self, layers: Iterable[nn.Module], tensors: dict[str, Tensor]):
        self.tensors = {name: tensor for name, tensor in tensors.items() if not tensor.is_inference()}
        self.versions = [tensor._version for tensor in self.tensors.values()]
        self.generators = generator_states()[:2]  # checkpoint puts torch's back
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
        except NotCompilable as reason:
            self.unknown = f"something that cannot be told ({reason})"

    def _take_hooks(self, module: nn.Module) -> None:
        for name in HOOKS:
            for hook in getattr(module, name, {}).values():
                self.objects.take(f"a hook of {type(module).__name__}", hook)

    def _take_globals(self, function: types.FunctionType) -> None:
        held = function.__globals__
        for name in function.__code__.co_names:
            if name in held and not isinstance(held[name], (type, types.ModuleType, types.FunctionType)):
                self.objects.take_name(f"the global variable {name}", held, name)

    def drawn(self) -> str | None:
        """The global generator, of Python or NumPy, from which numbers have been drawn; None if from none."""
        names = "the generator of random", "the generator of numpy.random"
        for name, before, now in zip(names, self.generators, generator_states(), strict=False):
            if before != now:
                return name
        return None

    def change(self) -> str | None:
        """What else has changed, for people; None if nothing has."""
        for (name, tensor), version in zip(self.tensors.items(), self.versions, strict=True):
            if tensor._version != version:
                return name
        return self.unknown or self.objects.change()
