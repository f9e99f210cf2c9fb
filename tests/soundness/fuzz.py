# ruff: noqa: NPY002  (what users write draws from the global generator; runs as a script too)
"""Runs a program of `written` in three ways and compares them: a loop by hand, `compile=False`, and compiled.

python -m tests.soundness.fuzz --seeds 0:500 --minutes 10    looks for differences; a crash is one, too
python -m tests.soundness.fuzz --seeds 17:18 --show          also prints the program
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import importlib.util
import pickle
import random
import subprocess
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

if str(Path(__file__).parents[1]) not in sys.path:
    sys.path.insert(0, str(Path(__file__).parents[1]))

from graphs import uncompiled
from soundness.written import program

import neurodyn as nd
from neurodyn import units as u
from neurodyn.core.states import check_dt

WAYS = ("loop", "eager", "compiled")
_folder = tempfile.TemporaryDirectory(prefix="neurodyn-fuzz-")
_loaded = 0


# --- what programs use ------------------------------------------------------------------------------------------------


def draw(*shape: int) -> Tensor:
    """Weights that keep their input about as large as it was."""
    return (torch.rand(shape) - 0.4) * 2 / shape[-1] ** 0.5


def linear(n: int, scale: float) -> nn.Linear:
    """A layer whose output is about `scale` times as large."""
    made = nn.Linear(n, n)
    nn.init.uniform_(made.weight, 0.0, 2 * scale / n)
    return made


def pick(net: nn.Module, kind: type, i: int) -> Any:
    """One of the modules of this kind."""
    found = [module for module in net.modules() if isinstance(module, kind)]
    return found[i % len(found)] if found else kind(2, 2) if kind is nn.Linear else kind(2)


def any_module(net: nn.Module, i: int) -> nn.Module:
    """One of the modules."""
    found = list(net.modules())
    return found[i % len(found)]


def parameter(net: nn.Module, i: int) -> nn.Parameter:
    """One of the parameters."""
    found = list(net.parameters()) or [nn.Parameter(torch.ones(1))]
    return found[i % len(found)]


def place(net: nn.Module, kind: type, i: int) -> tuple[nn.Module, str]:
    """The owner and the name of one of the modules of this kind."""
    found = [(m, name) for m in net.modules() for name, child in m._modules.items() if type(child) is kind]
    return found[i % len(found)] if found else (nn.ModuleDict({"none": nn.Linear(2, 2)}), "none")


def pickled(net: nn.Module) -> nn.Module:
    """A copy by pickle, if that is possible."""
    try:
        return pickle.loads(pickle.dumps(net))
    except (pickle.PicklingError, AttributeError, TypeError):
        return net


def scaled(value: Any) -> Any:
    """Half of every tensor."""
    return pytree.tree_map_only(Tensor, lambda t: 0.5 * t, value) if not callable(value) else value


def having(net: nn.Module, name: str) -> list[nn.Module]:
    """The modules of written classes with an attribute of this name."""
    return [m for m in net.modules() if type(m).__module__.startswith("fuzzed") and hasattr(m, name)]


def written(net: nn.Module) -> list[type]:
    """The written classes in a network."""
    return list({type(m): None for m in net.modules() if type(m).__module__.startswith("fuzzed")})


# --- running ----------------------------------------------------------------------------------------------------------


def load(text: str, name: str) -> types.ModuleType:
    """The program as a module of its own."""
    global _loaded
    _loaded += 1
    file = Path(_folder.name, f"{name}_{_loaded}.py")
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(f"fuzzed_{name}_{_loaded}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def seed_all(seed: int) -> None:
    """All the global random generators."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def dtype_of(net: nn.Module) -> torch.dtype:
    """The dtype that the first layer with states computes in."""
    for module in net.modules():
        if isinstance(module, nd.Dynamics):
            found = [t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None]
            return next((t.dtype for t in found if t.is_floating_point()), torch.get_default_dtype())
    return torch.get_default_dtype()


def stack(outs: list[Any]) -> Any:
    """The outputs of all steps with time in front."""
    return pytree.tree_map(lambda *ys: torch.stack(ys), *outs)


def called(net: nn.Module, names: set[str]) -> list[Any]:
    """Hooks that note which layers with states are called; to be removed."""
    return [
        module.register_forward_pre_hook(lambda *_, name=name: names.add(name))
        for name, module in net.named_modules()
        if isinstance(module, nd.Dynamics)
    ]


class Raised(Exception):
    """The program raised in the forward pass."""


def play(way: str, net: nn.Module, call: dict[str, Any], number: int) -> dict[str, Any]:
    """What one call gives, by name."""
    T, batch, kind = call["T"], call["batch"], call["kind"]
    # The size of the written networks is that of their first input.
    size, dtype = call["size"], dtype_of(net)
    generator = torch.Generator().manual_seed(number)
    xs = [
        (torch.rand((T, *batch, size), generator=generator, dtype=torch.float64) * 1.5 - 0.2).to(dtype)
        for _ in range(call.get("inputs", 1))
    ]
    given = None
    grads = kind not in ("no_grad", "simulate", "stream")
    leaves = xs
    if grads and call.get("grad_x", True):
        leaves = [x.requires_grad_() for x in xs]
    for p in net.parameters():
        p.grad = None
    if kind == "states":
        nd.reset_states(net, *batch)
        given = {
            name: (value.detach() + 0.1 * torch.rand(value.shape, generator=generator, dtype=torch.float64)).to(
                value.dtype
            )
            for name, value in nd.get_states(net).items()
        }
        given = {name: value.requires_grad_() for name, value in given.items()} if grads else given
    seed_all(number)
    found: dict[str, Any] = {}
    names: set[str] = set()
    with torch.set_grad_enabled(grads):
        if way in ("loop", "again"):  # "again" is a loop, too: a difference from it is one of the fuzzer
            hooks = called(net, names)
            ys, final, traces = by_hand(net, xs, batch, given, call)
            for hook in hooks:
                hook.remove()
        else:
            ys, final, traces = by_neurodyn(net, xs, batch, given, call, way == "compiled")
    found["called"] = names
    for i, leaf in enumerate(pytree.tree_leaves(ys)):
        found[f"output {i}"] = leaf.detach().clone() if isinstance(leaf, Tensor) else leaf
    for name, trace in traces.items():
        found[f"record {name}"] = trace.detach().clone()
    if grads:
        outs = [*pytree.tree_leaves(ys), *traces.values(), *(final.values() if kind == "return_states" else ())]
        outs = [y for y in outs if isinstance(y, Tensor) and y.requires_grad and y.is_floating_point()]
        if outs:
            loss = sum((y * torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view_as(y)).sum() for y in outs)
            try:
                loss.backward()
            except RuntimeError as error:
                found["backward"] = f"{type(error).__name__}: {error}"
        found |= {f"gradient of {name}": p.grad for name, p in net.named_parameters()}
        found |= {f"gradient of input {i}": x.grad for i, x in enumerate(leaves)}
        found |= {f"gradient of state {name}": s.grad for name, s in (given or {}).items()}
    found |= {f"input {i} afterwards": x.detach() for i, x in enumerate(xs)}
    return found


def by_hand(net: nn.Module, xs: list[Tensor], batch: Any, given: Any, call: dict) -> tuple[Any, dict, dict]:
    """The outputs, final states and records of a loop over the steps."""
    nd.reset_states(net, *batch)
    if given is not None:
        nd.set_states(net, given)
    outs, traces = [], collections.defaultdict(list)
    for t in range(call["T"]):
        outs.append(net(*[x[t] for x in xs]))
        if call["kind"] in ("record", "simulate"):
            for name in recorded(net):
                traces[name].append(nd.get_states(net)[name])
    final = nd.get_states(net)
    if call["kind"] != "return_states":
        nd.detach_states(net)
    else:
        final = dict(final)
        nd.detach_states(net)
    several = call["kind"] == "simulate" and call.get("several")  # of which simulate gives none
    return [] if several else stack(outs), final, {name: torch.stack(rows) for name, rows in traces.items()}


def recorded(net: nn.Module) -> list[str]:
    """The states that are recorded: those of the first layer."""
    names = [
        f"{n}.{s}".removeprefix(".") for n, m in net.named_modules() if isinstance(m, nd.Dynamics) for s in m.states
    ]
    return [name for name in names if "unused" not in name][:1]


def by_neurodyn(net: nn.Module, xs: list[Tensor], batch: Any, given: Any, call: dict, compile: bool):
    """The same from neurodyn."""
    kind, arguments = call["kind"], tuple(xs) if len(xs) > 1 else xs[0]
    if kind == "stream" and compile:
        nd.reset_states(net, *batch)
        step = nd.Stream(net, tuple(x[0] for x in xs) if len(xs) > 1 else xs[0][0])
        outs = [pytree.tree_map(torch.clone, step(*[x[t] for x in xs])) for t in range(call["T"])]
        return stack(outs), {}, {}
    if kind == "simulate":
        T = call["T"]

        def rows(first: int, n: int, generator: Any) -> Any:
            cut = [torch.cat([x, x[-1:].expand(first + n, *x.shape[1:])])[first : first + n] for x in xs]
            return tuple(cut) if len(cut) > 1 else cut[0]

        duration = T * check_dt(net) * u.ms
        names = recorded(net)
        wanted = names if call.get("several") else ["output", *names]
        got = nd.simulate(net, duration, rows, wanted, batch=batch, compile=compile, progress=False)
        traces = {name: got[name].values for name in names}
        return [] if call.get("several") else got["output"].values, {}, traces
    options: dict[str, Any] = {"compile": compile}
    if kind == "checkpoint":
        options["checkpoint"] = 3
    if kind == "record":
        names = recorded(net)
        ys, got = nd.unroll(net, arguments, record=names, **options)
        return ys, {}, {name: got[name].values for name in names}
    if kind == "return_states":
        return *nd.unroll(net, arguments, return_states=True, **options), {}
    return nd.unroll(net, arguments, states=given, **options), {}, {}


# --- what is left -----------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Something that can be compared."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (int, float, str, bool, type(None))):
        return value
    if isinstance(value, (list, tuple, collections.deque)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if dataclasses.is_dataclass(value) or isinstance(value, types.SimpleNamespace) or type(value).__name__ == "Inner":
        return plain(vars(value))
    return None


def left(net: nn.Module, program: types.ModuleType) -> dict[str, Any]:
    """Attributes, buffers, parameters, globals and the state of random generators."""
    found: dict[str, Any] = {}
    for path, module in net.named_modules():
        states = module.states if isinstance(module, nd.Dynamics) else ()
        for name, value in dict(module._buffers).items():
            found[f"{'state' if name in states else 'buffer'} {path}.{name}"] = plain(value)
        for name, value in module._parameters.items():
            found[f"parameter {path}.{name}"] = plain(value)
        if type(module).__module__.startswith("fuzzed"):
            for name, value in vars(module).items():
                if not name.startswith("_"):
                    found[f"attribute {path}.{name}"] = plain(value)
    for name in ("GAIN", "OPTIONS", "SETTINGS", "KEPT", "COUNTS", "SEEN"):
        if hasattr(program, name):
            found[f"global {name}"] = plain(getattr(program, name))
    found["random numbers of torch"] = torch.get_rng_state()
    found["random numbers of numpy"] = str(np.random.get_state())
    found["random numbers of Python"] = str(random.getstate())
    return found


def differs(a: Any, b: Any, tolerance: float) -> str | None:
    """How two values differ, or None."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{tuple(b.shape)} {b.dtype}, wanted {tuple(a.shape)} {a.dtype}"
        if not a.is_floating_point():
            return None if torch.equal(a, b) else "other integers"
        x, y = a.double(), b.double()
        if not torch.equal(x.isnan(), y.isnan()):
            return "nan in other places"
        worst = (x - y).nan_to_num(posinf=0, neginf=0).abs().max().item() if x.numel() else 0.0
        size = x.nan_to_num(posinf=0, neginf=0).abs().max().item() if x.numel() else 0.0
        return f"by {worst:.3g} of {size:.3g}" if worst > tolerance * max(1.0, size) else None
    if isinstance(a, float) and isinstance(b, float):
        return None if abs(a - b) <= tolerance * max(1.0, abs(a)) or a != a else f"{b}, wanted {a}"
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next((d for x, y in zip(a, b, strict=True) if (d := differs(x, y, tolerance))), None)
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return next((f"{k}: {d}" for k in a if (d := differs(a[k], b[k], tolerance))), None)
    if type(a) is not type(b) or isinstance(a, (list, dict)):
        return f"{told(b)}, wanted {told(a)}"
    return None if a == b else f"{told(b)}, wanted {told(a)}"


def told(value: Any) -> str:
    """A few words about a value."""
    if isinstance(value, list):
        return f"{len(value)} entries"
    return str(value)[:80]


def compare(wanted: dict[str, Any], got: dict[str, Any], tolerance: float) -> list[str]:
    """What differs, one line each."""
    if "error" in wanted or "error" in got:
        if "error" in wanted and "error" in got:
            return []
        if "error" in wanted:
            return [f"no error, wanted {wanted['error'][:200]}"]
        return [f"an error, the loop has none: {got['error'][:300]}"]
    if tolerance > 0.1:  # rounding moves spikes: only kinds are compared
        outs = [k for k in wanted if k.startswith("output")]
        return [f"{k} has another kind" for k in outs if _kind(wanted[k]) != _kind(got.get(k))]
    if "backward" in wanted:  # written in place after it was kept; a loop that keeps a copy may do better
        wanted = {k: v for k, v in wanted.items() if not k.startswith(("gradient", "backward", "global SEEN"))}
    elif "backward" in got:
        return [f"the backward pass raises, that of the loop does not: {got['backward'][:300]}"]
    lines, called = [], wanted["called"]
    for name, value in wanted.items():
        if name == "called" or ("unused" in name and name.startswith("state")):
            continue
        other = got.get(name)
        if name.startswith("state ") and name.removeprefix("state ").rpartition(".")[0] not in called:
            continue
        if name.startswith("gradient"):  # no gradient is a gradient of zero
            if value is None and other is None:
                continue
            value = torch.zeros_like(other) if value is None else value
            other = torch.zeros_like(value) if other is None else other
        if (how := differs(value, other, tolerance)) is not None:
            lines.append(f"{name} differs: {how}")
    return lines


def _kind(value: Any) -> Any:
    return (value.shape, value.dtype) if isinstance(value, Tensor) else type(value)


def run(text: str, ways: tuple[str, ...] = WAYS, seed: int = 0) -> tuple[int, list[str]]:
    """The number of comparisons and the first differences of a program."""
    modules = {way: load(text, way) for way in ways}
    first = modules["loop"]
    before = torch.get_default_dtype()
    torch.set_default_dtype(first.DTYPE)
    compared, said = 0, []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nets = {}
            for way in ways:
                seed_all(seed)
                nets[way] = modules[way].build()
            for i, call in enumerate(first.CALLS):
                call = call | {"size": first.N}
                results = {}
                if call.get("before"):
                    for way in ways:
                        seed_all(seed + i)
                        nets[way] = getattr(modules[way], call["before"])(nets[way])
                for way in ways:
                    results[way] = attempt(way, nets[way], modules[way], call, seed * 100 + i)
                dtype = dtype_of(nets["loop"])
                tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 1.0)
                tolerance = 1e-4 if first.DTYPE is torch.float32 and tolerance < 1e-4 else tolerance
                compared += 1
                for way in ways[1:]:
                    lines = compare(results["loop"], results[way], tolerance)
                    said += [f"call {i} {call}: {way}: {line}" for line in lines]
                if said or "error" in results["loop"] or tolerance > 0.1:
                    break
    finally:
        torch.set_default_dtype(before)
        for module in modules.values():
            sys.modules.pop(module.__name__, None)
    return compared, said


def attempt(way: str, net: nn.Module, module: types.ModuleType, call: dict, number: int) -> dict[str, Any]:
    """What a call gives and leaves, or its error."""
    try:
        found = play(way, net, call, number)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return found | left(net, module)


def kind_of(line: str) -> str:
    """What a line is about, for counting."""
    what = line.split(": ", 2)[-1] if "}: " not in line else line.split("}: ", 1)[1]
    way, _, rest = what.partition(": ")
    words = rest.split(":")[0].split(" ")
    return f"{way}: {' '.join(words[:2]) if words[0] in ('gradient', 'no', 'an', 'random') else words[0]}"


# --- the command line -------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:500", help="first:last+1")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--show", action="store_true", help="print each program")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--short", action="store_true", help="chunks of two steps, which compile sooner")
    parser.add_argument(
        "--graphs", action="store_true", help="without Inductor: what is traced, in a third of the time"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    first, last = map(int, options.seeds.split(":"))
    if not options.inside:
        return outside(options, first, last)
    until = time.time() + 60 * options.minutes
    torch.set_num_threads(1)
    if options.short:
        shorten()
    if options.graphs:
        leave_graphs()
    for seed in range(first, last):
        if time.time() > until:
            break
        text = program(seed)
        print(f"seed {seed}", flush=True)
        if options.show:
            print(text, flush=True)
        begun = time.time()
        compared, said = run(text, tuple(options.ways.split(",")), seed)
        print(f"done {compared} {time.time() - begun:.1f}", flush=True)
        for line in said:
            print(f"differs {line}", flush=True)
    return 0


def shorten() -> None:
    """Chunks as short as in the tests, where the engine has such a setting."""
    try:
        from neurodyn.engine import program as programs

        programs.CHUNK = ((95, 2),)
    except (ImportError, AttributeError):
        pass


def leave_graphs() -> None:
    """Run the graphs of compiled chunks as they are."""
    from neurodyn.engine import compiled_chunk

    compiled_chunk.compiled = uncompiled


def outside(options: argparse.Namespace, first: int, last: int) -> int:
    """All seeds in processes of their own, a new one after each crash."""
    until, bad, compared, seen = time.time() + 60 * options.minutes, 0, 0, collections.Counter()
    seed = first
    while seed < last and time.time() < until:
        minutes = (until - time.time()) / 60
        command = [sys.executable, "-m", "tests.soundness.fuzz", "--inside", "--seeds", f"{seed}:{last}"]
        command += ["--minutes", str(minutes), "--ways", options.ways]
        command += [f"--{flag}" for flag in ("show", "short", "graphs") if getattr(options, flag)]
        finished = True
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            tail: list[str] = []
            for line in process.stdout:
                tail = [*tail[-15:], line]
                if line.startswith("seed "):
                    seed, finished = int(line.split()[1]), False
                elif line.startswith("done "):
                    compared, finished = compared + int(line.split()[1]), True
                    seed += 1
                elif line.startswith("differs "):
                    fresh = tail[-2].startswith("done")
                    bad += fresh
                    seen[kind_of(line)] += 1
                    print(f"{f'seed {seed - 1}: ' if fresh else '    '}{line[8:].rstrip()}", flush=True)
                elif options.show:
                    print(line, end="", flush=True)
        if finished:
            if process.returncode:
                print("".join(tail))
            break
        bad, seed = bad + 1, seed + 1
        seen["crash"] += 1
        print(f"seed {seed - 1}: the process ended with {process.returncode}: {''.join(tail[-3:])[:600]}", flush=True)
    print(f"{compared} comparisons of seeds {first} to {seed - 1}, {bad} of these programs differ")
    for kind, n in seen.most_common():
        print(f"{n:6} {kind}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
