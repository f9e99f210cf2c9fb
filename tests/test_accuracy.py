"""The tasks of ``python -m benchmarks accuracy`` build, learn, and keep their parts apart."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import neurodyn as nd
from benchmarks import __main__ as command
from benchmarks import accuracy
from benchmarks.accuracy import contact, ecg, task, training, yin_yang, yin_yang_times

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
    assert len(parts.train.x) > len(parts.validation.x) >= len(parts.train.x) // 10
    torch.manual_seed(0)
    net, batch = given.build(), task.taken(parts.train, torch.arange(16))
    optimizer, losses = torch.optim.Adam(net.parameters(), given.lr), []
    for _ in range(3):
        torch.manual_seed(1)  # the same noise and dropout
        loss = training.loss_of(net, given, batch)
        optimizer.zero_grad()
        loss.backward()
        assert all(bool(p.grad.isfinite().all()) for p in net.parameters())
        assert sum(bool(p.grad.any()) for p in net.parameters()) > 1
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_yin_and_yang_are_each_other_turned_around() -> None:
    """The symbol is its own negative after half a turn, but for its dots; classes are equally frequent."""
    x, y = torch.rand(2, 10_000, dtype=torch.float64)
    inside = torch.hypot(x - 0.5, y - 0.5) < 0.5
    here, there = (yin_yang.classes(a, b)[inside] for a, b in ((x, y), (1 - x, 1 - y)))
    assert torch.equal(here == 2, there == 2)
    assert torch.equal(here[here < 2], 1 - there[here < 2])
    part = yin_yang.draw(3000, 0)
    assert part.y.bincount(minlength=3).min() > 900
    assert torch.equal(yin_yang.classes(*part.x[:, :2].T), part.y)
    spikes = yin_yang.drive(part.x, False)
    assert torch.equal(spikes.sum(0), torch.ones(3000, 5))


def test_no_neuron_is_silent_at_the_start() -> None:
    """The input at the end sees to it, also where the others have no weights."""
    torch.manual_seed(0)
    net, times = yin_yang_times.Network(), yin_yang_times.drive(yin_yang.draw(200, 0).x, False)
    with torch.no_grad():
        assert 1.1 * 20.0 < -yin_yang_times.UNIT * net(times).max() < yin_yang_times.AT_LAST["out"][0]
        net.hidden[0].weight[:, :-1] = 0
        hidden = nd.spike_times(net.hidden, times, yin_yang_times.UNTIL)
        g = 12.0 / 3 * (torch.exp(-(hidden - 40) / 20) - torch.exp(-(hidden - 40) / 5))  # the potential, threshold 1
    torch.testing.assert_close(g, torch.ones(200, yin_yang_times.HIDDEN, 1), rtol=1e-5, atol=0)


def test_people_of_the_validation_are_not_in_the_training(recordings: Path) -> None:
    parts = ecg.load(recordings)
    assert [len(part.x) for part in parts] == [558, 60, 141]
    whole = ecg.read(recordings / "QTDB_train.mat").x
    held = [bool((whole[i] == parts.validation.x).all(2).all(1).any()) for i in range(len(whole))]
    assert sum(a != b for a, b in itertools.pairwise(held)) <= 2 * ecg.BLOCKS


def test_a_running_mean_leaves_the_weights() -> None:
    mean = training.running_mean(net := torch.nn.Linear(1, 1, bias=False), 0.5)
    seen = []
    for value in (1.0, 2.0, 4.0):
        with torch.no_grad():
            net.weight.fill_(value)
        mean.update_parameters(net)
        seen.append(mean.module.weight.item())
        assert net.weight.item() == value
    assert seen == [1.0, 1.5, 2.75]


def test_what_is_not_there_is_said(tmp_path: Path, capsys) -> None:
    arguments = ["accuracy", "--toy", "--alone", "--threads", "1", "--out", str(tmp_path)]
    threads = torch.get_num_threads()
    command.main([*arguments, "--tasks", "ecg"])
    torch.set_num_threads(threads)
    assert "not run: the data are not part of the package: --ecg FOLDER" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no task 'x'; there are vowels, digits"):
        command.main([*arguments, "--tasks", "x"])


def test_first_contact_learns() -> None:
    torch.manual_seed(0)
    net, run = contact.neurodyn("one hidden layer")
    x, y, *_ = contact.images()
    optimizer, losses = torch.optim.Adam(net.parameters(), 1e-3), []
    for _ in range(4):
        losses.append(contact.loss_of(net, run, x[:64], y[:64]))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
