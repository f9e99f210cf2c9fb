"""Recorded data as tensors.

`frames` and `EventFile` read events of your own. Two small data sets come with neurodyn (see SOURCES.md): `load` gives
those of ``neurodyn train``, `receptor` a recording to fit a neuron to.
"""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .events import EventFile, frames

__all__ = ["EventFile", "Split", "frames", "load", "receptor"]


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
    return _vowels(_arrays(name)) if name == "vowels" else _digits(_arrays(name))


def receptor(cutoff: int = 200) -> tuple[Tensor, Tensor]:
    """Ten seconds of an auditory receptor of a grasshopper, in 20,000 bins of 0.5 ms, float32.

    Returns the level of the sound in dB below its peak, and the number of spikes (0 or 1), each ``(20000,)``. The
    amplitude of a tone at the best frequency of the cell follows Gaussian noise up to `cutoff`, 200 or 800 Hz.
    """
    if cutoff not in (200, 800):
        raise ValueError(f"data: no recording with a cut-off of {cutoff!r} Hz; there are 200 and 800")
    arrays = _arrays("receptor")
    level = torch.as_tensor(arrays[f"level_{cutoff}"]).float() / 100
    bins = torch.as_tensor(arrays[f"spikes_{cutoff}"]).long() // 5  # spike times are in 0.1 ms
    return level, torch.bincount(bins, minlength=len(level)).float()


def _arrays(name: str) -> dict[str, np.ndarray]:
    with resources.files("neurodyn.data").joinpath(f"{name}.npz").open("rb") as file:
        return dict(np.load(file, allow_pickle=False))


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
