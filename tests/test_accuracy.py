"""The tasks of ``python -m benchmarks accuracy`` build, learn, and keep their parts apart; see its settings for numbers."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import neurodyn as nd
from benchmarks import __main__ as command
from benchmarks import accuracy
from benchmarks.accuracy import contact, ecg, task, training, yin_yang
from benchmarks.timing import Options

TASKS = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec("mnist1d") is None, reason="needs mnist1d"))
    if name == "mnist1d"
    else name
    for name in accuracy.TASKS
]


@pytest.fixture(autouse=True)
def _step_by_step(monkeypatch):
    """Without compiling, in float32 as the benchmark."""
    unroll = nd.unroll
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(nd, "unroll", lambda *a, **k: unroll(*a, **(k | {"compile": False})))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder like that of the ECG, with random spikes in shorter sequences; a label follows the first channel."""
    from scipy.io import savemat

    random = np.random.default_rng(0)
    for name, count in (("train", 618), ("test", 141)):
        x = random.integers(-1, 2, (count, 20, 4)).astype(np.int16)
        savemat(tmp_path / f"QTDB_{name}.mat", {"x": x, "y": np.eye(6, dtype=np.uint8)[x[:, :, 0] + 1]})
    return tmp_path


def rows(part: task.Part) -> set[bytes]:
    return {x.numpy().tobytes() for x in part.x}


@pytest.mark.parametrize("name", TASKS)
def test_parts_are_disjoint_and_the_loss_falls(name: str, recordings: Path) -> None:
    given = accuracy.TASKS[name]
    parts = given.load(recordings)
    assert not any(rows(a) & rows(b) for a, b in itertools.combinations(parts, 2))
    assert len(parts.train.x) > len(parts.validation.x) >= len(parts.train.x) // 12
    torch.manual_seed(0)
    net, batch = given.build(), task.taken(parts.train, torch.arange(16))
    optimizer, losses = torch.optim.Adam(net.parameters(), given.lr), []
    net.eval()  # no dropout, and norms as they are
    for _ in range(3):
        loss = training.loss_of(net, given, batch, training=False)
        optimizer.zero_grad()
        loss.backward()
        assert all(bool(p.grad.isfinite().all()) and bool(p.grad.any()) for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
