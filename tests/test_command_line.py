"""The commands: what they print fits 80 columns, and what is missing or wrong is said."""

import sys

import pytest

from neurodyn import bench, unroll
from neurodyn.__main__ import NETWORKS, main
from neurodyn.examples import NETWORKS as KNOWN


def test_simulate_prints_the_rate_and_draws(tmp_path, capsys):
    picture = tmp_path / "raster.png"
    arguments = ["simulate", "coba", "--scale", "0.1", "--duration", "50ms", "--out", str(picture)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "400 neurons" in printed
    assert "mean rate" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulate", "cats"], "invalid choice: 'cats'"),
        (["simulate", "coba", "--duration", "10"], "'10' is no time with a unit, such as 500ms or 2s"),
        (["simulate", "coba", "--duration", "2mV"], "'2mV' is no time with a unit"),
        (["train", "--data", "cats"], "invalid choice: 'cats'"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_words_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr().err
    assert "usage: neurodyn" in printed
    assert words in printed


@pytest.mark.parametrize("command", [[], ["train"], ["simulate"], ["bench"], ["info"]])
def test_help_fits_80_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    if command == ["simulate"]:
        assert all(f"  {name} " in printed for name in KNOWN)
        assert tuple(KNOWN) == NETWORKS


def test_info(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed)) <= 80
    names = ("neurodyn", "requires", "extras", "threads", "C++ compiler", "GPU", "compile cache")
    assert [line[:15].strip() for line in printed if line[0] != " "] == list(names)


def test_bench(capsys, monkeypatch):
    monkeypatch.setattr(bench, "T", 8)
    monkeypatch.setattr(bench, "SIZE", 2)
    monkeypatch.setattr(bench, "unroll", lambda net, xs, compile: unroll(net, xs, compile=False))
    table = bench.bench(rounds=2).splitlines()
    assert max(map(len, table)) <= 80
    assert [line.split("  ")[0] for line in table[-2:]] == ["forward", "forward + backward"]
    assert all(line.count(" ms") == 2 for line in table[-2:])


@pytest.mark.parametrize("package", ["safetensors", "matplotlib"])
def test_train_says_at_once_what_is_not_installed(package, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["train", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"neurodyn train needs {package}: pip install 'neurodyn[demo]'\n"
