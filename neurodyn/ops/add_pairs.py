"""Weights of a sparse connection changed by pairs of values, as an operator that torch.compile takes as it is.

With synapse k from input $i_k$ to output $j_k$, for a batch of values x of the inputs and y of the outputs::

    w_k <- bounded(w_k + (1 - z_k)^room z_k^share mean(y_j x_i)),    z_k = w_k / bound

at the synapses of the non-zero elements of x or of y, whichever are the smaller part: the work goes with these, and all
other weights stay as they are. This is the whole change, if the weights lie between 0 and the bound.

The connection is given as in `event`, and by its outputs: ``order[columns[j]: columns[j + 1]]`` are the synapses onto
output j, and ``rows``, in the same order, their inputs. On the CPU the operator is C++, elsewhere plain torch, which
computes all synapses. Without a compiler, too.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..tools.user_warning import warn_user
from . import native
from .event import PlainTorchWarning, _InputGrad, _Matmul
from .event_plain import check_matrix
from .in_place import bounded, define, through_bounds

_ARGUMENTS = (
    "Tensor y, Tensor x, Tensor indptr, Tensor indices, Tensor columns, Tensor order, Tensor rows, Tensor? bound, "
    "float room, float share"
)
_ops = torch.ops.neurodyn


class Matrix(NamedTuple):
    """A connection by its inputs and by its outputs, in int32; see the module."""

    indptr: Tensor
    indices: Tensor
    columns: Tensor
    order: Tensor
    rows: Tensor

    @classmethod
    def of(cls, indptr: Tensor, indices: Tensor, n_out: int) -> Matrix:
        """That of a matrix in CSR form.

        Raises:
            ValueError: row starts or indices that make no such matrix.
        """
        check_matrix(indptr, indices, n_out, "event_add_pairs")
        order = torch.sort(indices, stable=True).indices
        ends = torch.bincount(indices, minlength=n_out).cumsum(0).to(torch.int32)
        rows = sources(indptr, indices)[order].to(torch.int32)
        return cls(indptr, indices, torch.cat((ends.new_zeros(1), ends)), order.to(torch.int32), rows)


def library() -> ctypes.CDLL:
    """The compiled operator.

    Raises:
        NotAvailable: with the reason.
    """
    return native.load(Path(__file__).with_suffix(".cpp"), "-ffp-contract=off")  # to round as torch does


@functools.cache
def prepare() -> bool:
    """Make the C++ operator available; returns whether it is. Warns once per process if it is not."""
    try:
        library()
    except native.NotAvailable as error:
        text = f"rules of plasticity on sparse connections run in plain torch, several times slower: {error}"
        warn_user(text, PlainTorchWarning)
        return False
    return True


def add_pairs(
    weight: Tensor, y: Tensor, x: Tensor, matrix: Matrix, bound: Tensor | None, room: float = 0.0, share: float = 0.0
) -> Tensor:
    """The new weights, one for each synapse; y is ``(*batch, n_out)``, x ``(*batch, n_in)``.

    Raises:
        ValueError: sizes that do not fit, or an index out of range, which the message names.
        TypeError: a dtype that does not fit.
    """
    return _AddPairs.apply(weight, y, x, *matrix, bound, room, share)


def plain(weight: Tensor, y: Tensor, x: Tensor, *rest: Any) -> Tensor:
    """The same in plain torch, for all synapses."""
    indptr, indices, *_, bound, room, share = rest
    if weight.device.type == "cpu":  # elsewhere the device refuses an index
        check_matrix(indptr, indices, y.shape[-1], "event_add_pairs")
    return bounded(weight + softly(mean_of_pairs(y, x, indptr, indices), weight, bound, room, share), bound)


define("event_add_pairs", _ARGUMENTS, plain)


def mean_of_pairs(y: Tensor, x: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    """The mean over the batch of y_j x_i for each synapse."""
    pairs = y.index_select(-1, indices) * x.index_select(-1, sources(indptr, indices))
    return pairs.mean(tuple(range(pairs.dim() - 1))) if pairs.dim() > 1 else pairs


def sources(indptr: Tensor, indices: Tensor) -> Tensor:
    """The input of each synapse; repeat_interleave would write anywhere for row starts that do not grow."""
    places = torch.arange(len(indices), dtype=indptr.dtype, device=indptr.device)
    return torch.searchsorted(indptr, places, right=True) - 1


def softly(change: Tensor, weight: Tensor, bound: Any, room: float, share: float) -> Tensor:
    r"""$(1 - z)^{room} z^{share}$ times `change`, with $z = w / bound$: less of it near a bound."""
    if room:
        change = power(1 - weight / bound, room) * change
    if share:
        change = power(weight / bound, share) * change
    return change


def power(z: Tensor, exponent: float) -> Tensor:
    r"""$z^{exponent}$, where z is not negative, and 0 else."""
    z = z.clamp(min=0)
    return z if exponent == 1 else z**exponent


class _AddPairs(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, y: Tensor, x: Tensor, *rest: Any) -> Tensor:
        return _ops.event_add_pairs(weight, y, x, *rest)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:9])
        ctx.powers = inputs[9:]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        weight, y, x, indptr, indices, *_, bound = ctx.saved_tensors
        room, share = ctx.powers
        pairs = mean_of_pairs(y, x, indptr, indices)
        factor, slope = torch.ones_like(weight), torch.zeros_like(weight)
        if room or share:
            z = weight / bound
            up, down = power(1 - z, room) if room else 1.0, power(z, share) if share else 1.0
            factor = factor * up * down
            slope = (share * power(z, share - 1) * up if share else 0.0) - (
                room * power(1 - z, room - 1) * down if room else 0.0
            )
            slope = slope / bound
        g = through_bounds(g, weight + factor * pairs, bound)
        of_pairs = g * factor / max(1, x[..., 0].numel())
        of_y = _Matmul.apply(x, of_pairs, indptr, indices, y.shape[-1]) if ctx.needs_input_grad[1] else None
        of_x = _InputGrad.apply(y, of_pairs, indptr, indices) if ctx.needs_input_grad[2] else None
        return g * (1 + slope * pairs), of_y, of_x, *8 * (None,)
