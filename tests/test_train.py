"""``neurodyn train`` from the outside."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from neurodyn import data
from neurodyn.__main__ import main


def command(out, *more):
    return [sys.executable, "-m", "neurodyn", "train", "--epochs", "3", "--out", str(out), *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(command(out), capture_output=True, text=True, check=True)
    return out, done.stdout


@pytest.mark.slow
def test_it_learns_and_writes_what_it_says(undisturbed):
    out, printed = undisturbed
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert set(rows[0]) == {"epoch", "train_loss", "train_accuracy", "test_accuracy"}
    assert rows[-1]["train_loss"] < 0.6 < rows[0]["train_loss"]
    assert rows[-1]["test_accuracy"] > 90
    assert f"test accuracy {rows[-1]['test_accuracy']:.2f} %" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"epoch_{i:03}.safetensors" for i in (1, 2, 3)),
        "learning_curve.png",
        "metrics.jsonl",
        "raster.png",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.long), 2])
def test_killed_and_resumed_it_gives_the_same_numbers(undisturbed, tmp_path, epoch):
    process = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / f"epoch_{epoch:03}.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command(tmp_path, "--resume"), capture_output=True, check=True)
    assert (tmp_path / "metrics.jsonl").read_text() == (undisturbed[0] / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_resume_refuses_another_run(undisturbed, capsys):
    with pytest.raises(ValueError, match=r"holds a run with .*'seed': 0.*, not with .*'seed': 1"):
        main(["train", "--epochs", "3", "--seed", "1", "--resume", "--out", str(undisturbed[0])])


@pytest.mark.parametrize(("cutoff", "count"), [(200, 929), (800, 868)])
def test_receptor(cutoff, count):
    level, spikes = data.receptor(cutoff)
    assert level.shape == spikes.shape == (20_000,)
    assert spikes.sum() == count
    assert set(spikes.tolist()) == {0.0, 1.0}
    assert -40 < level.min() < level.max() <= 0
    assert abs(level.std() - 6) < 0.5
    with pytest.raises(ValueError, match="there are 200 and 800"):
        data.receptor(400)


@pytest.mark.parametrize(("name", "sizes"), [("vowels", ((270, 29, 12), (370, 29, 12))), ("digits", None)])
def test_data(name, sizes):
    training, test = data.load(name)
    if sizes:
        assert (tuple(training.x.shape), tuple(test.x.shape)) == sizes
        assert int(training.length.min()) == 7
        assert int(training.length.max()) == 26
        assert int(test.length.max()) == 29
        valid = torch.arange(29) < training.length[:, None]
        assert training.x[valid].mean(0).abs().max() < 1e-5
        assert training.x[~valid].abs().max() == 0
    for split in (training, test):
        assert torch.bincount(split.y).min() > 20
    with pytest.raises(ValueError, match="no set 'cats'"):
        data.load("cats")
