"""The commands: what they print fits 80 columns, and what is missing or wrong is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import neurodyn
from neurodyn import unroll
from neurodyn.__main__ import NETWORKS, main
from neurodyn.cli import bench
from neurodyn.cli.options import device, folder, spike_file
from neurodyn.examples import NETWORKS as KNOWN

PROC = pytest.mark.skipif(not Path("/proc/self").exists(), reason="without /proc")


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
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("neurodyn")
    assert words in line


@pytest.mark.parametrize(
    ("arguments", "option", "words"),
    [
        (["bench", "--device", "cpu:7"], "--device", "'cpu:7' here (there is one cpu, without a number)"),
        (["train", "--device", "cpu:1"], "--device", "'cpu:1' here"),
        (["train", "--seed", "1\n2"], "--seed", "is no whole number"),
        (["info", "a\nb"], "unrecognized", "a b"),
        pytest.param(["train", "--out", "/proc/x"], "--out", "'/proc/x' cannot be written", marks=PROC),
        pytest.param(["train", "--out", "/proc/x/y"], "--out", "/proc takes no files", marks=PROC),
        pytest.param(["simulate", "coba", "--out", "/proc/x"], "--out", "/proc takes no files", marks=PROC),
        pytest.param(["simulate", "coba", "--spikes", "/proc/x"], "--spikes", "/proc takes no files", marks=PROC),
    ],
)
def test_nonsense_is_one_line_and_two(arguments, option, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("neurodyn")
    assert option in line
    assert words in line
    assert printed.out == ""


def test_a_folder_that_cannot_be_made_after_all_is_an_option_too(capsys, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(SystemExit) as stop:
        main(["train", "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "argument --out: " in line
    assert "cannot be made (No space left on device)" in line


def test_checked_places_stay_as_they_were(tmp_path):
    assert folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert spike_file(str(tmp_path / "x")) == tmp_path / "x.npz"
    assert device("cpu") == "cpu"
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize(
    ("cxx", "words"),
    [
        (None, ", works: "),
        ("/bin/false", "CXX=/bin/false does not work"),
        ("/nonexistent", "CXX=/nonexistent does not work"),
        ("", "none found"),
        ("/bin/true", "/bin/true was found and does not work"),  # what says its version and compiles nothing
        ("script", "was found and does not work (no space)"),
    ],
)
def test_info_says_whether_the_compiler_works(cxx, words, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\ncase $1 in --version) echo g++ 99;; *) echo 'no space' >&2; exit 1;; esac\n")
    script.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name != "CXX"}
    if cxx is not None:
        env["CXX"] = str(script) if cxx == "script" else cxx
    env["PYTHONPATH"] = str(Path(neurodyn.__file__).parents[1])
    done = subprocess.run([sys.executable, "-m", "neurodyn", "info"], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    printed = " ".join(done.stdout.split())
    assert words in printed
    assert ("step by step, with the same numbers; install g++" in printed) == (cxx is not None)
    assert max(map(len, done.stdout.splitlines())) <= max(80, len(str(script)) + 20)


def test_info_tells_the_rest_when_a_fact_cannot_be_told(capsys, monkeypatch, tmp_path):
    def broken():
        raise RuntimeError("driver too old\nand more")

    monkeypatch.setattr("neurodyn.cli.info.gpu", broken)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert "cannot be told (driver too old)" in printed
    assert "compile cache" in printed


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
