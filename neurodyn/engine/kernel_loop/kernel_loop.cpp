// Calls the kernels of a chunk for one chunk of a sequence after the other, with arguments that move along their tensors.
//
// COLUMN_FIELDS, CALL_FIELDS, RUN_FIELDS, MOST_ARGUMENTS and NOT_STARTED are defined by recording.py from its own
// declarations, so that both sides agree.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads() { return 1; }
static void omp_set_num_threads(int) {}
#endif

struct Column { int64_t COLUMN_FIELDS; };
struct Call { int64_t CALL_FIELDS; };
struct Run { int64_t RUN_FIELDS; };  // and behind it the bases

namespace {

template <size_t> using word = int64_t;  // a pointer or a number: on the ABIs of Linux and macOS both go the same way

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

using Launch = int (*)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);

}  // namespace

// From now on no more than n threads work on a kernel that this thread calls; returns what held before.
extern "C" int limit_threads(int n) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(n);
  return before;
}

// Runs calls `first` to `last` - 1 of the sequence. The k-th one is for the chunk `start + k * stride`, and its argument in
// a column lies at bases[base] + offset + step * (the chunk, or turns of 0 and 1 in an alternating column). The columns
// start with the arguments that are tensors; `arguments` gives for each argument of each kernel its column.
// With `launch`, CUDA's cuLaunchKernel, the kernels are those of a GPU and go to `stream`.
// Returns nothing, or what a kernel has thrown, or NOT_STARTED if not even the first kernel could be launched.
extern "C" const char* run_kernels(const Run* run) {
  static thread_local std::string message;
  const auto columns = reinterpret_cast<const Column*>(run->columns);
  const auto calls = reinterpret_cast<const Call*>(run->calls);
  const auto arguments = reinterpret_cast<const int64_t*>(run->arguments);
  const auto bases = reinterpret_cast<const int64_t*>(run + 1);
  const auto launch = reinterpret_cast<Launch>(run->launch);
  for (int64_t c = 0; c < run->n_columns; ++c)
    if (columns[c].base < 0 || columns[c].base >= run->n_bases) return "a column without a tensor";
  for (int64_t i = 0; i < run->n_arguments; ++i)
    if (arguments[i] < 0 || arguments[i] >= run->n_columns) return "an argument without a column";
  const int before = omp_get_max_threads();
  if (!launch && run->threads < before) omp_set_num_threads(static_cast<int>(run->threads));
  const char* thrown = nullptr;
  try {
    for (int64_t k = run->first; k < run->last && !thrown; ++k) {
      const int64_t chunk = run->start + k * run->stride, alternating = (run->turn + k) & 1;
      const int64_t* argument = arguments;
      for (int64_t i = 0; i < run->n_calls && !thrown; ++i) {
        int64_t values[MOST_ARGUMENTS];
        void* places[MOST_ARGUMENTS];
        if (calls[i].arity < 0 || calls[i].arity > MOST_ARGUMENTS ||
            argument + calls[i].arity > arguments + run->n_arguments) {
          thrown = "a kernel with too many arguments";
          break;
        }
        for (int64_t j = 0; j < calls[i].arity; ++j, ++argument) {
          const Column& c = columns[*argument];
          values[j] = bases[c.base] + c.offset + c.step * (c.alternates ? alternating : chunk);
          places[j] = &values[j];
        }
        void* kernel = reinterpret_cast<void*>(calls[i].kernel);
        if (!launch) {
          dispatch(kernel, calls[i].arity, values, std::make_index_sequence<MOST_ARGUMENTS + 1>{});
        } else if (const int error = launch(kernel, calls[i].blocks_x, calls[i].blocks_y, calls[i].blocks_z,
                                            calls[i].threads, 1, 1, calls[i].shared_bytes,
                                            reinterpret_cast<void*>(run->stream), places, nullptr)) {
          message = "a kernel was not launched: CUDA error " + std::to_string(error);
          thrown = k == run->first && i == 0 ? NOT_STARTED : message.c_str();
        }
      }
    }
  } catch (const std::exception& error) {
    message = error.what();
    thrown = message.c_str();
  }
  if (!launch) omp_set_num_threads(before);
  return thrown;
}
