"""Sizes that a program leaves open besides the batch: the numbers of synapses of connections."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..states import constants, named_modules

#: For each constant whose first dimension is open, by qualified name, the number and the value of that size.
Opened = Mapping[str, tuple[int, int]]


def open_sizes(net: nn.Module) -> dict[str, tuple[int, int]]:
    """The open sizes of `net`.

    A class names in its attribute `elastic` the tensors whose first dimension differs between modules that are
    otherwise the same; the first one tells the size, which a module inside shares. Other attributes named there are no
    part of a program.
    """
    elastic = [(path, getattr(type(module), "elastic", ())) for path, module in named_modules(net)]
    if not any([names for _, names in elastic]):
        return {}
    tensors, owners = constants(net), {}
    sizes: dict[str, int] = {}
    found = {}
    for path, names in elastic:
        if not names:
            continue
        owner = owners[path] = owners.get(path.rpartition(".")[0], path)
        qualified = [f"{path}.{name}" if path else name for name in names]
        if owner == path:
            sizes[path] = len(tensors[qualified[0]])
        for name in qualified:
            tensor, n = tensors.get(name), sizes[owner]
            if tensor is not None and tensor.dim() and len(tensor) == n > 1:
                found[name] = list(sizes).index(owner), n
    return found
