"""Who is connected to whom, in CSR form: int32 row starts and column indices, 4 bytes a synapse."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import units as u


class CSR(NamedTuple):
    """The synapses sorted by their input.

    Attributes:
        indptr: row i has the synapses ``indptr[i]`` to ``indptr[i + 1] - 1``.
        indices: the output that each synapse reaches.
        order: for each synapse its place in the order in which the caller gave them; None if that is the same.
        entries: the values of a matrix, in the caller's order.
    """

    indptr: Tensor
    indices: Tensor
    order: Tensor | None = None
    entries: Any = None


def from_counts(count: Tensor, indices: Tensor, order: Tensor | None = None, entries: Any = None) -> CSR:
    """CSR from the number of synapses of each row and the column of each."""
    if len(indices) >= 2**31:
        raise ValueError(f"{len(indices)} synapses in one connection; wanted fewer than 2**31; make several")
    indptr = torch.zeros(len(count) + 1, dtype=torch.int32)
    torch.cumsum(count, 0, out=indptr[1:])
    return CSR(indptr, indices.to(torch.int32), order, entries)


def from_pairs(pre: Any, post: Any, shape: tuple[int, int], label: str, entries: Any = None) -> CSR:
    """CSR from the indices of each synapse's input and output."""
    rows, columns = _index(pre, shape[0], f"{label}: pre index"), _index(post, shape[1], f"{label}: post index")
    if len(rows) != len(columns):
        raise ValueError(f"{label}: {len(rows)} pre indices and {len(columns)} post indices")
    order = None
    if bool((rows.diff() < 0).any()):
        rows, order = torch.sort(rows, stable=True)
        columns = columns[order]
    return from_counts(torch.bincount(rows, minlength=shape[0]), columns, order, entries)


def from_matrix(matrix: Any, shape: tuple[int, int] | None, label: str) -> CSR:
    """CSR from a SciPy or torch sparse matrix, which may carry a unit; its entries keep it."""
    unit = matrix.units if u.is_quantity(matrix) else None
    matrix = matrix.magnitude if u.is_quantity(matrix) else matrix
    if isinstance(matrix, Tensor) and matrix.layout in (torch.sparse_csr, torch.sparse_csc):
        matrix = matrix.to_sparse_coo()
    if isinstance(matrix, Tensor) and matrix.layout == torch.sparse_coo:
        matrix = matrix.detach().cpu()
        (pre, post), entries, found = matrix._indices(), matrix._values(), tuple(matrix.shape)
    elif hasattr(matrix, "tocoo"):
        matrix = matrix.tocoo()  # type: ignore[attr-defined]
        pre, post, entries, found = matrix.row, matrix.col, torch.as_tensor(matrix.data), tuple(matrix.shape)
    else:
        raise TypeError(
            f"{label}: wanted a SciPy sparse matrix, a sparse torch tensor or a pair (pre_index, post_index), "
            f"got {type(matrix).__name__}"
        )
    if shape is not None and found != shape:
        raise ValueError(f"{label}: the matrix has shape {found}, wanted {shape}, (pre, post)")
    return from_pairs(pre, post, found, label, entries if unit is None else u.quantity(entries, unit))


def _index(values: Any, n: int, label: str) -> Tensor:
    index = torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values).cpu()
    if index.dim() != 1 or (index.numel() and (index.is_floating_point() or index.dtype == torch.bool)):
        raise TypeError(f"{label} must be a row of integers, got shape {tuple(index.shape)} of {index.dtype}")
    wrong = index[(index < 0) | (index >= n)]
    if wrong.numel():
        raise ValueError(f"{label} {int(wrong[0])} is out of range; the population has {n} neurons, 0 to {n - 1}")
    return index.long()


def fixed_prob(n: int, m: int, prob: float, include_self: bool, generator: torch.Generator | None) -> CSR:
    """Each of the n * m pairs with probability `prob`, each on its own.

    The gaps between connected pairs are geometrically distributed, so the time goes with the synapses, not the pairs.
    """
    pairs, last, found = n * m, -1, []
    if prob == 1:
        found, last = [torch.arange(pairs)], pairs
    while prob > 0 and last < pairs:
        expected = (pairs - last) * prob
        draws = min(int(expected + 5 * math.sqrt(expected) + 100), 2**24)
        gaps = torch.empty(draws, dtype=torch.float64).geometric_(prob, generator=generator)
        pair = gaps.to(torch.int64).cumsum_(0).add_(last)
        last = int(pair[-1])
        found.append(pair[pair < pairs] if last >= pairs else pair)
    pair = torch.cat(found) if found else torch.empty(0, dtype=torch.int64)
    if not include_self:
        pair = pair[pair // m != pair % m]
    bounds = torch.searchsorted(pair, torch.arange(n + 1, dtype=torch.int64) * m)
    return from_counts(bounds.diff(), pair.remainder_(m))


def fixed_num(n: int, m: int, num: int, include_self: bool, generator: torch.Generator | None) -> Tensor:
    """For each of n rows `num` different numbers below m, sorted; without the row's own number on request."""
    others = m if include_self else m - 1
    few = min(num, others - num)
    rows = torch.arange(n).unsqueeze(1)
    chosen = torch.randint(others, (n, few), generator=generator)
    while few:  # draw anew what came twice: among the sets of this size none is preferred
        chosen = chosen.sort(1).values
        twice = torch.zeros_like(chosen, dtype=torch.bool)
        twice[:, 1:] = chosen[:, 1:] == chosen[:, :-1]
        count = int(twice.sum())
        if not count:
            break
        chosen[twice] = torch.randint(others, (count,), generator=generator)
    if few < num:
        left = torch.ones(n, others, dtype=torch.bool).scatter_(1, chosen, False)
        chosen = left.nonzero()[:, 1].view(n, num)
    return chosen if include_self else chosen + (chosen >= rows)
