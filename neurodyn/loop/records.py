"""What ``unroll(record=)`` records: states, and outputs of inner modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from .. import units as u
from ..core.dynamics import UnsetState
from ..core.states import check_dt, named_dynamics
from ..record import Recording, Trace
from .layers import runs_on_all_steps, stages


class Watched(nn.Module):
    """A layer that returns its output, and by name states and outputs of modules inside.

    Args:
        layer: a module with states.
        wanted: ``(name, path of a module in layer, name of its state or "" for its output)`` for each record.
    """

    def __init__(self, layer: nn.Module, wanted: tuple[tuple[str, str, str], ...]):
        super().__init__()
        self.layer, self.wanted = layer, wanted

    def forward(self, *inputs: Any) -> tuple[Any, dict[str, Tensor]]:
        modules = {name: self.layer.get_submodule(path) for name, path, _ in self.wanted}
        found: dict[str, Tensor] = {}
        hooks = [
            modules[name].register_forward_hook(lambda *call, name=name: found.__setitem__(name, call[-1]))
            for name, _, state in self.wanted
            if not state
        ]
        try:
            y = self.layer(*inputs)
        finally:
            for hook in hooks:
                hook.remove()
        for name, _, state in self.wanted:
            if state:
                if (value := modules[name]._buffers[state]) is None:
                    raise UnsetState(f"unroll: cannot record {name!r}: its layer was not called and has no batch")
                found[name] = value
            elif not isinstance(found.get(name), Tensor):
                got = type(found[name]).__name__ if name in found else "nothing"
                raise TypeError(f"unroll: cannot record {name!r}: in a step it gives {got}, wanted a tensor")
        return y, found


class Watch:
    """The records of one `unroll` of `module`.

    Args:
        module: as for `unroll`.
        record: names of states, such as "1.V", and of modules inside, whose outputs are meant.

    Raises:
        KeyError: a name that is neither.
    """

    def __init__(self, module: nn.Module, record: str | Iterable[str]):
        self.module = module
        self.values: dict[str, Tensor] = {}
        self.targets: dict[str, tuple[nn.Module, str]] = {}
        if not record:
            return
        modules, dynamics = dict(module.named_modules()), dict(named_dynamics(module))
        for name in (record,) if isinstance(record, str) else record:
            path, _, state = name.rpartition(".")
            if path in dynamics and state in dynamics[path].states:
                self.targets[name] = dynamics[path], state
            elif name in modules:
                self.targets[name] = list(stages(modules[name]))[-1], ""
            else:
                states = [f"{path}.{state}".lstrip(".") for path, layer in dynamics.items() for state in layer.states]
                raise KeyError(
                    f"unroll: there is no {name!r} to record; there are the states {', '.join(states)}, and the "
                    f"outputs of the modules {', '.join(filter(None, modules)) or 'inside, of which there are none'}"
                )

    def around(self, layer: nn.Module) -> nn.Module:
        """`layer`, wrapped if it runs step by step and something inside is recorded."""
        if runs_on_all_steps(layer):
            return layer
        paths = {module: path for path, module in layer.named_modules()}
        found = ((name, paths[module], state) for name, (module, state) in self.targets.items() if module in paths)
        wanted = tuple(found)
        return Watched(layer, wanted) if wanted else layer

    def taken(self, layer: nn.Module, ys: Any) -> Any:
        """The output of `layer` over all steps, without the records that came with it."""
        if isinstance(layer, Watched):
            ys, found = ys
            self.values |= found
        else:
            self.values |= {name: ys for name, (module, _) in self.targets.items() if module is layer}
        return ys

    def recording(self, states: dict[str, Tensor], steps: int) -> Recording:
        """All records, in the order in which they were asked for."""
        dt, records = check_dt(self.module), {}
        for name, (module, state) in self.targets.items():
            if name not in self.values:
                raise KeyError(
                    f"unroll: {name!r} is inside a module without states, which runs on all steps at once; record the "
                    "output of that module"
                )
            unit = module.state_unit(state) if state else u.registry.dimensionless  # type: ignore[operator]
            records[name] = Trace(self.values[name], unit, 0, dt, name)
        return Recording(records, states, steps)
