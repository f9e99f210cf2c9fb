// Calls compiled kernels again and again, each time with tensors that lie elsewhere.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>

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

// The kernels to call, with how many arguments, and in which columns these are found.
struct Plan {
  int64_t count, threads;
  const int64_t *step, *kind;
  void* const* kernels;
  const int64_t *arity, *columns;
};

// From now on no more than n threads work on a kernel that this thread calls; returns what held before.
extern "C" int limit(int n) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(n);
  return before;
}

// A round makes all calls. In round k the argument in column c is start[c] + turn[kind[c]] * step[c], where the turns are
// first + k * stride, k % period and (k + 1) % period.
// At most so many threads work on each. Returns what a kernel has thrown, such as an index out of range, or nothing.
extern "C" const char* rounds(const Plan* plan, int64_t k, int64_t n, int64_t first, int64_t stride, int64_t period,
                              const int64_t* start) {
  const auto [count, threads, step, kind, kernels, arity, columns] = *plan;
  static thread_local std::string message;
  const int before = omp_get_max_threads();
  if (threads < before) omp_set_num_threads(threads);
  const char* thrown = nullptr;
  try {
    for (; k < n; ++k) {
      const int64_t turn[] = {first + k * stride, k % period, (k + 1) % period};
      const int64_t* c = columns;
      for (int64_t i = 0; i < count; ++i) {
        int64_t a[MOST];
        for (int64_t j = 0; j < arity[i]; ++j, ++c) a[j] = start[*c] + turn[kind[*c]] * step[*c];
        dispatch(kernels[i], arity[i], a, std::make_index_sequence<MOST + 1>{});
      }
    }
  } catch (const std::exception& error) {
    message = error.what();
    thrown = message.c_str();
  }
  omp_set_num_threads(before);
  return thrown;
}
