r"""Rate cells as `Dynamics`: they keep their state and run with `unroll`, which the cells of torch.nn cannot.

Which of brainstate's cells is which:

=================  ====================================================================================================
brainstate cell    here
=================  ====================================================================================================
``ValinaRNNCell``  `RNNCell` with ``activation=torch.relu``: split W into weight_ih and weight_hh, one bias zero
``LSTMCell``       `LSTMCell`: reorder the gates i, g, f, o to i, f, g, o, and add 1 to the bias of f
``GRUCell``        `GRUCell`; ``torch.nn.GRUCell`` is another equation (1 - z for z, and r after the matrix)
``MGUCell``        `MGUCell`
``URLSTMCell``     `URLSTMCell`
=================  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.dynamics import Dynamics
from ..core.fields import State, state

Activation = Callable[[Tensor], Tensor]


class CellKeywords(TypedDict, total=False):
    """For type checkers: the keywords of a cell with the state h."""

    activation: Activation
    h_initializer: Any
    dt: Any
    learn: str | Iterable[str]
    device: Any
    dtype: torch.dtype | None


class GatedKeywords(CellKeywords, total=False):
    """Those of a cell with the states h and c."""

    c_initializer: Any


class RateCell(Dynamics):
    """Base of the cells: weights act on x and h joined, and the output is h.

    Args:
        input_size, hidden_size: sizes of x and h.
        activation: function of the candidate state.
        values: further keywords of `Dynamics`: ``dt``, ``device``, ``dtype``, ``h_initializer``.
    """

    may_have_batch = False

    h: State = state(default=0.0, alias="h_initializer")

    def __init__(self, input_size: int, hidden_size: int, *, activation: Activation = torch.tanh, **values: Any):
        super().__init__(hidden_size, **values)
        if not callable(activation):
            raise TypeError(f"{self._label()}: activation must be a function such as torch.tanh, got {activation!r}")
        self.features, self.activation = input_size, activation
        self._factory = {"device": values.get("device"), "dtype": values.get("dtype")}

    @property
    def input_size(self) -> tuple[int, ...]:
        return (self.features,)

    def gates(self, count: int, *, bias: bool = True) -> nn.Linear:
        """A map from x and h joined to `count` gates, orthogonal at the start and with zero biases."""
        linear = nn.Linear(self.features + self.size[0], count * self.size[0], bias=bias, **self._factory)
        nn.init.orthogonal_(linear.weight)
        if bias:
            nn.init.zeros_(linear.bias)
        return linear


class TorchCell(RateCell):
    """Base of the cells that torch.nn has too: with the names, shapes and initial values of its weights.

    Args:
        input_size, hidden_size, activation, values: see `RateCell`.
        bias: whether there are ``bias_ih`` and ``bias_hh``.
    """

    gate_count = 1
    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias_ih: nn.Parameter | None
    bias_hh: nn.Parameter | None

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True, **values: Unpack[GatedKeywords]):
        super().__init__(input_size, hidden_size, **values)
        n, rows = self.size[0], self.gate_count * self.size[0]
        shapes = {"weight_ih": (rows, input_size), "weight_hh": (rows, n), "bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in shapes.items():  # in torch's order, so that the same seed gives the same numbers
            drawn = bias or name.startswith("weight")
            value = torch.empty(shape, **self._factory).uniform_(-(n**-0.5), n**-0.5) if drawn else None
            self.register_parameter(name, None if value is None else nn.Parameter(value))

    def sums(self, x: Tensor, h: Tensor) -> Tensor:
        """What goes into the gates."""
        return F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Also what torch's cell of the same name has saved, where no initial states are; they stay as they are."""
        own = {f"{prefix}{name}": value for name, value in self._buffers.items() if name in self.params}
        if f"{prefix}weight_ih" in state_dict and not any(key in state_dict for key in own):
            state_dict = state_dict | own
        super()._load_from_state_dict(state_dict, prefix, *rest)


class RNNCell(TorchCell):
    r"""The plain recurrent cell: $h \gets act(W_{ih} x + b_{ih} + W_{hh} h + b_{hh})$.

    It is ``torch.nn.RNNCell``, the same numbers from the same weights, and takes its ``state_dict``.

    Input: ``(*batch, input_size)``. Output: h, ``(*batch, hidden_size)``. Parameters: ``weight_ih``, ``weight_hh``,
    ``bias_ih``, ``bias_hh``.

    Example:
        >>> theirs = torch.nn.RNNCell(4, 5)
        >>> cell = nd.RNNCell(4, 5)
        >>> cell.load_state_dict(theirs.state_dict())
        <All keys matched successfully>
        >>> x = torch.randn(3, 4)
        >>> torch.allclose(cell(x), theirs(x))
        True

    Source: Elman (1990), Finding structure in time, Cognitive Science 14.
    """

    if TYPE_CHECKING:
        __init__ = TorchCell.__init__

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.activation(self.sums(x, h))
        return h, h


class LSTMCell(TorchCell):
    r"""Long short-term memory: $c \gets \sigma(f)\,c + \sigma(i)\,act(g)$, $h = \sigma(o)\,act(c)$.

    $(i, f, g, o) = W_{ih} x + b_{ih} + W_{hh} h + b_{hh}$. It is ``torch.nn.LSTMCell``, the same numbers from the same
    weights, and takes its ``state_dict``.

    Input: ``(*batch, input_size)``. Output: h, ``(*batch, hidden_size)``. States: h and c. Parameters: ``weight_ih``,
    ``weight_hh``, ``bias_ih``, ``bias_hh``, with the gates in the order i, f, g, o. Keywords: see `TorchCell`, and
    ``c_initializer``.

    Example:
        >>> nd.unroll(nd.LSTMCell(4, 5), torch.randn(10, 3, 4), compile=False).shape
        torch.Size([10, 3, 5])

    Source: Hochreiter and Schmidhuber (1997), Long short-term memory, Neural Computation 9, with the forget gate of
    Gers, Schmidhuber and Cummins (2000), Learning to forget, Neural Computation 12.
    """

    if TYPE_CHECKING:
        __init__ = TorchCell.__init__

    gate_count = 4
    c: State = state(default=0.0, alias="c_initializer")

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        i, f, g, o = self.sums(x, h).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * self.activation(g)
        h = torch.sigmoid(o) * self.activation(c)
        return h, h, c


class GRUCell(RateCell):
    r"""Gated recurrent unit: $h \gets (1 - z)\,h + z\,n$ with $n = act(W_h [x, r h])$.

    $(r, z) = \sigma(W_{rz} [x, h])$. Input: ``(*batch, input_size)``. Output: h, ``(*batch, hidden_size)``.
    Parameters: ``Wrz`` and ``Wh``, each an ``nn.Linear``.

    Example:
        >>> nd.unroll(nd.GRUCell(4, 5), torch.randn(10, 3, 4), compile=False).shape
        torch.Size([10, 3, 5])

    Source: Cho et al. (2014), Learning phrase representations using RNN encoder-decoder, EMNLP.
    """

    def __init__(self, input_size: int, hidden_size: int, **values: Unpack[CellKeywords]):
        super().__init__(input_size, hidden_size, **values)
        self.Wrz, self.Wh = self.gates(2), self.gates(1)

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        r, z = torch.sigmoid(self.Wrz(torch.cat([x, h], -1))).chunk(2, -1)
        n = self.activation(self.Wh(torch.cat([x, r * h], -1)))
        h = (1 - z) * h + z * n
        return h, h


class MGUCell(RateCell):
    r"""Minimal gated unit: $h \gets (1 - f)\,h + f\,n$ with $f = \sigma(W_f [x, h])$, $n = act(W_h [x, f h])$.

    Input: ``(*batch, input_size)``. Output: h, ``(*batch, hidden_size)``. Parameters: ``Wf`` and ``Wh``, each an
    ``nn.Linear``.

    Example:
        >>> cell = nd.MGUCell(4, 5)
        >>> nd.reset_states(cell, 3)
        >>> cell(torch.randn(3, 4)).shape
        torch.Size([3, 5])

    Source: Zhou, Wu, Zhang and Zhou (2016), Minimal gated unit for recurrent neural networks, IJAC 13.
    """

    def __init__(self, input_size: int, hidden_size: int, **values: Unpack[CellKeywords]):
        super().__init__(input_size, hidden_size, **values)
        self.Wf, self.Wh = self.gates(1), self.gates(1)

    def step(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        f = torch.sigmoid(self.Wf(torch.cat([x, h], -1)))
        n = self.activation(self.Wh(torch.cat([x, f * h], -1)))
        h = (1 - f) * h + f * n
        return h, h


class URLSTMCell(RateCell):
    r"""LSTM with a refined forget gate and its uniform initialisation.

    $(f, r, u, o) = W [x, h]$; $f \gets \sigma(f + \beta)$, $r \gets \sigma(r - \beta)$;
    $g = 2 r f + (1 - 2 r) f^2$; $c \gets g\,c + (1 - g)\,act(u)$; $h = \sigma(o)\,act(c)$.

    Input: ``(*batch, input_size)``. Output: h, ``(*batch, hidden_size)``. States: h and c. Parameters: ``W``, an
    ``nn.Linear`` without bias, and ``bias``, which is beta: at the start the logit of a uniform number between 1/n and
    1 - 1/n for n hidden units. Keywords: see `RateCell`, and ``c_initializer``.

    Example:
        >>> nd.unroll(nd.URLSTMCell(4, 5), torch.randn(10, 3, 4), compile=False).shape
        torch.Size([10, 3, 5])

    Source: Gu, Gulcehre, Paine, Hoffman and Pascanu (2020), Improving the gating mechanism of recurrent neural
    networks, ICML.
    """

    c: State = state(default=0.0, alias="c_initializer")

    def __init__(self, input_size: int, hidden_size: int, **values: Unpack[GatedKeywords]):
        super().__init__(input_size, hidden_size, **values)
        self.W = self.gates(4, bias=False)
        low = min(1 / hidden_size, 0.5)
        self.bias = nn.Parameter(torch.empty(hidden_size, **self._factory).uniform_(low, 1 - low).logit())

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f, r, u, o = self.W(torch.cat([x, h], -1)).chunk(4, -1)
        f, r = torch.sigmoid(f + self.bias), torch.sigmoid(r - self.bias)
        g = 2 * r * f + (1 - 2 * r) * f**2
        c = g * c + (1 - g) * self.activation(u)
        h = torch.sigmoid(o) * self.activation(c)
        return h, h, c
