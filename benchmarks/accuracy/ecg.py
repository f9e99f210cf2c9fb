"""ECG, labelled at every step: which of six parts of the heartbeat is it?

The QT Database of PhysioNet (Laguna et al. 1997) as Yin, Corradi and Bohte (2021) prepared it: 618 and 141 sequences of
1,301 steps, two leads, each as up and down spikes of a level-crossing encoder. ``--ecg FOLDER`` names the folder with
``QTDB_train.mat`` and ``QTDB_test.mat`` (repository byin-cwi/Efficient-spiking-networks). As in both sources every step
counts, and one without a label (8 % of them, at the ends of sequences) counts as the first class.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.tools.extras import needed

from .task import SPLIT_SEED, Part, Parts, Published, Task, taken

CHANNELS, CLASSES, NEURONS, DROPOUT = 4, 6, 40, 0.15
SWAP = 0.5, 0.5, 0.5  # probabilities: of the leads, of up and down in the first and in the second
BLOCK, BLOCKS = 10, 6  # of neighbouring sequences, which are often of one person


def read(path: Path) -> Part:
    """One of the two files."""
    arrays = needed("scipy.io", "accuracy", "benchmarks accuracy, ecg,").loadmat(path)
    return Part(torch.from_numpy(arrays["x"]).float(), torch.from_numpy(arrays["y"].argmax(2)))


def load(folder: Path | None) -> Parts:
    """60 of the training sequences are for validation, in blocks, so that it sees other persons than the training."""
    if folder is None:
        raise FileNotFoundError("the data are not part of the package: --ecg FOLDER")
    part = read(folder / "QTDB_train.mat")
    starts = torch.randperm(len(part.x) // BLOCK + 1, generator=torch.Generator().manual_seed(SPLIT_SEED))[:BLOCKS]
    held = torch.isin(torch.arange(len(part.x)) // BLOCK, starts)
    return Parts(taken(part, ~held), taken(part, held), read(folder / "QTDB_test.mat"))


def drive(x: Tensor, training: bool) -> Tensor:
    """Steps in front. In training leads change places, and up and down within a lead, as if electrodes did."""
    leads = x.unflatten(2, (2, 2))
    if training:
        swapped, first, second = torch.rand(3, len(x), 1, 1) < torch.tensor(SWAP)[:, None, None, None]
        leads = torch.where(swapped[..., None], leads.flip(2), leads)
        turned = torch.cat([first, second], 2)[..., None]
        leads = torch.where(turned, leads.flip(3), leads)
    return leads.flatten(2).transpose(0, 1).contiguous()


class Network(nn.Module):
    """Spikes -> recurrent AdLIF -> leaky readout, whose values are the scores of a step."""

    def __init__(self) -> None:
        super().__init__()
        cell = nd.AdLIF(
            NEURONS,
            tau=nd.init.Uniform(5 * u.ms, 40 * u.ms),
            tau_w=nd.init.Uniform(20 * u.ms, 300 * u.ms),
            a=nd.init.Uniform(0.1, 10.0),
            b=nd.init.Uniform(0 * u.mV, 0.2 * u.mV),
            learn=("tau", "tau_w", "a", "b"),
        )
        readout = nd.LeakyRateReadout(NEURONS, CLASSES, tau=nd.init.Constant(20 * u.ms), learn="tau")
        feedback = nn.Linear(NEURONS, NEURONS, bias=False)
        self.layers = nn.Sequential(
            nn.Linear(CHANNELS, NEURONS), nd.Recurrent(cell, feedback), nn.Dropout(DROPOUT), readout
        )
        with torch.no_grad():
            readout.linear.weight.mul_(0.3)  # scores of order 1 at the start

    def forward(self, xs: Tensor) -> Tensor:
        return nd.unroll(self.layers, xs, progress=False)


TASK = Task(
    name="ecg",
    load=load,
    build=Network,
    drive=drive,
    network=f"{NEURONS} recurrent AdLIF",
    epochs=80,
    batch=32,
    lr=0.01,
    weight_decay=0.05,
    average=0.98,
    published=(
        Published("85.9, code 84.4", "36 recurrent adaptive LIF; Yin, Corradi and Bohte 2021"),
        Published("85.1, best 86.1", "36 resonate-and-fire, 5 seeds; Higuchi, Kairat, Bohte and Otte 2024"),
    ),
    bar=85.9,
)
