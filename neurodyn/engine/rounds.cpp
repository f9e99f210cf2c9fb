// Calls compiled kernels again and again, each time with tensors that lie elsewhere.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads() { return 1; }
static void omp_set_num_threads(int) {}
#endif

template <size_t> using word = int64_t;  // a pointer or a number

template <size_t... I>
void call(void* kernel, const int64_t* a, std::index_sequence<I...>) {
    reinterpret_cast<void (*)(word<I>...)>(kernel)(a[I]...);
}

template <size_t N>
void call_with(void* kernel, const int64_t* a) { call(kernel, a, std::make_index_sequence<N>{}); }

template <size_t... N>
void dispatch(void* kernel, int64_t n, const int64_t* a, std::index_sequence<N...>) {
    static constexpr void (*with[])(void*, const int64_t*) = {call_with<N>...};
    with[n](kernel, a);
}

// CUDA's function that launches a kernel.
using Launch = int (*)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);

// The kernels to call, with how many arguments, and in which columns these are found; and of each column how it moves.
// With a function to launch them, kernels are those of a GPU: blocks in three directions, threads of one, shared bytes.
struct Plan {
  int64_t columns, count, threads;
  Launch launch;
  const int64_t *base, *offset, *step, *turn, *other, *when;
  void* const* kernels;
  const int64_t *arity, *column, *launches;
};

// Launches the i-th kernel; gives CUDA's number of what went wrong, or 0.
int launch(const Plan& p, int64_t i, int64_t* arguments, void* stream) {
  void* at[MOST];
  for (int64_t j = 0; j < p.arity[i]; ++j) at[j] = &arguments[j];
  const int64_t* l = p.launches + 5 * i;
  return p.launch(p.kernels[i], l[0], l[1], l[2], l[3], 1, 1, l[4], stream, at, nullptr);
}

// From now on no more than n threads work on a kernel that this thread calls; returns what held before.
extern "C" int limit(int n) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(n);
  return before;
}

// Whether so many bytes at each of n places are those that follow each other in `held`.
extern "C" int same(const int64_t* at, const int64_t* sizes, int64_t n, const char* held) {
  for (int64_t i = 0; i < n; held += sizes[i++])
    if (std::memcmp(reinterpret_cast<const void*>(at[i]), held, sizes[i])) return 0;
  return 1;
}

// A round makes all calls, and there are n rounds, of which these are from k to end. In round k the argument in column c
// is base[c] + offset[c] + turns[turn[c]] * step[c], where the turns are first + k * stride, (k - 1) % period and
// k % period; in the first round, or in the last, it may be another base.
// At most so many threads work on each. Returns what a kernel has thrown, such as an index out of range, or nothing. On a
// GPU the kernels are launched on this stream; if not even the first could be, that is told.
extern "C" const char* rounds(const Plan* plan, int64_t k, int64_t end, int64_t n, int64_t first, int64_t stride,
                              int64_t period, const int64_t* bases, void* stream) {
  static thread_local std::string message;
  static thread_local std::vector<int64_t> at, by;
  const Plan p = *plan;
  at.resize(p.columns);
  by.resize(p.columns);
  const auto place = [&](bool is_first, bool is_last) {
    for (int64_t c = 0; c < p.columns; ++c) {
      const bool elsewhere = (p.when[c] == 1 && is_first) || (p.when[c] == 2 && is_last);
      at[c] = elsewhere ? bases[p.other[c]] : bases[p.base[c]] + p.offset[c];
      by[c] = elsewhere ? 0 : p.step[c];
    }
  };
  const int before = omp_get_max_threads();
  if (!p.launch && p.threads < before) omp_set_num_threads(p.threads);
  const char* thrown = nullptr;
  place(k == 0, k == n - 1);
  try {
    for (; k < end; ++k) {
      if (k == 1 || k == n - 1) place(k == 0, k == n - 1);
      const int64_t turns[] = {first + k * stride, (k + period - 1) % period, k % period};
      const int64_t* c = p.column;
      for (int64_t i = 0; i < p.count; ++i) {
        int64_t a[MOST];
        for (int64_t j = 0; j < p.arity[i]; ++j, ++c) a[j] = at[*c] + turns[p.turn[*c]] * by[*c];
        if (!p.launch) {
          dispatch(p.kernels[i], p.arity[i], a, std::make_index_sequence<MOST + 1>{});
        } else if (const int error = launch(p, i, a, stream)) {
          if (k == 0 && i == 0) return "kernels cannot be launched";
          throw std::runtime_error("a kernel was not launched: CUDA error " + std::to_string(error));
        }
      }
    }
  } catch (const std::exception& error) {
    message = error.what();
    thrown = message.c_str();
  }
  if (!p.launch) omp_set_num_threads(before);
  return thrown;
}
