"""The synapses of a connection, as a rule sees them: values of neurons taken to synapses, and back."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import units as u
from ..connections import AllToAll, MaskedLinear, OneToOne, Sparse
from ..ops.add_pairs import Matrix, prepare
from ..tools.versions import version_of
from .axons import Axons

Kind = Literal["dense", "diagonal", "pairs"]

_DENSE = (nn.Linear, MaskedLinear, AllToAll)


def kind_of(connection: Any, label: str) -> Kind:
    """How the weights of `connection` are laid out.

    Raises:
        TypeError: a connection whose weights a rule cannot change.
    """
    if isinstance(connection, Sparse):
        if connection.delays is not None and not connection.delays.whole:
            raise TypeError(
                f"{label}: {connection._label()} has delays between two steps, or that are learned, and a rule changes "
                "weights at the step in which a spike arrives; leave out interpolation= and learn='delay'"
            )
        return "pairs"
    if type(connection) is OneToOne:
        return "diagonal"
    if type(connection) in _DENSE:
        return "dense"
    raise TypeError(
        f"{label}: the connection is {type(connection).__name__}, which has no weight for each synapse that a rule "
        "could change; wanted nn.Linear, nd.MaskedLinear, nd.AllToAll, nd.OneToOne, nd.FixedProb, nd.FixedNum or "
        "nd.Sparse"
    )


class Synapses(nn.Module):
    """The synapses of a connection: ``size`` is the shape of one value for each, ``pre`` and ``post`` are the sizes.

    ``(out, in)`` for a dense connection, ``(n,)`` for one-to-one, ``(synapses,)`` for a sparse one. It follows from the
    connection, so that it is no part of ``state_dict``.
    """

    axons: Axons | None  # to synapses with delays of their own, whose branches are then the inputs
    exists: Tensor | None
    pre_index: Tensor | None  # of each synapse; the others are those of `Matrix`
    given: Tensor | None  # the indices of the connection

    def __init__(self, connection: Any, label: str):
        super().__init__()
        self.kind: Kind = kind_of(connection, label)
        self.pre = self.inputs = _size(connection, "in")
        self.post = _size(connection, "out")
        for name in ("exists", "pre_index", "given", *Matrix._fields):
            self.register_buffer(name, None, persistent=False)
        self.axons = None
        if getattr(connection, "delays", None) is not None:
            like = connection.weight
            self.axons = Axons(connection, dt=connection.arrivals.dt * u.ms, device=like.device, dtype=like.dtype)
        self.follow(connection)

    def follow(self, connection: Any) -> None:
        """Take the synapses from a connection, as after loading."""
        n, m = math.prod(self.pre), math.prod(self.post)
        self.size: tuple[int, ...] = (m, n) if self.kind == "dense" else (n,)
        if isinstance(connection, MaskedLinear):
            self._buffers["exists"] = (connection.mask != 0).expand(self.size).to(connection.weight.dtype)
        if isinstance(connection, AllToAll) and not connection.include_self:
            self._buffers["exists"] = 1 - torch.eye(n, dtype=connection.weight.dtype, device=connection.weight.device)
        if isinstance(connection, Sparse):
            self.size = (len(connection.indices),)
            self.version = _version(connection)
            indptr, indices, pre_index = connection.indptr, connection.indices, connection.pre_index.to(torch.int32)
            if self.axons is not None:
                indptr, pre_index = self.axons.follow(connection)
                indices, self.pre = connection.post_index, self.axons.size
            matrix = Matrix.of(indptr, indices, m)
            self._buffers |= matrix._asdict() | {"pre_index": pre_index, "given": connection.indices}
            prepare()

    def refresh(self, connection: Any) -> None:
        """Follow a connection whose synapses have been assigned or edited since the last time."""
        if self.kind != "pairs" or torch.compiler.is_compiling() or type(connection.indices) is not Tensor:
            return
        if self.axons is not None:
            connection.settle()
        known = self.given is connection.indices and (self.axons is not None or self.indptr is connection.indptr)
        if not known or self.version != _version(connection):
            self.follow(connection)

    @property
    def matrix(self) -> Matrix:
        """A sparse connection by its inputs and by its outputs."""
        return Matrix(*[self._buffers[name] for name in Matrix._fields])  # type: ignore[arg-type]

    @property
    def post_index(self) -> Tensor | None:
        """The output of each synapse."""
        return self._buffers["indices"]

    def flat(self, values: Tensor, size: tuple[int, ...]) -> Tensor:
        """Values of neurons, ``(*batch, *size)``, in a row."""
        return values.flatten(-len(size)) if len(size) > 1 else values

    def of_pre(self, x: Tensor) -> Tensor:
        """Values of the inputs, ``(*batch, *pre)``, at their synapses; broadcasts to ``(*batch, *size)``."""
        x = self.flat(x, self.pre)
        if self.kind == "dense":
            return x.unsqueeze(-2)
        return x if self.pre_index is None else x.index_select(-1, self.pre_index)

    def of_post(self, y: Tensor) -> Tensor:
        """Values of the outputs, ``(*batch, *post)``, at their synapses; broadcasts to ``(*batch, *size)``."""
        y = self.flat(y, self.post)
        if self.kind == "dense":
            return y.unsqueeze(-1)
        return y if self.post_index is None else y.index_select(-1, self.post_index)

    def outer(self, y: Tensor, x: Tensor) -> Tensor:
        """y_j x_i for each synapse from i to j, the mean over the batch."""
        if self.kind != "dense":
            return self.mean(self.of_post(y) * self.of_pre(x))
        if x.dim() == len(self.pre):
            return self.real(y.flatten().unsqueeze(-1) * x.flatten())
        y, x = y.reshape(-1, *self.size[:1]), x.reshape(-1, *self.size[1:])
        return self.real(y.T @ x / x.shape[0])

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the batch of values ``(*batch, *size)``."""
        return mean_over_batch(values, self.size)

    def real(self, values: Tensor) -> Tensor:
        """`values`, with 0 where a dense matrix has no synapse."""
        return values if self.exists is None else values * self.exists

    def incoming(self, values: Tensor) -> Tensor:
        """The sum over the synapses onto each output, ``(*batch, *post)``."""
        if self.kind == "dense":
            found = self.real(values).sum(-1)
        elif self.post_index is None:
            found = values
        else:
            zeros = values.new_zeros((*values.shape[:-1], math.prod(self.post)))
            found = zeros.index_add(-1, self.post_index, values)
        return found.unflatten(-1, self.post) if len(self.post) > 1 else found


def _version(connection: Any) -> tuple[int, ...]:
    """Of the synapses, which torch counts up when it writes to them."""
    return tuple([version_of(t) for t in (connection.indptr, connection.indices)])


def mean_over_batch(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """The mean of values ``(*batch, *size)`` over the batch, if there is one."""
    lead = values.dim() - len(size)
    return values if lead == 0 else values.mean(tuple(range(lead)))


def _size(connection: Any, side: str) -> tuple[int, ...]:
    found = getattr(connection, f"{side}_size", None)
    return (getattr(connection, f"{side}_features"),) if found is None else found
