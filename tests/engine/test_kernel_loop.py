"""The loop in C++ that calls a chunk's kernels, and its launches on a GPU by a function that stands in for CUDA's."""

import contextlib
import ctypes
import logging
from types import FunctionType, MethodType, SimpleNamespace

import pytest
import torch
from paths import NETS, assert_equal, assert_same, outcome
from torch import nn
from torch._inductor.runtime.static_triton_launcher import StaticallyLaunchedCudaKernel

import neurodyn as nd
from neurodyn.engine import compiled_chunk, kernel_loop, program_cache
from neurodyn.engine.compiled_chunk import CompiledChunk
from neurodyn.engine.kernel_loop import kernels, recording
from neurodyn.engine.places import Place, Stretch
from neurodyn.ops import native

pytestmark = [pytest.mark.kernels, pytest.mark.usefixtures("no_programs", "unsaid")]


def chunks():
    """All that were compiled."""
    programs = [found.program for each in program_cache._shared.values() for found in each]
    return [chunk for program in programs for chunk in program._chunks.values()]


@pytest.mark.parametrize(("T", "lengths"), [(8, 1), (9, 2), (1, 1)])
def test_it_is_used(T, lengths):
    net = nd.LIF(5, learn=("tau", "V_th"))
    outcome(net, 3 * torch.rand(T, 2, 5))
    assert len(chunks()) == 2 * lengths
    for chunk in chunks():
        assert chunk.why_not == ""
        assert any(chunk._recordings.values())


def test_why_not_is_of_the_last_run():
    net = nn.Sequential(nd.Expon(5), nd.LIF(5))
    for batch, wanted in ((3, "loop in C++"), (0, "has no elements"), (3, "loop in C++")):
        nd.unroll(net, torch.rand(8, batch, 5))
        (program,) = {found.program for each in program_cache._shared.values() for found in each}
        assert wanted in program.path()


def test_a_route_points_into_its_own_recording():
    """Also where kernels are recorded anew: by a second thread, or because too many shapes were remembered."""
    net, xs = nd.LIF(5), 3 * torch.rand(9, 2, 5)
    wanted = outcome(net, xs)
    for chunk in chunks():
        chunk._recordings.clear()
    assert_equal(outcome(net, xs), wanted)
    for made in [made for chunk in chunks() for made in chunk._recordings.values()]:
        assert made.routes
        for route in made.routes.values():
            assert route.lists[2::2] == [made.calls.buffer_info()[0], made.arguments.buffer_info()[0]]


def python(monkeypatch):
    """From now on chunks are called from Python."""

    def record(*given):
        raise kernel_loop.NotRecordable("switched off")

    monkeypatch.setattr(kernel_loop, "record", record)


@pytest.mark.parametrize("make", [lambda: nd.LIF(5, learn="tau"), NETS["chain"]], ids=["LIF", "chain"])
@pytest.mark.parametrize("options", [{}, {"checkpoint": 8}], ids=str)
def test_without_it_the_numbers_are_the_same(make, options, monkeypatch, caplog):
    net, xs = make(), 3 * torch.rand(40, 3, 5)
    found = outcome(net, xs, **options)
    program_cache.clear()
    python(monkeypatch)
    with caplog.at_level(logging.INFO, "neurodyn"):
        assert_equal(outcome(net, xs, **options), found)
        outcome(net, xs, **options)
    told = [entry.getMessage() for entry in caplog.records if "switched off" in entry.getMessage()]
    assert 0 < len(told) == len(set(told)) <= 2  # one for each length of chunks
    assert all(chunk.why_not == "switched off" for chunk in chunks())


def test_one_record_in_the_log(monkeypatch, caplog):
    python(monkeypatch)
    caplog.set_level(logging.INFO, "neurodyn")
    for _ in range(3):
        outcome(nd.LIF(5, learn="tau"), 3 * torch.rand(8, 2, 5))
    assert [entry.name for entry in caplog.records] == ["neurodyn"]
    assert caplog.records[0].getMessage() == "chunks of 2 steps are called from Python: switched off"


STRETCHES = [Stretch(3, 2, range(4), 1), Stretch(0, 0, range(5)[::-1], 0), Stretch(6, 1, range(1), 1)]


@pytest.mark.parametrize("place", Place)
@pytest.mark.parametrize("stretch", STRETCHES, ids=str)
@pytest.mark.parametrize("steps", [1, 3])
def test_both_loops_find_an_argument_at_the_same_place(place, stretch, steps):
    tensors = [torch.rand(40, 2, 3), torch.rand(40, 5).float(), torch.ones(40, 1, dtype=torch.bool)]
    stretch = stretch._replace(steps=steps)
    columns = compiled_chunk._columns(place, tensors, 7, stretch)
    for k, i in enumerate(stretch.chunks):
        turn = (stretch.turn + k) % 2
        wanted = [tensor.data_ptr() for tensor in compiled_chunk._arguments(place, tensors, stretch, i, turn)]
        moved = [c.offset + c.step * (turn if c.alternates else i) for c in columns]
        assert [tensors[c.base - 7].data_ptr() + m for c, m in zip(columns, moved, strict=True)] == wanted


@pytest.mark.parametrize("T", [1, 2, 5, 131])
def test_both_loops_write_the_same(T, monkeypatch):
    """With gradients and without, so that states lie in a history, and in two rows that take turns."""
    net, xs = nn.Sequential(nd.STP(5, learn="U"), nd.Expon(5, learn="tau"), nd.LIF(5)), 3 * torch.rand(T, 3, 5)
    with torch.no_grad():
        plain = nd.unroll(net, xs)
    found = outcome(net, xs)
    monkeypatch.setattr(CompiledChunk, "_replayed", lambda *given: False)
    assert_equal(outcome(net, xs), found)
    with torch.no_grad():
        assert torch.equal(nd.unroll(net, xs), plain)


def test_an_index_out_of_range_is_raised():
    class Looks(nd.Dynamics):
        r = nd.state(0.0)

        def __init__(self):
            super().__init__(3)
            self.register_buffer("table", torch.rand(4))

        def step(self, x, r):
            return r + self.table[x.long()], r + x

    xs = torch.ones(40, 2, 3)
    nd.unroll(Looks(), xs)
    xs[33] = 9
    with pytest.raises((RuntimeError, IndexError), match="index out of bounds"):
        nd.unroll(Looks(), xs)


#: As cuLaunchKernel; the number of arguments stands where the shared bytes are.
LAUNCH = """
#include <cstdint>
#include <cstddef>
#include <utility>
extern "C" { int failure = 0, started = 0; }
template <size_t> using word = int64_t;
template <size_t... I>
void call(void* kernel, const int64_t* a, std::index_sequence<I...>) {
    reinterpret_cast<void (*)(word<I>...)>(kernel)(a[I]...);
}
extern "C" int launch(void* kernel, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                      unsigned count, void* stream, void** given, void**) {
    if (failure) return failure;
    if (x != 7 || y != 1 || z != 1 || threads != 32 || stream != (void*)5) return 1;
    int64_t a[64] = {};
    for (unsigned j = 0; j < count; ++j) a[j] = *static_cast<int64_t*>(given[j]);
    call(kernel, a, std::make_index_sequence<64>{});
    ++started;
    return 0;
}
"""


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """The library above, in the place of CUDA."""
    source = tmp_path / "launch.cpp"
    source.write_text(LAUNCH)
    found = native.load(source)
    address = ctypes.cast(found.launch, ctypes.c_void_p).value
    counts = {name: ctypes.c_int.in_dll(found, name) for name in ("failure", "started")}
    counts["failure"].value = counts["started"].value = 0
    of_cpp, init = kernels._of_cpp, recording.Recording.__init__

    def recorder(kernel):
        def start(calls):
            inside = []
            run = of_cpp(kernel)(inside)

            def launch(*given):
                run(*given)
                call = inside.pop()
                calls.append(call._replace(launch=(7, 1, 1, 32, len(call.arguments))))

            return launch

        return start

    def on_gpu(self, *given):
        init(self, *given)
        self.on_gpu = True

    monkeypatch.setattr(kernels, "_of_cpp", recorder)
    monkeypatch.setattr(recording, "launcher", lambda: address)
    monkeypatch.setattr(recording.Recording, "__init__", on_gpu)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=5))
    return SimpleNamespace(**counts)


def network(size):
    return nn.Sequential(nd.Expon(size, learn="tau"), nn.Linear(size, size), nd.LIF(size, learn=("tau", "V_th")))


@pytest.mark.parametrize("checkpoint", [None, 16])
def test_the_loop_launches_kernels(gpu, checkpoint):
    net, xs = network(4), torch.rand(51, 3, 4) * 2
    found = outcome(net, xs, checkpoint=checkpoint)
    assert gpu.started.value >= 2 * 2 * (51 // 2 + 51 % 2)
    assert_same(found, outcome(net, xs, compile=False))


def test_tensors_at_odd_addresses(gpu):
    """Steps of 72 bytes; and an input that begins in the middle of a word of 16 bytes."""
    net, xs = network(3), torch.rand(21, 3, 3) * 2
    assert_same(outcome(net, xs), outcome(net, xs, compile=False))
    assert gpu.started.value == 0
    lif = nd.LIF(4)
    xs = torch.rand(16 * 3 * 4 + 1)[1:].view(16, 3, 4)
    assert xs.data_ptr() % 16 == 8
    with torch.no_grad():
        assert_same([nd.unroll(lif, xs)], [nd.unroll(lif, xs, compile=False)])
        assert gpu.started.value == 0
        nd.unroll(lif, xs.clone())
    assert gpu.started.value > 0


def test_a_first_launch_that_fails_is_left_to_torch(gpu):
    gpu.failure.value = 201  # CUDA_ERROR_INVALID_CONTEXT
    net, xs = network(4), torch.rand(21, 3, 4) * 2
    assert_same(outcome(net, xs), outcome(net, xs, compile=False))


def test_a_stream_launches_kernels(gpu):
    net, xs = network(4), torch.rand(5, 3, 4) * 2
    with torch.no_grad():
        wanted = nd.unroll(net, xs, compile=False)
    gpu.failure.value = 201
    nd.reset_states(net, 3)
    step = nd.Stream(net, xs[0])
    found = [step(xs[0])]
    gpu.failure.value = 0
    found += [step(x) for x in xs[1:]]
    assert_same(found, list(wanted))


def compiled(kinds, launchers=1):
    """A kernel as Inductor has it, with a launcher as it writes them."""
    kernel = StaticallyLaunchedCudaKernel.__new__(StaticallyLaunchedCudaKernel)
    kernel.__dict__ |= {"function": 1234, "num_warps": 4, "shared": 16, "arg_tys": kinds, "module": None}
    kernel.has_global_scratch, kernel.has_profile_scratch = True, False
    kernel.device_agnostic = False  # asked by torch 2.14
    scope = {"runner": kernel.run}
    code = "def launcher(a, b, n, XBLOCK, stream):\n    runner(-(n // -128), 1, 1, stream, a, b, n)"
    exec(code, scope)
    return SimpleNamespace(launchers=launchers * [scope["launcher"]])


@pytest.fixture
def triton(monkeypatch):
    """Kernels of a GPU can be launched here, it seems; from a kernel and a list to what notes its calls."""
    monkeypatch.setattr(kernels, "launcher", lambda: 1)
    return lambda kernel, calls: kernels._of_triton(kernel)(calls)


def test_what_torch_hands_to_cuda(triton):
    calls, a, b = [], torch.rand(2), torch.rand(2)
    triton(compiled("OOl"), calls).run(a, b, 300, 128, stream=9)
    ((function, (*tensors, n, scratch), launch),) = calls
    assert tensors[0] is a
    assert tensors[1] is b
    assert (function, n, scratch, launch) == (1234, 300, 0, (3, 1, 1, 128, 16))


def test_nothing_is_launched_without_a_block(triton):
    calls = []
    triton(compiled("OOl"), calls).run(None, None, 0, 128, stream=0)
    assert not calls


def test_kernels_that_are_not_launched_so(triton):
    with pytest.raises(kernel_loop.NotYet):
        triton(compiled("OOl", launchers=2), []).run(None, None, 1, 1, stream=0)
    for kinds, number in ("OOf", 1.5), ("OOi", 2**31):
        with pytest.raises(kernel_loop.NotRecordable, match="an argument"):
            triton(compiled(kinds), []).run(None, None, number, 1, stream=0)


class Runner:
    """As Inductor writes code for a GPU, where temporary tensors may have room between their rows."""

    def call(self, args):
        (x,) = args
        args.clear()
        x_size = x.size()
        x = copy_if_misaligned(x)  # noqa: F821
        with torch.cuda._DeviceGuard(0):
            torch.cuda.set_device(0)
            buf0 = empty_strided_cuda((x_size[0], 2), (40, 1), torch.float64)  # noqa: F821
            triton_poi_fused_0.run(x, buf0, 8, 128, stream=get_raw_stream(0))  # noqa: F821
            buf1 = empty_strided_cuda((x_size[0], 2), (2, 1), torch.float64)  # noqa: F821
            triton_poi_fused_0.run(buf0, buf1, 8, 128, stream=get_raw_stream(0))  # noqa: F821
            del buf0
        return ()

    def returning(self, args):
        (x,) = args
        args.clear()
        triton_poi_fused_0.run(x, x, 8, 128, stream=get_raw_stream(0))  # noqa: F821
        return (x,)

    def copying(self, args):
        (x,) = args
        triton_poi_fused_0.run(x, x, 8, 128, stream=get_raw_stream(0))  # noqa: F821
        x.copy_(x)
        return ()


@pytest.fixture
def written(monkeypatch, triton):
    """A chunk of this code, with tensors on the CPU."""
    of_all = recording.recorders
    monkeypatch.setattr(recording, "recorders", lambda code, scope, *rest: of_all(code, scope, False))
    monkeypatch.setattr(torch.cuda, "_DeviceGuard", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    scope = {
        "torch": torch,
        "copy_if_misaligned": lambda tensor: tensor,
        "empty_strided_cuda": lambda size, stride, dtype: torch.empty_strided(size, stride, dtype=dtype),
        "get_raw_stream": lambda device: 0,
        "triton_poi_fused_0": compiled("OOl"),
    }

    def chunk(method=Runner.call, **others):
        return SimpleNamespace(current_callable=MethodType(FunctionType(method.__code__, scope | others), 1))

    return chunk


def recorded(chunk, shape=(3, 2)):
    return kernel_loop.record(chunk, [(shape, torch.float64, torch.device("cpu"))], 1)


def test_code_for_a_gpu(written):
    found = recorded(written())
    assert found.count == 2
    assert found.temporary == [8 * (40 + 40 + 2), 8 * 6]
    assert found.numbers == [8, 0, 8, 0]


def test_code_that_does_anything_else(written):
    with pytest.raises(kernel_loop.NotYet):
        recorded(written(triton_poi_fused_0=compiled("OOl", launchers=2)))
    refused = {
        "an argument 8 of kind f": written(triton_poi_fused_0=compiled("OOf")),
        "it returns tensors": written(Runner.returning),
        "it calls copy_, which is no kernel": written(Runner.copying),
        "something else than a Python function": SimpleNamespace(current_callable=lambda args: args.zero_()),
    }
    for reason, chunk in refused.items():
        with pytest.raises(kernel_loop.NotRecordable, match=reason):
            recorded(chunk)
    with pytest.raises(kernel_loop.NotRecordable, match="no elements"):
        recorded(written(), (0, 2))
