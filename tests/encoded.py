"""A data set that encodes in the worker processes of a DataLoader, where test modules cannot be imported."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

import neurodyn as nd
from neurodyn import units as u


class Encoded(Dataset):
    """Each item by three encoders: random draws, draws that depend on the item alone, and times of spikes."""

    def __init__(self) -> None:
        self.poisson, self.latency = nd.PoissonEncoder(dt=1 * u.ms, seed=5), nd.LatencyEncoder()
        self.delta = nd.DeltaEncoder(4, threshold=0.2)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        x = torch.linspace(0.1, 0.8, 4, dtype=torch.get_default_dtype()) * (i + 1) / 8
        xs = (torch.arange(20).unsqueeze(1) * x).to(self.delta.threshold.dtype)
        return {
            "drawn": self.poisson(x, T=50),
            "seeded": self.poisson.at(i, x),
            "latency": self.latency(x, T=10),
            "delta": nd.unroll(self.delta, xs, compile=False),
        }
