"""Pairs of connected neurons, in CSR form: int32 row starts and column indices, 4 bytes a synapse."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import units as u
from ..tools import progress


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


#: Synapses that are drawn at once; what a draw needs beside the result is this many times some 30 bytes.
BLOCK = 2**24
SHOWN_AFTER = 2.0  # seconds, after which a bar appears


def _bar(total: float, unit: str) -> AbstractContextManager[Any]:
    """A bar for what is drawn in several blocks; a single one has nothing to show on the way, and needs no tqdm."""
    return progress.bar(round(total), wanted=total > BLOCK, unit=f" {unit}", after=SHOWN_AFTER)


def fixed_prob(n: int, m: int, prob: float, include_self: bool, generator: torch.Generator | None) -> CSR:
    """Each of the n * m pairs with probability `prob`, each on its own.

    The gaps between connected pairs are geometrically distributed, so the time goes with the synapses, not the pairs.
    """
    pairs, last = n * m, -1
    rows, columns = torch.zeros(n, dtype=torch.int64), [torch.empty(0, dtype=torch.int32)]
    with _bar(pairs * prob, "synapses") as bar:
        while prob > 0 and last < pairs - 1:
            if prob == 1:
                pair = torch.arange(last + 1, min(pairs, last + 1 + BLOCK))
                last = int(pair[-1])
            else:
                expected = (pairs - last) * prob
                draws = min(int(expected + 5 * math.sqrt(expected) + 100), BLOCK)
                gaps = torch.empty(draws, dtype=torch.float64).geometric_(prob, generator=generator)
                pair = gaps.to(torch.int64).cumsum_(0).add_(last)
                last = int(pair[-1])
                pair = pair[pair < pairs] if last >= pairs else pair
            bar.update(len(pair))
            if not include_self:
                pair = pair[pair // m != pair % m]
            rows += torch.bincount(pair // m, minlength=n)
            columns.append(pair.remainder_(m).to(torch.int32))
    return from_counts(rows, torch.cat(columns))


def fixed_num(
    n: int, m: int, num: int, include_self: bool, generator: torch.Generator | None, multapses: bool = False
) -> Tensor:
    """For each of n rows `num` numbers below m in int32, without the row's own on request; different and sorted ones
    unless `multapses`.
    """
    found = torch.empty(n, num, dtype=torch.int32)
    block = max(1, BLOCK // max(num, 1))
    others = m if include_self else m - 1
    with _bar(n * num, "synapses") as bar:
        for first in range(0, n, block):
            rows = torch.arange(first, min(n, first + block)).unsqueeze(1)
            if multapses:
                chosen = torch.randint(others, (len(rows), num), generator=generator, dtype=torch.int32)
            else:
                chosen = _different(len(rows), others, num, generator)
            found[first : first + len(rows)] = chosen if include_self else chosen + (chosen >= rows)
            bar.update(chosen.numel())
    return found


def _different(n: int, others: int, num: int, generator: torch.Generator | None) -> Tensor:
    """For each of n rows `num` different numbers below `others`, sorted."""
    few = min(num, others - num)
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
    return chosen


def fixed_total(
    n: int, m: int, total: int, include_self: bool, generator: torch.Generator | None, multapses: bool
) -> CSR:
    """`total` pairs of n * m, each drawn from all of them; different ones, sorted, unless `multapses`.

    Time and memory go with `total`, whatever the number of pairs: beside the result some 5 bytes for each synapse, if
    they differ.
    """
    others = m if include_self else m - 1
    count, columns = (_replaced if multapses else _not_replaced)(n, others, total, generator)
    if not include_self:
        starts = count.cumsum(0) - count
        for row in _row_blocks(count):
            own = torch.arange(row.start, row.stop, dtype=torch.int32).repeat_interleave(count[row])
            part = columns[int(starts[row.start]) : int(starts[row.start]) + len(own)]
            part += part >= own
    return from_counts(count, columns)


def _replaced(n: int, m: int, total: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """For `total` draws of a row and a column the numbers in each row, and the columns."""
    count, columns = torch.zeros(n, dtype=torch.int64), torch.empty(total, dtype=torch.int32)
    parts = [slice(first, min(first + BLOCK, total)) for first in range(0, total, BLOCK)]
    with _bar(2 * total, "draws") as bar:
        for part in parts:
            drawn = torch.randint(n, (part.stop - part.start,), generator=generator, dtype=torch.int32)
            count += torch.bincount(drawn, minlength=n)
            bar.update(len(drawn))
        for part in parts:
            drawn = torch.randint(m, (part.stop - part.start,), generator=generator, dtype=torch.int32)
            columns[part] = drawn
            bar.update(len(drawn))
    return count, columns


def _not_replaced(n: int, m: int, total: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """The same for different pairs.

    Each pair is taken with a probability that gives some more than `total`, and as many as are too many are taken out
    again. Of the sets of `total` pairs none is preferred.
    """
    prob = min(1.0, (total + 6 * math.sqrt(total) + 10) / max(n * m, 1))
    drawn = fixed_prob(n, m, prob, True, generator)
    while len(drawn.indices) < total:  # in one case of 1e9
        drawn = fixed_prob(n, m, prob, True, generator)
    count, columns = drawn.indptr.diff().long(), drawn.indices
    surplus = _different(1, len(columns), len(columns) - total, generator)[0]
    count -= torch.bincount(torch.searchsorted(drawn.indptr, surplus, right=True) - 1, minlength=n)
    left = torch.ones(len(columns), dtype=torch.bool)
    left[surplus] = False
    done = 0
    for first in range(0, len(columns), BLOCK):  # in place, as an index of what is left would be twice as large
        part = columns[first : first + BLOCK][left[first : first + BLOCK]]
        columns[done : done + len(part)] = part
        done += len(part)
    return count, columns[:total]


def transposed(chosen: Tensor, n: int) -> CSR:
    """CSR by input from the inputs of each output, ``(outputs, number)``; the outputs of an input come in order."""
    outputs, number = chosen.shape
    block = max(1, BLOCK // max(number, 1))
    parts = [slice(first, min(outputs, first + block)) for first in range(0, outputs, block)]
    count = torch.zeros(n, dtype=torch.int64)
    for part in parts:
        count += torch.bincount(chosen[part].flatten(), minlength=n)
    free, indices = count.cumsum(0) - count, torch.empty(chosen.numel(), dtype=torch.int32)
    with _bar(chosen.numel(), "synapses sorted") as bar:
        for part in parts:  # the outputs of this part follow those of the parts before, input by input
            source, order = chosen[part].flatten().sort(stable=True)
            here = torch.bincount(source, minlength=n)
            place = torch.arange(len(source)) + (free - (here.cumsum(0) - here)).repeat_interleave(here)
            indices[place] = (order // max(number, 1) + part.start).to(torch.int32)
            free += here
            bar.update(len(source))
    return from_counts(count, indices)


def by_distance(
    pre: Tensor,
    post: Tensor,
    prob: Callable[[Tensor], Tensor],
    extent: Tensor | None,
    include_self: bool,
    generator: torch.Generator | None,
) -> tuple[CSR, Tensor]:
    """Each pair with the probability of its distance; and the distances of the pairs that there are.

    Args:
        pre, post: positions, ``(n, dimensions)`` and ``(m, dimensions)``.
        prob: of the distance.
        extent: the period in each dimension; None for none.
        include_self: whether to keep pairs of the same number.
        generator: of the random numbers.
    """
    counts, columns, lengths = [], [], []
    block = max(1, BLOCK // max(len(post), 1) // 4)
    with _bar(len(pre) * len(post), "pairs") as bar:
        for first in range(0, len(pre), block):
            apart = distances(pre[first : first + block].unsqueeze(1), post, extent)
            chance = prob(apart)
            if not isinstance(chance, Tensor) or chance.shape != apart.shape:
                raise ValueError(f"prob must give a probability for each distance, got {chance!r:.60}")
            if not bool(((chance >= 0) & (chance <= 1)).all()):
                raise ValueError(f"prob must give numbers from 0 to 1, got {chance.min():g} to {chance.max():g}")
            there = torch.rand(apart.shape, generator=generator, dtype=torch.float64) < chance
            if not include_self:
                there[torch.arange(len(there)), torch.arange(first, first + len(there))] = False
            counts.append(there.sum(1))
            columns.append(there.nonzero()[:, 1].to(torch.int32))
            lengths.append(apart[there])
            bar.update(apart.numel())
    return from_counts(torch.cat(counts), torch.cat(columns)), torch.cat(lengths)


def distances(a: Tensor, b: Tensor, extent: Tensor | None) -> Tensor:
    """Euclidean distances of positions that broadcast; the shortest ones on a torus, if there is a period."""
    apart = (a - b).abs()
    if extent is not None:
        apart = apart % extent
        apart = torch.minimum(apart, extent - apart)
    return apart.square().sum(-1).sqrt()


def _row_blocks(count: Tensor) -> list[slice]:
    """Stretches of rows that have about `BLOCK` synapses each."""
    ends = torch.searchsorted(count.cumsum(0), torch.arange(BLOCK, int(count.sum()) + BLOCK, BLOCK), right=True)
    bounds = sorted({0, *ends.clamp(max=len(count)).tolist(), len(count)})
    return [slice(a, b) for a, b in itertools.pairwise(bounds)]
