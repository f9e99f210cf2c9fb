"""The reference in docs/ has every public name, the menu every page, and the site is built without a warning."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import neurodyn as nd

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def shown(page: str) -> list[str]:
    """The paths whose docstrings a page shows."""
    return re.findall(r"^::: ([\w.]+)$", (DOCS / page).read_text(), re.MULTILINE)


def public(module: types.ModuleType) -> list[str]:
    """The names of a namespace: those that it lists, or else the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__.startswith(module.__name__)
    ]


NAMESPACES = {name: value for name in nd.__all__ if isinstance(value := getattr(nd, name), types.ModuleType)}


def test_every_public_name_is_in_the_reference() -> None:
    paths = shown("reference.md")
    assert sorted(path.rpartition(".")[2] for path in paths) == sorted(set(nd.__all__) - set(NAMESPACES))
    for path in paths:
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name) is getattr(nd, name), path


def test_every_name_of_the_namespaces_is_in_the_reference() -> None:
    wanted = [f"neurodyn.{name}" for name in NAMESPACES]
    wanted += [f"neurodyn.{name}.{member}" for name, module in NAMESPACES.items() for member in public(module)]
    assert sorted(shown("namespaces.md")) == sorted(wanted)


def test_public_names_have_docstrings() -> None:
    for name in nd.__all__:
        value = getattr(nd, name)
        if inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
            assert value.__doc__, name


def test_every_page_is_in_the_menu() -> None:
    menu = re.findall(r"^ +- (?:.*: )?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    made = [f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")]  # by docs/site_pages.py
    made += ["start.md", "gallery.md", "changelog.md"]
    assert sorted(menu) == sorted([*made, *(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))])


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for name in ("mkdocs", "material", "mkdocstrings", "latex2mathml", "nbconvert"):
        pytest.importorskip(name)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stderr[-2000:]
    reference = (tmp_path / "reference.html").read_text()
    for name in set(nd.__all__) - set(NAMESPACES):
        assert re.search(rf'id="neurodyn\.(\w+\.)*{name}"', reference), name
    assert "time constant of the membrane" in reference
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert 'class="arithmatex"' not in text, page.name
        assert not re.search(r'src="https?:|<link [^>]*href="https?:', text), page.name
    gallery = (tmp_path / "gallery.html").read_text()
    shown = re.findall(r'<img [^>]*src="([^"]+)"', gallery)
    pictures = [f"pictures/{path.name}" for path in (DOCS / "pictures").glob("*.png")]
    assert set(pictures) < set(shown)
    assert all((tmp_path / name).exists() for name in shown)
    assert gallery.count('<details class="example">') == len(pictures)
    assert sum(name.startswith("notebooks/") for name in shown) == len(list((ROOT / "notebooks").glob("*.ipynb")))
