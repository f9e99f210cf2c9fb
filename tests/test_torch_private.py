"""Private names of torch: all in one file, none of them imported early, and each may be missing."""

from __future__ import annotations

import gc
import logging
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from paths import assert_same, outcome
from torch import nn

import neurodyn as nd
from neurodyn import torch_private
from neurodyn.loop import start
from neurodyn.purity.watching import is_watching

PACKAGE = Path(nd.__file__).parent
_PRIVATE = re.compile(r"\btorch\._(?!_)|\b_(inductor|dynamo|functorch|subclasses|higher_order_ops|guards)\b")


def code_of(line: str) -> str:
    return line.partition("#")[0]


def test_no_other_file_names_a_private_interface() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "torch_private.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _PRIVATE.search(code_of(line))
    ]
    assert not found, "\n".join(found)


def test_importing_neurodyn_imports_no_compiler() -> None:
    code = (
        "import sys, torch; before = set(sys.modules); import neurodyn; "
        "print(*sorted(m for m in set(sys.modules) - before if m.startswith(('torch._inductor', 'torch._dynamo'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_all_names_are_there() -> None:
    assert torch_private.missing() == []


class Cell(nn.Module):
    """A module of one's own, whose first step is tried to find the batch of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.neuron = nn.Linear(5, 5), nd.LIF(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron(self.weight(x))


NETS = {
    "of one's own": Cell,
    "LIF": lambda: nd.LIF(5, learn=("tau", "V_th")),
    "recurrent": lambda: nd.Recurrent(nd.LIF(5, learn="tau"), nn.Linear(5, 5)),
}
_NEEDED = torch_private._COMPILING


@pytest.fixture(params=torch_private.NAMES)
def lost(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, no_programs: None, unsaid: None) -> str:
    """A name that this torch does not have."""
    find = torch_private.find
    monkeypatch.setattr(torch_private, "find", lambda name: None if name == request.param else find(name))
    monkeypatch.setattr(start, "_seen", type(start._seen)())
    return request.param


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_without_one_of_them_the_numbers_are_right(lost: str, make, caplog: pytest.LogCaptureFixture) -> None:
    net, xs = make(), 3 * torch.rand(5, 2, 5)
    with warnings.catch_warnings(record=True) as told, caplog.at_level(logging.WARNING, "neurodyn"):
        warnings.simplefilter("always", nd.EagerWarning)
        found = outcome(net, xs)
        assert_same(outcome(net, xs, checkpoint=3), found)
    assert_same(found, outcome(net, xs, compile=False))
    reasons = [str(each.message) for each in told if issubclass(each.category, nd.EagerWarning)]
    assert gc.isenabled()
    assert not is_watching()
    if lost in _NEEDED:
        assert any(f"has no {torch_private.NAMES[lost].replace(':', '.')}" in reason for reason in reasons)


def test_a_name_is_not_cached_across_versions() -> None:
    with pytest.raises(KeyError):
        torch_private.find("no such name")
