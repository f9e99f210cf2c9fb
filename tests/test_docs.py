"""The examples in the docstrings of all modules run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".__main__", ".event_triton")  # the latter cannot be imported without Triton
MODULES = [info.name for info in pkgutil.walk_packages(nd.__path__, "neurodyn.") if not info.name.endswith(LEFT_OUT)]


def examples(module: str) -> list[doctest.DocTest]:
    found = importlib.import_module(module)
    return doctest.DocTestFinder().find(found, extraglobs={"nd": nd, "u": u, "torch": torch, "data": nd.data})


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


def learning(text: str) -> list[tuple[str, ...]]:
    """Step, loss and accuracy of each line that the README's network prints."""
    return re.findall(r"^step +(\d+): loss (\d\.\d\d), (\d+)% of the test images right$", text, re.MULTILINE)


def test_the_code_of_the_readme_runs_and_learns(capsys) -> None:
    torch.set_default_dtype(torch.float32)
    text = (ROOT / "README.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "README.md", "exec"), names)
    assert names["ys"].shape == (8, 1442, 10)
    printed = capsys.readouterr().out
    assert "LIF(10): tau, got 20 millivolt; for example tau=1.0 * u.ms" in printed

    ours, shown = learning(printed), learning(text)
    assert [line[0] for line in ours] == [line[0] for line in shown] == ["0", "20", "40", "60", "80", "100"]
    losses = [float(line[1]) for line in ours]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.2 * losses[0]
    assert losses == pytest.approx([float(line[1]) for line in shown], abs=0.1)  # rounding moves single spikes
    assert [int(line[2]) for line in ours] == pytest.approx([int(line[2]) for line in shown], abs=5)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {nd.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.filterwarnings("ignore")  # torch.export's own
def test_the_code_of_the_page_on_torch_runs(capsys) -> None:
    torch.set_default_dtype(torch.float32)
    text = (ROOT / "docs" / "torch.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "torch.md", "exec"), names)
    assert names["ensemble"].shape == (3, 20, 8, 6)
    assert all(value.shape[0] == 8 for value in names["each"].values())
    assert torch.equal(torch.stack(names["ys"]), nd.unroll(names["net"], names["xs"], compile=False))
    printed = capsys.readouterr().out
    assert "LIF(6) is called again inside a backward pass" in printed
    assert "Time loop" in printed
