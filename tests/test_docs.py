"""The examples in the docstrings of all modules run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u

LEFT_OUT = (".__main__", ".event_triton")  # the latter cannot be imported without Triton
MODULES = [info.name for info in pkgutil.walk_packages(nd.__path__, "neurodyn.") if not info.name.endswith(LEFT_OUT)]


def examples(module: str) -> list[doctest.DocTest]:
    found = importlib.import_module(module)
    return doctest.DocTestFinder().find(found, extraglobs={"nd": nd, "u": u, "torch": torch})


@pytest.mark.parametrize("module", ["neurodyn", *MODULES])
def test_examples(module: str) -> None:
    torch.set_default_dtype(torch.float32)  # as a reader has it; the fixture of the suite sets it back
    runner = doctest.DocTestRunner(verbose=False)
    assert sum(runner.run(example).failed for example in examples(module)) == 0


PUBLIC = [name for name, value in vars(nd).items() if name in nd.__all__ and isinstance(value, type)]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_class_has_an_example(name: str) -> None:
    public = getattr(nd, name)
    if public is nd.SynapticOutput or not issubclass(public, torch.nn.Module):
        return
    assert any(test.name.endswith(f".{name}") and test.examples for test in examples(public.__module__))


def test_the_code_of_the_readme_runs(capsys) -> None:
    torch.set_default_dtype(torch.float32)
    text = (Path(__file__).parents[1] / "README.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    assert names["ys"].shape == (100, 16, 4)
    assert names["loss"] < 0.5 * nn.functional.cross_entropy(torch.zeros(16, 4), names["labels"])
    assert names["spikes"].sum() > 0
    assert "LIF(10): tau, got 20 millivolt; for example tau=1.0 * u.ms" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")  # torch.export's own
def test_the_code_of_the_page_on_torch_runs(capsys) -> None:
    torch.set_default_dtype(torch.float32)
    text = (Path(__file__).parents[1] / "docs" / "torch.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "torch.md", "exec"), names)
    assert names["ensemble"].shape == (3, 20, 8, 6)
    assert all(value.shape[0] == 8 for value in names["each"].values())
    assert torch.equal(torch.stack(names["ys"]), nd.unroll(names["net"], names["xs"], compile=False))
    printed = capsys.readouterr().out
    assert "LIF(6) is called again inside a backward pass" in printed
    assert "Time loop" in printed
