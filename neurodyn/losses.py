"""Losses and regularisers of spiking networks. Time is in front, the last dimension counts classes or neurons.

Each returns a scalar with a gradient, and takes tensors ``(T, *batch, n)`` such as `unroll` gives. A cross entropy of
spike counts, or of the highest potential, needs no function: ``F.cross_entropy(spikes.sum(0), labels)``,
``F.cross_entropy(V.amax(0), labels)``. The distance of spike trains is `analysis.van_rossum_distance`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import units as u
from .core.dynamics import as_dt, get_default_dt
from .core.fields import check


def spike_count(spikes: Tensor, labels: Tensor, *, true: float, false: float) -> Tensor:
    r"""Mean square of the difference of each class's number of spikes from what is wanted.

    Args:
        spikes: ``(T, *batch, classes)``.
        labels: the right classes, ``(*batch,)``.
        true: wanted number of spikes of the right class.
        false: of the others; above 0 it keeps them from falling silent.

    Source: Shrestha and Orchard (2018), SLAYER: spike layer error reassignment in time, NeurIPS 31.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])  # counts 2 and 1
        >>> nd.losses.spike_count(spikes, torch.tensor([0]), true=4, false=0)  # (2^2 + 1^2) / 2
        tensor(2.5000)
    """
    counts = spikes.sum(0)
    _check_labels("spike_count", spikes, counts, labels)
    right = F.one_hot(labels, counts.shape[-1]).to(counts)
    return F.mse_loss(counts, false + (true - false) * right)


def first_spike_times(spikes: Tensor, *, dt: Any = None) -> Tensor:
    r"""When each neuron spikes first, in ms, ``(*batch, n)``; the time of the whole sequence if it does not.

    $t = dt \sum_k \prod_{j \le k} (1 - z_j)$ counts the steps before the first spike, exactly for spikes of 0 and 1.
    Its gradient says how much earlier the first spike would come for more of a spike in a step before it, or in its
    own step; silent neurons have a gradient too.

    Spikes that are divided between two steps, as by ``unroll(gradient="eventprop")``, come between these:
    $t = dt \sum_k \max(0, 1 - \sum_{j \le k} z_j)$. That is exact where no other spike of the neuron comes between the
    same two steps. Several there cannot be told apart: t is up to dt too early, its gradient is wrong, and 0 where t is
    the step itself. `unroll` warns of it; `spike_times` gives each time.

    Args:
        spikes: ``(T, *batch, n)``, 0 or 1, or parts of spikes.
        dt: time step, a quantity; `get_default_dt()` if not given.

    Example:
        >>> nd.losses.first_spike_times(torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
        tensor([3., 1.])
    """
    divided = ((spikes > 0) & (spikes < 1)).any(0)
    silent = torch.where(divided, (1 - spikes.cumsum(0)).relu(), torch.cumprod(1 - spikes, 0))
    return silent.sum(0) * as_dt(get_default_dt() if dt is None else dt, "first_spike_times: dt")


def first_spike(spikes: Tensor, labels: Tensor, *, tau: Any, dt: Any = None) -> Tensor:
    r"""Cross entropy of $-t/\tau$, with t the time of each class's first spike: the right class should spike first.

    Args:
        spikes: ``(T, *batch, classes)``, 0 or 1.
        labels: the right classes, ``(*batch,)``.
        tau: how much earlier counts as clearly earlier, a quantity.
        dt: time step, a quantity; `get_default_dt()` if not given.

    Source: Mostafa (2018), Supervised learning based on temporal coding in spiking neural networks, IEEE Transactions
    on Neural Networks and Learning Systems 29.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 1.0]]])  # at 0 and 2 ms
        >>> nd.losses.first_spike(spikes, torch.tensor([0]), tau=2 * u.ms)  # log(1 + exp(-1))
        tensor(0.3133)
    """
    scores = -first_spike_times(spikes, dt=dt) / as_dt(tau, "first_spike: tau")
    _check_labels("first_spike", spikes, scores, labels)
    return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), labels.reshape(-1))


def membrane(V: Tensor, labels: Tensor, *, V_th: Any, margin: Any = 0 * u.mV) -> Tensor:
    r"""The tempotron loss: how far the highest potential is on the wrong side of a threshold, mean over classes.

    $\max(0, V_{th} + m - \max_t V)$ for the right class and $\max(0, \max_t V - V_{th} + m)$ for the others, in mV.

    Args:
        V: ``(T, *batch, classes)`` in mV, of neurons that do not reset.
        labels: the right classes, ``(*batch,)``.
        V_th: the threshold, a quantity.
        margin: m, a quantity.

    Source: Guetig and Sompolinsky (2006), The tempotron: a neuron that learns spike timing-based decisions, Nature
    Neuroscience 9.

    Example:
        >>> V = torch.tensor([[[0.2, 0.1]], [[0.7, 1.4]]])
        >>> nd.losses.membrane(V, torch.tensor([0]), V_th=1 * u.mV)  # (0.3 + 0.4) / 2
        tensor(0.3500)
    """
    highest = V.amax(0)
    _check_labels("membrane", V, highest, labels)
    threshold, room = (
        _number(value, "mV", f"membrane: {name}") for name, value in (("V_th", V_th), ("margin", margin))
    )
    right = F.one_hot(labels, highest.shape[-1]).bool()
    return torch.where(right, threshold + room - highest, highest - threshold + room).clamp(min=0).mean()


def rate(spikes: Tensor, *, low: Any = None, high: Any = None, dt: Any = None) -> Tensor:
    r"""Mean square of how far the rate of each neuron is below `low` or above `high`, in Hz^2.

    The rate is the mean over time and batch, so that a neuron may be silent for some samples. ``low`` equal to ``high``
    is a target rate.

    Args:
        spikes: ``(T, *batch, n)``.
        low, high: quantities; at least one.
        dt: time step, a quantity; `get_default_dt()` if not given.

    Source: Zenke and Vogels (2021), The remarkable robustness of surrogate gradient learning for instilling complex
    function in spiking neural networks, Neural Computation 33.

    Example:
        >>> spikes = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])  # 0 and 500 Hz
        >>> nd.losses.rate(spikes, low=10 * u.Hz, high=100 * u.Hz)  # (10^2 + 400^2) / 2
        tensor(80050.)
    """
    if low is None and high is None:
        raise TypeError("rate: give low, high or both, for example low=1 * u.Hz")
    step = as_dt(get_default_dt() if dt is None else dt, "rate: dt")
    rates = spikes.flatten(0, -2).mean(0) * (1000 / step)
    wrong = torch.zeros_like(rates)
    if low is not None:
        wrong = wrong + (1000 * _number(low, "1/ms", "rate: low") - rates).clamp(min=0)
    if high is not None:
        wrong = wrong + (rates - 1000 * _number(high, "1/ms", "rate: high")).clamp(min=0)
    return wrong.square().mean()


def voltage(V: Tensor, *, low: Any, high: Any) -> Tensor:
    """Mean square of how far the potential is below `low` or above `high`, in mV^2.

    Args:
        V: ``(T, *batch, n)`` in mV.
        low, high: quantities.

    Example:
        >>> nd.losses.voltage(torch.tensor([-3.0, 0.0]), low=-1 * u.mV, high=1 * u.mV)
        tensor(2.)
    """
    bottom, top = (_number(value, "mV", f"voltage: {name}") for name, value in (("low", low), ("high", high)))
    return ((bottom - V).clamp(min=0) + (V - top).clamp(min=0)).square().mean()


def _number(value: Any, unit: str, label: str) -> float:
    return float(check(value, u.canonical_unit(unit), (), label, None, torch.float64))


def _check_labels(loss: str, ys: Tensor, scores: Tensor, labels: Tensor) -> None:
    if labels.shape != scores.shape[:-1] or labels.dtype != torch.long:
        batch_first = ys.dim() == 3 and labels.dim() == 1 and len(labels) == len(ys) != ys.shape[1]
        hint = "; the batch seems to be in front of the time, use .transpose(0, 1)" if batch_first else ""
        raise ValueError(
            f"{loss}: labels must be torch.long of shape {tuple(scores.shape[:-1])}, one for each sample, got "
            f"{labels.dtype} {tuple(labels.shape)}{hint}"
        )
