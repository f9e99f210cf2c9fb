"""``neurodyn train`` from the outside."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from neurodyn import data, save
from neurodyn.__main__ import main
from neurodyn.train.folder import PICTURES, RunError, RunFolder


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
    subprocess.run(command(tmp_path, "--resume"), capture_output=True, check=True)  # pictures are known as its own


def refused(capsys, *arguments) -> str:
    """The error line of a command that is refused."""
    with pytest.raises(SystemExit) as stop:
        main(["train", "--quiet", *map(str, arguments)])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_resume_refuses_another_run(undisturbed, capsys):
    line = refused(capsys, "--epochs", "3", "--seed", "1", "--resume", "--out", undisturbed[0])
    assert re.search("argument --out: --resume: .*holds a run with .*'seed': 0.*, not with .*'seed': 1", line)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def a_run(folder, count=2, **record):
    """What a run leaves behind, made without training."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"epoch": i + 1, "train_loss": 1.0, "train_accuracy": 1.0, "test_accuracy": 1.0} for i in range(count)]
    record = {"data": "vowels", "epochs": 3, "seed": 0} | record
    for i in range(count):
        save(folder / f"epoch_{i + 1:03}.safetensors", record=record | {"metrics": rows[: i + 1]})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    picture = b"\x89PNG" + b"Software neurodyn train"
    for name in PICTURES:
        (folder / name).write_bytes(picture)
    return folder


def test_a_run_is_replaced_only_when_told(tmp_path, capsys):
    before = contents(a_run(tmp_path))
    line = refused(capsys, "--epochs", "3", "--out", tmp_path)
    assert f"{tmp_path} holds a run of neurodyn train already" in line
    for word in ("--resume", "--overwrite", "--out"):
        assert word in line
    assert contents(tmp_path) == before
    for name in list(before):  # each of its files alone is a run as well
        for other in before:
            (tmp_path / other).unlink(missing_ok=True)
        (tmp_path / name).write_bytes(before[name])
        assert "holds a run" in refused(capsys, "--out", tmp_path)
        if not name.startswith("epoch"):
            assert f"holds {name} and no checkpoint to go on from" in refused(capsys, "--out", tmp_path, "--resume")
        assert contents(tmp_path) == {name: before[name]}


MINE = {
    "epoch_best.safetensors": b"mine",
    "epoch_1.safetensors": b"mine",
    "epoch_777.safetensors": b"mine",  # beyond the epochs of the run
    "epoch_0001.safetensors.bak": b"mine",
    "notes.txt": b"mine",
    "metrics.part": b"mine",
    "deeper/epoch_001.safetensors": b"mine",
}


def test_what_it_did_not_write_it_does_not_delete(tmp_path):
    folder = a_run(tmp_path / "run")
    for name, content in MINE.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    save(folder / "epoch_800.safetensors", net={"w": torch.ones(1)})  # a checkpoint of something else
    other = (folder / "epoch_800.safetensors").read_bytes()
    RunFolder(folder, 3).start(overwrite=True)
    assert contents(folder) == MINE | {"epoch_800.safetensors": other}
    with pytest.raises(RunError, match=r"what looks like one \(epoch_1.safetensors\)"):
        RunFolder(folder, 3).start(overwrite=False)
    assert RunFolder(folder, 3).last({}) is None
    assert contents(folder) == MINE | {"epoch_800.safetensors": other}


@pytest.mark.parametrize("name", ["epoch_002.safetensors", "metrics.jsonl", "learning_curve.png", "raster.png"])
@pytest.mark.parametrize("how", [(), ("--overwrite",), ("--resume",)])
def test_files_of_others_in_the_way_are_not_written_over(tmp_path, capsys, name, how):
    for i, content in enumerate((b"mine", b'{"epoch": 1}\n', b"\x89PNG of my own")):
        folder = a_run(tmp_path / str(i), 1) if how else tmp_path / str(i)
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        before = contents(folder)
        line = refused(capsys, "--epochs", "3", "--out", folder, *how)
        assert f"{folder} holds {name}, which neurodyn train did not write" in line
        assert contents(folder) == before


def test_the_last_epoch_is_the_highest_number(tmp_path):
    settings = {"data": "vowels", "epochs": 1001, "seed": 0}
    folder = a_run(tmp_path, **settings)
    for epoch in (999, 1000):
        save(folder / f"epoch_{epoch}.safetensors", record=settings | {"metrics": [epoch]})
    path, metrics = RunFolder(folder, 1001).last(settings)
    assert (path.name, metrics) == ("epoch_1000.safetensors", [1000])


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
