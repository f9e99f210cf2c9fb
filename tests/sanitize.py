"""Runs the tests of the C++ files under AddressSanitizer and UndefinedBehaviorSanitizer, on Linux with g++.

    python tests/sanitize.py                    every .cpp file of the package, and the tests that call them
    python tests/sanitize.py tests/test_x.py    other tests, or options of pytest

Whatever is compiled by `neurodyn.ops.native` is checked; the first fault ends the run with a report.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLAGS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
TESTS = (
    "tests/ops/test_event.py",
    "tests/ops/test_add_pairs.py",
    "tests/ops/test_add_scaled.py",
    "tests/ops/test_ring.py",
    "tests/connections",
    "tests/engine/test_weight_passes.py",
    "tests/purity/test_same.py",
    "tests/test_eventprop.py",
)

#: In the process that is checked: compile all, so that none is left out only because nobody calls it.
COMPILE = """
import pathlib, sys
from neurodyn.engine.kernel_loop import recording
from neurodyn.ops import event, native
for path in sys.argv[1:]:
    recording._library() if "kernel_loop" in path else native.load(pathlib.Path(path))  # which defines its constants
    print("compiled with checks:", path)
"""

#: That the checks are at work: this has to end with a report.
PROBE = 'extern "C" int beyond(int n) { int* x = new int[n]; int y = ((volatile int*)x)[n]; delete[] x; return y; }'


def library(name: str) -> str:
    """Where g++ has its library `name`."""
    command = ["g++", f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="neurodyn-sanitize-") as folder:
        environment = os.environ | {
            # libstdc++ in front as well, else AddressSanitizer does not find how exceptions are thrown.
            "LD_PRELOAD": " ".join(map(library, ("libasan.so", "libubsan.so", "libstdc++.so.6"))),
            "ASAN_OPTIONS": "detect_leaks=0:detect_odr_violation=0",  # Python and torch leak at the end
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
            "NEURODYN_CXXFLAGS": FLAGS,
            "NEURODYN_CACHE_DIR": folder,
            "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        }
        probe = Path(folder) / "probe.cpp"
        probe.write_text(PROBE)
        call = f"import pathlib; from neurodyn.ops import native; native.load(pathlib.Path({str(probe)!r})).beyond(4)"
        done = subprocess.run([sys.executable, "-c", call], env=environment, cwd=ROOT, capture_output=True, text=True)
        if "heap-buffer-overflow" not in done.stderr:
            print("the sanitizers do not work here:", done.stderr[-2000:], sep="\n")
            return 1
        files = sorted(str(path) for path in (ROOT / "neurodyn").rglob("*.cpp"))
        done = subprocess.run([sys.executable, "-c", COMPILE, *files], env=environment, cwd=ROOT)
        if done.returncode:
            return done.returncode
        command = [sys.executable, "-m", "pytest", "-p", "no:faulthandler", *(sys.argv[1:] or TESTS)]
        return subprocess.run(command, env=environment, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
