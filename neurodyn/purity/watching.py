"""Is a step a pure function of tensors that the engine tracks?

`Watching` looks on while a step is traced. It sees every Python function that runs, and the globals and closures that
it can read, before it runs; and it stops the step before it calls anything whose effects cannot be seen. A snapshot of
all this, and of every attribute of the modules, then tells whether the step has changed anything. What it has changed
is put back: the step has not been taken yet.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import gc
import os
import random
import re
import sys
import sysconfig
import threading
import types
from _lsprof import Profiler
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from ..tools.errors import NotCompilable
from ..tools.generators import generator_states, restore_generators
from ..torch_private import around_operators, is_fake
from .leaves import from_trusted_module, is_trusted_name
from .overwritten import Overwritten, written_by
from .snapshot import Snapshot, is_hidden

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = sysconfig.get_paths()["stdlib"] + os.sep
_PACKAGES = os.path.dirname(os.path.dirname(_TORCH)) + os.sep
#: Packages that torch itself calls.
_TORCHS = tuple(_PACKAGES + name + os.sep for name in ("sympy", "mpmath", "numpy", "networkx", "triton"))
_TRUSTED_MODULES = (
    "torch",
    "sympy",
    "mpmath",
    "numpy",
    "networkx",
    "triton",
    __name__.partition(".")[0],
    *sys.stdlib_module_names,
)
#: Modules of the standard library that compute with their arguments alone.
_PLAIN = (
    "functools contextlib dataclasses enum typing abc copy operator numbers types weakref collections itertools inspect"
)
_TRUSTED = (
    _TORCH,
    *_TORCHS,
    _PACKAGES + "typing_extensions.py",
    _OWN,
    "<frozen ",
    *(_STANDARD + name + end for name in _PLAIN.split() for end in (".py", os.sep)),
)
_EFFECTS = (print, input, open, exec, eval, compile, __import__, breakpoint, globals)
_PURE = frozenset(
    "builtins math cmath _operator itertools _functools collections _collections _abc torch numpy".split()
)
_CONTAINERS = (str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset, range, slice, bytearray)
#: Namespaces of operators that do nothing but compute.
TRUSTED_OPERATORS = ("aten", "prims", "neurodyn")
_LOADS = {"LOAD_GLOBAL", "LOAD_NAME"}
_STORES = {"STORE_GLOBAL", "DELETE_GLOBAL"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
#: What a tensor without values, which stands for a parameter, answers in another way.
_OF_TENSORS = frozenset(
    "grad grad_fn is_leaf retains_grad is_inference _version _base data_ptr tolist initial_seed".split()
)
#: Functions of torch that answer of tensors, or of what a program is found by; the others with such names are refused.
_ANSWERED = frozenset(
    "is_tensor is_floating_point is_complex is_conj is_neg is_signed is_same_size is_nonzero is_storage "
    "get_default_dtype get_default_device is_autocast_enabled get_autocast_dtype".split()
)
_QUESTIONS = (torch.initial_seed, torch.random.initial_seed, nn.Parameter, nn.Buffer, torch.default_generator)
#: Names by which an attribute is read whose own name is data.
_BY_NAME = frozenset("getattr hasattr vars attrgetter methodcaller __dict__ __getattribute__".split())
#: Names in code that draws from the global generators of Python, NumPy and torch, or sets them.
_DRAWING = (
    frozenset("random seed gauss uniform choice choices shuffle sample randint randrange setstate".split()),
    frozenset("random rand randn randint seed normal uniform choice permutation shuffle poisson binomial".split()),
    frozenset("seed manual_seed set_rng_state fork_rng".split()),
)
#: Methods that nobody calls by their names.
_CALLED = re.compile(
    r"forward$|__(?!init__|new__|del__|class_getitem__|reduce|init_subclass__|set_name__|deepcopy__|copy__)"
)


_ATTRIBUTE, _ITEMS = re.compile(r"\.(\w+)"), re.compile(r"\[[^\]]*\]")
_thread = threading.local()


def is_watching() -> bool:
    """Whether a step of this thread is looked on; what it compiled would be stopped as an effect."""
    return getattr(_thread, "watching", False)


class Watching:
    """Inside, every Python function that runs is seen.

    Args:
        net: the module whose step runs.
        strict: False only puts everything back, and stops at effects that could not be.

    Attributes:
        reads: the globals that user code can read, as a snapshot of before.

    Raises:
        NotCompilable: the step changes something, or calls something that may have effects, or reads what is hidden.
    """

    def __init__(self, net: nn.Module, strict: bool = True):
        self.strict = strict
        self.objects, self.reads = Snapshot(effects=True), Snapshot(effects=True)
        self.objects.take(type(net).__name__, net)
        self.codes: set[types.CodeType] = set()
        self.attributes: set[str] = set()
        self.nested: set[types.CodeType] = set()
        self.of_tensors = {name for t in (*net.parameters(), *net.buffers()) for name in vars(t)}
        self.by_name, self.drew = False, False
        self.operators: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        self.overwritten = Overwritten()
        self.reason = ""

    def __enter__(self) -> Watching:
        if not self.strict:  # tensors have values, and the operators that draw do so
            self.operators = around_operators(self._note)  # first, as a torch may lack what this needs
            self.overwritten.note(self.objects.tensors().values())  # no operator shows what goes through .data
        self.outer, _thread.watching = is_watching(), True
        self.collects = gc.isenabled()
        gc.disable()  # what a collection calls is not part of the step
        self.generators = generator_states()
        self.operators.__enter__()
        self.profile = sys.getprofile()
        if isinstance(self.profile, Profiler):  # of cProfile, which Python can pause and cannot set again
            self.profile.disable()
        sys.setprofile(self._event)
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        sys.setprofile(None)
        self.operators.__exit__(kind, error, traceback)
        self.overwritten.undo()
        if isinstance(self.profile, Profiler):
            self.profile.enable()
        else:
            sys.setprofile(self.profile)
        _thread.watching = self.outer
        if self.collects:
            gc.enable()
        changed = self.objects.change() or self.reads.change()
        self.objects.restore()
        self.reads.restore()
        now = generator_states()
        held = [
            a if a != b and self._has_drawn(i) else None
            for i, (a, b) in enumerate(zip(self.generators, now, strict=True))
        ]
        if any(state is not None for state in held):
            restore_generators(held)
            changed = changed or "the state of a random generator"
        if self.reason:  # the step may have caught the exception that stopped it
            raise NotCompilable(self.reason) from None
        if not self.strict:
            return
        if changed:
            raise NotCompilable(f"its step changes {changed}") from None

    @contextlib.contextmanager
    def _note(self, operator: Any, classes: Any, args: Any, kwargs: Any) -> Iterator[None]:
        self.drew |= torch.Tag.nondeterministic_seeded in getattr(operator, "tags", ())
        self.overwritten.note(written_by(operator, args, kwargs))
        yield

    def _has_drawn(self, i: int) -> bool:
        """Whether the step may have used the i-th global generator, and no other thread."""
        return threading.active_count() == 1 or self.drew or not _DRAWING[i].isdisjoint(self.attributes)

    def _event(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if event == "call":
            if frame.f_code not in self.codes:
                self.codes.add(frame.f_code)
                if _is_users(frame):
                    self._enter(frame)
        elif event == "c_call" and isinstance(getattr(argument, "__self__", None), random.Random) and _is_users(frame):
            self.drew = True
        elif event == "c_call" and not _is_pure(argument) and _is_users(frame):
            self._stop(frame, f"calls {_name_of(argument)}, whose effects cannot be seen")

    def _enter(self, frame: types.FrameType) -> None:
        """Note what a function can read, before it does."""
        code, loaded = frame.f_code, None
        texts = [text for text in code.co_consts if isinstance(text, str)]  # names that getattr may be given
        by_name = not _BY_NAME.isdisjoint(code.co_names)
        self.by_name |= by_name
        self.attributes.update(code.co_names, texts)
        if (name := self._hidden()) is not None:
            self._stop(frame, f"may read {name}, an object that the engine cannot look into")
        if asked := self.of_tensors if by_name else self.of_tensors.intersection((*code.co_names, *texts)):
            self._stop(frame, f"reads {min(asked)}, an attribute of a parameter or buffer, which a trace lacks")
        if asked := _OF_TENSORS & set(texts):
            self._stop(frame, f"may ask a tensor for .{min(asked)}, and a trace would answer in another way")
        self.nested.update(part for part in code.co_consts if isinstance(part, types.CodeType))
        for instruction in dis.get_instructions(code):
            name = instruction.argval
            if instruction.opname in _LOADS:  # also of Python itself, until somebody defines one of that name
                self.reads.take_name(f"the global variable {name}", frame.f_globals, name)
            if instruction.opname in _STORES:
                self._stop(frame, f"assigns the global variable {name}")
            elif instruction.opname in ("LOAD_ATTR", "STORE_ATTR") and name == "data":
                self._stop(frame, "goes through .data, which leaves no trace in a graph; use .detach()")
            elif instruction.opname == "IMPORT_NAME" and not _is_trusted_module(name):
                self._stop(frame, f"imports {name or 'a module'}; import it at the top of the file")
            elif instruction.opname in _LOADS and name in frame.f_globals:
                loaded = name, frame.f_globals[name]
            elif instruction.opname in _ATTRIBUTES and loaded is not None and isinstance(loaded[1], types.ModuleType):
                module = loaded[1]
                if module.__name__.startswith("torch.backends"):
                    self._stop(frame, f"reads {loaded[0]}.{name}, a setting that may change")
                if name in vars(module) and not is_trusted_name(module.__name__):
                    self.reads.take_name(f"{loaded[0]}.{name}", vars(module), name)
                loaded = f"{loaded[0]}.{name}", getattr(module, name, None)
            else:
                self._check_read(frame, loaded)
                loaded = None
                if instruction.opname in _ATTRIBUTES and name in _OF_TENSORS:
                    self._stop(frame, f"asks a tensor for .{name}, and a trace would answer in another way")
        self._check_read(frame, loaded)
        found = self.objects.codes | self.reads.codes | self.nested
        if code.co_freevars and code not in found:
            self._stop(frame, f"runs {code.co_name} with a closure that the engine cannot look into")

    def _check_read(self, frame: types.FrameType, loaded: tuple[str, Any] | None) -> None:
        if loaded is None:
            return
        if any(loaded[1] is asked for asked in _QUESTIONS) or _asks_torch(loaded[1]):
            self._stop(frame, f"asks {loaded[0]}, and a trace would answer in another way")
        if is_hidden(loaded[1]):
            self._stop(frame, f"reads {loaded[0]}, a {type(loaded[1]).__name__} that the engine cannot look into")

    def _stop(self, frame: types.FrameType, what: str) -> None:
        place = f"{os.path.basename(frame.f_code.co_filename)}, line {frame.f_lineno}"
        self.reason = self.reason or f"its step {what} ({place})"
        raise NotCompilable(self.reason)

    def _hidden(self) -> str | None:
        """Something that a snapshot cannot look into, in an attribute that the code names or a global that it reads."""
        for label in (*self.objects.hidden, *self.reads.hidden):
            names = _ATTRIBUTE.findall(_ITEMS.sub("", label))
            if not names or self.by_name or names[-1] in self.attributes or _CALLED.match(names[-1]):
                return label
        return None


def _asks_torch(value: Any) -> bool:
    """Whether a value tells what torch is set to, which a program may not be found by."""
    name = getattr(value, "__name__", "") if callable(value) else ""
    return name.startswith(("is_", "get_")) and name not in _ANSWERED and getattr(torch, name, None) is value


def operators_unseen() -> contextlib.AbstractContextManager[Any]:
    """Inside, `Watching` does not look into torch's own operators: what these run in a trace is most of the work."""
    return around_operators(_unseen)


@contextlib.contextmanager
def _unseen(operator: Any, classes: Any, args: Any, kwargs: Any) -> Iterator[None]:
    if not all(map(is_fake, written_by(operator, args, kwargs))):
        raise NotCompilable("its step writes in place to a tensor that is neither a parameter nor a buffer")
    if str(operator) == "aten._local_scalar_dense.default" and not is_fake(args[0]):
        raise NotCompilable("its step reads a number from a tensor, which may have another value at the next call")
    profile = sys.getprofile()
    if getattr(operator, "namespace", "") not in TRUSTED_OPERATORS or not all(map(from_trusted_module, classes)):
        profile = None  # the user's own code may run, which has to be seen
    if profile is not None:
        sys.setprofile(None)
    try:
        yield
    finally:
        if profile is not None:
            sys.setprofile(profile)


def _is_users(frame: types.FrameType) -> bool:
    """Whether user code runs, or the standard library on its behalf; not what an import runs."""
    own, above = None, frame
    while above is not None:
        file = above.f_code.co_filename
        if file.startswith("<frozen importlib") or (own is None and _is_trusted(above)):
            return False
        if own is None and not _is_standard(file):
            own = above
        above = above.f_back
    return own is not None


def _is_trusted(frame: types.FrameType) -> bool:
    """Whether code is that of torch, of this library, or of the plain part of the standard library."""
    file = frame.f_code.co_filename
    if file.startswith("<"):  # made by a dataclass, a named tuple or torch.fx
        module, caller = frame.f_globals.get("__name__", ""), frame.f_back
        by_fx = caller is not None and caller.f_code.co_filename.startswith(_TORCH + "fx")
        return _is_trusted_module(module) or module.startswith("namedtuple_") or (not module and by_fx)
    return _is_trusted_file(file)


def _is_standard(file: str) -> bool:
    """Whether a file is one of the standard library, below which other packages may lie."""
    return file.startswith(_STANDARD) and not file.startswith(("site-packages", "dist-packages"), len(_STANDARD))


def _is_trusted_module(name: str) -> bool:
    return name.partition(".")[0] in _TRUSTED_MODULES


@functools.cache
def _is_trusted_file(file: str) -> bool:
    return file.startswith(_TRUSTED)


def _is_pure(function: Any) -> bool:
    """Whether something written in C has no effects but on its arguments, which are watched."""
    if function in _EFFECTS:
        return False
    owner = getattr(function, "__self__", None)
    if isinstance(owner, (random.Random, np.random.Generator, np.random.RandomState)):
        return True  # a draw shows in the state of the generator
    if owner is None or isinstance(owner, types.ModuleType):
        module = getattr(function, "__module__", None) or getattr(
            getattr(function, "__objclass__", None), "__module__", ""
        )
        return module.partition(".")[0] in _PURE and not module.startswith("numpy.random")
    kind = owner if isinstance(owner, type) else type(owner)
    if issubclass(kind, torch.autograd.Function) and function.__name__ == "apply":
        return True  # whose forward is a function in Python, which is watched
    return isinstance(owner, _CONTAINERS) or kind.__module__.partition(".")[0] in _PURE


def _name_of(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None) or (None if owner is None else type(owner).__module__)
    return f"{module}.{function.__name__}".removeprefix("builtins.").removeprefix("None.")
