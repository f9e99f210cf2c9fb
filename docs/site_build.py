"""What the site needs beside its pages: signatures and keywords of the models; formulas and search without a network.

`Models` is an extension of griffe, which reads the docstrings for mkdocstrings; the others are hooks of mkdocs.
"""

from __future__ import annotations

import html
import importlib
import inspect
import re
from typing import Any

import griffe
from latex2mathml.converter import convert

from neurodyn.core.signature import rows


class Models(griffe.Extension):
    """The docstring of each class as a page shows it: with its signature and its table of keywords."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is None or obj.path.endswith("__"):
            return
        text = re.sub(r"^(\s*)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
        if obj.is_class:
            first, _, rest = text.partition("\n\n")
            cls = getattr(importlib.import_module(obj.module.path), obj.name, None)
            if isinstance(cls, type):
                text = "\n\n".join(part for part in (first, _call(cls), rest) if part)
                place = re.search(r"^(Args|Raises|Examples|Source)\b.*:", text, re.MULTILINE)
                start = place.start() if place else len(text)
                text = f"{text[:start].rstrip()}\n\n{_table(cls)}\n\n{text[start:]}"
        obj.docstring.value = text


def _call(cls: type) -> str:
    """The signature of a class as a block of code."""
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):
        return ""
    shown = [str(p.replace(annotation=p.empty)) for p in signature.parameters.values()]
    keyword = [i for i, p in enumerate(signature.parameters.values()) if p.kind is p.KEYWORD_ONLY]
    if keyword and not any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        shown.insert(keyword[0], "*")
    line = f"{cls.__name__}({', '.join(shown)})"
    if len(line) > 90:
        line = f"{cls.__name__}(\n" + "".join(f"    {part},\n" for part in shown) + ")"
    return f"```text\n{line}\n```"


def _table(cls: type) -> str:
    """Its keywords with their defaults, the values that they may take, and what they mean."""
    found = rows(cls, inspect.signature(cls).parameters) if hasattr(cls, "params") else []
    lines = [f"| `{name}` | {default} | {allowed} | {meaning} |" for name, default, allowed, meaning in found]
    return "\n".join(["| keyword | default | values | meaning |", "|---|---|---|---|", *lines]) if lines else ""


def on_page_content(content: str, **kwargs: Any) -> str:
    """Formulas as MathML, which browsers show by themselves."""

    def formula(found: re.Match[str]) -> str:
        block = found[1] == "div"
        latex = html.unescape(found[2]).strip().removeprefix(r"\(").removeprefix(r"\[")
        latex = latex.removesuffix(r"\)").removesuffix(r"\]")
        return f'<div class="formula">{convert(latex, display="block")}</div>' if block else convert(latex)

    return re.sub(r'<(span|div) class="arithmatex">(.*?)</\1>', formula, content, flags=re.DOTALL)


SHIM = "https://unpkg.com/iframe-worker/shim"  # what the theme's search loads from the network in pages from files


def on_post_page(output: str, page: Any, **kwargs: Any) -> str:
    """The site brings a script of its own in its place."""
    return output.replace(SHIM, f"{'../' * page.url.count('/')}site_search.js")


def on_post_template(output_content: str, **kwargs: Any) -> str:
    """The page for wrong addresses comes from a server, where nothing is needed."""
    return output_content.replace(SHIM, "site_search.js")
