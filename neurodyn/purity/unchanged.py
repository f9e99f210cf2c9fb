"""Are modules as they were when their steps were first computed, so that they can be computed again?"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..tools.errors import NotCompilable
from ..tools.generators import generator_states
from ..tools.versions import version_of
from .kinds import HOOKS
from .leaves import is_libraries
from .overwritten import memory_of
from .snapshot import Snapshot


class Unchanged:
    """What computing steps of some modules reads besides inputs and states, as it is now.

    Python objects are seen as far as a `Snapshot` looks: attributes, containers, hooks, closures, the global variables
    that the functions of the modules name, and random generators of their own. Of tensors the version is seen, so that
    they must not be changed in place; and the sum after the first block and at the first recomputation, which takes one
    pass over each.

    Args:
        layers: the modules.
        tensors: their parameters, buffers but for states, and inputs, by name.
    """

    def __init__(self, layers: Iterable[nn.Module], tensors: dict[str, Tensor]):
        self.generators = generator_states()[:2]  # checkpoint puts torch's back
        self.objects, self.hooks = Snapshot(effects=True), Snapshot(effects=True)
        self.unknown: str | None = None
        try:
            for layer in layers:
                self.objects.take(type(layer).__name__, layer)
                take_hooks(self.hooks, layer)
            take_globals(self.objects)
        except NotCompilable as reason:
            self.unknown = f"something that cannot be told ({reason})"
        tensors = self.objects.tensors() | tensors
        self.tensors = {name: tensor for name, tensor in tensors.items() if not tensor.is_inference()}
        self.versions = [mark_of(tensor) for tensor in self.tensors.values()]
        self.sums, self.summed = [_sum(tensor) for tensor in self.tensors.values()], False
        if self.objects.hidden:
            self.unknown = f"something that cannot be told ({self.objects.hidden[0]} cannot be looked into)"

    def effect(self) -> str | None:
        """What steps have changed that nothing else has had the time to change, for people; None if nothing.

        Later others may draw numbers from Python's and NumPy's generators, and hooks may note what they see.
        """
        names = "the generator of random", "the generator of numpy.random"
        for name, before, now in zip(names, self.generators, generator_states(), strict=False):
            if before != now:
                return name
        found = self.unknown or self.hooks.change() or self.change()
        self.summed = False
        return found

    def change(self) -> str | None:
        """What the steps read and is not as it was, for people; None if nothing."""
        for (name, tensor), version in zip(self.tensors.items(), self.versions, strict=True):
            if mark_of(tensor) != version:
                return name
        if not self.summed:  # what goes through .data leaves the version as it is; once, as it takes a pass over all
            self.summed = True
            for (name, tensor), total in zip(self.tensors.items(), self.sums, strict=True):
                if _sum(tensor) != total:
                    return name
        return self.objects.change()


#: Values that get weights of their own when they are summed.
_WIDTH = 1024


def take_hooks(objects: Snapshot, net: nn.Module) -> None:
    """Note the hooks of all modules of a network."""
    for module in net.modules():
        for name in HOOKS:
            for hook in getattr(module, name, {}).values():
                objects.take(f"a hook of {type(module).__name__}", hook)


def take_globals(objects: Snapshot) -> None:
    """Note what the functions found so far read by the names of global variables, and what is found in this way."""
    seen: set[types.FunctionType] = set()
    while found := [f for part in objects.parts.values() if _is_users(f := part.owner) and f not in seen]:
        seen.update(found)
        for function in found:
            held, (read, attributes) = function.__globals__, _names(function.__code__)
            modules = [held[n] for n in read if isinstance(held.get(n), types.ModuleType)]
            places = [(vars(m), attributes) for m in modules if not is_libraries(m.__name__)]
            for place, names in [(held, read), *places]:
                for name in names.intersection(place):
                    objects.take_name(f"the global variable {name}", place, name)


@functools.lru_cache(1024)  # not for as long as the process, as they hold on to the code
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """The global variables that a function names, and all names that may be attributes; with the functions in it."""
    read = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    attributes = set(code.co_names)
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            read |= _names(part)[0]
            attributes |= _names(part)[1]
    return frozenset(read), frozenset(attributes)


def _is_users(thing: object) -> bool:
    return isinstance(thing, types.FunctionType) and not is_libraries(thing.__module__ or "")


def _sum(tensor: Tensor) -> str:
    """Tells, all but surely, whether values, or their order, have changed; as text, in which NaN is equal to itself."""
    if tensor.layout is not torch.strided or tensor.is_meta:
        return ""
    values = tensor.detach()
    values = (torch.view_as_real(values.resolve_conj()) if values.is_complex() else values).reshape(-1)
    values = values if values.is_floating_point() and values.dtype.itemsize > 1 else values.double()
    n = values.numel() // _WIDTH
    weights = torch.arange(1, _WIDTH + 1, dtype=values.dtype, device=values.device).mul_(1 / _WIDTH).cos_()
    with torch.autocast(values.device.type, enabled=False):
        rows = torch.mv(values[: n * _WIDTH].view(n, _WIDTH), weights).double()
    rest = values[n * _WIDTH :].double()
    total = rows @ torch.arange(1, n + 1, dtype=torch.float64, device=rows.device).cos_()
    return str((total + rest @ weights[: len(rest)].double()).item())


def mark_of(tensor: Tensor) -> tuple[int, int]:
    """Is another one after a change in place, or after ``.data`` has been assigned."""
    return version_of(tensor), memory_of(tensor)
