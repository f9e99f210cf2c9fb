"""Vowels and digits, which come with the package, and the network of ``neurodyn train``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from neurodyn import data
from neurodyn.train import Classifier
from neurodyn.train.loop import RECIPES, augment

from .task import Part, Parts, Published, Task, hold_out


def load(name: str, validation: int) -> Parts:
    """Frames, and as a last feature 1 as long as the sequence goes on; a part of the training set is held out."""

    def part(split: data.Split) -> Part:
        valid = torch.arange(split.x.shape[1]) < split.length[:, None]
        return Part(torch.cat([split.x, valid[..., None].to(split.x)], 2), split.y)

    train, test = (part(split) for split in data.load(name))
    return Parts(*hold_out(train, validation), test)


class Network(nn.Module):
    """The classifier of two layers of LIF with depressing and facilitating synapses."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classifier = Classifier(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(x[..., :-1], x[..., -1].sum(1).long())


def drive(name: str) -> Callable[[Tensor, bool], Tensor]:
    """Noise in training, as in ``neurodyn train``."""

    def noisy(x: Tensor, training: bool) -> Tensor:
        return torch.cat([augment(x[..., :-1], RECIPES[name]), x[..., -1:]], 2) if training else x

    return noisy


def task(name: str, validation: int, features: int, classes: int, published: tuple[Published, ...]) -> Task:
    """What is the same for both: batch norms, whose running statistics belong to the last weights, not to a mean."""

    def parts(_: Path | None) -> Parts:
        return load(name, validation)

    return Task(
        name=name,
        load=parts,
        build=lambda: Network(features, classes),
        drive=drive(name),
        network="2 x 256 LIF, STP",
        epochs=RECIPES[name].epochs,
        batch=RECIPES[name].batch,
        lr=0.02,
        average=0.0,
        label_smoothing=0.05,
        published=published,
        seeds=(0, 1, 2),
    )


VOWELS = task(
    "vowels",
    54,
    12,
    9,
    (
        Published("94.1", "passing-through regions; Kudo, Toyama and Shimbo 1999"),
        Published("96.2", "hidden Markov models of five states; the same"),
    ),
)
DIGITS = task(
    "digits",
    144,
    16,
    10,
    (Published("98.0", "nearest neighbour, on another split with other writers; Alpaydin and Kaynak 1998"),),
)
