"""The examples in the docstrings of the public names run and print what they say."""

import doctest

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

PUBLIC = [name for name in nd.__all__ if (getattr(getattr(nd, name), "__doc__", None) or "").count(">>>")]


@pytest.mark.parametrize("name", PUBLIC)
def test_example(name: str) -> None:
    torch.set_default_dtype(torch.float32)  # as a reader has it; the fixture of the suite sets it back
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(verbose=False)
    for example in finder.find(getattr(nd, name), name, globs={"nd": nd, "u": u, "torch": torch}):
        assert runner.run(example).failed == 0
