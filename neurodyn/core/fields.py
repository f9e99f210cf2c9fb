"""Declared fields: ``param`` and ``state`` in a class body, and `Parametrised`, which builds modules from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, dataclass_transform, overload

import pint
import torch
from torch import Tensor, nn

from .. import units
from ..torch_private import inside_transform, is_fake
from .loading import broadcasts, take_shape
from .precise import Precise, precise
from .read_only import read_only
from .recipe import Rebuildable
from .signature import described, nearest, no_keyword
from .time_scale import warn_if_unresolved


@dataclass(frozen=True)
class Domain:
    """The values a parameter may take, and the map by which a trained one is kept among them.

    A learned parameter is stored as ``raw_<name> = to_raw(value)``, any real number, and read as ``from_raw(raw)``.
    """

    name: str
    contains: Callable[[Tensor], Tensor]
    to_raw: Callable[[Tensor], Tensor]
    from_raw: Callable[[Tensor], Tensor]


#: Time constants, resistances, ...: learned as the logarithm; the bound keeps exp() positive and finite in float32.
positive = Domain("positive", lambda x: x > 0, torch.log, lambda raw: raw.clamp(-40.0, 40.0).exp())
#: Conductances that may be blocked: as `positive`, and 0 where it is not learned.
nonnegative = Domain("zero or positive", lambda x: x >= 0, positive.to_raw, positive.from_raw)
#: Probabilities and fractions such as U of short-term plasticity: learned as the logit.
fraction = Domain("between 0 and 1", lambda x: (x >= 0) & (x <= 1), torch.logit, lambda raw: raw.sigmoid())


def between(low: Tensor, high: Tensor, name: str) -> Domain:
    """The values from `low` to `high`: learned as the logit of the place between them.

    At a bound the logit is infinite, and no gradient would lead away. A value there is moved inside by 1e-4 of the
    range.
    """
    return Domain(
        name,
        lambda x: (x >= low - 1e-6 * high) & (x <= high + 1e-6 * high),
        lambda x: torch.logit((x - low) / (high - low), 1e-4),
        lambda raw: low + (high - low) * raw.sigmoid(),
    )


Given = TypeVar("Given")
Kept = TypeVar("Kept")


class Keyword(Generic[Given, Kept]):
    """For type checkers: an attribute that is set to, and built with, a `Given`, and read as a `Kept`."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, module: None, kind: type) -> Keyword[Given, Kept]: ...
        @overload
        def __get__(self, module: object, kind: type) -> Kept: ...
        def __get__(self, module: object, kind: type) -> Any: ...
        def __set__(self, module: object, value: Given) -> None: ...


class Param(Keyword[Any, Tensor]):
    """A declared parameter; reading it from an instance gives the value in canonical units."""

    def __init__(
        self,
        default: Any,
        unit: Any = None,
        domain: Domain | None = None,
        learnable: bool = True,
        counts: bool | None = None,
        doc: str = "",
        computed: str = "",
    ):
        self.default, self.domain, self.learnable = default, domain, learnable
        self.doc, self.computed = doc, computed
        self.counts = not learnable if counts is None else counts
        self._unit = str(units.canonical_unit(unit if unit is not None else getattr(default, "units", "dimensionless")))

    @property
    def unit(self) -> pint.Unit:
        """The canonical unit, in pint's application registry of now."""
        return units.registry.Unit(self._unit)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self._computed = (
            f"{name} is learned: what one reads is computed from raw_{name} each time, and writing to it in place "
            f"changes nothing. Assign instead, layer.{name} = {example_in(self.unit)} or a tensor in canonical units, "
            f"which sets raw_{name}; layer.{name}.clone() is a tensor of your own"
        )

    def read(self, module: Parametrised) -> Tensor:
        for place in (module._parameters, module._buffers, vars(module)):
            if (value := place.get(self.name)) is not None:
                return value
        # An AttributeError, as torch.nn.utils.parametrize expects it, if there is none; it may be parametrised.
        raw = getattr(module, f"raw_{self.name}")
        domain = module.domain_of(self.name)
        return raw if domain is None else read_only(domain.from_raw(raw), self._computed)

    def write(self, module: Parametrised, value: Tensor) -> None:
        """Set a computed value, as torch.nn.utils.prune does before each call."""
        if f"raw_{self.name}" in vars(module):
            raise RuntimeError(
                f"{module._label()}: raw_{self.name} is itself computed, as by torch.nn.utils.prune, so {self.name} "
                f"cannot be set; make it permanent first, for example prune.remove(layer, 'raw_{self.name}')"
            )
        vars(module)[self.name] = value

    def remove(self, module: Parametrised) -> None:
        """Forget such a value."""
        if self.name not in vars(module):
            raise AttributeError(self.name)
        del vars(module)[self.name]


def param(
    default: Any = None,
    *,
    unit: Any = None,
    domain: Domain | None = None,
    learnable: bool = True,
    doc: str = "",
    computed: str = "",
) -> Any:
    """Declare a parameter: its default (with its unit), and the domain that it may not leave.

    Without a default the keyword is required; then `unit` says the dimension. A parameter that is only counted in
    steps has no gradient and is not `learnable`; it is kept in float32 or better, see `state`. `doc` is what it means,
    for ``help``; `computed`, for a default that the constructor computes, the formula.

    Annotate it, ``tau: nd.Param = nd.param(5 * u.ms)``, so that type checkers and editors know the keyword.
    """
    return Param(default, unit, domain, learnable, doc=doc, computed=computed)


class State(Keyword[Any, Tensor]):
    """A declared hidden state; its initial value is the parameter ``<name>_initializer``."""

    def __init__(
        self,
        default: Any,
        learnable: bool = True,
        counts: bool | None = None,
        alias: str | None = None,
        *,
        shape: str | tuple[int, ...] | None = None,
        shared: bool = False,
        lasting: bool = False,
        dtype: torch.dtype | None = None,
    ):
        self.default, self.learnable, self.alias = default, learnable, alias
        self.counts = not learnable if counts is None else counts
        self.shape, self.shared, self.lasting = shape, shared or lasting, lasting
        self.dtype = dtype
        self.initializer: str = default  # the parameter's name; `Dynamics` replaces a value by the name it makes


@overload  # what a type checker must know: whether a keyword of the constructor comes of it, the alias
def state(
    default: Any,
    *,
    learnable: bool = True,
    counts: bool | None = None,
    shape: str | tuple[int, ...] | None = None,
    shared: bool = False,
    lasting: bool = False,
    dtype: torch.dtype | None = None,
    alias: str,
    init: Literal[True] = True,
) -> Any: ...
@overload
def state(
    default: Any,
    *,
    learnable: bool = True,
    counts: bool | None = None,
    shape: str | tuple[int, ...] | None = None,
    shared: bool = False,
    lasting: bool = False,
    dtype: torch.dtype | None = None,
    init: Literal[False] = False,
) -> Any: ...
def state(default: Any, *, alias: str | None = None, **options: Any) -> Any:  # type: ignore[misc]
    """Declare a hidden state by its default initial value: a quantity, or the name of a parameter.

    A state has the shape ``(*batch, *size)``. With `shape`, a tuple or the name of an attribute that holds one, that
    takes the place of `size`, as for a state of the presynaptic side. A `shared` one has no batch in front: all samples
    of a batch have it together, as a weight that changes. A `lasting` one is shared and what it has become stays:
    `reset_states` gives it a value only the first time, and ``state_dict`` holds it.

    A state that `counts` (time steps, or spikes), as one that is not `learnable` does, is kept in float32 or better
    whatever the dtype of the model: bfloat16 has no odd numbers above 256. One with a `dtype`, such as torch.int64, has
    that.

    ``V: nd.State = nd.state(default=0 * u.mV, alias="V_initializer")`` lets type checkers and editors know the keyword
    of the initial value; without `alias` it is there all the same, and they do not know it.
    """
    return State(default, alias=alias, **options)


def keyword(*, default: Any = ..., kw_only: bool = True, init: bool = True) -> Any:
    """Used for type checkers alone, to declare a keyword that is neither a parameter nor a state."""


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(state, keyword))
class Declared(Precise, Rebuildable):
    """For type checkers: what is annotated in the body of a class that derives from this is a keyword when it is built.

    `param` is no field specifier: a default that is not written ``default=`` would count as none.
    """


class Parametrised(Declared):
    """A module whose parameters are declared in the class body with `param`.

    The generated constructor takes each one by keyword: a quantity (scalar, or an array or tensor that broadcasts to
    `size`), an ``nn.Parameter`` inside a quantity, or an initialiser ``f(size) -> quantity``; bare numbers only where
    the parameter is dimensionless. In neurons, synapses, their outputs and short-term plasticity a value may differ
    between the samples of a batch, of shape ``(*batch, *size)`` or one that broadcasts to it.

    ``layer.tau = 33 * u.ms`` sets a parameter later, with the same checks; a plain tensor counts as given in canonical
    units. Of a learned parameter the trained tensor stays the same object and is written in place, so that optimizers
    keep it. What one reads there, ``layer.tau``, is computed from ``raw_tau``: writing to it in place, also by
    ``.data`` or `torch.nn.init`, is a RuntimeError.

    Args:
        size: shape of the population, an int or a tuple; ``()`` for one value.
        learn: names of the parameters to train. Others are buffers. A parameter with a domain is trained as
            ``raw_<name>`` and cannot leave the domain; an ``nn.Parameter`` of your own is used as it is.
        device, dtype: as in torch.nn.

    Raises:
        TypeError: an unknown keyword, or a bare number for a parameter with a dimension.
        pint.DimensionalityError: a value of another dimension.
        ValueError: NaN or infinity, a shape that does not broadcast to `size`, a value outside the domain.
    """

    params: ClassVar[dict[str, Param]] = {}
    if TYPE_CHECKING:
        size: Keyword[int | tuple[int, ...], tuple[int, ...]] = keyword(default=(), kw_only=False)
        learn: InitVar[Iterable[str]] = ()
        device: InitVar[Any] = None
        dtype: InitVar[torch.dtype | None] = None
    may_be_empty = False  # whether a size may be 0
    may_have_batch = False  # whether a parameter may differ between the samples of a batch

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {name: field for name, field in vars(cls).items() if isinstance(field, Param)}
        for name, field in own.items():
            setattr(cls, name, property(field.read, field.write, field.remove, field.doc or None))
        cls.params = cls.params | own
        cls._precise = (*cls._precise, *(name for name, field in own.items() if field.counts))
        cls.__doc__ = described(cls)

    def __init__(
        self,
        size: int | tuple[int, ...] = (),
        *,
        learn: Iterable[str] = (),
        device: Any = None,
        dtype: torch.dtype | None = None,
        **values: Any,
    ):
        super().__init__()
        self.size = as_size(size, type(self).__name__, 0 if self.may_be_empty else 1)
        dtype = dtype or torch.get_default_dtype()
        valid = list(self.params)
        learn = self._learned(learn)
        for word in values:
            if word not in self.params:
                raise TypeError(no_keyword(self._label(), type(self), word))
        for word in learn:
            if word not in self.params:
                meant = nearest(word, valid)
                raise TypeError(f"{self._label()} has no parameter {word!r}; it takes {', '.join(valid)}{meant}")
        for name, field in self.params.items():
            self._build(name, field, values.get(name, field.default), name in learn, device, dtype)

    def _learned(self, learn: Any) -> tuple[str, ...]:
        """The names in `learn`."""
        names: Any = (learn,) if isinstance(learn, str) else learn
        names = tuple(names) if isinstance(names, Iterable) and not isinstance(names, Mapping) else None
        if names is not None and all(isinstance(name, str) for name in names):
            return names
        able = [name for name, field in self.params.items() if field.learnable and not name.endswith("_initializer")]
        example = f"learn={tuple(able[:2])!r}" if len(able) > 1 else f'learn="{(able or list(self.params))[0]}"'
        raise TypeError(
            f"{self._label()}: learn must name the parameters to train, got {learn!r}; it can train "
            f"{', '.join(able) or 'none'}: for example {example}, or learn=() for none"
        )

    def domain_of(self, name: str) -> Domain | None:
        """The domain of a parameter; that of the declaration, unless a model says otherwise."""
        return self.params[name].domain

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a parameter.

        Raises:
            TypeError: a bare number for a parameter with a dimension, or a tensor with a gradient for a learned one.
            pint.DimensionalityError: a value of another dimension.
            ValueError: NaN or infinity, another shape, a value outside the domain.
        """
        if name in self.params and "_recipe" in vars(self) and not _in_trace(value):
            value = self._assigned(name, value)
            if value is not None:
                super().__setattr__(name, value)
            warn_if_unresolved(self)
            self._warn_of_standstill()
            return
        super().__setattr__(name, value)

    def _warn_of_standstill(self) -> None:
        """Warn of a time constant that the dtype cannot follow; only what has states has any."""

    def _assigned(self, name: str, value: Any) -> Any:
        """What torch is to assign; None if a learned tensor has been set in place."""
        field, raw_name = self.params[name], f"raw_{name}"
        raws = getattr(self, "parametrizations", ())
        trained = self._parameters.get(raw_name, self._parameters.get(name))
        held = self._buffers.get(name) if trained is None and raw_name not in raws else trained
        label, computed = f"{self._label()}: {name}", raw_name in raws or raw_name in self._parameters
        if (held is None and not computed) or (isinstance(value, nn.Parameter) and not computed):
            return value  # to be computed by somebody else, or a trained tensor of the user's own
        if trained is not None or computed:
            if isinstance(value, nn.Parameter):
                raise TypeError(
                    f"{label} is trained as {raw_name}, which stays the same object; assign the values of the "
                    f"nn.Parameter, layer.{name} = parameter.detach(), or build the layer with {name}=parameter"
                )
            if isinstance(value, Tensor) and value.requires_grad:
                raise TypeError(
                    f"{label} is a trained tensor, which is set in place and takes no gradient; "
                    f"assign value.detach(), or assign inside `with torch.no_grad():`"
                )
        like = getattr(self, name) if held is None else held
        bare = isinstance(value, Tensor) and not units.is_quantity(value)
        given = units.quantity(value.detach(), field.unit) if bare else value
        number = check(given, field.unit, self.size, label, like.device, like.dtype, self.may_have_batch)
        domain = self.domain_of(name)
        if domain is not None and not bool(domain.contains(number).all()):
            raise ValueError(f"{label} must be {domain.name}, got {show(number, field.unit)}")
        if trained is None and not computed:
            return value if bare and value.dtype.is_floating_point else number
        number = to_raw(number, domain, label, field.unit) if domain is not None and computed else number
        if tuple(number.shape) != tuple(like.shape):
            if not broadcasts(number, tuple(like.shape)):
                raise ValueError(
                    f"{label} is learned in the shape {tuple(like.shape)}, got {tuple(number.shape)}; assign a value "
                    f"of that shape or one for all, or build the layer with {name}= in the shape that is to be learned"
                )
            number = number.expand(like.shape)
        if trained is None:
            setattr(self, raw_name, number)  # a parametrisation, which sets what it is computed from
        else:
            with torch.no_grad():
                trained.copy_(number)
        return None

    def _label(self) -> str:
        inside = ", ".join(map(str, self.size))
        return f"{type(self).__name__}({inside})"

    def extra_repr(self) -> str:
        """Size and parameters with units; which are learned."""
        shown = [", ".join(map(str, self.size))] if self.size else []
        for name, field in self.params.items():
            with torch.enable_grad():
                value = getattr(self, name)
            if value.requires_grad or not name.endswith("_initializer"):
                shown.append(f"{name}={show(value, field.unit)}{' (learned)' if value.requires_grad else ''}")
        return ", ".join(shown)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Also takes one value for all where there was one for each, and learned where it was fixed, and so on."""
        known = dict(state_dict)
        for name, field in self.params.items():
            key, raw_key = f"{prefix}{name}", f"{prefix}raw_{name}"
            learned = f"raw_{name}" in self._parameters
            domain = self.domain_of(name)
            if domain is not None and (raw_key if learned else key) not in known:
                other, convert = (key, domain.to_raw) if learned else (raw_key, domain.from_raw)
                if name not in self._parameters and isinstance(value := known.get(other), Tensor):
                    converted = convert(value.detach())
                    if learned and not bool(converted.isfinite().all()):
                        rest[-1].append(
                            f"{self._label()}: {name} is learned, so it must lie strictly inside its domain "
                            f"({domain.name}), the file has {show(value, field.unit)}; build it without learn="
                        )
                        continue
                    known[raw_key if learned else key] = converted
                    del known[other]
            place = raw_key if learned else key
            loaded = known.get(place)
            if not learned and isinstance(loaded, Tensor) and not (loaded.is_meta or bool(loaded.isfinite().all())):
                rest[-1].append(f"{self._label()}: {name} must be finite, the file has {show(loaded, field.unit)}")
                continue
            if broadcasts(known.get(place), self.size, self.may_have_batch):
                take_shape(self, place.removeprefix(prefix), known[place])
        super()._load_from_state_dict(known, prefix, *rest)

    def _build(self, name: str, field: Param, value: Any, learned: bool, device: Any, dtype: torch.dtype) -> None:
        kept = precise(dtype) if field.counts and not learned else dtype
        tensor = check(value, field.unit, self.size, f"{self._label()}: {name}", device, kept, self.may_have_batch)
        if field.domain is not None and not bool(field.domain.contains(tensor.detach()).all()):
            raise ValueError(f"{self._label()}: {name} must be {field.domain.name}, got {show(tensor, field.unit)}")
        if (learned or tensor.requires_grad) and not field.learnable:
            raise ValueError(
                f"{self._label()}: {name} counts time steps and has no gradient, so it cannot be learned; "
                "leave it out of learn=, and pass it as a plain quantity"
            )
        if isinstance(tensor, nn.Parameter):
            self._parameters[name] = tensor
        elif not learned:
            self._buffers[name] = tensor
        elif field.domain is None:
            self._parameters[name] = nn.Parameter(tensor)
        else:
            raw = to_raw(tensor, field.domain, f"{self._label()}: {name}", field.unit)
            self._parameters[f"raw_{name}"] = nn.Parameter(raw)


def to_raw(value: Tensor, domain: Domain, label: str, unit: pint.Unit) -> Tensor:
    """What is trained in place of `value`, or an error if that would be infinite."""
    raw = domain.to_raw(value)
    if not bool(raw.isfinite().all()):
        raise ValueError(
            f"{label} is learned, so it must lie strictly inside its domain ({domain.name}), got {show(value, unit)}"
        )
    return raw


def _in_trace(value: Any) -> bool:
    """Whether what is assigned holds no values that could be checked."""
    if torch.compiler.is_compiling() or inside_transform():
        return True
    return isinstance(value, Tensor) and (value.is_meta or is_fake(value))


def is_initialiser(value: Any) -> bool:
    """Whether `value` is a function ``f(shape)``, from which values are drawn."""
    return callable(value) and not isinstance(value, Tensor)


def check(
    value: Any,
    unit: pint.Unit,
    size: tuple[int, ...],
    label: str,
    device: Any,
    dtype: torch.dtype,
    batched: bool = False,
) -> Tensor:
    """`value` as a tensor in canonical units that broadcasts to `size`, or an error that says what was wanted.

    If `batched`, it may have the dimensions of a batch in front.
    """
    example = f"for example {label.rpartition(' ')[2]}={example_in(unit)}"
    if is_initialiser(value):
        value = value(size)
    if value is None:
        raise TypeError(f"{label} is required, {example}")
    if isinstance(value, pint.Unit) or not (units.is_quantity(value) or unit.dimensionless):
        raise TypeError(f"{label} needs a unit of {dimension(unit)}, got {value!r}; {example}")
    got = getattr(value, "units", units.registry.dimensionless)
    if got.dimensionality != unit.dimensionality:
        raise pint.DimensionalityError(
            got,
            unit,
            a_dimension(got),
            a_dimension(unit),
            extra_msg=f": {label}, got {value}; {example}",
        )
    source = getattr(value, "magnitude", value)
    number = units.to_canonical(value)
    if isinstance(source, nn.Parameter) and number is not source:
        raise ValueError(f"{label}: an nn.Parameter must be in {unit:~}, so that it can be used as it is; got {got:~}")
    if isinstance(number, Tensor) and number.is_meta:
        raise ValueError(f"{label} is a tensor on the meta device, which holds no values; make it with device='cpu'")
    if isinstance(number, nn.Parameter):
        if number.dtype != dtype:
            raise TypeError(
                f"{label}: the nn.Parameter is {number.dtype}, the model {dtype}; pass dtype={number.dtype}"
            )
        tensor: Tensor = number
    else:
        if isinstance(number, Tensor) and number.requires_grad:
            raise TypeError(f"{label}: the tensor carries a gradient; wrap it as nn.Parameter, or pass .detach()")
        exact = None if isinstance(number, Tensor) else torch.float64  # a Python number, whatever the default dtype
        tensor = torch.as_tensor(number, dtype=exact).to(device=device, dtype=dtype, copy=True)
    if not bool(tensor.detach().isfinite().all()):
        raise ValueError(f"{label} must be finite, got {show(tensor, unit)}")
    if not broadcasts(tensor, size, batched):
        raise ValueError(f"{label} has shape {tuple(tensor.shape)}, which does not broadcast to the size {size}")
    return tensor


#: Dimensions that have a name, each with a unit that has it.
_DIMENSIONS = {
    "time": "ms",
    "voltage": "mV",
    "current": "pA",
    "conductance": "nS",
    "resistance": "Gohm",
    "capacitance": "pF",
    "concentration": "mM",
    "rate": "1/ms",
    "length": "um",
    "temperature": "K",
    "charge": "pC",
    "area": "um**2",
    "mass": "g",
    "speed": "m/s",
    "power": "W",
    "energy": "J",
    "current per area": "uA/cm**2",
    "conductance per area": "mS/cm**2",
    "capacitance per area": "uF/cm**2",
    "plain number": "dimensionless",
}


def dimension(unit: pint.Unit) -> str:
    """The dimension of a unit by its name, such as "voltage", or by the basic ones where it has none."""
    named = (
        name for name, like in _DIMENSIONS.items() if units.registry.Unit(like).dimensionality == unit.dimensionality
    )
    return next(named, str(unit.dimensionality))


def a_dimension(unit: pint.Unit) -> str:
    """The same with an article, "a voltage"."""
    name = dimension(unit)
    return f"{'an' if name[0] in 'ae' else 'a'} {name}" if name in _DIMENSIONS else name


def example_in(unit: pint.Unit) -> str:
    """A value in this unit as one writes it: ``1.0 * u.ms``, ``1.0 / u.ms``."""
    if unit.dimensionless:
        return "0.5"
    return re.sub(r"[A-Za-z]\w*", r"u.\g<0>", f"1.0 * {unit:~}").replace("* 1 / ", "/ ")


def as_size(size: Any, model: str, least: int = 1) -> tuple[int, ...]:
    """The shape of a population as a tuple, checked; `model` names it in errors."""
    axes = tuple(size) if isinstance(size, (tuple, list)) else (size,)
    if not all(hasattr(n, "__index__") and not isinstance(n, bool) and int(n) >= least for n in axes):
        raise ValueError(f"{model}: size must be a positive int or a tuple of them, got {size!r}")
    return tuple(int(n) for n in axes)


def name_of(layer: Any, path: str) -> str:
    """A layer for people: what it is, and its path in the network, if it lies in one."""
    return f"{layer._label()} {path!r}" if path else layer._label()


def show(tensor: Tensor, unit: pint.Unit) -> str:
    """A parameter's value with its unit, for messages and ``repr``."""
    if tensor.is_meta or torch.compiler.is_compiling():  # torch 2.11 logs the modules that it exports
        return f"no value yet, {unit:~}".removesuffix(", ")
    if not tensor.numel():
        return f"no values, {unit:~}".removesuffix(", ")
    if tensor.numel() == 1:
        return f"{tensor.item():g} {unit:~}".strip()
    low, high = tensor.detach().aminmax()
    return f"values from {low.item():g} to {high.item():g} {unit:~}".strip()
