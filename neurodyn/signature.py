"""What `help` and editors show of a model: its signature and a table of its keywords, from what the class declares."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any

from torch import nn

#: Keywords that every model takes; their descriptions are those of `Dynamics`.
_COMMON = ("size", "dt", "learn", "device", "dtype")
#: Where the table goes: before the first of these headings of a docstring, which are for later reading.
_LATER = re.compile(r"^(Args|Raises|Examples?|Source)\b.*:", re.MULTILINE)


@dataclass(frozen=True)
class Default:
    """The default of a keyword in a signature, which shows a quantity as ``5 ms``."""

    value: Any
    text: str

    def __repr__(self) -> str:
        return self.text


def written(value: Any) -> str:
    """A default as one reads it: ``5 ms``, ``0.02 / ms``."""
    if callable(value) or value is None or isinstance(value, (str, bool)):
        return repr(value)
    try:
        return f"{value:g~}".strip() if hasattr(value, "magnitude") else f"{value:g}"
    except (TypeError, ValueError):  # an array
        return "..."


def signature(cls: type) -> Signature:
    """The arguments that ``cls(...)`` takes: those of its ``__init__``, then the parameters that it declares."""
    positional: list[Parameter] = []
    options: dict[str, Parameter] = {}
    passes_on = False
    for i, (_, own) in enumerate(_constructors(cls)):
        passes_on = any(p.kind is Parameter.VAR_KEYWORD for p in own)
        for p in own:
            if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD) and i == 0:
                positional.append(p)
            elif p.kind is Parameter.KEYWORD_ONLY:
                options.setdefault(p.name, p)
    declared = getattr(cls, "params", {}) if passes_on else {}
    taken = {p.name for p in positional}
    fields = sorted(declared, key=lambda name: name.endswith("_initializer"))  # a stable sort: the order of the class
    keywords = [options.pop(name, None) or _keyword(name, declared[name]) for name in fields if name not in taken]
    keywords += [options.pop(name) for name in list(options) if name not in (*taken, *_COMMON)]
    keywords += [options.pop(name) for name in _COMMON if name in options]
    return Signature([p.replace(annotation=Parameter.empty) for p in (*positional, *keywords)])


def described(cls: type) -> str | None:
    """The docstring of a model with the table of its keywords."""
    doc, lines = inspect.cleandoc(cls.__doc__ or ""), table(cls)
    if not lines:
        return cls.__doc__
    later = _LATER.search(doc)
    place = later.start() if later else len(doc)
    parts = (doc[:place].rstrip(), "Keywords:\n" + "\n".join(f"    {line}" for line in lines), doc[place:])
    return "\n\n".join(part for part in parts if part) + "\n"


def table(cls: type) -> list[str]:
    """The lines of the table: each keyword with its default, the values that it may take, and its meaning."""
    found = rows(cls)
    if not found:
        return []
    widths = [min(max(len(row[i]) for row in found), 30) for i in range(3)]
    lines = ["  ".join([*(f"{row[i]:<{widths[i]}}" for i in range(3)), row[3]]).rstrip() for row in found]
    rest = [name for name in _COMMON[1:] if name in signature(cls).parameters]
    return [*lines, f"{', '.join(rest)}: see `neurodyn.Dynamics`" if "dt" in rest else ", ".join(rest)]


def rows(cls: type) -> list[tuple[str, str, str, str]]:
    """Keyword, default, allowed values and meaning; without those that the docstring of the class explains itself."""
    declared, explained = getattr(cls, "params", {}), arguments(cls.__doc__)
    found, starts = [], []
    for name, p in signature(cls).parameters.items():
        if name in explained or name in _COMMON:
            continue
        field = declared.get(name)
        if field is None:
            default = "required" if p.default is Parameter.empty else repr(p.default)
            found.append((name, default, "", _meaning(cls, name)))
        elif name.endswith("_initializer") and not field.doc:
            starts.append((name, written(field.default)))
        else:
            found.append((name, _default(field), field.domain.name if field.domain else "", field.doc))
    if starts:
        found.append((*(", ".join(part) for part in zip(*starts, strict=True)), "", "states at the start"))
    return found


@functools.lru_cache(256)
def arguments(doc: str | None) -> dict[str, str]:
    """What the section ``Args:`` of a docstring says of each name."""
    section = re.search(r"^Args:\n((?:[ ]+.*\n|\n)*)", inspect.cleandoc(doc or "") + "\n", re.MULTILINE)
    found: dict[str, str] = {}
    for names, text in re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n     .*)*)", section[1] if section else "", re.M):
        found |= dict.fromkeys(names.split(", "), re.sub(r"\s+", " ", text))
    return found


def _meaning(cls: type, name: str) -> str:
    """The first sentence on a keyword in the docstring of the class whose constructor takes it, and its choices."""
    for owner, own in _constructors(cls):
        for p in own:
            if p.name == name and p.kind is not Parameter.VAR_KEYWORD:
                choices = " or ".join(re.findall(r"'[^']*'|\"[^\"]*\"", str(p.annotation)))
                sentence = re.split(r"[.;:](?:\s|$)", arguments(owner.__doc__).get(name, ""))[0]
                return "; ".join(part for part in (sentence, choices) if part)
    return ""


def _keyword(name: str, field: Any) -> Parameter:
    default = Parameter.empty
    if field.default is not None or field.computed:
        default = Default(field.default, "..." if field.computed else written(field.default))
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default)


def _default(field: Any) -> str:
    if field.computed:
        return field.computed
    return f"required, {field.unit:~}" if field.default is None else written(field.default)


def _constructors(cls: type) -> Iterator[tuple[type, list[Parameter]]]:
    """Each class whose ``__init__`` gets arguments of ``cls(...)``, with these: up to one that passes nothing on."""
    for owner in cls.__mro__:
        if owner is nn.Module:
            return
        if "__init__" in vars(owner):
            own = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
            yield owner, own
            if not any(p.kind is Parameter.VAR_KEYWORD for p in own):
                return
