"""The benchmarks run at toy sizes, and a peer that is missing is reported."""

import importlib
import json
from pathlib import Path

import pytest
import torch

import neurodyn as nd
from benchmarks import __main__ as command
from benchmarks import subprocesses, timing

OTHERS = ("long", "startup", "training_memory")  # they start processes


@pytest.fixture(autouse=True)
def _step_by_step(monkeypatch):
    """No compiling, no other processes, and torch's own number of threads again."""
    unroll, simulate, threads = nd.unroll, nd.simulate, torch.get_num_threads()
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(nd, "unroll", lambda *a, **k: unroll(*a, **(k | {"compile": False})))
    monkeypatch.setattr(nd, "simulate", lambda *a, **k: simulate(*a, **(k | {"compile": False})))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in OTHERS:
        monkeypatch.setattr(importlib.import_module(f"benchmarks.{name}"), "answer", lambda code, **_: 1.0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", command.NAMES)
def test_a_toy_of_each_writes_json(name: str, tmp_path: Path, capsys) -> None:
    command.main([name, "--toy", "--alone", "--rounds", "2", "--threads", "1", "--out", str(tmp_path)])
    result = json.loads((tmp_path / f"{name}.json").read_text())
    assert result["name"] == name
    assert result["machine"]["threads"] == 1
    for comparison in result["comparisons"]:
        assert comparison["ways"] or comparison["absent"]
        for way in comparison["ways"].values():
            assert 0 < way["least"] <= way["median"]
            assert way["quartiles"][0] <= way["ratio"] <= way["quartiles"][1]
    assert capsys.readouterr().out.startswith(f"== {name}: torch ")


def test_a_missing_peer_is_reported(tmp_path: Path) -> None:
    options = timing.Options(rounds=1, threads=1, toy=True, peers=tmp_path)
    (found,) = importlib.import_module("benchmarks.chain").run(options)
    assert found.absent == {"brainstate": "not installed, see benchmarks/peers.sh"}
    assert list(found.costs) == ["neurodyn", "neurodyn, checkpoint=64", "neurodyn, eager loop", "matrix products alone"]


def test_a_peer_that_fails_is_reported_and_ours_must_run() -> None:
    def broken() -> None:
        raise RuntimeError("no such thing\nand more")

    found = timing.alternate("title", {"ours": lambda: sum(range(99)), "theirs": broken}, timing.Options(rounds=3))
    assert found.absent == {"theirs": "RuntimeError: no such thing"}
    assert len(found.costs["ours"]) == 3
    with pytest.raises(RuntimeError, match="no such thing"):
        timing.alternate("title", {"ours": broken}, timing.Options())


def test_ratios_are_taken_round_by_round() -> None:
    found = timing.Comparison("title", {"ours": [1.0, 2.0, 4.0], "theirs": [3.0, 4.0, 4.0]}, {"theirs": 2.5})
    assert found.ratios("theirs") == (1.5, 2.0, 2.5)
    assert "2.5 !" in str(found)
    found.absent["a peer"] = "not here, " * 20
    found.title *= 30
    assert max(len(line) for line in str(found).splitlines()) == 80


def test_peak_memory_of_a_process() -> None:
    program = subprocesses.PEAK.format(threads=1, setup="", work="x = bytearray(60_000_000); del x")
    assert 55 < subprocesses.answer(program) < 75
    assert subprocesses.attempt(lambda: subprocesses.answer("import no_such_module")).startswith("not installed")
