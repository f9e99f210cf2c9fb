"""When a sequence becomes a CUDA graph and what a graph keeps, tried without a GPU; tests/test_cuda.py has one."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor

from neurodyn.engine import cuda_graphs


class Stream:
    def __init__(self, device: Any = None):
        self.device = device

    def wait_stream(self, other: Stream) -> None: ...


class Graph:
    """Replays the Python that ran in its cuda_graphs."""

    def replay(self) -> None:
        self.again()


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    found: list[Graph] = []
    stream, nothing = Stream(), contextlib.nullcontext()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nothing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nothing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, capture_error_mode: found.append(graph) or nothing)
    monkeypatch.setattr(cuda_graphs, "_graphs", type(cuda_graphs._graphs)())
    monkeypatch.setattr(cuda_graphs, "_refused", set())
    return found


class Work:
    """``([x], [a, big]) -> ([x * a + big.sum()], count)``, which in a graph writes to the same places again."""

    def __init__(self, captures: list[Graph]):
        self.captures, self.calls = captures, 0

    def __call__(self, changing: list[Tensor], constant: list[Tensor]) -> tuple[list[Tensor], int]:
        self.calls += 1
        y = torch.empty_like(changing[0])

        def again() -> None:
            y.copy_(changing[0] * constant[0] + constant[1].sum())

        again()
        if self.captures:
            self.captures[-1].again = again
        return [y], 7


def given(size: int = 3) -> tuple[list[Tensor], list[Tensor]]:
    return [torch.rand(size)], [torch.rand(size), BIG]


BIG = torch.rand(2**20, dtype=torch.float64)


def test_the_second_call_is_captured_and_the_third_replayed(captures: list[Graph]) -> None:
    work, results = Work(captures), []
    for _ in range(4):
        changing, constant = given()
        BIG.mul_(1.1)  # read in its place
        found = cuda_graphs.in_a_graph(work, "kind", changing, constant)
        if found is not None:
            results.append((found, changing[0] * constant[0] + BIG.sum()))
    assert len(results) == 3
    assert len(captures) == 1
    assert work.calls == 2  # once to warm up
    for ((y,), count), wanted in results:  # results are copies: later calls leave them as they are
        torch.testing.assert_close(y, wanted)
        assert count == 7


def test_other_shapes_kinds_and_places_are_other_graphs(captures: list[Graph]) -> None:
    work = Work(captures)
    changing, constant = given()
    for kind, x, c in (
        ("kind", changing, constant),
        ("other", changing, constant),
        ("kind", [torch.rand(2)], [torch.rand(2), BIG]),
        ("kind", [changing[0].float()], constant),
        ("kind", changing, [constant[0], BIG.clone()]),
    ):
        assert cuda_graphs.in_a_graph(work, kind, x, c) is None
    assert not captures


def test_no_graph_inside_a_capture_of_the_user(captures: list[Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert [cuda_graphs.in_a_graph(Work(captures), "kind", *given()) for _ in range(3)] == [None] * 3


def test_few_graphs_are_kept(captures: list[Graph]) -> None:
    work = Work(captures)
    for size in range(1, cuda_graphs._KEPT + 10):
        for _ in range(2):
            cuda_graphs.in_a_graph(work, "kind", *given(size))
    assert sum(graph is not None for graph in cuda_graphs._graphs.values()) == cuda_graphs._KEPT
    assert cuda_graphs.in_a_graph(work, "kind", *given(cuda_graphs._KEPT + 9)) is not None
    assert cuda_graphs.in_a_graph(work, "kind", *given(1)) is None


def test_large_constants_are_not_held(captures: list[Graph]) -> None:
    for _ in range(2):
        cuda_graphs.in_a_graph(Work(captures), "kind", *given())
    (graph,) = cuda_graphs._graphs.values()
    assert graph is not None
    assert graph.bytes == 3 * 3 * 8
    assert all(copy is not BIG for copy in graph.copies)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_capture_that_fails(captures: list[Graph], error: type[Exception]) -> None:
    def work(changing: list[Tensor], constant: list[Tensor]) -> Any:
        raise error

    assert [cuda_graphs.in_a_graph(work, "kind", *given()) for _ in range(4)] == [None] * 4
    assert not cuda_graphs._graphs


def test_what_is_worth_a_graph() -> None:
    class Fake:
        device, nbytes = torch.device("cuda"), 2**20

    assert cuda_graphs.is_worth(4, [Fake()], 0)
    assert not cuda_graphs.is_worth(3, [Fake()], 0)
    assert not cuda_graphs.is_worth(4, [torch.rand(3)], 0)
    assert not cuda_graphs.is_worth(8, [Fake()] * 129, 0)
    assert not cuda_graphs.is_worth(10_000, [Fake()], 2**28)
