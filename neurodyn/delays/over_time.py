"""A delay over all steps of a sequence at once: a shift along time, which costs the same for long and short delays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..torch_private import inside_transform

if TYPE_CHECKING:
    from .delay import Delay

_DIRECT = 64  # steps of a Gaussian kernel that are added one by one; longer ones are multiplied in frequency


def over_time(delay: Delay, xs: Tensor, reset: bool) -> Tensor:
    """The outputs of `delay` for the inputs ``(T, *batch, *size)``; its states are afterwards those of the last step.

    The numbers are those of its steps, for a long Gaussian kernel up to the rounding of the largest input.
    Derivatives of any order.

    Args:
        reset: whether it starts from `past_initializer`, and not from its states.

    Raises:
        ValueError, TypeError, RuntimeError: an input that does not fit, as at a step.
    """
    batch = delay.batch_of(xs[0])
    reset, start = reset or not delay.is_set, delay.past_initializer
    if reset:
        delay._check_samples(batch)
    for name in delay.states:
        value = start.expand((*batch, *delay.state_size(name))) if reset else delay._buffers[name]
        assert value is not None
        delay._check_match(name, value, xs[0], batch)
    n = len(delay.states) * delay.depth
    past = start.expand((n, *batch, *delay.size)) if reset else _in_order(delay, len(batch))
    x = xs.to(past.dtype)
    y = _delayed(delay, past, x)
    _keep(delay, past, x, len(batch))
    return y.to(xs.dtype) if xs.dtype.is_floating_point else y


def _in_order(delay: Delay, rank: int) -> Tensor:
    """The states as inputs one after the other, the oldest first: ``(n, *batch, *size)``."""
    states = torch.stack([delay._buffers[name] for name in delay.states])  # type: ignore[misc]
    if delay.depth > 1:
        states = states.movedim(1 + rank, 0).flatten(0, 1)  # state j of K holds the inputs of j, j + K, ... steps ago
    return states.flip(0)


def _keep(delay: Delay, past: Tensor, x: Tensor, rank: int) -> None:
    """Set the states to the last inputs."""
    n, K = len(past), len(delay.states)
    recent = x[-n:].flip(0)
    before = past if past.stride(0) == 0 else past.flip(0)  # all the same, or the newest first
    for j, name in enumerate(delay.states):
        new = recent[j::K]
        old = before[j + len(new) * K - len(recent) :: K][: delay.depth - len(new)]
        held = torch.cat((new, old))
        delay._buffers[name] = held[0] if delay.depth == 1 else held.movedim(0, rank).contiguous()
    delay._written = None


def _delayed(delay: Delay, past: Tensor, x: Tensor) -> Tensor:
    if delay.fixed is not None:
        k = math.floor(delay.fixed)
        value = _shifted(past, x, k)
        return value if delay.whole else torch.lerp(value, _shifted(past, x, k + 1), delay.fixed - k)
    if delay.interpolation == "gaussian":
        return _spread(delay, torch.cat((past[len(past) - delay.length :], x[:-1])), len(x))
    before, late = delay.parts()
    if before.numel() == 1 and inside_transform() is False:
        k = int(before)
        value, following = _shifted(past, x, k), min(k + 1, delay.length)
        return value if late is None else torch.lerp(value, _shifted(past, x, following), late.to(value.dtype))
    line = torch.cat((past, x))
    value = _taken(delay, line, before, len(x))
    if late is None:
        return value
    following = _taken(delay, line, (before + 1).clamp(max=delay.length), len(x))
    return torch.lerp(value, following, late.to(value.dtype))


def _shifted(past: Tensor, x: Tensor, k: int) -> Tensor:
    """The inputs of k steps before each step; a tensor of its own."""
    n, T = len(past), len(x)
    return torch.cat((past[n - k : n - k + T], x[: max(0, T - k)]))


def _taken(delay: Delay, line: Tensor, steps: Tensor, T: int) -> Tensor:
    """The same for a number of steps of each element of `size`."""
    ones = (1,) * (line.dim() - 1 - len(delay.size))
    now = torch.arange(len(line) - T, len(line), device=line.device).view(-1, *[1] * len(delay.size))
    index = (now - steps.long().expand(delay.size)).view(T, *ones, *delay.size)
    return torch.gather(line, 0, index.expand(T, *line.shape[1:]))


def _spread(delay: Delay, line: Tensor, T: int) -> Tensor:
    """Each step's inputs of before, weighted with the Gaussian kernels; row 0 of `line` is `length` before step 0."""
    n, kernel = delay.length, delay.kernel()
    kernel = kernel.view(n, *[1] * (line.dim() - kernel.dim()), *kernel.shape[1:]).to(line.dtype)
    if n <= _DIRECT:
        total = line[n - 1 : n - 1 + T] * kernel[0]
        for j in range(2, n + 1):
            total = total + line[n - j : n - j + T] * kernel[j - 1]
        return total
    dtype = torch.promote_types(line.dtype, torch.float32)
    size = 1 << (n + T - 2).bit_length()  # what is carried over its end does not reach the rows that are taken
    product = torch.fft.rfft(line.to(dtype), size, 0) * torch.fft.rfft(kernel.to(dtype), size, 0)
    return torch.fft.irfft(product, size, 0)[n - 1 : n - 1 + T].to(line.dtype)
