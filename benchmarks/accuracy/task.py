"""What a task consists of: three parts of the data, a network, settings, and the numbers that others published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: A part of the training set that becomes the validation set; the same for every seed.
SPLIT_SEED = 0


class Part(NamedTuple):
    """Samples: x ``(samples, ...)``, and classes y ``(samples,)`` or, of every step, ``(samples, T)``."""

    x: Tensor
    y: Tensor


class Parts(NamedTuple):
    """Weights are fitted to `train`, everything else is chosen by `validation`, and `test` is looked at once."""

    train: Part
    validation: Part
    test: Part


class Published(NamedTuple):
    """A test accuracy in percent, and where it is from."""

    accuracy: str
    source: str


@dataclass(frozen=True)
class Task:
    """A task with all its settings.

    Attributes:
        name: of the row.
        load: the data; the folder is the one that the user gave, or None.
        build: the network, with time in front: ``(T, batch, features)`` to scores ``(T, batch, classes)`` or
            ``(batch, classes)``. The seed is set before.
        drive: a batch of x, and whether for training, to the input of the network.
        network: the same in words.
        epochs, batch, lr, weight_decay: of AdamW with a warm-up over 5 % of the steps and a cosine down to 0.
        slow_lr: rate of the declared parameters, such as tau, as a multiple of `lr`.
        average: decay of the running mean of the weights, a step; the mean is what is validated and tested.
        label_smoothing: of the cross entropy.
        clip: the largest absolute value that the gradient by a weight may have, or None.
        extra: a term of the loss besides the cross entropy, from scores and labels, or None.
        seeds: of weights, order and noise.
        published: for comparison.
        bar: the mean test accuracy that is wanted, or None.
    """

    name: str
    load: Callable[[Path | None], Parts]
    build: Callable[[], nn.Module]
    drive: Callable[[Tensor, bool], Tensor]
    network: str
    epochs: int
    batch: int
    lr: float
    published: tuple[Published, ...]
    weight_decay: float = 0.0
    slow_lr: float = 1.0
    average: float = 0.99
    label_smoothing: float = 0.0
    clip: float | None = None
    extra: Callable[[Tensor, Tensor], Tensor] | None = None
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    bar: float | None = None


def taken(part: Part, index: Tensor) -> Part:
    """Some of the samples."""
    return Part(part.x[index], part.y[index])


def hold_out(part: Part, count: int) -> tuple[Part, Part]:
    """The part without `count` samples, and these samples."""
    order = torch.randperm(len(part.x), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return taken(part, order[count:]), taken(part, order[:count])
