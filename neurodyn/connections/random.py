"""Random sparse connections, reproducible from a generator."""

from __future__ import annotations

import math
from typing import Any, Literal, Unpack

import torch

from . import csr
from .keywords import SparseKeywords
from .sparse import Sparse, as_sizes


class FixedProb(Sparse):
    """Each pair of neurons is connected with probability `prob`, at most once.

    Input: ``(*batch, *pre)``. Output: ``(*batch, *post)``, in the unit of the weight.

    Args:
        pre, post: sizes of the populations, an int or a tuple.
        prob: probability of a synapse, 0 to 1.
        weight: see `Sparse`.
        include_self: whether a neuron may connect to itself; False needs ``pre == post``.
        multapses: False, as a pair has at most one synapse here; see `FixedNum` and `FixedTotal` for several.
        generator: source of all random numbers, on the CPU: of the pairs that are connected, and of initialisers of
            weight, delay and bias that have no generator of their own; torch's default one if not given.
        values: further keywords of `Sparse`: ``delay``, ``learn``, ...

    Raises:
        ValueError: a probability outside 0 to 1, ``include_self=False`` between different populations, or
            ``multapses=True``.

    Example:
        >>> random = torch.Generator().manual_seed(0)
        >>> weight = nd.init.LogNormal(0.6 * u.nS, 0.3 * u.nS)
        >>> connection = nd.FixedProb(3200, 4000, 0.02, weight=weight, generator=random)
        >>> connection(torch.ones(8, 3200)).shape
        torch.Size([8, 4000])
    """

    def __init__(
        self,
        pre: int | tuple[int, ...],
        post: int | tuple[int, ...],
        prob: float,
        *,
        weight: Any,
        include_self: bool = True,
        multapses: bool = False,
        generator: torch.Generator | None = None,
        **values: Unpack[SparseKeywords],
    ):
        label = type(self).__name__
        n, m = (math.prod(size) for size in as_sizes((pre, post), label))
        if not 0 <= prob <= 1:
            raise ValueError(f"{label}({pre}, {post}): prob must lie between 0 and 1, got {prob}")
        if multapses:
            raise ValueError(
                f"{label}({pre}, {post}): a pair has one synapse with probability prob, or none, so multapses=True "
                f"has no meaning; for several synapses of a pair use nd.FixedTotal({pre}, {post}, "
                f"{round(prob * n * m)}, weight=..., multapses=True), or nd.FixedNum for each neuron the same number"
            )
        check_self(include_self, pre, post, label)
        found = csr.fixed_prob(n, m, float(prob), include_self, generator)
        super().__init__(found, (pre, post), weight=weight, generator=generator, **values)


class FixedNum(Sparse):
    """Each neuron has the same number of synapses, to partners drawn at random.

    Input: ``(*batch, *pre)``. Output: ``(*batch, *post)``, in the unit of the weight.

    Args:
        pre, post: sizes of the populations, an int or a tuple.
        num: number of synapses.
        per: "pre", each neuron of pre makes `num` synapses, or "post", each neuron of post receives `num`.
        multapses: whether a pair may have several synapses; by default at most one.
        weight, include_self, generator, values: see `FixedProb`.

    Raises:
        ValueError: more synapses than there are partners, or an unknown `per`.

    Example:
        >>> connection = nd.FixedNum(100, 20, 10, per="post", weight=0.1 * u.mV)
        >>> connection(torch.ones(100))[:3]  # each target receives ten
        tensor([1.0000, 1.0000, 1.0000])
    """

    def __init__(
        self,
        pre: int | tuple[int, ...],
        post: int | tuple[int, ...],
        num: int,
        *,
        weight: Any,
        per: Literal["pre", "post"] = "pre",
        include_self: bool = True,
        multapses: bool = False,
        generator: torch.Generator | None = None,
        **values: Unpack[SparseKeywords],
    ):
        label = type(self).__name__
        n, m = (math.prod(size) for size in as_sizes((pre, post), label))
        if per not in ("pre", "post"):
            raise ValueError(f"{label}({pre}, {post}): per must be 'pre' or 'post', got {per!r}")
        check_self(include_self, pre, post, label)
        rows, partners = (n, m) if per == "pre" else (m, n)
        most = partners if include_self else partners - 1
        num = _whole(num, most, multapses, f"{label}({pre}, {post}): num")
        chosen = csr.fixed_num(rows, partners, num, include_self, generator, multapses)
        if per == "pre":
            found = csr.from_counts(torch.full((n,), num), chosen.flatten())
        else:
            found = csr.transposed(chosen, n)
        super().__init__(found, (pre, post), weight=weight, generator=generator, **values)


class FixedTotal(Sparse):
    """A fixed number of synapses in all, each between a source and a target drawn at random.

    Input: ``(*batch, *pre)``. Output: ``(*batch, *post)``, in the unit of the weight.

    Args:
        pre, post: sizes of the populations, an int or a tuple.
        total: number of synapses.
        multapses: whether a pair may have several synapses; False draws different pairs.
        weight, include_self, generator, values: see `FixedProb`.

    Raises:
        ValueError: more synapses than there are pairs.

    Example:
        >>> connection = nd.FixedTotal(100, 20, 500, weight=0.1 * u.mV)
        >>> len(connection.indices)
        500
    """

    def __init__(
        self,
        pre: int | tuple[int, ...],
        post: int | tuple[int, ...],
        total: int,
        *,
        weight: Any,
        include_self: bool = True,
        multapses: bool = True,
        generator: torch.Generator | None = None,
        **values: Unpack[SparseKeywords],
    ):
        label = type(self).__name__
        n, m = (math.prod(size) for size in as_sizes((pre, post), label))
        check_self(include_self, pre, post, label)
        most = n * (m if include_self else m - 1)
        total = _whole(total, most, multapses, f"{label}({pre}, {post}): total")
        found = csr.fixed_total(n, m, total, include_self, generator, multapses)
        super().__init__(found, (pre, post), weight=weight, generator=generator, **values)


def _whole(num: Any, most: int, multapses: bool, label: str) -> int:
    """A number of synapses, checked against the number of partners."""
    limit = most if not multapses else 2**31 - 1 if most else 0
    if isinstance(num, bool) or not hasattr(num, "__index__") or not 0 <= num <= limit:
        more = "" if multapses or not hasattr(num, "__index__") or num < 0 else "; multapses=True allows more"
        raise ValueError(f"{label} must be a whole number from 0 to {limit}, got {num!r}{more}")
    return int(num)


def check_self(include_self: bool, pre: Any, post: Any, label: str) -> None:
    """Raise ValueError if a population has no self to leave out."""
    if not include_self and pre != post:
        raise ValueError(f"{label}({pre}, {post}): include_self=False is for a population connected to itself")
