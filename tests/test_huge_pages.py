"""Large fresh tensors in huge pages."""

import sys

import pytest
import torch

import neurodyn as nd
from neurodyn.engine import pages


def test_large_sequence_is_the_eager_loop():
    xs = torch.rand(4, 1 << 20) * 3  # the output has 32 MB
    assert torch.equal(nd.unroll(nd.LIF(1 << 20), xs), nd.unroll(nd.LIF(1 << 20), xs, compile=False))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
def test_only_large_tensors_are_advised(monkeypatch):
    seen = []
    monkeypatch.setattr(pages, "_madvise", lambda start, length, advice: seen.append((start.value, length.value)))
    small, large = (pages.huge(torch.empty(n, dtype=torch.uint8)) for n in (2**20, 2**25 + 1000))
    assert len(seen) == 1
    start, length = seen[0]
    assert start % 4096 == length % 4096 == 0
    assert large.data_ptr() <= start < start + length <= large.data_ptr() + large.nbytes
    assert large.nbytes - length < 2 * 4096
    assert small.nbytes == 2**20
