"""The networks that README and the pages show: every layer spikes, and every parameter has a gradient.

Classes, and other networks that this does not find, are looked at where the code of a page runs, see test_pages.py. In
a notebook, a layer that is stuck gives a `SilenceWarning`, and test_notebooks.py takes none.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u

ROOT = Path(__file__).parents[1]


def shown(page: Path) -> list[ast.expr]:
    """What each ``net = ...`` with a Sequential builds."""
    blocks = re.findall(r"```py(?:thon)?\n(.*?)```", page.read_text(), re.DOTALL)
    made = [node for block in blocks for node in ast.parse(block).body if isinstance(node, ast.Assign)]
    nets = [node.value for node in made if ast.unparse(node.targets[0]) == "net" and "Sequential" in ast.unparse(node)]
    named = [{part.id for part in ast.walk(net) if isinstance(part, ast.Name)} for net in nets]
    return [net for net, names in zip(nets, named, strict=True) if names <= {"torch", "nn", "nd", "u"}]


CASES = [(page, k) for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")) for k in range(len(shown(page)))]


def test_they_are_found():
    assert len(CASES) >= 12  # those that name other layers of the page are not counted


@pytest.mark.parametrize(("page", "k"), CASES, ids=[f"{page.name}-{k}" for page, k in CASES])
@pytest.mark.parametrize("seed", range(3))
def test_it_spikes_and_learns(page: Path, k: int, seed: int):
    torch.set_default_dtype(torch.float32)  # as a reader has it
    torch.manual_seed(seed)
    net = eval(compile(ast.Expression(shown(page)[k]), page.name, "eval"), {"torch": torch, "nn": nn, "nd": nd, "u": u})
    net = net.module if isinstance(net, nd.Unroll) else net
    statistics = nd.SpikeStatistics(net)
    xs = torch.randn(60, 16, net[0].in_features)
    ys, recording = nd.unroll(net, xs, record=statistics.layers, compile=False)
    statistics.add(recording)
    for name, rates in statistics.rates.items():
        assert rates.magnitude.mean() > 1, (name, statistics)
    (ys * torch.randn_like(ys)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.norm() > 0, name
