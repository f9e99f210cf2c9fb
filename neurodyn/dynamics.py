"""`Dynamics`: a pure ``step`` and the buffers that remember its states between calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from . import units
from .fields import Param, Parametrised, State, check
from .precise import precise
from .recomputed import Written

_default_dt = 1.0
_pure: list[None] = []  # holds an entry for each pure call that is being exported


def get_default_dt() -> units.Quantity:
    """The time step that new models get when ``dt=`` is not given."""
    return units.quantity(_default_dt, "ms")


def set_default_dt(dt: units.Quantity) -> None:
    """Set the time step of models that are built from now on; existing ones keep theirs."""
    global _default_dt
    _default_dt = as_dt(dt, "set_default_dt: dt")


@contextlib.contextmanager
def default_dt(dt: units.Quantity) -> Iterator[None]:
    """``with nd.default_dt(0.1 * u.ms):`` sets the time step of the models built inside."""
    before = get_default_dt()
    set_default_dt(dt)
    try:
        yield
    finally:
        set_default_dt(before)


@contextlib.contextmanager
def exported_as_pure() -> Iterator[None]:
    """Inside torch.export: the states are arguments of the call, not buffers that the program keeps."""
    _pure.append(None)
    try:
        yield
    finally:
        _pure.pop()


def as_dt(dt: Any, label: str) -> float:
    """A time step in ms, checked; `label` names it in errors."""
    value = float(check(dt, units.canonical_unit("ms"), (), label, None, torch.float64))
    if value <= 0:
        raise ValueError(f"{label} must be positive, got {value:g} ms")
    return value


#: Before torch 2.12, is_exporting() is True inside torch.compile too.
_TELLS_EXPORT_FROM_COMPILE = torch.__version__ >= "2.12"


def exporting() -> bool:
    """Whether torch.export is tracing."""
    return torch.compiler.is_exporting() and (_TELLS_EXPORT_FROM_COMPILE or not torch.compiler.is_dynamo_compiling())


class UnsetState(RuntimeError):
    """A state is read before `reset_state`."""


class Dynamics(Parametrised):
    """Base of every model with hidden states.

    A model declares parameters (`neurodyn.fields.param`) and states (`neurodyn.fields.state`) and defines
    ``step(input, *states) -> (output, *new_states)``, a pure function. Calling the module steps it and keeps the new
    states in non-persistent buffers of the same names: they follow ``.to()`` and stay out of ``state_dict``. A state
    that counts stays in float32 or better, see `neurodyn.fields.state`.

    Inputs, outputs and states have the shape ``(*batch, *size)``. Inputs are floating point; bool counts as 0 and 1.
    Half and bfloat16 inputs are computed in the dtype of the model, and the output has the dtype of the input.

    Args:
        size: shape of the population.
        dt: time step, a quantity; `get_default_dt()` at construction if not given.
        learn, device, dtype, values: see `neurodyn.fields.Parametrised`. Besides the declared parameters there is
            ``<state>_initializer`` for each state.

    Raises:
        ValueError: at a call, when the shape of the input is not that of the states.
        TypeError: at a call, when the input has another dtype than the model.
        RuntimeError: at a call, when the input is on another device.

    Example:
        >>> class Leak(nd.Dynamics):
        ...     tau = nd.param(10 * u.ms, domain=nd.positive)
        ...     r = nd.state(0.0)
        ...
        ...     def step(self, x, r):
        ...         r = nd.relax(r, x, self.tau, self.dt)
        ...         return r, r
        >>> leak = Leak(2, tau=1 / torch.tensor(2.0).log() * u.ms)
        >>> leak(torch.tensor([1.0, 4.0]))
        tensor([0.5000, 2.0000])
        >>> leak.r
        tensor([0.5000, 2.0000])
    """

    states: dict[str, State] = {}
    emits_spikes = False  # whether the output is the spikes of a neuron
    _written: Written | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        own = {name: field for name, field in vars(cls).items() if isinstance(field, State)}
        for name, field in own.items():
            delattr(cls, name)
            if not isinstance(field.default, str):
                initializer = Param(field.default, learnable=field.learnable, counts=field.counts)
                initializer.name = field.initializer = f"{name}_initializer"
                setattr(cls, initializer.name, initializer)
        cls.states = cls.states | own
        cls._precise = (*cls._precise, *(name for name, field in own.items() if field.counts))
        super().__init_subclass__(**kwargs)

    def __init__(self, size: int | tuple[int, ...], *, dt: Any = None, **values: Any):
        super().__init__(size, **values)
        self.dt = as_dt(get_default_dt() if dt is None else dt, f"{self._label()}: dt")
        for name, field in self.states.items():
            self.register_buffer(name, None, persistent=field.lasting)
            if field.lasting and field.initializer in self.params:  # so that a file has a place for it from the start
                self._set_initial(name, ())

    @property
    def input_size(self) -> tuple[int, ...]:
        """Trailing shape of the input; the population's, unless a model says otherwise."""
        return self.size

    def step(self, *inputs_and_states: Any, **inputs: Any) -> tuple[Tensor, ...]:
        """One time step as a pure function: ``(input, *states) -> (output, *new_states)``."""
        raise NotImplementedError(f"{type(self).__name__} defines no step()")

    def forward(self, input: Any, **inputs: Any) -> Tensor:
        """Step once and keep the new states; without earlier `reset_state` they start for the input's batch."""
        in_place = exporting() and not _pure  # what an exported program keeps is written in place
        if not self.is_set:
            if in_place:
                raise UnsetState(f"{self._label()} has no state to export; call nd.reset_states(net, *batch) first")
            self.reset_state(*self.batch_of(input))
        return self._stepped(self.advance, input, **inputs)

    def _stepped(self, step: Any, *inputs: Any, **further: Any) -> Any:
        """Call ``step(*inputs, *states) -> (output, *new_states)`` with the states held, and keep the new ones."""
        in_place = exporting() and not _pure
        states: Any = [self._buffers[name] for name in self.states]
        if in_place:
            states = [value * 1.0 for value in states]  # Inductor drops a clone, and then reads what is written
        compiling = torch.compiler.is_compiling()
        if not compiling and self._written is not None and self._written.too_old(states):
            raise RuntimeError(
                f"{self._label()} is called again inside a backward pass, as by torch.utils.checkpoint, but its states "
                "have changed since the first call, so the gradient would be wrong. Checkpoint a block that sets its "
                "states itself, such as nd.unroll(net, xs), or use nd.unroll(net, xs, checkpoint=n)"
            )
        output, *new = step(*inputs, *states, **further)
        for name, value in zip(self.states, new, strict=True):
            self._buffers[name] = self._buffers[name].copy_(value) if in_place else value  # type: ignore[union-attr]
        if not compiling:
            self._written = Written(new)
        return output

    def advance(self, input: Any, *states: Any, **inputs: Any) -> tuple[Tensor, ...]:
        """`step`, with the input checked against the states and converted to their dtype; pure as well."""
        batch, dtype = self.batch_of(input), input.dtype
        for name, value in zip(self.states, states, strict=True):
            self._check_match(name, value, input, batch)
        if dtype != states[0].dtype and isinstance(input, Tensor):
            input = input.to(states[0].dtype)
        output, new = self._checked(self.step(input, *states, **inputs), states)
        new = [value.clone() if value is input else value for value in new]  # which somebody may write to
        new = [value.to(old.dtype) for value, old in zip(new, states, strict=True)]  # under autocast it may differ
        like_input = isinstance(output, Tensor) and output.is_floating_point() and dtype.is_floating_point
        return (output.to(dtype) if like_input else output, *new)

    def _checked(self, returned: Any, states: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
        """The output and the new states that `step` has returned.

        Raises:
            TypeError: it has returned something else.
            ValueError: a new state of another shape.
        """
        names, kind = list(self.states), type(self).__name__
        wanted = f"(output, {', '.join(names)})" if names else "(output,)"
        if not isinstance(returned, (tuple, list)) or len(returned) != 1 + len(names):
            got = f"{len(returned)} values" if isinstance(returned, (tuple, list)) else f"a {type(returned).__name__}"
            raise TypeError(f"{self._label()}: {kind}.step must return the tuple {wanted}, got {got}")
        for name, new, old in zip(names, returned[1:], states, strict=True):
            if not isinstance(new, Tensor):
                raise TypeError(f"{self._label()}: {kind}.step returned {new!r} for the state {name}, wanted a tensor")
            if new.shape != old.shape:
                raise ValueError(
                    f"{self._label()}: {kind}.step returned the state {name} with shape {tuple(new.shape)}, wanted "
                    f"{tuple(old.shape)}, that of the old one"
                )
        return returned[0], list(returned[1:])

    def state_size(self, name: str) -> tuple[int, ...]:
        """Trailing shape of a state; the population's, unless its declaration or a model says otherwise."""
        shape = self.states[name].shape
        return self.size if shape is None else getattr(self, shape) if isinstance(shape, str) else shape

    def state_unit(self, name: str) -> Any:
        """The unit of a state, that of its initial value."""
        return self.params[self.states[name].initializer].unit

    def reset_state(self, *batch: int) -> None:
        """Set every state to its initial value, with shape ``(*batch, *size)``; see `neurodyn.state` for others."""
        for name, field in self.states.items():
            held = self._buffers[name]
            if field.lasting and held is not None:
                self._buffers[name] = held.detach()
            else:
                self._set_initial(name, () if field.shared else batch)

    def _set_initial(self, name: str, batch: tuple[int, ...]) -> None:
        field = self.states[name]
        start = getattr(self, field.initializer)
        start = start.to(precise(start.dtype)) if field.counts else start
        self._buffers[name] = start.expand((*batch, *self.state_size(name))).clone()

    @property
    def is_set(self) -> bool:
        """Whether the states have values."""
        return all(self._buffers[name] is not None for name in self.states)

    @property
    def batch(self) -> tuple[int, ...]:
        """The batch shape of the states; that of a layer whose states are all shared is ().

        Raises:
            UnsetState: before `reset_state`.
        """
        name = next((name for name, field in self.states.items() if not field.shared), "")
        if not name:
            return ()
        value = self._buffers[name]
        if value is None:
            raise UnsetState(f"{self._label()} has no state yet; call reset_state(*batch) first")
        return tuple(value.shape[: value.dim() - len(self.state_size(name))])

    def unset_state(self) -> None:
        """Forget the states, as before the first call, but for lasting ones."""
        for name, field in self.states.items():
            if not field.lasting:
                self._buffers[name] = None

    def detach_state(self) -> None:
        """Cut the states from the graph that computed them."""
        before = [self._buffers[name] for name in self.states]
        if not any([value is not None and value.requires_grad for value in before]):
            return
        after = [None if value is None else value.detach() for value in before]
        self._buffers.update(zip(self.states, after, strict=True))
        if self._written is not None and self._written.are(before):  # type: ignore[arg-type]
            self._written = Written(after, self._written.task)  # type: ignore[arg-type]

    def batch_of(self, input: Any) -> tuple[int, ...]:
        """The batch shape of an input."""
        size = self.input_size
        shape = tuple(input.shape)
        if shape[len(shape) - len(size) :] != size or len(shape) < len(size):
            wanted = ", ".join(["*batch", *map(str, size)])
            raise ValueError(f"{self._label()}: the input has shape {shape}, wanted ({wanted})")
        return shape[: len(shape) - len(size)]

    def _check_match(self, name: str, value: Tensor, input: Any, batch: tuple[int, ...]) -> None:
        size = self.state_size(name)
        if self.states[name].shared:
            if tuple(value.shape) != size:
                raise ValueError(
                    f"{self._label()}: {name} has shape {tuple(value.shape)}, wanted {size}; all samples of a batch "
                    "share it"
                )
        elif tuple(value.shape) != batch + size:
            held = tuple(value.shape[: value.dim() - len(size)])
            raise ValueError(
                f"{self._label()}: {name} holds batch {held} and the input has batch {batch}; call "
                f"reset_state({', '.join(map(str, batch))}), or nd.reset_states on the network, to start a new batch"
            )
        if value.device != input.device:
            raise RuntimeError(
                f"{self._label()}: the input is on {input.device} and {name} on {value.device}; "
                f"move one of them, for example with .to({str(input.device)!r}) on the network"
            )
        if input.dtype not in (value.dtype, torch.bool, torch.float16, torch.bfloat16):
            raise TypeError(
                f"{self._label()}: the input is {input.dtype} and the model {value.dtype}; "
                f"convert the input with .to({value.dtype}), or the network with .to({input.dtype})"
                if input.dtype.is_floating_point
                else f"{self._label()}: the input is {input.dtype}, wanted a floating dtype; use .to({value.dtype})"
            )

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles hold detached states: a graph cannot be copied.
        buffers = {
            name: b.detach() if name in self.states and b is not None else b for name, b in self._buffers.items()
        }
        return super().__getstate__() | {"_buffers": buffers, "_written": None}

    def reset_parameters(self) -> None:
        """See `neurodyn.recipe.Rebuildable`; states keep their values."""
        with default_dt(units.quantity(self.dt, "ms")):
            super().reset_parameters()

    def extra_repr(self) -> str:
        """Size, parameters that differ from their defaults or are learned, with units, and dt."""
        return f"{super().extra_repr()}, dt={self.dt:g} ms"
