"""`explain`: what a network holds, how the time loop runs it, and what will not work with it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..core.fields import Parametrised, show
from ..core.hooks import hooked
from ..core.states import check_called, check_dt, named_dynamics
from ..core.time_scale import unresolved
from ..engine.program_cache import last_path
from ..loop.layers import NORMS, layers, runs_on_all_steps, takes_all_steps
from ..torch_private import tree_leaves
from .probe import probe, total
from .whole import runs_over_time, unrolled

_WIDTH = 80


@dataclass(frozen=True)
class Explanation:
    """The result of `explain`, in sections; ``print`` shows it as text."""

    layers: list[str]
    states: list[str]
    path: list[str]
    notes: list[str]
    activity: list[str]

    def __str__(self) -> str:
        parts = [("Layers", self.layers), ("States", self.states), ("Time loop", self.path), ("Notes", self.notes)]
        parts.append(("Activity", self.activity))
        return "\n\n".join(f"{title}\n" + "\n".join(_wrapped(lines)) for title, lines in parts if lines)

    __repr__ = __str__


def explain(
    net: nn.Module,
    xs: Any = None,
    *,
    loss: Callable[[Any], Tensor] = total,
    T: int = 100,
    batch: int | tuple[int, ...] = 32,
) -> Explanation:
    """Describe what `net` holds, and how `unroll` runs it over `T` steps with this `batch`.

    It lists each layer's parameters with units, dt relative to its time constants, states and their memory, which parts
    of the network run how, and what does not hold for this network, as far as that shows without running it. A network
    that has run, and has not changed since, shows how it ran, down to the loop in C++, and why not. With `xs`
    a copy runs as well, step by step: rate, potential and threshold of each spiking layer, and the norms of gradients.

    Args:
        net: a network for `unroll`, or one that runs over time itself, with an `Unroll` or a call of `unroll` inside.
        xs: inputs, time first, as for `unroll`. T is then that of the inputs.
        loss: of the outputs for `xs`, whose gradients are shown; by default their sum.
        T, batch: for the memory of the states; with `xs`, the batch is that of the inputs, too.

    Raises:
        TypeError: `xs` is no tensor, nor a tuple of them.

    Example:
        >>> print(nd.explain(nd.LIF(100, tau=3 * u.ms, learn="tau"), T=1000))
        Layers
          LIF(100), dt = 1 ms
            R=3.52773 GΩ, tau=3 ms (learned), V_th=1 mV, V_reset=0 mV, V_rest=0 mV
            dt/tau = 0.33: more than 1/5, so the time course is coarse; use a smaller dt
        <BLANKLINE>
        States
          V (32, 100): 12.8 kB
          kept for the backward pass of 1000 steps: 1.6 MB in chunks of 8 steps, more in
            shorter ones
        <BLANKLINE>
        Time loop
          LIF(100): compiled chunks of time steps
    """
    check_dt(net)
    check_called(net, "explain")
    shape, activity, whole = (batch,) if isinstance(batch, int) else tuple(batch), [], False
    found: dict[str, tuple[int, ...]] = {}  # shapes of states
    if xs is not None:
        if not all(isinstance(x, Tensor) for x in tree_leaves(xs)):
            kind = type(xs).__name__
            raise TypeError(f"explain: xs must be inputs of the network, time first, got {kind}; a length is T={T}")
        whole = runs_over_time(net, xs)
        T, (activity, found) = len(tree_leaves(xs)[0]), probe(net, xs, loss, whole)
    path = _paths_inside(net) if whole or unrolled(net) else _path(net)
    return Explanation(list(_layers(net)), list(_states(net, T, shape, found)), list(path), list(_notes(net)), activity)


def _layers(net: nn.Module) -> Iterator[str]:
    for path, module in net.named_modules():
        if not isinstance(module, Parametrised):
            continue
        dt = f", dt = {module.dt:g} ms" if isinstance(module, Dynamics) else ""
        yield f"{path}: {module._label()}{dt}".removeprefix(": ")
        shown = []
        for name, field in module.params.items():
            with torch.enable_grad():
                value = getattr(module, name)
            if value.requires_grad or not name.endswith("_initializer"):
                shown.append(f"{name}={show(value, field.unit)}{' (learned)' if value.requires_grad else ''}")
        if shown:
            yield "  " + ", ".join(shown)
        if isinstance(module, Dynamics):
            yield from _coarse(module)


def _coarse(module: Dynamics) -> Iterator[str]:
    if message := unresolved(module):
        yield f"  {message}"
        return
    if getattr(module, "exact", False):
        return
    for name in module.params:
        value = getattr(module, name).detach()
        if name.startswith("tau") and name != "tau_ref" and not value.is_meta:
            ratio = module.dt / float(value.min())
            if ratio > 0.2 * (1 + 1e-6):  # a learned value is rounded
                yield f"  dt/{name} = {ratio:.2g}: more than 1/5, so the time course is coarse; use a smaller dt"


def _states(net: nn.Module, T: int, batch: tuple[int, ...], found: dict[str, tuple[int, ...]]) -> Iterator[str]:
    total = 0
    for path, module in named_dynamics(net):
        for name, field in module.states.items():
            full = f"{path}.{name}".removeprefix(".")
            size_of_one = module.state_size(name)
            shape = found.get(full, size_of_one if field.shared else (*batch, *size_of_one))
            size = torch.Size(shape).numel() * getattr(module, field.initializer).element_size()
            total += size
            kind = ", stays" if field.lasting else ", shared by the batch" if field.shared else ""
            yield f"{full} {shape}: {_bytes(size)}{kind}"
    chunks = -(-T // 8)
    size = _bytes(total * chunks)
    yield f"kept for the backward pass of {T} steps: {size} in chunks of 8 steps, more in shorter ones"


def _paths_inside(net: nn.Module) -> Iterator[str]:
    """How the parts run of a network that runs over time itself."""
    for part in unrolled(net).values():
        for line in _path(part.module):
            step = "compiled" in line and part.options.get("compile") is False
            yield f"{line.partition(': ')[0]}: step by step in Python, because of compile=False" if step else line
    if not unrolled(net):
        yield f"{_name(net)} runs over time itself; nd.explain of the part that it runs step by step shows how"


def _path(net: nn.Module) -> Iterator[str]:
    for layer in layers(net):
        if runs_on_all_steps(layer):
            yield f"{_name(layer)}: once, on all time steps as one batch"
        elif takes_all_steps(layer):
            yield f"{_name(layer)}: once, on all time steps"
        elif (ran := last_path(layer)) is not None:
            yield f"{_name(layer)}: {ran}"
        elif (reason := _eager_because(layer)) is not None:
            yield f"{_name(layer)}: step by step in Python, because {reason}"
        else:
            yield f"{_name(layer)}: compiled chunks of time steps"


def _eager_because(layer: nn.Module) -> str | None:
    if (name := hooked(layer)) is not None:
        return f"{name} has hooks"
    for path, module in layer.named_modules():
        if module.training and isinstance(
            module, (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
        ):
            return f"{path} draws random numbers at every step while training"
        if module.training and isinstance(module, NORMS):
            return f"{path} writes to its buffers at every step while training"
    return None


def _notes(net: nn.Module) -> Iterator[str]:
    stages = layers(net)
    if len(stages) == 1 and isinstance(net, nn.Sequential) and stages[0] is net:
        yield "a layer with states is used at two places, so that it steps twice a step"
    for path, module in net.named_modules():
        kind = type(module).__name__
        if hasattr(module, "indptr"):
            yield f"{path} ({kind}) is an operator of neurodyn's own, which ONNX does not have"
        if isinstance(module, Parametrised) and any(value.is_meta for value in module.buffers(recurse=False)):
            yield f"{path} ({kind}) is on the meta device: to_empty, then reset_parameters"


def _name(layer: nn.Module) -> str:
    if isinstance(layer, nn.Sequential):
        return " + ".join(_name(part) for part in layer)
    return layer._label() if isinstance(layer, Parametrised) else type(layer).__name__


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.4g} {unit}"
        n /= 1000
    return f"{n:.4g} GB"


def _wrapped(lines: list[str]) -> Iterator[str]:
    for line in lines:
        indent = "  " + " " * (len(line) - len(line.lstrip()))
        yield textwrap.fill(line.lstrip(), _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")
