"""Sparse connections, driven by the events of their input."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Self, Unpack

import pint
import torch
from torch import Tensor, nn

from .. import units as u
from ..core.dynamics import UnsetState, get_default_dt
from ..core.fields import as_size, check, is_initialiser, show
from ..core.signature import Called, Misspelt, refuse_misspelt
from ..delays.delayed import Interpolation
from ..ops import event
from . import restored
from .base import evaluated, telling_of_strength
from .csr import CSR, from_matrix, from_pairs
from .delayed import Arrivals, SynapticDelays

#: What a weight may be: a number, a jump of a conductance, a current, or a jump of the potential.
UNITS = ("dimensionless", "nS", "pA", "mV")


class Sparse(nn.Module, metaclass=Called):
    r"""Sparse connection: $y_j = \sum w_k x_i$ over the synapses k from inputs i to j.

    The work goes with the synapses of the non-zero inputs, and graded inputs keep their value. Gradients reach the
    weights and every input, also a silent one.

    With `delay` a synapse has a delay of its own: $y_j(t) = \sum w_k x_i(t - d_k)$. The connection then has a state,
    and ``read()`` gives the output of the coming step before its input is known, if no delay is shorter than dt.

    Input: ``(*batch, *pre)``. Output: ``(*batch, *post)``, in the unit of the weight.

    Args:
        matrix: a SciPy sparse matrix or a sparse torch tensor of shape ``(pre, post)``, bare or in a quantity; or index
            arrays ``(pre_index, post_index)``. A pair that occurs twice makes two synapses.
        size: ``(pre, post)``, sizes of the populations, each an int or a tuple; required with index arrays.
        weight: one for all synapses, one for each in the order given, or an initialiser; a number or a quantity in nS,
            pA or mV. By default the entries of the matrix.
        bias: one for each output, ``post``, one for all, or an initialiser, in the unit of the weight; True for zeros.
            It comes without delay.
        delay: one for each synapse in the order given, one for all, or an initialiser (ms). Drawn ones are rounded to
            steps of dt, unless they are interpolated: to the nearest, and to one step what is shorter but not zero.
        interpolation, max_delay, sigma, dt: as for `neurodyn.Delay`. With "gaussian" a synapse costs `max_delay` / dt
            times the work.
        learn: "weight", "bias", "delay" or several of them.
        generator: source of the random numbers of initialisers that have no generator of their own, on the CPU;
            torch's default one if not given.
        device, dtype: as in torch.nn; float32 or float64. Half and bfloat16 inputs, as under autocast, are computed in
            this dtype, and the output has theirs.

    `load_state_dict` takes synapses, weights and delays in the numbers that the file has, for populations of the same
    sizes, and checks them first: it loads all of them or none.

    Raises:
        ValueError: an index out of range, a matrix or a weight of the wrong shape, the meta device; given delays that
            are no multiples of dt, without interpolation.
        TypeError: no `size` or no weight with index arrays.
        pint.DimensionalityError: a weight in another unit.

    Example:
        >>> pre, post = [0, 0, 2], [1, 3, 1]
        >>> connection = nd.Sparse((pre, post), (3, 4), weight=[1.0, 2.0, 5.0] * u.nS)
        >>> connection(torch.tensor([1.0, 0.0, 0.5])).tolist()
        [0.0, 3.5, 0.0, 2.0]
    """

    __slots__ = ("_placed",)  # no attribute of the model: of which delays the indices tell
    elastic = ("indices", "weight")  # connections with other numbers of synapses run the same compiled program

    def __new__(cls, *args: Any, **values: Any) -> Self:
        if torch.device(values.get("device") or torch.get_default_device()).type == "meta":
            raise ValueError(
                f"{cls.__name__}: its size is the number of synapses, so it cannot be built on the meta device; "
                "build it on the CPU (with torch.device('cpu'): ...), and the rest of the network on meta"
            )
        return super().__new__(cls)

    def __init__(
        self,
        matrix: Any,
        size: tuple[Any, Any] | None = None,
        *,
        weight: Any = None,
        bias: Any = None,
        delay: Any = None,
        interpolation: Interpolation = "none",
        max_delay: Any = None,
        sigma: Any = None,
        dt: Any = None,
        learn: str | Iterable[str] = (),
        generator: torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
        **misspelt: Unpack[Misspelt],
    ):
        super().__init__()
        refuse_misspelt(misspelt, type(self).__name__, type(self))
        self.indptr: Tensor
        self.indices: Tensor
        event.prepare()
        learn = (learn,) if isinstance(learn, (str, bool)) or learn is None else tuple(learn)
        bias = None if bias is False else bias
        given = {"weight": True, "bias": bias is not None, "delay": delay is not None}
        for word in learn:
            if not given.get(word):
                wanted = "'weight', and 'bias' and 'delay' if given"
                raise TypeError(f"{type(self).__name__}: learn takes {wanted}; got {word!r}")
        size = getattr(getattr(matrix, "magnitude", matrix), "shape", None) if size is None else size
        if size is None:
            raise TypeError(f"{type(self).__name__}: index arrays need size=(pre, post)")
        self.in_size, self.out_size = as_sizes(size, type(self).__name__)
        csr = matrix if isinstance(matrix, CSR) else self._sorted(matrix)
        self.register_buffer("indptr", csr.indptr.to(device))
        self.register_buffer("indices", csr.indices.to(device))
        dtype = dtype or torch.get_default_dtype()
        weight = self._ordered(csr.entries if weight is None else weight, csr.order, "weight")
        n, label = len(self.indices), self._label()
        weight = evaluated(weight, (n,), generator, f"{label}: weight")
        self._set_weight(weight, "weight" in learn, device, dtype)
        bias = evaluated(bias, self.out_size, generator, f"{label}: bias")
        self._set_bias(bias, "bias" in learn, device, dtype)
        self.delays: SynapticDelays | None = None
        if delay is not None:
            factory = {"learn": "delay" if "delay" in learn else (), "device": device, "dtype": dtype}
            value = evaluated(self._ordered(delay, csr.order, "delay"), (n,), generator, f"{label}: delay")
            self.delays = SynapticDelays(n, delay=value, **factory)
            bounds = interpolation, max_delay, sigma, is_initialiser(delay)
            self._set_delays(bounds, dt, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.settle()
            try:
                return self._forward(x)
            except ValueError as error:  # of an operator, which does not know for whom it works
                if not str(error).startswith("event_"):
                    raise
                raise ValueError(f"{self._label()}: {str(error).splitlines()[0]}") from None
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        dtype, n = x.dtype, math.prod(self.out_size)
        x = self._checked(x)
        if self.delays is None:
            y = event.matmul(x, self.weight, self.indptr, self.indices, n)
        else:
            y = self.arrivals(x, self.weight, self.indptr, self.indices, self.delays)
        y = self._output(y)
        return y.to(dtype) if dtype in restored.LOW else y

    def _output(self, y: Tensor) -> Tensor:
        """Outputs in their shape, with the bias."""
        y = y.unflatten(-1, self.out_size) if len(self.out_size) > 1 else y
        if self.bias is None:
            return y
        if tuple(self.bias.shape) != self.out_size:
            got = tuple(self.bias.shape)
            raise ValueError(f"{self._label()}: bias has shape {got}, wanted {self.out_size}; assign one of that shape")
        return y + self.bias

    @property
    def delay(self) -> Any:
        """The delays of the synapses, in the order of the weights; None without. May be set if some were given."""
        return None if self.delays is None else self.delays.delay

    @delay.setter
    def delay(self, value: Any) -> None:
        if self.delays is None:
            raise TypeError(
                f"{self._label()} was built without delays, of which it has no memory; build it with delay="
            )
        self.delays.delay = value

    def settle(self) -> None:
        """Let indices and memory follow the delays, if these or the indices are others than last time.

        Raises:
            ValueError: delays that cannot be used, see `neurodyn.Delay`, or not as many as synapses.
        """
        if self.delays is None or torch.compiler.is_compiling():
            return
        self.delays.settle()
        if type(self.indices) is not Tensor or self.indices.is_meta or not hasattr(self.delays, "seen"):
            return
        placed = getattr(self, "_placed", None)
        if placed is None or placed[0] is not self.delays.seen or placed[1] is not self.indices:
            restored.place(self)
            self._placed = self.delays.seen, self.indices

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        try:
            known = restored.fitting(self, state_dict, prefix)
        except (ValueError, TypeError) as error:
            rest[-1].append(f"{self._label()}: {error}")
            known = {key: value for key, value in state_dict.items() if not key.startswith(prefix)}
            state_dict.clear()  # neither for the delays
            state_dict.update(known)
            return
        if hasattr(self, "_placed"):
            del self._placed  # all is placed anew when the delays are loaded, too
        super()._load_from_state_dict(known, prefix, *rest)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "indices" and hasattr(self, "_placed") and self.indices is not self._placed[1]:
            self.settle()

    def read(self) -> Tensor:
        """The output of the coming step, of a connection with delays of at least dt.

        Raises:
            TypeError: a connection without delays.
            ValueError: a delay shorter than dt.
            UnsetState: before `nd.reset_states`.
        """
        if self.delays is None:
            raise TypeError(f"{self._label()} has no delays, so its output needs the input of the same step")
        self.settle()
        self.delays.check_readable(self.arrivals.dt)
        if not self.arrivals.is_set:
            raise UnsetState(f"{self._label()} has no state yet; call nd.reset_states(net, *batch) first")
        return self._output(self.arrivals.read())

    @property
    def pre_index(self) -> Tensor:
        """The input of each synapse, in the order in which weights and delays are stored."""
        return torch.repeat_interleave(self.indptr.diff())

    @property
    def post_index(self) -> Tensor:
        """The output of each synapse, in the same order."""
        return self.indices % math.prod(self.out_size)

    def _checked(self, x: Tensor) -> Tensor:
        k, shape = len(self.in_size), tuple(x.shape)
        if shape[len(shape) - k :] != self.in_size or len(shape) < k:
            wanted = ", ".join(["*batch", *map(str, self.in_size)])
            raise ValueError(f"{self._label()}: the input has shape {shape}, wanted ({wanted})")
        if x.dtype == torch.bool or (x.dtype in restored.LOW and self.weight.dtype not in restored.LOW):
            x = x.to(self.weight.dtype)
        if x.dtype != self.weight.dtype:
            raise TypeError(f"{self._label()}: the input is {x.dtype} and the weight {self.weight.dtype}; convert one")
        return x.flatten(-k) if k > 1 else x

    def _sorted(self, matrix: Any) -> CSR:
        shape = math.prod(self.in_size), math.prod(self.out_size)
        if not isinstance(matrix, (tuple, list)):
            return from_matrix(matrix, shape, self._label())
        if len(matrix) != 2:
            raise TypeError(f"{self._label()}: wanted (pre_index, post_index), got {len(matrix)} arrays")
        return from_pairs(matrix[0], matrix[1], shape, self._label())

    def _ordered(self, value: Any, order: Tensor | None, name: str) -> Any:
        """`value`, if it has one element for each synapse, in the order of the CSR form."""
        magnitude = getattr(value, "magnitude", value)
        magnitude = torch.tensor(magnitude, dtype=torch.float64) if isinstance(magnitude, (list, tuple)) else magnitude
        if order is None or not len(getattr(magnitude, "shape", ())):
            return value
        if len(magnitude) != len(order):
            raise ValueError(f"{self._label()}: {name} has {len(magnitude)} values for {len(order)} synapses")
        if isinstance(magnitude, nn.Parameter):
            raise ValueError(
                f"{self._label()}: {name} is an nn.Parameter, used as it is, so give the synapses sorted by pre index"
            )
        return u.quantity(torch.as_tensor(magnitude)[order], getattr(value, "units", "dimensionless"))

    def _set_weight(self, value: Any, learned: bool, device: Any, dtype: torch.dtype) -> None:
        label, n = f"{self._label()}: weight", len(self.indices)
        if value is None:
            raise TypeError(f"{label} is required, for example weight=0.6 * u.nS")
        got = getattr(value, "units", u.registry.dimensionless)
        allowed = [u.registry.Unit(name) for name in UNITS]
        found = [unit for unit in allowed if unit.dimensionality == got.dimensionality]
        if not found:
            message = f": {label} is a number, or in nS, pA or mV; got {value}"
            raise pint.DimensionalityError(got, allowed[1], extra_msg=message)
        self.unit = found[0]
        with telling_of_strength(value, (n,)):
            weight = check(value, self.unit, (n,), label, device, dtype)
        if weight.dim() and len(weight) != n:
            raise ValueError(f"{label} has {len(weight)} values for {n} synapses")
        if isinstance(weight, nn.Parameter) or not learned:
            (self.register_parameter if isinstance(weight, nn.Parameter) else self.register_buffer)("weight", weight)  # type: ignore[arg-type]
        else:
            self.weight = nn.Parameter(weight)

    def _set_bias(self, value: Any, learned: bool, device: Any, dtype: torch.dtype) -> None:
        if value is None:
            self.bias: Tensor | None = None
            return
        value = u.quantity(0.0, self.unit) if value is True else value
        bias = check(value, self.unit, self.out_size, f"{self._label()}: bias", device, dtype)
        if not isinstance(bias, nn.Parameter):
            bias = bias.expand(self.out_size).clone()
            bias = nn.Parameter(bias) if learned else bias
        elif tuple(bias.shape) != self.out_size:
            raise ValueError(f"{self._label()}: bias must have shape {self.out_size}, got {tuple(bias.shape)}")
        (self.register_parameter if isinstance(bias, nn.Parameter) else self.register_buffer)("bias", bias)  # type: ignore[arg-type]

    def _set_delays(
        self, bounds: tuple[Interpolation, Any, Any, bool], dt: Any, device: Any, dtype: torch.dtype
    ) -> None:
        assert self.delays is not None
        dt = get_default_dt() if dt is None else dt
        self.delays.set_bounds(float(u.to_canonical(dt)), *bounds)
        self.arrivals = Arrivals(restored.size_of(self), dt=dt, device=device, dtype=dtype)
        self.register_load_state_dict_post_hook(restored.settle)
        self.settle()

    def _label(self) -> str:
        return f"{type(self).__name__}({', '.join('x'.join(map(str, size)) for size in (self.in_size, self.out_size))})"

    def extra_repr(self) -> str:
        """Sizes, number of synapses and weight."""
        learned = " (learned)" if isinstance(self.weight, nn.Parameter) else ""
        sizes = f"{self.in_size} -> {self.out_size}".replace(",)", ")")
        bias = "" if self.bias is None else f", bias={show(self.bias, self.unit)}"
        bias += " (learned)" if isinstance(self.bias, nn.Parameter) else ""
        return f"{sizes}, {len(self.indices)} synapses, weight={show(self.weight, self.unit)}{learned}{bias}"


def as_sizes(size: Any, label: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """``(pre, post)`` as two tuples."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise TypeError(f"{label}: size must be (pre, post), got {size!r}")
    return as_size(size[0], label), as_size(size[1], label)
