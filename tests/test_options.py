"""Options of the command line: nonsense is refused before any work, by one line that names the option."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import neurodyn as nd
from neurodyn import examples
from neurodyn import units as u
from neurodyn.__main__ import _parser, main

NO_NUMBER = ["", " ", "x", "1.5.2", "0x10", "1e999", "nan", "inf", "-inf", "--", "9" * 5000, "1j"]
DEVICES = ["", "--", "x", "cuda:99", "gpu", "meta", "cpu:x", "cuda:-1", "xpu", "a" * 500]
TIMES = """0ms|-1s|10|ms|1|2mV|1 s s|nan ms|inf s|0.05ms|1e-9 ms|0.15 ms|1e300 s|9**9**9 ms|1/0 s|((((s|1e9s|1 parsec
1ms+1ms|__import__('os')|1 m|1.2.3 s|--|5 ms ago|1e5000 s"""
PICTURES = "folder|folder/|file/x.png|absent/x.png|absent/x|x.xyz|x.txt|taken|."
BAD = {
    ("train", "--data"): ["", "--", "cats", "Vowels"],
    ("train", "--epochs"): [*NO_NUMBER, "0", "-3", "2.0", "10000000"],
    ("train", "--seed"): [*NO_NUMBER, "-1", "1.5", str(2**64)],
    ("train", "--device"): DEVICES,
    ("train", "--out"): ["", " ", "--", "file", "file/x", "file/x/y", "a\0b", "n" * 300],
    ("simulate", "network"): ["", "cats", "COBA"],
    ("simulate", "--scale"): [*NO_NUMBER, "0", "-1", "0.001", "1e6"],
    ("simulate", "--duration"): ["", "9" * 400 + "s", *TIMES.replace("\n", "|").split("|")],
    ("simulate", "--seed"): [*NO_NUMBER, "-1", str(2**64)],
    ("simulate", "--device"): DEVICES,
    ("simulate", "--out"): ["", "--", "a\0b", "n" * 300, *PICTURES.split("|")],
    ("simulate", "--spikes"): ["", "--", "a\0b", "n" * 300, "x.png", *PICTURES.split("|")[:6], "folder.npz", "."],
    ("bench", "--device"): DEVICES,
}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken.png").mkdir()
    (tmp_path / "folder.npz").mkdir()
    return tmp_path


def words(command: str, option: str, value: str) -> list[str]:
    if option == "network":
        return [command, value]
    return [command, *(["coba"] if command == "simulate" else []), f"{option}={value}"]


@pytest.mark.parametrize(("command", "option"), BAD)
def test_nonsense_is_refused_in_one_line_that_names_the_option(
    here, command: str, option: str, capsys, monkeypatch
) -> None:
    def ran(*_: object, **__: object) -> None:
        raise AssertionError("it went to work")

    monkeypatch.setattr("neurodyn.train.train", ran)
    monkeypatch.setattr("neurodyn.cli.bench.bench", ran)
    monkeypatch.setattr(examples, "NETWORKS", {"coba": examples.Network(ran, ran, "", lambda _: 1.0)})
    before = sorted(here.rglob("*"))
    for value in BAD[command, option]:
        with pytest.raises(SystemExit) as stop:
            main(words(command, option, value))
        (line,) = capsys.readouterr().err.splitlines()
        assert stop.value.code == 2, value
        assert line.startswith(f"neurodyn {command}: error: argument {option}: "), (value, line)
        assert len(line) < 600, value
    assert sorted(here.rglob("*")) == before


def test_every_option_is_tried_with_nonsense() -> None:
    commands = next(action for action in _parser()._actions if action.dest == "command").choices
    takes = {
        (name, action.option_strings[-1] if action.option_strings else action.metavar)
        for name, parser in commands.items()
        for action in parser._actions
        if action.nargs != 0
    }
    assert takes == set(BAD)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["info", "x"], "unrecognized arguments: x"),
        (["train", "--quick"], "unrecognized arguments: --quick"),
        (["bench", "--scale", "2"], "unrecognized arguments"),
        (["simulate"], "required: network"),
        (["train", "--quiet=3"], "argument --quiet"),
        (["train", "--resume", "--overwrite"], "argument --overwrite: not allowed with argument --resume"),
        (["train", "--epochs"], "argument --epochs: expected one argument"),
        (["simulate", "brunel", "--scale", "900"], "argument --scale: its 1.3e\\+13 synapses take .* GiB"),
    ],
)
def test_what_does_not_exist_or_go_together(here, arguments: list[str], said: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    line = capsys.readouterr().err.rstrip("\n").split("\n")[-1]
    assert ": error: " in line
    assert re.search(said, line)


def test_values_that_are_meant(here) -> None:
    def read(*arguments: str):
        return _parser().parse_args(arguments)

    assert read("simulate", "coba", "--duration", "2.5 s").duration == 2.5 * u.s
    assert read("simulate", "coba", "--duration", "1e2ms").duration == 100 * u.ms
    assert read("simulate", "coba", "--duration", "300us").duration.to("ms").magnitude == pytest.approx(0.3)
    assert read("simulate", "coba").duration == 1 * u.s
    assert read("simulate", "coba", "--scale", "0.02").scale == 0.02
    assert read("simulate", "coba", "--out", "x").out == Path("x.png")
    assert read("simulate", "coba", "--out", "folder/x.PDF").out == Path("folder/x.PDF")
    assert read("train", "--out", "a/b/c").out == Path("a/b/c")
    assert not (here / "a").exists()
    assert read("train", "--seed", str(2**62)).seed == 2**62
    assert read("bench", "--device", "cpu").device == "cpu"


@pytest.mark.parametrize("name", examples.NETWORKS)
def test_the_smallest_scale_runs_and_the_estimate_of_synapses_is_right(name: str) -> None:
    chosen = examples.NETWORKS[name]
    net = chosen.build(0.02)
    assert len(chosen.run(net, 5 * u.ms, progress=False, compile=False)["spikes"]) >= 0
    synapses = sum(m.indices.numel() for m in net.modules() if isinstance(m, nd.Sparse))
    assert synapses == pytest.approx(chosen.synapses(0.02), rel=0.1)


def test_the_picture_is_where_it_is_said_to_be(here, capsys) -> None:
    assert main(["simulate", "coba", "--scale", "0.02", "--duration", "5ms", "--out", "x", "--quiet"]) == 0
    assert "see x.png" in capsys.readouterr().out
    assert (here / "x.png").read_bytes().startswith(b"\x89PNG")
    (here / "cuba.png").mkdir()
    with pytest.raises(SystemExit) as stop:  # the default is checked as well
        main(["simulate", "cuba", "--scale", "0.02", "--duration", "5ms"])
    assert stop.value.code == 2
    assert "argument --out: 'cuba.png' is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x", "x.npz", "x.csv"])
def test_spikes_are_written_if_asked(here, name: str, capsys) -> None:
    command = ["simulate", "coba", "--scale", "0.02", "--duration", "20ms", "--out", "x", "--quiet", "--spikes", name]
    assert main(command) == 0
    printed = capsys.readouterr().out
    path = here / (name if "." in name else f"{name}.npz")
    assert f"spikes in {path.name}" in printed
    if path.suffix == ".csv":
        first, *rows = path.read_text().splitlines()
        assert first == "time (ms),neuron"
        times, neurons = zip(*(map(float, row.split(",")) for row in rows), strict=True)
    else:
        found = np.load(path)
        assert (found["dt"], found["duration"], found["size"]) == (0.1, 20, 80)
        times, neurons = found["times"], found["neurons"]
    assert f" {len(times)} spikes" in printed
    assert len(times) > 0
    assert 0 <= min(times) <= max(times) < 20
    assert 0 <= min(neurons) <= max(neurons) < 80


def test_from_outside_there_is_no_traceback(here) -> None:
    root = Path(examples.__file__).parents[2]
    for arguments in (
        ["simulate", "coba", "--scale", "0"],
        ["train", "--device", "cuda:77"],
        ["bench", "--device", "x"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "neurodyn", *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        assert done.returncode == 2
        assert f"argument {arguments[-2]}: " in done.stderr
        assert "Traceback" not in done.stderr
