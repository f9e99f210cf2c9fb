"""`Dynamics`: a pure ``step`` and the buffers that remember its states between calls."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from .. import units
from ..torch_private import tree_leaves
from .fields import Keyword, Param, Parametrised, State, a_dimension, check, example_in, keyword
from .hidden import Buffers
from .loading import broadcasts
from .order import check_order
from .precise import precise
from .recomputed import Written
from .rounding import warn_of_standstill
from .silence import is_looked_at, look_at_step
from .time_scale import warn_if_unresolved

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


def _shown(value: Any) -> str:
    """A wrong value in an error: what it is, and itself if it is short."""
    name = type(value).__name__
    kind = f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
    if isinstance(value, Tensor):
        return f"one tensor of shape {tuple(value.shape)}"
    return f"{value!r}, {kind}," if isinstance(value, (int, float, complex, str)) else "None" if value is None else kind


class UnsetState(RuntimeError):
    """A state is read before it has a value: call `reset_states`, or step the model, first."""


class Dynamics(Parametrised):
    """Base of every model with hidden states.

    A model declares parameters (`neurodyn.core.fields.param`) and states (`neurodyn.core.fields.state`) and defines
    ``step(input, *states) -> (output, *new_states)``, a pure function. Calling the module steps it and keeps the new
    states in buffers of the same names, which follow ``.to()`` and stay out of ``state_dict()`` and ``buffers()``; see
    `neurodyn.get_states`. A state that counts stays in float32 or better, see `neurodyn.core.fields.state`.

    Inputs, outputs and states have the shape ``(*batch, *size)``. Inputs are floating point; bool counts as 0 and 1.
    Half and bfloat16 inputs are computed in the dtype of the model, and the output has the dtype of the input.

    Args:
        size: shape of the population.
        dt: time step, a quantity; `get_default_dt()` at construction if not given.
        learn, device, dtype, values: see `neurodyn.core.fields.Parametrised`. Besides the declared parameters there is
            ``<state>_initializer`` for each state.

    Raises:
        ValueError: at a call, when the shape of the input is not that of the states.
        TypeError: at a call, when the input has another dtype than the model.
        RuntimeError: at a call, when the input is on another device.

    Example:
        >>> class Leak(nd.Dynamics):
        ...     tau: nd.Param = nd.param(10 * u.ms, domain=nd.positive)
        ...     r: nd.State = nd.state(0.0)
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

    states: ClassVar[dict[str, State]] = {}
    #: The units of the inputs of `step` by their names, where a model says them: ``{"I": "pA"}``.
    input_units: ClassVar[dict[str, str]] = {}
    may_have_batch = True
    if TYPE_CHECKING:
        size: Keyword[int | tuple[int, ...], tuple[int, ...]] = keyword(kw_only=False)
        dt: Keyword[Any, float] = keyword(default=None)
    emits_spikes = False  # whether the output is the spikes of a neuron
    #: The time in ms in which a model changes by itself, a number or a tensor; one with a longer dt says so when it is
    #: built, see `neurodyn.core.time_scale`. None where every dt will do, as for equations that are solved exactly.
    time_scale = None  # without an annotation, which would make it a keyword to type checkers
    _written = None  # a `Written`, after a call

    def __init_subclass__(cls, **kwargs: Any) -> None:
        own = {name: field for name, field in vars(cls).items() if isinstance(field, State)}
        for name, field in own.items():
            delattr(cls, name)
            if not isinstance(field.default, str):
                initializer = Param(field.default, learnable=field.learnable, counts=field.counts)
                initializer.name = field.initializer = f"{name}_initializer"
                if field.alias not in (None, initializer.name):
                    raise TypeError(
                        f"{cls.__name__}: the alias of the state {name} is the keyword of its initial value, "
                        f"alias={initializer.name!r}, got {field.alias!r}"
                    )
                setattr(cls, initializer.name, initializer)
        cls.states = cls.states | own
        cls._precise = (*cls._precise, *(name for name, field in own.items() if field.counts))
        own_way = (cls.forward, cls.advance) != (Dynamics.forward, Dynamics.advance)
        check_order(cls, "step", list(cls.states), None if own_way else 1)
        super().__init_subclass__(**kwargs)

    def __init__(self, size: int | tuple[int, ...], *, dt: Any = None, **values: Any):
        super().__init__(size, **values)
        self.dt = as_dt(get_default_dt() if dt is None else dt, f"{self._label()}: dt")
        if not self.states:
            kind = type(self).__name__
            raise TypeError(
                f"{self._label()}: {kind} declares no state, and a Dynamics remembers one; declare it in the class "
                f"body, for example V = nd.state(0.0), or derive {kind} from nn.Module, with rowwise = True if it "
                "treats each row of a batch alone"
            )
        vars(self)["_buffers"] = Buffers(self._buffers)
        for name, field in self.states.items():
            self._register_state(name)
            if field.lasting and field.initializer in self.params:  # so that a file has a place for it from the start
                self._set_initial(name, ())
        self._warn_of_standstill()
        warn_if_unresolved(self)

    def _register_state(self, name: str, value: Tensor | None = None) -> None:
        lasting = self.states[name].lasting  # is found and saved like any other buffer
        if not lasting:
            self._buffers.states.add(name)  # type: ignore[attr-defined]
        self.register_buffer(name, value, persistent=lasting)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a state also by a quantity, for all neurons and samples.

        Raises:
            UnsetState: a quantity for a state that has no value yet, and so no shape.
            TypeError: a number or an array for a state.
            pint.DimensionalityError: a quantity of another dimension.
            ValueError: NaN or infinity, another shape, a fraction for a state of whole numbers.
        """
        if name in self.states and value is not None:
            value = self._shaped(name, value) if isinstance(value, Tensor) else self._as_state(name, value)
        super().__setattr__(name, value)

    def _shaped(self, name: str, value: Tensor) -> Tensor:
        """A tensor as the value of a state, if its shape is one that the state may have."""
        shape, size = tuple(value.shape), self.state_size(name)
        shared = self.states[name].shared
        if shape[len(shape) - len(size) :] != size or len(shape) < len(size) or (shared and shape != size):
            raise ValueError(f"{self._label()}: the state {name} has shape {self._shape_of(name)}, got {shape}")
        return value

    def _shape_of(self, name: str) -> str:
        """The shape of a state, for people."""
        return f"({', '.join([*([] if self.states[name].shared else ['*batch']), *map(str, self.state_size(name))])})"

    def _as_state(self, name: str, value: Any) -> Tensor:
        """A quantity as the value of a state, in its unit, shape, dtype and device."""
        held, label = self._buffers[name], f"{self._label()}: the state {name}"
        if not units.is_quantity(value):
            unit = self.state_unit(name)
            by_unit = "" if unit.dimensionless else f", or a quantity, layer.{name} = {example_in(unit)}"
            raise TypeError(
                f"{label} is set by a tensor of shape {self._shape_of(name)}, got "
                f"{_shown(value).removesuffix(',')}; write layer.{name} = torch.full_like(layer.{name}, value){by_unit}"
            )
        if held is None:
            raise UnsetState(f"{label} has no value yet, and so no shape; call nd.reset_states(net, *batch) first")
        dtype = held.dtype if held.is_floating_point() else torch.float64
        given = check(value, self.state_unit(name), tuple(held.shape), label, held.device, dtype)
        new = given.to(held.dtype)
        if new.dtype != dtype and not bool((new == given).all()):
            raise ValueError(f"{label} holds whole numbers, {held.dtype}, got {value}")
        return new.expand(held.shape).clone()

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
        elif not self.size and not in_place:
            self._take_shape(input)
        if not is_looked_at(self, input):
            return self._stepped(self.advance, input, **inputs)
        begins = all([self._buffers[name].grad_fn is None for name in self.states])  # type: ignore[union-attr]
        output = self._stepped(self.advance, input, **inputs)
        look_at_step(self, input, output, begins)
        return output

    def _stepped(self, step: Any, *inputs: Any, **further: Any) -> Any:
        """Call ``step(*inputs, *states) -> (output, *new_states)`` with the states held, and keep the new ones."""
        in_place = exporting() and not _pure
        states: Any = [self._buffers[name] for name in self.states]
        if in_place:
            states = [(value * 1.0).to(value.dtype) for value in states]  # Inductor drops a clone: it is written to
        compiling = torch.compiler.is_compiling()
        if not compiling and self._written is not None and self._written.too_old(states):
            raise RuntimeError(
                f"{self._label()} is called again inside a backward pass, as by torch.utils.checkpoint, but its states "
                "have changed since the first call, so the gradient would be wrong. Checkpoint a block that sets its "
                "states itself, such as nd.unroll(net, xs), or use nd.unroll(net, xs, checkpoint=n)"
            )
        output, *new = step(*inputs, *states, **further)
        if not in_place and any([output is value for value in new]):
            output = output.clone()  # which the next layer may write to, as nn.ReLU(inplace=True) does
        for name, value in zip(self.states, new, strict=True):
            self._buffers[name] = self._buffers[name].copy_(value) if in_place else value  # type: ignore[union-attr]
        if not compiling:
            changed = any([value is not old for value, old in zip(new, states, strict=True)])
            self._written = Written(new) if changed else None  # else the states of before are those of now
        return output

    def advance(self, input: Any, *states: Any, **inputs: Any) -> tuple[Tensor, ...]:
        """`step`, with the input checked against the states and converted to their dtype; pure as well."""
        batch, dtype = self.batch_of(input), input.dtype
        self._refuse_quantities(inputs)
        for name, value in zip(self.states, states, strict=True):
            self._check_match(name, value, input, batch)
        if dtype != states[0].dtype and isinstance(input, Tensor):
            input = input.to(states[0].dtype)
        output, new = self._checked(self.step(input, *states, **inputs), states)
        new = [value.clone() if value is input else value for value in new]  # which somebody may write to
        new = [value.to(old.dtype) for value, old in zip(new, states, strict=True)]  # under autocast it may differ
        like_input = isinstance(output, Tensor) and output.is_floating_point() and dtype.is_floating_point
        return (output.to(dtype) if like_input else output, *new)

    def _refuse_quantities(self, inputs: Mapping[str, Any]) -> None:
        """See that no input that is given by its name has a unit: inside a model there are plain tensors.

        Raises:
            TypeError: with the unit in which a tensor is taken.
        """
        for name, value in inputs.items():
            if value is None or isinstance(value, Tensor) or not units.is_quantity(value):
                continue
            unit = units.registry.Unit(self.input_units.get(name) or units.canonical_unit(value.units))
            fits = unit.is_compatible_with(value.units)
            number = units.to_canonical(value) if fits else 1.0
            shape = f"({', '.join(map(str, self.size))}{',' * (len(self.size) == 1)})"
            example = f"torch.full({shape}, {number!r})" if isinstance(number, float) else f"u.to_canonical({name})"
            raise TypeError(
                f"{self._label()}: {name} is the quantity {value}{'' if fits else f', {a_dimension(value.units)}'}; "
                f"wanted a tensor in {unit:~}, for example {name}={example}"
            )

    def _checked(self, returned: Any, states: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
        """The output and the new states that `step` has returned.

        Raises:
            TypeError: it has returned something else.
            ValueError: a new state of another shape.
        """
        names, kind = list(self.states), type(self).__name__
        wanted = f"(output, {', '.join(names)})"
        if not isinstance(returned, (tuple, list)) or len(returned) != 1 + len(names):
            many = isinstance(returned, (tuple, list))
            got = f"{len(returned)} value{'s' * (len(returned) != 1)}" if many else _shown(returned)
            raise TypeError(
                f"{self._label()}: {kind}.step must return the tuple {wanted}, the output and then each new state, "
                f"got {got}; end it with `return {wanted[1:-1]}`"
            )
        for name, new, old in zip(names, returned[1:], states, strict=True):
            if not isinstance(new, Tensor):
                raise TypeError(
                    f"{self._label()}: {kind}.step returned {_shown(new)} for the state {name}, wanted a tensor of "
                    f"shape {tuple(old.shape)}; a constant is torch.full_like({name}, value)"
                )
            if new.shape != old.shape:
                raise ValueError(
                    f"{self._label()}: {kind}.step returned the state {name} with shape {tuple(new.shape)}, wanted "
                    f"{tuple(old.shape)}, that of the old one"
                )
        output = returned[0]
        if not isinstance(output, Tensor):
            for leaf in tree_leaves(output):
                if not (isinstance(leaf, Tensor) or callable(leaf)):  # a `Current` is called with V
                    raise TypeError(
                        f"{self._label()}: {kind}.step returned {_shown(leaf)} as its output or in it; wanted a "
                        "tensor, or a tuple, list or dict of tensors"
                    )
        return output, list(returned[1:])

    def state_size(self, name: str) -> tuple[int, ...]:
        """Trailing shape of a state; the population's, unless its declaration or a model says otherwise."""
        shape = self.states[name].shape
        return self.size if shape is None else getattr(self, shape) if isinstance(shape, str) else shape

    def state_unit(self, name: str) -> Any:
        """The unit of a state, that of its initial value."""
        return self.params[self.states[name].initializer].unit

    def reset_state(self, *batch: int) -> None:
        """Set every state to its initial value, with shape ``(*batch, *size)``; see `neurodyn.state` for others.

        Raises:
            ValueError: a parameter that differs between samples, for another batch.
        """
        self._check_samples(batch)
        for name, field in self.states.items():
            held = self._buffers[name]
            if field.lasting and held is not None:
                self._buffers[name] = held.detach()
            else:
                self._set_initial(name, () if field.shared else batch)

    def _check_samples(self, batch: tuple[int, ...]) -> None:
        """See that parameters with the dimensions of a batch fit to `batch`."""
        n, tensors = len(self.size), [*dict.items(self._parameters), *dict.items(self._buffers)]
        held = [(name, value) for name, value in tensors if value is not None and value.ndim > n]
        for name, value in held:
            if name.removeprefix("raw_") in self.params and not broadcasts(value, (*batch, *self.size)):
                own = tuple(value.shape[: value.dim() - n])
                wanted = ", ".join(map(str, own))
                raise ValueError(
                    f"{self._label()}: {name} has shape {tuple(value.shape)}, values for samples of a batch {own}, "
                    f"and the batch is {batch}; call nd.reset_states(net, {wanted}), or "
                    f"nd.simulate(..., batch=({wanted},)), with inputs of shape ({wanted}, ...)"
                )

    def _set_initial(self, name: str, batch: tuple[int, ...]) -> None:
        field = self.states[name]
        start = getattr(self, field.initializer)
        if field.dtype is not None:
            start = start.to(field.dtype)
        elif field.counts:
            start = start.to(precise(start.dtype))
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

    def widen_state(self, *batch: int) -> None:
        """Repeat the states of a batch that is the beginning of `batch` along the dimensions that it lacks."""
        self._check_samples(batch)
        held = self.batch
        for name, field in self.states.items():
            value = self._buffers[name]
            if value is not None and not field.shared:
                ones, size = (1,) * (len(batch) - len(held)), self.state_size(name)
                self._buffers[name] = value.reshape(*held, *ones, *size).expand(*batch, *size).clone()

    def _take_shape(self, input: Any) -> None:
        """Without a size, whatever follows the batch of a reset in the shape of the first input is its features."""
        if getattr(input, "shape", None) == self._buffers[next(iter(self.states))].shape:  # type: ignore[union-attr]
            return
        batch, held = self.batch_of(input), self.batch
        if held == batch or len(held) >= len(batch) or batch[: len(held)] != held:
            return
        states: Any = [self._buffers[name] for name in self.states]
        if self._written is None or not self._written.are(states):  # else they are of an input of another shape
            self.widen_state(*batch)

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
        if not isinstance(input, Tensor) and (not hasattr(input, "shape") or units.is_quantity(input)):
            wanted = ", ".join(["*batch", *map(str, size)])
            magnitude = ", its magnitude in the unit that the model takes" if units.is_quantity(input) else ""
            raise TypeError(
                f"{self._label()}: the input is {input!r}, a {type(input).__name__}; "
                f"wanted a tensor of shape ({wanted}){magnitude}"
            )
        if isinstance(input, Tensor) and input.is_nested:
            wanted = ", ".join(["*batch", *map(str, size)])
            raise TypeError(
                f"{self._label()}: the input is nested, sequences of different lengths in one tensor; wanted a tensor "
                f"({wanted}). With xs = torch.nn.utils.rnn.pad_sequence(xs.unbind()), a padded one, nd.unroll(net, xs) "
                "runs all sequences; nd.last(ys, lengths) and nd.step_mask(lengths, T) then leave the padding out"
            )
        shape = tuple(input.shape)
        if shape[len(shape) - len(size) :] != size or len(shape) < len(size):
            wanted = ", ".join(["*batch", *map(str, size)])
            raise ValueError(f"{self._label()}: the input has shape {shape}, wanted ({wanted}){self._any_shape()}")
        return shape[: len(shape) - len(size)]

    def _any_shape(self) -> str:
        """For an error about shapes: how to build a layer for any shape, if this kind can be."""
        takes_size = "size" in inspect.signature(type(self).__init__).parameters
        if not takes_size or not self.size or self.input_size != self.size:
            return ""
        kind = type(self).__name__
        return f"; {kind}((), ...), with one value of each parameter for all, takes any shape"

    def _smaller(self, held: tuple[int, ...], batch: tuple[int, ...]) -> str:
        """For an error about batches: what to do about a smaller last batch whose states go on."""
        if len(held) != 1 or len(batch) != 1 or batch[0] > held[0]:
            return ""
        return (
            f". To go on with the first {batch[0]} of the {held[0]}: states={{name: value[:{batch[0]}] for name, value "
            "in states.items()}; DataLoader(..., drop_last=True) leaves out a smaller last batch"
        )

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
            network = "nd.reset_states on the network" if self.size else "nd.reset_states(net, *batch)"
            raise ValueError(
                f"{self._label()}: {name} holds batch {held} and the input has batch {batch}; call "
                f"reset_state({', '.join(map(str, batch))}), or {network}, to start a new batch"
                + self._smaller(held, batch)
            )
        if value.device != input.device:
            raise RuntimeError(
                f"{self._label()}: the input is on {input.device} and {name} on {value.device}; "
                f"move one of them, for example with .to({str(input.device)!r}) on the network"
            )
        if input.dtype not in (value.dtype, torch.bool, torch.float16, torch.bfloat16):
            own = getattr(self, self.states[name].initializer)
            if input.dtype == own.dtype != value.dtype:
                raise TypeError(
                    f"{self._label()}: the state {name} that was set is {value.dtype}, and model and input are "
                    f"{own.dtype}; convert the state with .to({own.dtype})"
                )
            raise TypeError(
                f"{self._label()}: the input is {input.dtype} and the model {value.dtype}; "
                f"convert the input with .to({value.dtype}), or the network with .to({input.dtype})"
                if input.dtype.is_floating_point
                else f"{self._label()}: the input is {input.dtype}, wanted a floating dtype; use .to({value.dtype})"
            )

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles hold detached states: a graph cannot be copied.
        buffers: Any = self._buffers.copy()
        for name in self.states:
            buffers[name] = None if buffers[name] is None else buffers[name].detach()
        return super().__getstate__() | {"_buffers": buffers, "_written": None}

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Any:
        before = self._dtypes()
        super()._apply(fn, *args, **kwargs)
        if self._dtypes() != before:
            self._warn_of_standstill()
        return self

    def _warn_of_standstill(self) -> None:
        if not all([field.counts for field in self.states.values()]):
            warn_of_standstill(self, self.dt)

    def _dtypes(self) -> list[torch.dtype]:
        return [
            value.dtype for place in (self._parameters, self._buffers) for value in place.values() if value is not None
        ]

    def reset_parameters(self) -> None:
        """See `neurodyn.core.recipe.Rebuildable`; states keep their values."""
        with default_dt(units.quantity(self.dt, "ms")):
            super().reset_parameters()

    def extra_repr(self) -> str:
        """Size, parameters that differ from their defaults or are learned, with units, and dt."""
        return f"{super().extra_repr()}, dt={self.dt:g} ms"
