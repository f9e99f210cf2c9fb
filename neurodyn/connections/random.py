"""Random sparse connections, reproducible from a generator."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from . import csr
from .sparse import Sparse, as_sizes


class FixedProb(Sparse):
    """Each pair of neurons is connected with probability `prob`, at most once.

    Input: ``(*batch, *pre)``. Output: ``(*batch, *post)``, in the unit of the weight.

    Args:
        pre, post: sizes of the populations, an int or a tuple.
        prob: probability of a synapse, 0 to 1.
        weight: see `Sparse`.
        include_self: whether a neuron may connect to itself; False needs ``pre == post``.
        generator: source of the random numbers, on the CPU; torch's default one if not given.
        values: further keywords of `Sparse`: ``delay``, ``learn``, ...

    Raises:
        ValueError: a probability outside 0 to 1, or ``include_self=False`` between different populations.

    Example:
        >>> random = torch.Generator().manual_seed(0)
        >>> connection = nd.FixedProb(3200, 4000, 0.02, weight=0.6 * u.nS, generator=random)
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
        generator: torch.Generator | None = None,
        **values: Any,
    ):
        label = type(self).__name__
        n, m = (math.prod(size) for size in as_sizes((pre, post), label))
        if not 0 <= prob <= 1:
            raise ValueError(f"{label}({pre}, {post}): prob must lie between 0 and 1, got {prob}")
        _check_self(include_self, pre, post, label)
        found = csr.fixed_prob(n, m, float(prob), include_self, generator)
        super().__init__(found, (pre, post), weight=weight, **values)


class FixedNum(Sparse):
    """Each neuron has the same number of synapses, to partners drawn at random, each at most once.

    Input: ``(*batch, *pre)``. Output: ``(*batch, *post)``, in the unit of the weight.

    Args:
        pre, post: sizes of the populations, an int or a tuple.
        num: number of synapses.
        per: "pre", each neuron of pre makes `num` synapses, or "post", each neuron of post receives `num`.
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
        generator: torch.Generator | None = None,
        **values: Any,
    ):
        label = type(self).__name__
        n, m = (math.prod(size) for size in as_sizes((pre, post), label))
        if per not in ("pre", "post"):
            raise ValueError(f"{label}({pre}, {post}): per must be 'pre' or 'post', got {per!r}")
        _check_self(include_self, pre, post, label)
        rows, partners = (n, m) if per == "pre" else (m, n)
        most = partners if include_self else partners - 1
        if isinstance(num, bool) or not hasattr(num, "__index__") or not 0 <= num <= most:
            raise ValueError(f"{label}({pre}, {post}): num must be a whole number from 0 to {most}, got {num!r}")
        chosen = csr.fixed_num(rows, partners, int(num), include_self, generator)
        if per == "pre":
            found = csr.from_counts(torch.full((n,), int(num)), chosen.flatten())
        else:
            received = torch.arange(m, dtype=torch.int32).repeat_interleave(int(num))
            source, order = chosen.flatten().to(torch.int32).sort(stable=True)
            found = csr.from_counts(torch.bincount(source, minlength=n), received[order])
        super().__init__(found, (pre, post), weight=weight, **values)


def _check_self(include_self: bool, pre: Any, post: Any, label: str) -> None:
    if not include_self and pre != post:
        raise ValueError(f"{label}({pre}, {post}): include_self=False is for a population connected to itself")
