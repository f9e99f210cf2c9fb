"""Compiling C++: the cache, flags, and what is said where it cannot be done."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from neurodyn.ops import native


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEURODYN_CACHE_DIR", str(tmp_path / "cache"))
    native.load.cache_clear()
    path = tmp_path / "answer.cpp"
    path.write_text('#ifndef N\n#define N 42\n#endif\nextern "C" int answer() { return N; }')
    return path


def again(path: Path, *flags: str) -> int:
    native.load.cache_clear()
    return native.load(path, *flags).answer()


def test_compiled_once_for_each_source_and_flags(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert again(file) == again(file) == 42
    (library,) = (tmp_path / "cache").iterdir()
    assert again(file, "-DN=7") == 7
    monkeypatch.setenv("NEURODYN_CXXFLAGS", "-DN=8")
    assert again(file) == 8
    monkeypatch.delenv("NEURODYN_CXXFLAGS")
    file.write_text(file.read_text().replace("42", "43"))
    assert again(file) == 43
    assert len(list((tmp_path / "cache").iterdir())) == 4
    assert library.exists()


def test_half_a_library_is_made_anew(file: Path, tmp_path: Path) -> None:
    native.load(file)
    (library,) = (tmp_path / "cache").iterdir()
    library.unlink()  # another file, as this process has mapped the old one
    library.write_bytes(b"\x7fELF")
    assert again(file) == 42


def test_a_cache_that_cannot_be_written_to(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file in the place of the folder")
    assert again(file) == 42
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(native.NotAvailable, match=r"answer\.cpp .*NEURODYN_CACHE_DIR"):
        again(file)


def test_a_full_disk(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that fails while little is free: the temporary folder, on another disk, is tried."""
    compiler = tmp_path / "g++"
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *{tmp_path}/cache*) echo "no space" >&2; exit 1;; esac\nexec g++ "$@"\n'
    )
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(native, "_ENOUGH", 2**63)
    assert again(file) == 42


def test_without_a_compiler(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++ -m64")
    with pytest.raises(native.NotAvailable, match=r"answer\.cpp needs a C\+\+ compiler, .*/nowhere/g.*set CXX"):
        again(file)
    monkeypatch.delenv("CXX")
    file.write_text("int answer() { return wrong; }")
    with pytest.raises(native.NotAvailable, match=r"(?s)answer\.cpp cannot be compiled; g\+\+ said: .*wrong"):
        again(file)


def test_many_processes_at_once(file: Path) -> None:
    code = (
        "import sys, pathlib; from neurodyn.ops import native; print(native.load(pathlib.Path(sys.argv[1])).answer())"
    )
    folder = str(Path(native.__file__).parents[2])
    call = lambda _: subprocess.run(  # noqa: E731
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": folder}
    )
    with ThreadPoolExecutor(3) as pool:
        assert [done.stdout.strip() for done in pool.map(call, range(3))] == 3 * ["42"]


@pytest.mark.parametrize("compiler", ["/bin/false", "/nowhere/g++"])
def test_without_a_compiler_nothing_is_said_about_vectors(compiler, monkeypatch):
    monkeypatch.setenv("CXX", compiler)
    assert not native.has_vectors.__wrapped__()


def test_a_compiler_that_does_not_know_the_processor(monkeypatch):
    monkeypatch.setattr(native, "_run", lambda command: "#define __SSE2__ 1\n")
    assert not native.has_vectors.__wrapped__()


def test_the_vectors_are_those_that_inductor_would_find():
    isa = pytest.importorskip("torch._inductor.cpu_vec_isa")
    if native.has_vectors():
        found = torch.backends.cpu.get_cpu_capability().lower()
        (same,) = [each for each in isa.supported_vec_isa_list if str(each) == found]
        assert same.check_build(same._avx_code)
