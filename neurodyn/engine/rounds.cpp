// Calls compiled kernels again and again, each time with tensors that lie elsewhere.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>

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

// A round makes all calls. In round k the argument in column c is start[c] + turn[kind[c]] * step[c], where the turns are
// first + k * stride, k % period and (k + 1) % period.
// Returns what a kernel has thrown, such as an index out of range, or nothing.
extern "C" const char* rounds(int64_t k, int64_t n, int64_t first, int64_t stride, int64_t period, const int64_t* start,
                              const int64_t* step, const int64_t* kind, int64_t count, void* const* kernels,
                              const int64_t* arity, const int64_t* columns) {
  static thread_local std::string message;
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
    return message.c_str();
  }
  return nullptr;
}
