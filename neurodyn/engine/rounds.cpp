// Calls compiled kernels again and again, each time with the next row of a table of arguments.

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

// Returns what a kernel has thrown, such as an index out of range, or nothing.
extern "C" const char* rounds(int64_t n, int64_t count, void* const* kernels, const int64_t* arity, const int64_t* a) {
    static thread_local std::string message;
    try {
        for (; n; --n)
            for (int64_t k = 0; k < count; a += arity[k++])
                dispatch(kernels[k], arity[k], a, std::make_index_sequence<MOST + 1>{});
    } catch (const std::exception& error) {
        message = error.what();
        return message.c_str();
    }
    return nullptr;
}
