"""The CUDA kernels in Triton's interpreter, on the CPU; skipped where Triton is not installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import os
import subprocess
import sys

import pytest
import torch

import neurodyn as nd
from neurodyn.ops import event, event_plain


def compare() -> None:
    """All three products against plain torch, for all kinds of weights, batches and dtypes."""
    from neurodyn.ops import event_triton as kernels

    sizes = (12, 300, 0.6), (7, 5, 0.3), (4, 6, 0.0)
    shapes, dtypes, programs = [(), (3,), (2, 2), (0,)], [torch.float32, torch.float64], [kernels._PROGRAMS, 3]
    for (n_in, n_out, prob), shape, dtype, kernels._PROGRAMS in itertools.product(sizes, shapes, dtypes, programs):
        random = torch.Generator().manual_seed(0)
        weight = nd.init.Normal(0.0, 1.0, random)
        net = nd.FixedProb(n_in, n_out, prob, weight=weight, generator=random, dtype=dtype)
        matrix, tolerance = (net.indptr, net.indices), 1e-12 if dtype == torch.float64 else 1e-4
        x = torch.rand(*shape, n_in, dtype=dtype) * (torch.rand(*shape, n_in) < 0.4)
        g = torch.rand(*shape, n_out, dtype=dtype)
        for w in (net.weight, torch.tensor(0.7, dtype=dtype)):
            for found, wanted in (
                (kernels.matmul(x, w, *matrix, n_out), event_plain.matmul(x, w, *matrix, n_out)),
                (kernels.input_grad(g, w, *matrix), event_plain.input_grad(g, w, *matrix)),
                (kernels.weight_grad(x, g, *matrix), event_plain.weight_grad(x, g, *matrix)),
            ):
                assert found.dtype == dtype
                torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


def has_interpreter() -> bool:
    """That of Triton 3.6 fails with NumPy 2.4."""
    if importlib.util.find_spec("triton") is None:
        return False
    return tuple(map(int, importlib.metadata.version("triton").split(".")[:2])) >= (3, 7)


@pytest.mark.skipif(not has_interpreter(), reason="Triton 3.7 or newer is not installed")
def test_the_three_products_in_the_interpreter() -> None:
    """In a process of its own, as Triton reads the variable when it is imported."""
    done = subprocess.run([sys.executable, __file__], env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_every_product_has_a_kernel_for_cuda() -> None:
    for name in ("matmul", "input_grad", "weight_grad"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"neurodyn::event_{name}", "CUDA")
    assert "neurodyn.ops.event_triton" not in sys.modules  # not before its first use


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="Triton is installed")
def test_without_triton_it_says_so() -> None:
    event.triton_kernels.cache_clear()
    with pytest.warns(nd.connections.PlainTorchWarning, match="pip install triton"):
        assert event.triton_kernels() is None


if __name__ == "__main__":
    compare()
