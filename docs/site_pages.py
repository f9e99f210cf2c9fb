"""Pages of the site that are made from other files: the README, the changelog, the notebooks and the gallery.

Hooks of mkdocs: `on_files` adds the pages, `on_page_markdown` turns links to those files into links to their pages.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: Any, **kwargs: Any) -> Files:
    """Add the pages that have no file in docs/."""
    made: dict[str, str | bytes] = {
        "start.md": _moved((ROOT / "README.md").read_text()),
        "changelog.md": _moved((ROOT / "CHANGELOG.md").read_text()),
    }
    first = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        names = {"unique_key": f"{path.stem}", "output_files_dir": f"{path.stem}_files"}
        page, resources = MarkdownExporter().from_filename(str(path), resources=names)
        made[f"notebooks/{path.stem}.md"] = f"{page}\n\n*This page is the notebook `notebooks/{path.name}`.*\n"
        made |= {f"notebooks/{name}": data for name, data in resources["outputs"].items()}
        title = re.search("^# (.*)$", page, re.MULTILINE)
        first[path.stem] = (title[1] if title else path.stem, next(iter(resources["outputs"])))
    made["gallery.md"] = _gallery(first)
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Links to the README and to notebooks lead to their pages."""
    markdown = markdown.replace("](../README.md)", "](start.md)")
    return re.sub(r"\]\((?:\.\./)?((?:\.\./)?(?:notebooks/)?\w+)\.ipynb\)", r"](\1.md)", markdown)


def _moved(text: str) -> str:
    """A page of the root folder as a page of docs/: links into docs/ are kept, of others the words are left."""
    text = re.sub(r"\[([^\]]*)\]\(notebooks\)", r"[\1](notebooks/1_first_neuron.md)", text.replace("](docs/", "]("))
    text = text.replace("(CHANGELOG.md)", "(changelog.md)")
    there = r"\[([^\]]*)\]\(((?!https?:|changelog\.md|notebooks/)[^)#]*)\)"
    return re.sub(there, lambda m: m[0] if (ROOT / "docs" / m[2]).exists() else m[1], text)


def _gallery(notebooks: dict[str, tuple[str, str]]) -> str:
    """Every picture of docs/pictures with the function that draws it, and the first picture of every notebook."""
    source = (ROOT / "docs" / "make_pictures.py").read_text()
    parts = [
        "---\nsearch:\n  boost: 0.2\n---",
        "# Gallery",
        "Below each picture is the code that draws it; a picture from a notebook is a link to the notebook.",
        "## Pictures of these pages",
        "The functions are in `docs/make_pictures.py`, which imports `torch`, `neurodyn as nd`, `neurodyn.plot` and "
        "`neurodyn.units as u`. `figure(rows, columns)` makes a figure and its axes.",
    ]
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and (ROOT / "docs" / "pictures" / f"{node.name}.png").exists():
            title = (ast.get_docstring(node) or node.name).rstrip(".")
            code = (ast.get_source_segment(source, node) or "").replace("\n", "\n    ")
            picture = f"[![{title}](pictures/{node.name}.png)](pictures/{node.name}.png)"
            parts += [f"### {title}", picture, f'??? example "Show the code"\n\n    ```py\n    {code}\n    ```']
    parts += ["## The README's picture", "![](raster.png)", "`neurodyn train` draws it: `neurodyn/train/pictures.py`."]
    parts.append("## Notebooks")
    for stem, (title, picture) in notebooks.items():
        page = f"notebooks/{stem}.md"
        parts += [f"### [{title}]({page})", f"[![{title}](notebooks/{picture})]({page})"]
    return "\n\n".join(parts) + "\n"
