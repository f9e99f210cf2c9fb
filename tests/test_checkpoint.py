"""save and load: what was written comes back exactly, and nothing else does."""

from __future__ import annotations

import ast
import copy
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as load_bytes
from safetensors.torch import load_file, save_file
from torch import nn

import neurodyn as nd
from neurodyn import checkpoint
from neurodyn import units as u


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nd.LIF(4, tau=nd.init.Normal(9 * u.ms, 1 * u.ms), learn="tau"))


def train(net: nn.Module, optimizer: torch.optim.Optimizer, scheduler, steps: int) -> None:
    for _ in range(steps):
        loss = nd.unroll(net, torch.randn(6, 2, 3), compile=False).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


def parts(seed: int = 0) -> dict:
    torch.manual_seed(seed)
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    return {"net": net, "optimizer": optimizer, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2)}


def dump(found: dict) -> str:
    return repr({name: part.state_dict() for name, part in found.items()})


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[dict, Path]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    found, path = parts(), tmp_path_factory.mktemp("checkpoint") / "run.safetensors"
    train(*found.values(), 3)
    nd.save(path, **found, states=nd.get_states(found["net"]), random=torch.get_rng_state(), step=3)
    torch.set_default_dtype(before)
    return found, path


def test_training_goes_on_as_if_not_stopped(written) -> None:
    found, path = copy.deepcopy(written[0]), written[1]
    resumed = parts(seed=1)
    loaded = nd.load(path, **resumed)
    assert dump(resumed) == dump(written[0])
    nd.set_states(resumed["net"], loaded["states"])
    assert torch.equal(resumed["net"][1].V, found["net"][1].V)
    assert loaded["step"] == 3
    for run in (found, resumed):
        torch.set_rng_state(loaded["random"])
        run["scheduler"].optimizer = run["optimizer"]
        train(*run.values(), 3)
    assert dump(resumed) == dump(found)


def test_simulation_goes_on_as_if_not_stopped(tmp_path) -> None:
    I = torch.tensor([1.1, 1.4, 1.7])
    whole = nd.simulate(nd.LIFRef(3), 50 * u.ms, I, ["V"], compile=False)
    first = nd.simulate(nd.LIFRef(3), 20 * u.ms, I, ["V"], compile=False)
    nd.save(tmp_path / "stop", states=first.states, step=first.step)
    found = nd.load(tmp_path / "stop")
    options = {"states": found["states"], "start": found["step"]}
    rest = nd.simulate(nd.LIFRef(3), 30 * u.ms, I, ["V"], compile=False, **options)
    assert torch.equal(torch.cat((first["V"].values, rest["V"].values)), whole["V"].values)


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), children, max_size=3)
    ),
    max_leaves=8,
)


@given(tree=trees)
@settings(max_examples=60, deadline=None)
def test_trees_come_back_equal(tree, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "tree"
    nd.save(path, tree=tree)
    assert repr(nd.load(path)["tree"]) == repr(tree)


def test_tensors_come_back_equal(tmp_path) -> None:
    base = torch.arange(12.0).view(3, 4)
    tensors = [base, base.T, base[1], base, torch.tensor(True), torch.empty(0, 3), torch.ones(2, dtype=torch.bfloat16)]
    nd.save(tmp_path / "x", a={"b": tensors}, **{"a.b.0": torch.zeros(1)})
    found = nd.load(tmp_path / "x")
    assert found["a.b.0"].tolist() == [0.0]
    for back, tensor in zip(found["a"]["b"], tensors, strict=True):
        assert back.dtype == tensor.dtype
        assert torch.equal(back, tensor)


def test_a_failed_save_leaves_the_file_before(tmp_path, written) -> None:
    path = tmp_path / "run"
    nd.save(path, step=1)
    for part, words in (
        ({"f": print}, r"part.f is a builtin_function"),
        ({(1, 2): 3}, r"part has the key \(1, 2\)"),
        (torch.empty(2, device="meta"), "part is a Tensor .*meta.*wanted plain tensors"),
    ):
        with pytest.raises(TypeError, match=words):
            nd.save(path, part=part)
    assert nd.load(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def flipped(whole: bytes, position: int, bit: int) -> bytes:
    return whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :]


def test_every_flipped_bit_is_noticed(written, tmp_path) -> None:
    whole, path = written[1].read_bytes(), tmp_path / "broken"
    wanted, pick = repr(nd.load(written[1])), random.Random(0)
    refused = 0
    for position in [*range(0, 8), *pick.sample(range(8, len(whole)), 500)]:
        path.write_bytes(flipped(whole, position, pick.randrange(8)))
        try:
            assert repr(nd.load(path)) == wanted  # in padding, or in the name of an unused entry
        except nd.CheckpointError:
            refused += 1
    assert refused > 490


def test_truncated_and_foreign_files(written, tmp_path) -> None:
    whole, path = written[1].read_bytes(), tmp_path / "broken"
    target = parts(seed=2)
    before = dump(target)
    torch.save(target["net"].state_dict(), tmp_path / "torch")
    foreign = [b"", b"\0" * 100, pickle.dumps({"net": 1}), (tmp_path / "torch").read_bytes(), b"\x89PNG" + whole]
    for content in [*foreign, *(whole[:n] for n in range(0, len(whole), 97))]:
        path.write_bytes(content)
        with pytest.raises(nd.CheckpointError, match="broken"):
            nd.load(path, **target)
    save_file({"x": torch.ones(2)}, path)
    with pytest.raises(nd.CheckpointError, match=r"none that nd\.save wrote"):
        nd.load(path, **target)
    with pytest.raises(FileNotFoundError, match="no file"):
        nd.load(tmp_path / "absent")
    assert dump(target) == before


def rewritten(path: Path, to: Path, **metadata: str) -> None:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        save_file(load_file(path), to, metadata=file.metadata() | metadata)


def test_newer_and_forged_files(written, tmp_path) -> None:
    path = tmp_path / "forged"
    rewritten(written[1], path, version="2")
    with pytest.raises(nd.CheckpointError, match="has version 2 and this neurodyn reads up to 1; update"):
        nd.load(path)
    for version in ("9" * 5000, "1" * 10, "٢", "-1", "", "1.0"):
        rewritten(written[1], path, version=version)
        with pytest.raises(
            nd.CheckpointError, match=r"forged (has version .*update|is a safetensors file, but none)"
        ) as raised:
            nd.load(path)
        assert len(str(raised.value)) < 300
    for tree in ("[]", "{", "3", '{"net": {"tensor": "none"}}', '{"net": {"eval": "1"}}', '{"net": {}}', "[" * 10**5):
        rewritten(written[1], path, tree=tree, sha256=checkpoint._digest(tree, load_file(written[1])))
        with pytest.raises(nd.CheckpointError):
            nd.load(path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_malicious_pickle_does_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in (("a", lambda f: pickle.dump(Malicious(), f)), ("b", lambda f: torch.save(Malicious(), f))):
        with open(name, "wb") as file:
            write(file)
        with pytest.raises(nd.CheckpointError, match="is not a readable checkpoint"):
            nd.load(name)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 5), nd.LIF(5, tau=9 * u.ms)), "size mismatch|Unexpected"),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Identity()), "Unexpected key"),
        (lambda: network().float(), "0.weight is torch.float64 in the file and torch.float32 in Sequential"),
    ],
)
def test_what_does_not_fit_changes_nothing(written, change, words) -> None:
    target = parts(seed=3)
    target = {"optimizer": target["optimizer"], "net": change(), "scheduler": target["scheduler"]}
    before = dump(target)
    with pytest.raises(nd.CheckpointError, match=f"(?s)the part 'net' does not fit, nothing was loaded: .*({words})"):
        nd.load(written[1], **target)
    assert dump(target) == before
    with pytest.raises(nd.CheckpointError, match="has no part 'model'; it has net, optimizer"):
        nd.load(written[1], model=network())


FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.save", "os.system"}


def test_no_pickle_eval_or_exec_in_the_package() -> None:
    def name_of(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            return f"{name_of(node.value)}.{node.attr}"
        return node.id if isinstance(node, ast.Name) else ""

    found = []
    for path in Path(nd.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in FORBIDDEN_MODULES for name in names):
                found.append((path.name, node.lineno, names))
            if isinstance(node, ast.Call):
                pickled = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
                if name_of(node.func) in FORBIDDEN_CALLS or pickled:
                    found.append((path.name, node.lineno, ast.unparse(node)))
    assert found == []


@given(content=st.binary(max_size=300), header=st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused(content: bytes, header: bool, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz"
    text = json.dumps({"__metadata__": {"format": "neurodyn", "version": "1", "tree": repr(content)}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content if header else content)
    with pytest.raises(nd.CheckpointError):
        nd.load(path)


def test_what_cannot_be_written_or_read_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    long = "n" * 300
    for path, error, words in (
        ("absent/run", FileNotFoundError, "the folder of .*absent/run does not exist; make it first"),
        ("file/run", FileNotFoundError, "the folder of .*file/run does not exist"),
        ("folder", IsADirectoryError, "folder is a folder; give the name of a file in it"),
        (long, OSError, f"{long} cannot be written .*too long.*give another path"),
        ("a\0b", OSError, "cannot be written .*null"),
    ):
        with pytest.raises(error, match=f"^save: .*{words}"):
            nd.save(tmp_path / path, step=1)
    for path, error, words in (
        ("absent", FileNotFoundError, "there is no file .*absent; check the path"),
        ("file/run", NotADirectoryError, "file/run cannot be read"),
        ("folder", IsADirectoryError, "folder is no file; give the name of the file"),
        ("pipe", IsADirectoryError, "pipe is no file"),
        (long, OSError, f"{long} cannot be read .*too long"),
        ("a\0b", OSError, "cannot be read .*null"),
    ):
        with pytest.raises(error, match=f"^load: .*{words}"):
            nd.load(tmp_path / path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder", "pipe"]
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(TypeError, match=r"load: step is a int, wanted something with load_state_dict.*\['step'\]"):
        nd.load(tmp_path / "absent", step=3)


LIMITED = """
import os, resource, sys
import torch
import neurodyn as nd
path, how = sys.argv[1:]
nd.save(path, step=1)
if how == "full":  # a file that may not grow stands for a disk without space
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
else:
    os.chmod(os.path.dirname(path), 0o555)
    if os.getuid() == 0:
        os.setuid(65534)
try:
    nd.save(path, x=torch.ones(100_000))
except OSError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_full_disk_and_a_read_only_folder(tmp_path, how: str) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp")) / "runs"  # that others may enter too
    folder.mkdir()
    folder.parent.chmod(0o755)
    path = folder / "run"
    done = subprocess.run([sys.executable, "-c", LIMITED, path, how], capture_output=True, text=True, cwd=Path.cwd())
    folder.chmod(0o755)
    words = "save: .*run cannot be written .*, and what was there before is unchanged; check that the folder"
    assert re.search(words, done.stdout), done.stdout + done.stderr
    assert nd.load(path) == {"step": 1}
    assert [p.name for p in folder.iterdir()] == ["run"]
    shutil.rmtree(folder.parent)


def test_a_link_stays_a_link_and_loaded_tensors_have_memory_of_their_own(tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    nd.save(tmp_path / "link", x=torch.ones(1000))
    assert (tmp_path / "link").is_symlink()
    found = nd.load(tmp_path / "run")["x"]
    os.truncate(tmp_path / "run", 0)
    assert found.sum() == 1000


def test_odd_names_and_numbers(tmp_path) -> None:
    odd = {"\ud800": torch.ones(2), "a\nb": torch.zeros(2), "": 2**64, 5: -1.5}
    nd.save(tmp_path / "x", **{"part \ud800 \0": odd, "format": float("inf")})
    found = nd.load(tmp_path / "x")
    assert repr(found) == repr({"part \ud800 \0": odd, "format": float("inf")})
    with pytest.raises(TypeError, match=r"part\.n is an int of 99998 bits, wanted at most"):
        nd.save(tmp_path / "x", part={"n": 1 << 99997})


def edited(whole: bytes, pick: random.Random) -> bytes:
    """A file with random edits: bytes, length, or entries of the header, whose checksum may be made to fit."""
    size = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    metadata, names = header["__metadata__"], [name for name in header if name != "__metadata__"]
    how = pick.randrange(9)
    if how == 0:
        for _ in range(pick.randint(1, 8)):
            whole = flipped(whole, pick.randrange(len(whole)), pick.randrange(8))
        return whole
    if how == 1:
        return whole[: pick.randrange(len(whole))]
    if how == 2:
        at = pick.randrange(len(whole))
        return whole[:at] + pick.randbytes(pick.randint(1, 40)) + whole[at + pick.randint(0, 40) :]
    if how == 3:
        size = pick.choice([0, 1, size - 1, size + 1, len(whole), 2**31, 2**63, 2**64 - 1, pick.getrandbits(64)])
        return size.to_bytes(8, "little") + whole[8:]
    entry = header[pick.choice(names)]
    number = pick.choice([0, 1, -1, 3, 2**31, 2**63, 2**64, 10**400, 1.5, "4", None, [], {}])
    if how == 4:
        entry["dtype"] = pick.choice(
            ["F64", "F32", "F16", "BF16", "I8", "U64", "BOOL", "F8_E4M3", "C64", "F4", "", 3, None]
        )
    elif how == 5:
        shape = pick.choice([entry["shape"], entry["data_offsets"]])
        shape[pick.randrange(len(shape)) if shape else slice(0)] = number if shape else [number]
    elif how == 6:
        other = pick.choice(names)
        header[pick.choice(["", "x", "net.0.weight", "__metadata__ ", "\0"])] = header.pop(other)
    elif how == 7:
        key = pick.choice(["version", "format", "tree", "sha256"])
        values = ["", "0", "1", "2", "9" * 5000, "-1", "\u0661", "1e3", "neurodyn", "[" * 5000, "{}", number, None]
        metadata[key] = pick.choice(values)
        if pick.random() < 0.2:
            del metadata[key]
    else:
        tree = metadata["tree"]
        for _ in range(pick.randint(1, 3)):
            at, piece = (
                pick.randrange(len(tree)),
                pick.choice(['"', "]", "{", "tensor", "dict", "1" * 5000, "NaN", "null", ","]),
            )
            tree = tree[:at] + piece + tree[at + pick.randint(0, 5) :]
        metadata["tree"] = tree
        tensors = {name: value for name, value in load_bytes(whole).items()}
        metadata["sha256"] = checkpoint._digest(tree, tensors)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_edited_files_load_rightly_or_are_refused(written, tmp_path, count: int) -> None:
    whole, path, pick = written[1].read_bytes(), tmp_path / "edited", random.Random(count)
    wanted, refused, loaded = repr(nd.load(written[1])), 0, 0
    for i in range(count):
        content = edited(whole, pick)
        path.write_bytes(content)
        target = {"net": network()}
        before = dump(target)
        try:
            found = nd.load(path, **target)
        except nd.CheckpointError as error:
            refused += str(path) in str(error) and len(str(error)) < 2000
            assert dump(target) == before
            continue
        # What was loaded is what the file says: all of it as written, or another tree with the checksum of its own.
        if repr(tree_of(content)) == repr(tree_of(whole)):
            assert repr(found) == wanted, i
        assert list(found) == list(tree_of(content)), i
        loaded += 1
    assert refused + loaded == count  # each refusal names the file, and is short
    assert refused > 0.8 * count
    assert loaded > 0


def tree_of(whole: bytes) -> dict:
    metadata = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    return json.loads(metadata["tree"])


@pytest.mark.parametrize("order", ["path first", "net first"])
@pytest.mark.parametrize("call", [nd.save, nd.load])
def test_a_part_without_a_name_is_refused(call, order: str, tmp_path) -> None:
    path, net = tmp_path / "net.safetensors", nd.LIF(3)
    with pytest.raises(TypeError, match=rf"got LIF without a name; write nd\.{call.__name__}\(path, net=net"):
        call(*((path, net) if order == "path first" else (net, path)))
    assert not path.exists()
