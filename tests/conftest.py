"""Fixtures of the whole suite."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Each worker has a core of its own; two threads in each would wait for each other longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# One compile cache for all workers and runs of the suite, apart from the user's own.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), "neurodyn-test-inductor"))

# A quarter of the time would go into optimising kernels that run once.
if shutil.which("g++"):
    os.environ.setdefault("CXX", str(Path(__file__).with_name("quick_g++")))

import pytest
import torch
from catalogue import MODELS, Model
from graphs import uncompiled

from neurodyn.engine import compiled_chunk, program, program_cache
from neurodyn.tools import errors


@pytest.fixture(autouse=True, scope="session")
def chunks_of_users() -> tuple[tuple[int, int], ...]:
    """In the tests chunks have two steps, for large models one, and compile several times as fast."""
    chunks, program.CHUNK = program.CHUNK, ((95, 2),)
    return chunks


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kernels", action="store_true", help="compile the chunks of all tests, not only of those marked kernels"
    )


_of_graphs = type(program_cache._shared)()  # the programs of tests without kernels


@pytest.fixture(autouse=True)
def _graphs_as_they_are(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs of compiled chunks run as they are, in a third of the time that Inductor takes, unless asked for."""
    if not (request.node.get_closest_marker("kernels") or request.config.getoption("--kernels")):
        monkeypatch.setattr(compiled_chunk, "compiled", uncompiled)
        monkeypatch.setattr(program_cache, "_shared", _of_graphs)


@pytest.fixture(autouse=True)
def _fixed() -> Iterator[None]:
    """Fixed seeds, float64 by default, and nothing of it left behind."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been compiled yet; what was is found again afterwards."""
    monkeypatch.setattr(program_cache, "_shared", type(program_cache._shared)())
    monkeypatch.setattr(program_cache, "_epoch", program_cache._epoch + 1)


@pytest.fixture
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once for each message has not been said yet."""
    monkeypatch.setattr(errors, "_said", set())


@pytest.fixture
def compilations(no_programs: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has an item for each chunk that is compiled from now on."""
    found, original = [], compiled_chunk.compiled
    monkeypatch.setattr(compiled_chunk, "compiled", lambda *given: found.append(1) or original(*given))
    return found


@pytest.fixture
def long_chunks(chunks_of_users: tuple, no_programs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of as many steps as users get."""
    monkeypatch.setattr(program, "CHUNK", chunks_of_users)


@pytest.fixture(params=MODELS, ids=lambda model: model.name)
def model(request: pytest.FixtureRequest) -> Model:
    """Each model of the catalogue in turn."""
    return request.param
