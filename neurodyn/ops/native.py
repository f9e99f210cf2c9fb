"""temporary"""

import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile


class NotAvailable(RuntimeError):
    pass


@functools.cache
def load(path, header=""):
    src = header + __import__("pathlib").Path(path).read_text()
    h = hashlib.sha256(src.encode()).hexdigest()[:16]
    so = os.path.join(tempfile.gettempdir(), f"nd_{h}.so")
    if not os.path.exists(so):
        f = so + ".cpp"
        __import__("pathlib").Path(f).write_text(src)
        subprocess.run(
            [
                os.environ.get("CXX", "g++"),
                "-O3",
                "-march=native",
                "-fopenmp",
                "-shared",
                "-fPIC",
                "-std=c++17",
                f,
                "-o",
                so + f"{os.getpid()}",
            ],
            check=True,
        )
        os.replace(so + f"{os.getpid()}", so)
    return ctypes.CDLL(so)
