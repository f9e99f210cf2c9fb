"""Neurons against Brian2: the same method, schedule and input, over 2000 steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

FILES = sorted((Path(__file__).parents[1] / "reference").glob("brian2_[A-Z]*.npz"))


def test_every_recording_is_here():
    assert [path.stem.removeprefix("brian2_") for path in FILES] == [
        *("AdEx", "GIF", "HH", "Izhikevich", "LIF", "MorrisLecar")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_potential_and_spikes(path: Path):
    with np.load(path) as file:
        meta = json.loads(str(file["meta"]))
        recorded = {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}
    values = {key: u.quantity(value, unit or "dimensionless") for key, (value, unit) in meta["params"].items()}
    values |= {f"{k}_initializer": u.quantity(v, unit or "dimensionless") for k, (v, unit) in meta["init"].items()}
    if meta["model"] == "LIF":
        values["reset"] = "hard"
    I = recorded["I"]
    neuron = getattr(nd, meta["model"])(I.shape[1], dt=meta["dt"] * u.ms, dtype=torch.float64, **values)
    assert set(neuron.params) == {key for key in values if key != "reset"}
    spikes, states = [], []
    with torch.no_grad():
        for x in I:
            spikes.append(neuron(x))
            states.append(nd.get_states(neuron))
    assert (recorded["spikes"].sum(0) > 5).all()
    assert torch.equal(torch.stack(spikes).bool(), recorded["spikes"])
    V = torch.stack([s["V"] for s in states])
    torch.testing.assert_close(V, recorded["V"], rtol=0, atol=1e-9)
    for key in set(neuron.states) - {"V"}:
        values = torch.stack([s[key] for s in states[meta["every"] - 1 :: meta["every"]]])
        torch.testing.assert_close(values, recorded[f"state_{key}"], rtol=1e-9, atol=1e-9)
