"""The examples in the docstrings of all modules run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

MODULES = [info.name for info in pkgutil.walk_packages(nd.__path__, "neurodyn.") if not info.name.endswith(".__main__")]


def examples(module: str) -> list[doctest.DocTest]:
    found = importlib.import_module(module)
    return doctest.DocTestFinder().find(found, extraglobs={"nd": nd, "u": u, "torch": torch})


@pytest.mark.parametrize("module", ["neurodyn", *MODULES])
def test_examples(module: str) -> None:
    torch.set_default_dtype(torch.float32)  # as a reader has it; the fixture of the suite sets it back
    runner = doctest.DocTestRunner(verbose=False)
    assert sum(runner.run(example).failed for example in examples(module)) == 0


@pytest.mark.parametrize("name", nd.neurons.__all__)
def test_every_neuron_has_an_example(name: str) -> None:
    neuron = getattr(nd, name)
    assert any(test.name.endswith(f".{name}") and test.examples for test in examples(neuron.__module__))
