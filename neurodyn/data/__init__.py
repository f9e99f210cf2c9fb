"""The two small recorded data sets of ``neurodyn train``; SOURCES.md tells where they come from."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Split(NamedTuple):
    """Sequences of one data set: ``x`` (samples, frames, features), padded; their lengths; their classes."""

    x: Tensor
    length: Tensor
    y: Tensor


def load(name: str) -> tuple[Split, Split]:
    """The training and the test part of ``"vowels"`` or ``"digits"``, in float32.

    Vowels: 29 frames of 12 cepstral coefficients with the mean and deviation of the training part removed, 9 speakers.
    Digits: an image is a sequence of its 8 rows; after the 8 pixels come 8 lines that say which row it is, 10 classes.
    """
    if name not in ("vowels", "digits"):
        raise ValueError(f"data: no set {name!r}; there are 'vowels' and 'digits'")
    with resources.files("neurodyn.data").joinpath(f"{name}.npz").open("rb") as file:
        arrays = dict(np.load(file, allow_pickle=False))
    return _vowels(arrays) if name == "vowels" else _digits(arrays)


def _vowels(arrays: dict[str, np.ndarray]) -> tuple[Split, Split]:
    mean, std = arrays["x_train"].mean(0), arrays["x_train"].std(0)

    def part(name: str) -> Split:
        length = torch.as_tensor(arrays[f"length_{name}"])
        frames = torch.as_tensor((arrays[f"x_{name}"] - mean) / std)
        x = torch.nn.utils.rnn.pad_sequence(list(frames.split(length.tolist())), batch_first=True)
        x = torch.nn.functional.pad(x, (0, 0, 0, 29 - x.shape[1]))
        return Split(x, length, torch.as_tensor(arrays[f"y_{name}"]))

    return part("train"), part("test")


def _digits(arrays: dict[str, np.ndarray]) -> tuple[Split, Split]:
    rows = torch.as_tensor(arrays["images"]).float() / 8
    where = 2 * torch.eye(8).expand(len(rows), 8, 8)
    x, y, test = torch.cat([rows, where], 2), torch.as_tensor(arrays["labels"]), torch.as_tensor(arrays["is_test"])
    length = torch.full((len(y),), 8)
    return Split(x[~test], length[~test], y[~test]), Split(x[test], length[test], y[test])
