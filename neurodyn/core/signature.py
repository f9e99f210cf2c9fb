"""What `help` and editors show of a model: its signature and a table of its keywords, from what the class declares."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, TypedDict

from torch import nn

#: Keywords that every model takes; their descriptions are those of `Dynamics`.
_COMMON = ("size", "dt", "learn", "device", "dtype")
#: Where the table goes: before the first of these headings of a docstring, which are for later reading.
_LATER = re.compile(r"^(Args|Raises|Examples?|Source)\b.*:", re.MULTILINE)


#: What other libraries call a keyword, in small letters, and its names here.
_ELSEWHERE = (
    dict.fromkeys(("beta", "decay", "tau_mem", "tau_m", "taum"), ("tau",))
    | dict.fromkeys(("threshold", "thresh", "v_threshold", "v_t", "v_thresh"), ("V_th",))
    | dict.fromkeys(("refractory", "t_ref", "t_refrac"), ("tau_ref",))
    | dict.fromkeys(("tau_rec", "tau_psc_rec"), ("tau_d",))
    | dict.fromkeys(("tau_fac", "tau_facil"), ("tau_f",))
    | dict.fromkeys(("spike_grad", "surrogate_function", "spike_fn"), ("surrogate",))
    | dict.fromkeys(("learn_beta", "learn_threshold", "trainable"), ("learn",))
    | {"reset_mechanism": ("reset",), "e_l": ("V_rest",), "tau_syn": ("tau",)}
)


@dataclass(frozen=True)
class Default:
    """The default of a keyword in a signature, which shows a quantity as ``5 ms``."""

    value: Any
    text: str

    def __repr__(self) -> str:
        return self.text


def written(value: Any) -> str:
    """A default as one reads it: ``5 ms``, ``0.02 / ms``."""
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    if callable(value) or value is None or isinstance(value, (str, bool, tuple)):
        return repr(value)
    try:
        return f"{value:g~}".strip() if hasattr(value, "magnitude") else f"{value:g}"
    except (TypeError, ValueError):  # an array
        return "..."


class Misspelt(TypedDict):
    """As ``**misspelt: Unpack[Misspelt]``, type checkers take no further keyword, and `refuse_misspelt` says which."""


class Whole:
    """As ``__signature__`` in the body of a class that is no `Recipe`: its whole signature, not that of instances."""

    def __get__(self, instance: object, owner: type) -> Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        return signature(owner)


class Called(type):
    """Of classes whose call names the nearest keyword, where Python says only that one is missing or unknown."""

    @property
    def __signature__(cls) -> Signature:
        # A property of the class, not of instances; and no attribute of it, whose change programs would notice.
        return signature(cls)

    if not TYPE_CHECKING:  # they read the constructor of the class instead

        def __call__(cls, *args: Any, **values: Any) -> Any:
            try:
                return super().__call__(*args, **values)
            except TypeError as error:
                if word := _not_taken(cls, values, str(error)):
                    raise TypeError(no_keyword(cls.__name__, cls, word)) from None
                raise


def _not_taken(cls: type, values: Mapping[str, Any], error: str) -> str | None:
    """The keyword of a call of `cls` that is to blame for Python's error about the arguments of a constructor."""
    if not any(f"{owner.__name__}.__init__() " in error for owner in cls.__mro__):
        return None
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", error)
    if unexpected:
        return unexpected[1] if unexpected[1] in values else None
    unknown = [word for word in values if word not in signature(cls).parameters]
    return unknown[0] if unknown and " missing " in error else None


def refuse_misspelt(misspelt: Mapping[str, Any], label: str, cls: type) -> None:
    """Refuse the keywords that are left over from a call of ``cls(...)``.

    Raises:
        TypeError: as `no_keyword` says it of the first one.
    """
    for word in misspelt:
        raise TypeError(no_keyword(label, cls, word))


def no_keyword(label: str, cls: type, word: str) -> str:
    """That ``cls(...)`` takes no keyword `word`, for a TypeError: what it takes, and which of it is nearest."""
    names = list(signature(cls).parameters)
    return f"{label} has no parameter {word!r}; it takes {', '.join(names)}{nearest(word, names)}"


def nearest(word: str, names: list[str]) -> str:
    """Which of the names was meant, for the end of a message; nothing if none is near."""
    near = [name for name in _ELSEWHERE.get(word.lower(), ()) if name in names]
    near = near or difflib.get_close_matches(word, names, 1)
    decay = " (tau = -dt / ln(beta) for a decay of beta per step)" if word in ("beta", "decay") else ""
    return f"; did you mean {near[0]}=?{decay if near and near[0] == 'tau' else ''}" if near else ""


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
    return Signature([_bare(p) for p in (*positional, *keywords)])


def described(cls: type) -> str | None:
    """The docstring of a model with the table of its keywords, which speaks for its constructors, too."""
    for owner, _ in _constructors(cls):
        init = vars(owner)["__init__"]
        init.__doc__ = init.__doc__ or ""  # else IPython shows what nn.Module says of its own
    doc, lines = inspect.cleandoc(cls.__doc__ or ""), table(cls)
    if not lines or re.search(r"^Keywords:$", doc, re.MULTILINE):
        return cls.__doc__
    later = _LATER.search(doc)
    place = later.start() if later else len(doc)
    parts = (doc[:place].rstrip(), "Keywords:\n" + "\n".join(f"    {line}" for line in lines), doc[place:])
    return "\n\n".join(part for part in parts if part) + "\n"


def table(cls: type) -> list[str]:
    """The lines of the table: each keyword with its default, the values that it may take, and its meaning."""
    taken = signature(cls).parameters
    found = rows(cls, taken)
    starts = [f"{name}={taken[name].default!r}" for name in taken if name.endswith("_initializer")]
    if not found and not starts:
        return []
    widths = [max([len(row[i]) for row in found], default=0) for i in range(3)]
    lines = ["  ".join([*(f"{row[i]:<{widths[i]}}" for i in range(3)), row[3]]).rstrip() for row in found]
    last = f"Also {', '.join(name for name in _COMMON if name in taken)}: see `neurodyn.Dynamics`."
    last = f"States at the start: {', '.join(starts)}. {last}" if starts else last
    return [*lines, *textwrap.wrap(last, 110, subsequent_indent="    ")]


def rows(cls: type, taken: Mapping[str, Parameter]) -> list[tuple[str, str, str, str]]:
    """Keyword, default, allowed values and meaning; without initial values and what the docstring itself explains."""
    declared, explained = getattr(cls, "params", {}), arguments(cls.__doc__)
    found: list[tuple[str, str, str, str]] = []
    for name, p in taken.items():
        if name in explained or name in _COMMON:
            continue
        field = declared.get(name)
        if field is None:
            default = "required" if p.default is Parameter.empty else repr(p.default)
            found.append((name, re.sub(r"\(.+\)$", "(...)", default), "", _meaning(cls, name)))
        elif field.doc or not name.endswith("_initializer"):
            default = f"required, {field.unit:~}" if p.default is Parameter.empty else field.computed or repr(p.default)
            found.append((name, default, field.domain.name if field.domain else "", field.doc))
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
    """What the nearest docstring says first of a keyword of a constructor, and the values that its annotation names."""
    constructors = list(_constructors(cls))
    texts = [arguments(owner.__doc__).get(name, "") for owner, _ in constructors]
    kind = next(str(p.annotation) for _, own in constructors for p in own if p.name == name)
    *others, last = re.findall(r"'[^']*'|\"[^\"]*\"", kind) or [""]
    first = next((re.split(r"[.;:](?:\s|$)", text)[0] for text in texts if text and not text.startswith("see ")), "")
    return "; ".join(part for part in (first, " or ".join(part for part in (", ".join(others), last) if part)) if part)


def _bare(p: Parameter) -> Parameter:
    """Without its annotation, a function as a default by its name, and a quantity as ``5 ms``: what fits a screen."""
    named = inspect.isroutine(p.default) or hasattr(p.default, "magnitude")
    return p.replace(annotation=Parameter.empty, default=Default(p.default, written(p.default)) if named else p.default)


def _keyword(name: str, field: Any) -> Parameter:
    default = Parameter.empty
    if field.default is not None or field.computed:
        default = Default(field.default, "..." if field.computed else written(field.default))
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default)


def _constructors(cls: type) -> Iterator[tuple[type, list[Parameter]]]:
    """Each class whose ``__init__`` gets arguments of ``cls(...)``, with these: up to one that passes nothing on."""
    for owner in cls.__mro__:
        if owner is nn.Module:
            return
        if inspect.isfunction(init := vars(owner).get("__init__")):
            own = list(inspect.signature(init).parameters.values())[1:]
            yield owner, own
            if not any(p.kind is Parameter.VAR_KEYWORD for p in own):
                return
