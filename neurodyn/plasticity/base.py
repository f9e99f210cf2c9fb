"""`Plasticity`: the base of rules by which the weights of a connection change with what passes it."""

from __future__ import annotations

import copy
import inspect
import math
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from torch.func import functional_call

from .. import units as u
from ..core.dynamics import Dynamics, UnsetState
from ..core.fields import Keyword, State, check, keyword, state
from ..core.loading import take_shape
from ..core.order import check_order
from ..ops import event
from ..ops.add_pairs import add_pairs, softly
from .axons import Axons
from .synapses import Synapses, kind_of, mean_over_batch

Weights = Literal["lasting", "restarting", "each"]


class Plasticity(Dynamics):
    r"""Base of the rules: a connection whose weights are a state.

    In each step ``y = rule(pre)`` sends the presynaptic spikes through the connection with the weights of now, and then
    ``rule.learn(post)`` changes these by the postsynaptic spikes of the same step. ``rule(pre, post)`` does both, where
    the postsynaptic spikes are known. A step in which `learn` is not called changes nothing but is lost for traces.

    A rule of one's own declares traces as states, of the size of one side or of the synapses, and defines
    ``change(pre, post, weight, *traces) -> (weight, *traces)``, a pure function like `Dynamics.step`:

        >>> class Hebb(nd.Plasticity):
        ...     rate = nd.param(0.1)
        ...     tau = nd.param(20 * u.ms, domain=nd.positive)
        ...     x = nd.state(0.0, shape="pre_size")
        ...
        ...     def change(self, pre, post, weight, x):
        ...         x = nd.relax(x, 0.0, self.tau, self.dt) + pre
        ...         return self.add_pairs(weight, post, self.rate * x), x
        >>> hebb = Hebb(nd.OneToOne(2, weight=[0.5, 0.5]), w_max=1.0)
        >>> _ = hebb(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]))
        >>> hebb.weight
        tensor([0.5000, 0.6000])

    Further arguments of `change` are keywords of `learn`, such as a reward. Shapes for states: ``"pre_size"``,
    ``"size"`` (postsynaptic) and ``"synapses"``. Where samples of a batch share the weights, changes are their mean.

    Input: ``(*batch, *pre)``. Output: ``(*batch, *post)``, in the unit of the weight.

    Args:
        connection: ``nn.Linear``, `MaskedLinear`, `AllToAll`, `OneToOne`, `FixedProb`, `FixedNum` or `Sparse`. A single
            weight for all becomes one for each synapse. With delays of its own, in whole steps, a spike counts when it
            arrives at its synapse, and is sent on with the weight of then, as in Brian2.
        w_max: the bound of the weights, in their unit, which lie between 0 and `w_max`; negative for negative weights.
            None for no bound, where the rule needs none.
        weights: "lasting", shared by the batch; what is learned stays when states are reset, and ``state_dict`` holds
            it. ``connection.weight`` is where it began, and is trained by no gradient from now on. "restarting",
            shared, and each reset begins at ``connection.weight`` again, which a gradient may train through the rule.
            "each", like that, with weights of its own for each sample. Other lasting states of a rule, as a measured
            rate, go with the weights: shared and restarting, or one for each sample.
        values: parameters, ``learn`` and ``dt``, see `Dynamics`; one value for all synapses.

    Raises:
        TypeError: a connection whose weights cannot be changed, or no bound for a rule that needs one.
        ValueError: weights outside 0 to `w_max`, a parameter with several values, spikes of the wrong shape.
        pint.DimensionalityError: a bound in another unit than the weight.
    """

    may_have_batch = False

    needs_bound = False  # whether there is no rule without `w_max`
    w_max: Any  # a tensor, or None
    weight: State = state("initial_weight", shape="synapses", lasting=True)
    arrived: State = state(default=0.0, alias="arrived_initializer", shape="pre_size")

    if TYPE_CHECKING:
        size: Keyword[Any, tuple[int, ...]] = keyword(init=False)
        connection: nn.Module = keyword(kw_only=False)
        w_max: Any = keyword(default=None)
        weights: Weights = "lasting"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_order(cls, "change", [name for name in cls.states if name != "arrived"], 2)

    def __init__(self, connection: nn.Module, *, w_max: Any = None, weights: Weights = "lasting", **values: Any):
        name = type(self).__name__
        kind_of(connection, name)
        if weights not in ("lasting", "restarting", "each"):
            raise ValueError(f"{name}: weights must be 'lasting', 'restarting' or 'each', got {weights!r}")
        if weights != "lasting":
            vars(self)["states"] = {key: _with_weights(state, weights) for key, state in self.states.items()}
        like: Any = connection.weight
        layout = vars(self)["layout"] = Synapses(connection, name)  # which the shapes of states are taken from
        super().__init__(layout.post, dtype=like.dtype, device=like.device, **values)
        self.weights, self.layout, self.connection = weights, layout, connection
        taken = inspect.signature(self.change).parameters.values()
        self._needed = tuple(p.name for p in taken if p.kind is p.KEYWORD_ONLY and p.default is p.empty)
        for key in self.params:
            if getattr(self, key).numel() != 1:
                raise ValueError(f"{self._label()}: {key} has {getattr(self, key).numel()} values, wanted one for all")
        self._set_bound(w_max)
        if layout.axons is not None and layout.axons.dt != self.dt:
            raise ValueError(
                f"{self._label()} has dt={self.dt:g} ms and the delays of its connection {layout.axons.dt:g} ms; "
                "build both with the same dt="
            )
        if weights == "lasting":
            if isinstance(like, nn.Parameter):
                del connection.weight
                connection.register_buffer("weight", like.detach())
            self._buffers["weight"] = self.initial_weight.clone()
        self.register_load_state_dict_post_hook(_follow)

    def change(self, pre: Tensor, post: Tensor, *states: Tensor, **signals: Any) -> Any:
        """The rule: ``(pre, post, weight, *traces) -> (weight, *traces)``, a pure function."""
        raise NotImplementedError(f"{type(self).__name__} defines no change()")

    def forward(self, input: Tensor, post: Tensor | None = None, **signals: Any) -> Tensor:
        self.settle()
        output = super().forward(input if self.layout.axons is None else self._arriving(self.layout.axons, input))
        if post is not None:
            self.learn(post, **signals)
        elif signals:
            raise TypeError(f"{self._label()}: {', '.join(signals)} without post; call learn(post, ...)")
        return output

    def step(self, x: Tensor, weight: Tensor, arrived: Tensor, *traces: Tensor) -> tuple[Tensor, ...]:
        return self.sent(x, weight), weight, x, *traces

    def _arriving(self, axons: Axons, input: Tensor) -> Tensor:
        """The spikes that arrive in this step at the synapses of a connection with delays of its own."""
        unused: Any = self.connection.arrivals  # what the connection itself would remember
        if not unused.is_set:
            unused.reset_state(*axons.batch_of(input))
        return axons(input)

    def learn(self, post: Tensor, **signals: Any) -> None:
        """Change the weights by the postsynaptic spikes ``(*batch, *post)`` of this step, and what the rule takes else.

        Raises:
            UnsetState: before the first presynaptic spikes.
            ValueError: spikes of another shape.
            TypeError: without something else that the rule takes, such as a reward, or with a quantity for it.
        """
        if not self.is_set:
            raise UnsetState(f"{self._label()}: learn() comes after the presynaptic spikes of a step; call rule(pre)")
        if missing := [name for name in self._needed if name not in signals]:
            given = "".join(f", {name}=..." for name in self._needed)
            raise TypeError(f"{self._label()}: learn: {', '.join(missing)} is missing; call learn(post{given})")
        self._refuse_quantities(signals)
        wanted = (*self.batch, *self.size)
        if tuple(post.shape) != wanted:
            raise ValueError(f"{self._label()}: learn: post has shape {tuple(post.shape)}, wanted {wanted}")
        self._stepped(self._changed, post.to(self._buffers["arrived"].dtype), **signals)  # type: ignore[union-attr]

    def _changed(self, post: Tensor, weight: Tensor, arrived: Tensor, *traces: Tensor, **signals: Any) -> Any:
        found = self.change(arrived, post, weight, *traces, **signals)
        found = found if isinstance(found, tuple) else (found,)
        _, new = self._checked((post, found[0], arrived, *found[1:]), (weight, arrived, *traces))
        new = [value.clone() if value is post else value for value in new]
        return post, *[value.to(old.dtype) for value, old in zip(new, (weight, arrived, *traces), strict=True)]

    def read(self) -> Tensor:
        """The output of the coming step, of a connection with delays of its own of at least dt.

        Raises:
            TypeError: a connection without delays.
            ValueError: a delay shorter than dt.
            UnsetState: before `nd.reset_states`.
        """
        self.settle()
        axons = self.layout.axons
        if axons is None:
            raise TypeError(f"{self._label()} has no delays, so its output needs the input of the same step")
        if not (self.is_set and axons.is_set):
            raise UnsetState(f"{self._label()} has no state yet; call nd.reset_states(net, *batch) first")
        return self.sent(axons.coming(), self._buffers["weight"])  # type: ignore[arg-type]

    def batch_of(self, input: Any) -> tuple[int, ...]:
        return super().batch_of(input) if self.layout.axons is None else tuple(input.shape[:-1])

    def settle(self) -> None:
        """Follow the synapses of the connection, if they have been assigned or edited since the last time."""
        self.layout.refresh(self.connection)

    def sent(self, x: Tensor, weight: Tensor) -> Tensor:
        """The output of the connection with these weights."""
        if self.weights != "each" and self.layout.axons is not None:
            indptr, indices, *_ = self.layout.matrix
            return self.connection._output(event.matmul(x, weight, indptr, indices, math.prod(self.size)))  # type: ignore[operator]
        if self.weights != "each":
            return functional_call(self.connection, {"weight": weight}, (x,))
        mask = getattr(self.connection, "mask", None)
        weight = weight if mask is None else weight * mask
        y = self.layout.incoming(weight * self.layout.of_pre(x))
        return y if self.connection.bias is None else y + self.connection.bias  # type: ignore[operator]

    def add_pairs(self, weight: Tensor, post: Tensor, pre: Tensor, *, room: float = 0.0, share: float = 0.0) -> Tensor:
        r"""$w + (1 - z)^{room} z^{share}\, y\, x$ at each synapse, bounded; $z = w / w_{max}$.

        y and x are values of both sides, one of them usually with few that are not 0, as spikes. On a sparse connection
        whose weights are shared only the synapses of these are visited, and other weights stay as they are (on the CPU;
        elsewhere, and with other connections, all are computed).
        """
        sparse = self.layout.kind == "pairs" and self.weights != "each" and weight.device.type == "cpu"
        if sparse:
            post, pre = self.layout.flat(post, self.layout.post), self.layout.flat(pre, self.layout.pre)
            return add_pairs(weight, post, pre, self.layout.matrix, self.w_max, room, share)
        return self.bounded(weight + softly(self.outer(post, pre), weight, self.w_max, room, share))

    def outer(self, post: Tensor, pre: Tensor) -> Tensor:
        """The product of the values of both sides at each synapse; for shared weights the mean over the batch."""
        return self.mean(self.pairs(post, pre)) if self.weights == "each" else self.layout.outer(post, pre)

    def pairs(self, post: Tensor, pre: Tensor) -> Tensor:
        """The same for each sample, ``(*batch, *synapses)``."""
        return self.layout.real(self.layout.of_post(post) * self.layout.of_pre(pre))

    def mean(self, values: Tensor, size: tuple[int, ...] | None = None) -> Tensor:
        """Values ``(*batch, *size)``, of synapses if not given, as a change: their mean if the weights are shared."""
        return values if self.weights == "each" else mean_over_batch(values, self.synapses if size is None else size)

    def bounded(self, weight: Tensor) -> Tensor:
        """Between 0 and the bound."""
        if self.w_max is None:
            return weight
        return weight.clamp(min=0.0).minimum(self.w_max) if self._up else weight.clamp(max=0.0).maximum(self.w_max)

    def _check_signs(self) -> None:
        """Refuse a negative A_minus beside a positive A_plus, with which both orders of spikes strengthen a synapse.

        Raises:
            ValueError: with the convention of the signs.
        """
        up, down = (float(getattr(self, name).detach()) for name in ("A_plus", "A_minus"))
        if down < 0 < up:
            raise ValueError(
                f"{self._label()}: A_minus={down:g} with A_plus={up:g} strengthens a synapse in both orders of spikes. "
                "A_minus is subtracted: positive amplitudes strengthen it if its input spikes first and weaken it "
                f"otherwise, so a rule whose second amplitude is negative, as in Brian2, has A_minus={-down:g} here"
            )

    @property
    def pre_size(self) -> tuple[int, ...]:
        """Shape of the presynaptic side; with delays of the synapses, one for each run of equal ones in a row."""
        return self.layout.pre

    @property
    def input_size(self) -> tuple[int, ...]:
        return self.layout.inputs

    @property
    def synapses(self) -> tuple[int, ...]:
        """Shape of one value for each synapse."""
        return self.layout.size

    @property
    def unit(self) -> Any:
        """That of the weight."""
        return getattr(self.connection, "unit", u.registry.dimensionless)

    def state_unit(self, name: str) -> Any:
        return self.unit if name == "weight" else super().state_unit(name)

    @property
    def initial_weight(self) -> Tensor:
        """The connection's own weights, one for each synapse."""
        return self.connection.weight.expand(self.synapses)  # type: ignore[operator]

    def _set_bound(self, w_max: Any) -> None:
        weight = self.initial_weight.detach()
        if w_max is None:
            if self.needs_bound:
                example = f"{2 * float(weight.abs().max()) if weight.numel() else 1:.3g}"
                example += "" if self.unit.dimensionless else f" * u.{self.unit:~}"
                raise TypeError(f"{self._label()}: w_max is required, the bound of the weights: w_max={example}")
            self.register_buffer("w_max", None)
            return
        bound = check(w_max, self.unit, (), f"{self._label()}: w_max", weight.device, weight.dtype)
        if float(bound) == 0:
            raise ValueError(f"{self._label()}: w_max must not be 0")
        self._up = bool(bound > 0)
        self.register_buffer("w_max", bound)
        share = self.layout.real(weight) / bound
        if weight.numel() and not bool(((share >= 0) & (share <= 1 + 1e-6)).all()):
            low, high = (f"{float(x):g}" for x in self.layout.real(weight).aminmax())
            raise ValueError(
                f"{self._label()}: the weights lie from {low} to {high}, wanted 0 to w_max={float(bound):g}; "
                "weights have the sign of w_max and lie within it, such as nd.init.Uniform"
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        take_shape(self, "weight", state_dict.get(f"{prefix}weight"))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _with_weights(state: State, weights: Weights) -> State:
    """A state that lasts as the weights do, of a rule whose weights do not."""
    if not state.lasting:
        return state
    state = copy.copy(state)
    state.lasting, state.shared = False, weights == "restarting"
    return state


def _follow(rule: nn.Module, _keys: Any) -> None:
    """After loading: the synapses may be others. A function of a module, so that copies and pickles have it."""
    rule.layout.follow(rule.connection)  # type: ignore[operator, union-attr]
