"""Kernels of a GPU, launched without Python: here by a function that runs kernels of the CPU in CUDA's place."""

import contextlib
import ctypes
from types import FunctionType, MethodType, SimpleNamespace

import pytest
import torch
from test_unroll import assert_same, outcome
from torch import nn
from torch._inductor.codecache import CppCodeCache
from torch._inductor.runtime.static_triton_launcher import StaticallyLaunchedCudaKernel

import neurodyn as nd
from neurodyn.engine import kernels, replay, rerun, tape

pytestmark = pytest.mark.usefixtures("no_programs")

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
def gpu(monkeypatch):
    """The library above, in the place of CUDA."""
    found = CppCodeCache.load(LAUNCH)
    address = ctypes.cast(found.launch, ctypes.c_void_p).value
    counts = {name: ctypes.c_int.in_dll(found, name) for name in ("failure", "started")}
    counts["failure"].value = counts["started"].value = 0

    def recorder(kernel, calls):
        return lambda *given: calls.append(kernels.Call(kernel.address, given, (7, 1, 1, 32, len(given))))

    monkeypatch.setattr(replay, "launcher", lambda: address)
    monkeypatch.setattr(kernels.Cpp, "recorder", recorder)
    monkeypatch.setattr(tape, "Plan", lambda calls, inputs, outputs, threads: replay.GpuPlan(calls, inputs, outputs))
    monkeypatch.setattr(torch.cuda, "_DeviceGuard", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 5, raising=False)
    return SimpleNamespace(**counts)


def network(size):
    return nn.Sequential(nd.Expon(size, learn="tau"), nn.Linear(size, size), nd.LIF(size, learn=("tau", "V_th")))


@pytest.mark.parametrize("checkpoint", [None, 16])
def test_the_loop_launches_kernels(gpu, checkpoint):
    net, xs = network(4), torch.rand(51, 3, 4) * 2
    found = outcome(net, xs, checkpoint=checkpoint)
    assert gpu.started.value >= 2 * 2 * (51 // 2 + 51 % 2)
    assert_same(found, outcome(net, xs, compile=False))


def test_a_whole_pass_is_launched_again(gpu, monkeypatch):
    """If its tensors begin where they may, and CUDA is there."""
    results, call = [], rerun.Rerun.__call__

    def called(self, *arguments):
        results.append(call(self, *arguments))
        return results[-1]

    monkeypatch.setattr(rerun.Rerun, "__call__", called)
    net = network(4)
    for xs in 2 * torch.rand(4, 21, 3, 4):
        assert_same(outcome(net, xs), outcome(net, xs, compile=False))
    assert results
    assert all(result is not None for result in results)
    results.clear()
    gpu.failure.value = 201
    assert_same(outcome(net, xs), outcome(net, xs, compile=False))
    assert results
    assert not any(results)
    gpu.failure.value = 0
    lif = nd.LIF(4)
    with torch.no_grad():
        for _ in range(3):
            results.clear()
            nd.unroll(lif, xs)
        assert results[0] is not None
        odd = torch.rand(21 * 3 * 4 + 1)[1:].view(21, 3, 4)
        assert_same([nd.unroll(lif, odd)], [nd.unroll(lif, odd, compile=False)])
    assert results[1] is None


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
    scope = {"runner": kernel.run}
    code = "def launcher(a, b, n, XBLOCK, stream):\n    runner(-(n // -128), 1, 1, stream, a, b, n)"
    exec(code, scope)
    return SimpleNamespace(launchers=launchers * [scope["launcher"]])


@pytest.fixture
def triton(monkeypatch):
    monkeypatch.setattr(kernels, "launcher", lambda: 1)
    return kernels.Triton


def test_what_torch_hands_to_cuda(triton):
    calls, a, b = [], torch.rand(2), torch.rand(2)
    triton(compiled("OOl")).recorder(calls).run(a, b, 300, 128, stream=9)
    ((function, (*tensors, n, scratch), launch),) = calls
    assert tensors[0] is a
    assert tensors[1] is b
    assert (function, n, scratch, launch) == (1234, 300, 0, (3, 1, 1, 128, 16))


def test_nothing_is_launched_without_a_block(triton):
    calls = []
    triton(compiled("OOl")).recorder(calls).run(None, None, 0, 128, stream=0)
    assert not calls


def test_kernels_that_are_not_launched_so(triton):
    with pytest.raises(kernels.NotReady):
        triton(compiled("OOl", launchers=2)).recorder([]).run(None, None, 1, 1, stream=0)
    for kinds, number in ("OOf", 1.5), ("OOi", 2**31):
        with pytest.raises(ValueError, match="an argument"):
            triton(compiled(kinds)).recorder([]).run(None, None, number, 1, stream=0)


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
        return (buf1,)


@pytest.fixture
def written(monkeypatch, triton):
    """A chunk of this code, with tensors on the CPU."""
    monkeypatch.setattr(replay, "launcher", lambda: 1)
    monkeypatch.setattr(torch.cuda, "_DeviceGuard", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    scope = {
        "torch": torch,
        "copy_if_misaligned": lambda tensor: tensor,
        "empty_strided_cuda": lambda size, stride, dtype: torch.empty_strided(size, stride, dtype=dtype),
        "get_raw_stream": lambda device: 0,
        "triton_poi_fused_0": compiled("OOl"),
    }
    code = Runner.call.__code__
    return lambda **others: SimpleNamespace(current_callable=MethodType(FunctionType(code, scope | others), 1))


def test_code_for_a_gpu(written):
    chunk = written()
    assert tape.Tape.of(chunk, SimpleNamespace(threads=1)) is None  # on a CPU
    found = tape.Tape.of(chunk, None)
    plan = found.plan((3,), [torch.empty(3, 2)], lambda: [torch.empty(3, 2)])
    assert isinstance(plan, replay.GpuPlan)
    assert plan.temporary == [8 * (40 + 40 + 2)]
    assert plan.numbers == [8, 0, 8, 0]
    assert list(plan.calls[0]) == [1234, 1234]


def test_code_that_does_anything_else(written):
    found = tape.Tape.of(written(triton_poi_fused_0=compiled("OOl", launchers=2)), None)
    assert found.plan((3,), [torch.empty(3, 2)], lambda: [torch.empty(3, 2)]) is None
    assert not found.plans  # asked again, when the kernel has run
    found = tape.Tape.of(written(triton_poi_fused_0=compiled("OOf")), None)
    assert found.plan((3,), [torch.empty(3, 2)], lambda: [torch.empty(3, 2)]) is None
    assert found.plans == {(3,): None}
    assert tape.Tape.of(SimpleNamespace(current_callable=lambda args: args.zero_()), None) is None
