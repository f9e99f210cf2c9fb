"""Electrical synapses."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import units as u
from ..core.current import Current
from ..core.fields import as_size, check, show
from ..torch_private import is_fake
from .csr import from_matrix, from_pairs
from .sparse import Sparse


class GapJunction(nn.Module):
    r"""Gap junctions inside a population: $I_i = \sum_j g_{ij} (V_j - V_i) = -(L\,V)_i$ with the graph Laplacian L.

    The conductances are symmetric, so that what leaves one neuron enters the other. Inside the step of a neuron its own
    potential is a variable of the equation, and those of its neighbours are as they were before the step. This is of
    first order in dt and stable for every conductance, but where dt is longer than $C / \sum_j g_{ij}$, the potentials
    of two neighbours change places instead of meeting.

    Input: the potentials V in mV before the step, ``(*batch, *size)``. Output: a `Current` in pA, which adds to others
    with ``+``.

    Args:
        size: shape of the population.
        pairs: two rows of indices ``(i, j)``, each junction once; or a symmetric sparse matrix of conductances, of
            SciPy or torch, which is kept sparse; or a symmetric dense one, ``(n, n)``, which is kept dense. A matrix
            may carry the unit.
        conductance: one for all pairs, or one for each (nS).
        device, dtype: as in torch.nn.

    Raises:
        ValueError: conductances that are negative or not symmetric, a neuron joined to itself, an index out of range.
        TypeError: conductances without a unit.

    Example:
        >>> ring = torch.arange(4), (torch.arange(4) + 1) % 4
        >>> gap = nd.GapJunction(4, ring, 0.5 * u.nS)
        >>> V = torch.tensor([-70.0, -60.0, -70.0, -70.0])
        >>> gap(V)(V).tolist()
        [5.0, -10.0, 5.0, 0.0]
        >>> neurons = nd.HH(4, dt=0.02 * u.ms)
        >>> neurons.reset_state()
        >>> spikes = neurons(torch.full((4,), 10.0) + gap(neurons.V))

    Source: Hahne et al. (2015), A unified framework for spiking and gap-junction interactions in distributed neuronal
    network simulations, Frontiers in Neuroinformatics 9.
    """

    matrix: Tensor | None
    total: Tensor

    def __init__(
        self,
        size: int | tuple[int, ...],
        pairs: Any,
        conductance: Any = None,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.size = as_size(size, type(self).__name__)
        dtype = dtype or torch.get_default_dtype()
        n = math.prod(self.size)
        magnitude = getattr(pairs, "magnitude", pairs)
        dense = getattr(magnitude, "ndim", 0) == 2 and not _is_sparse(magnitude)
        self.junctions: Sparse | None = None
        if dense:
            self._refuse(conductance)
            matrix = check(pairs, u.canonical_unit("nS"), (n, n), f"{self._label()}: pairs", device, dtype)
            if tuple(matrix.shape) != (n, n):
                raise ValueError(f"{self._label()}: the matrix has shape {tuple(matrix.shape)}, wanted {(n, n)}")
            i, j = matrix.nonzero(as_tuple=True)
            self._check(i, j, matrix[i, j], torch.equal(matrix, matrix.t()))
            self.register_buffer("matrix", matrix)
            self.register_buffer("total", matrix.sum(1))
            return
        self.register_buffer("matrix", None)
        if isinstance(magnitude, (tuple, list)):
            given = from_pairs(*_two(magnitude, self._label()), (n, n), self._label())
            i, j = torch.repeat_interleave(given.indptr.diff()), given.indices.long()
            g = check(conductance, u.canonical_unit("nS"), (len(i),), f"{self._label()}: conductance", "cpu", dtype)
            g = (g if g.dim() == 0 or given.order is None else g[given.order]).expand(len(i))
            i, j, g = torch.cat((i, j)), torch.cat((j, i)), torch.cat((g, g))
            self._check(i, j, g, True)
        else:
            self._refuse(conductance)
            given = from_matrix(pairs, (n, n), self._label())
            i, j = torch.repeat_interleave(given.indptr.diff()), given.indices.long()
            label = f"{self._label()}: pairs"
            g = check(given.entries, u.canonical_unit("nS"), (len(i),), label, "cpu", dtype)
            g = g if given.order is None else g[given.order]
            there, back = (_sparse(torch.stack(k), g, n) for k in ((i, j), (j, i)))
            same = torch.equal(there.indices(), back.indices()) and torch.equal(there.values(), back.values())
            self._check(i, j, g, same)
        self.junctions = Sparse((i, j), (n, n), weight=u.quantity(g, "nS"), device=device, dtype=dtype)
        self.register_buffer("total", torch.zeros(n, dtype=dtype).index_add_(0, i, g).to(device))

    def forward(self, V: Tensor) -> Current:
        shape, k = tuple(V.shape), len(self.size)
        if shape[len(shape) - k :] != self.size or len(shape) < k:
            wanted = ", ".join(["*batch", *map(str, self.size)])
            raise ValueError(f"{self._label()}: the potentials have shape {shape}, wanted ({wanted})")
        flat = V.flatten(-k) if k > 1 else V
        if self.junctions is not None:
            inward = self.junctions(flat)
        else:
            assert self.matrix is not None
            inward = flat @ self.matrix  # which is symmetric
        inward, total = inward.view(shape), self.total.view(self.size)
        return Current(lambda v: inward - total * v, inward)

    @property
    def laplacian(self) -> Tensor:
        r"""L in nS, ``(n, n)``: the sums of the rows on the diagonal, $-g_{ij}$ elsewhere; sparse (COO) if built so."""
        if self.junctions is None:
            assert self.matrix is not None
            return torch.diag(self.total) - self.matrix
        n = torch.arange(len(self.total), device=self.total.device)
        edges = torch.stack((self.junctions.pre_index, self.junctions.post_index.long()))
        index, values = torch.cat((torch.stack((n, n)), edges), 1), torch.cat((self.total, -self.junctions.weight))
        return _sparse(index, values, len(n))

    def _check(self, i: Tensor, j: Tensor, g: Tensor, symmetric: bool) -> None:
        if is_fake(g):
            return
        if bool((g < 0).any()):
            raise ValueError(f"{self._label()}: conductances must be zero or positive, got {show(g, u.registry.nS)}")
        if bool((i == j).any()):
            raise ValueError(
                f"{self._label()}: neuron {int(i[i == j][0])} is joined to itself, through which no current flows; "
                "leave it out"
            )
        if not symmetric:
            raise ValueError(
                f"{self._label()}: the matrix of conductances must be symmetric, as current flows both ways; "
                "for example (g + g.T) / 2"
            )

    def _refuse(self, conductance: Any) -> None:
        if conductance is not None:
            raise TypeError(f"{self._label()}: conductance goes with pairs of indices; a matrix holds its own")

    def _label(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.size))})"

    def extra_repr(self) -> str:
        """Size, number of junctions and the range of the total conductance of a neuron."""
        twice = len(self.junctions.indices) if self.junctions is not None else int((self.matrix != 0).sum())  # type: ignore[union-attr]
        kind = "sparse" if self.junctions is not None else "dense"
        sizes = ", ".join(map(str, self.size))
        return f"{sizes}, {twice // 2} junctions ({kind}), total={show(self.total, u.registry.nS)}"


def _is_sparse(matrix: Any) -> bool:
    return hasattr(matrix, "tocoo") or (isinstance(matrix, Tensor) and matrix.layout != torch.strided)


def _sparse(index: Tensor, values: Tensor, n: int) -> Tensor:
    return torch.sparse_coo_tensor(index, values, (n, n), check_invariants=False).coalesce()


def _two(pairs: Any, label: str) -> tuple[Any, Any]:
    if len(pairs) != 2:
        raise TypeError(f"{label}: wanted two rows of indices (i, j), got {len(pairs)}")
    return pairs[0], pairs[1]
