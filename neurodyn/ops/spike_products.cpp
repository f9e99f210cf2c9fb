// Matrix products in which most elements of one side are zero, as spikes are. Work goes with those that are not.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t LINE = 16;  // floats in a cache line
#ifdef __AVX512F__
constexpr int64_t LINES = 8;  // that half of the registers hold
#else
constexpr int64_t LINES = 4;
#endif
typedef float line __attribute__((vector_size(64), aligned(4)));

// The positions of the non-zero elements.
int64_t find(const float* x, int64_t n, int32_t* found) {
  int64_t m = 0, i = 0;
  for (; i + LINE <= n; i += LINE) {
    uint64_t words[LINE / 2], any = 0;
    std::memcpy(words, x + i, sizeof(words));
    for (uint64_t word : words) any |= word;
    if (any == 0) continue;
    for (int64_t k = i; k < i + LINE; ++k) found[m] = k, m += x[k] != 0;
  }
  for (; i < n; ++i) found[m] = i, m += x[i] != 0;
  return m;
}

// to[:] += sum over the found i of x[i * step] * rows[i, :], for `n` lines
template <int64_t n>
void add_lines(const float* x, int64_t step, const int32_t* found, int64_t m, const float* rows, int64_t stride,
               float* to) {
  line sums[n] = {};
  for (int64_t k = 0; k < m; ++k) {
    const float s = x[found[k] * step];
    const line* from = reinterpret_cast<const line*>(rows + found[k] * stride);
    for (int64_t o = 0; o < n; ++o) sums[o] += s * from[o];
  }
  for (int64_t o = 0; o < n; ++o) reinterpret_cast<line*>(to)[o] += sums[o];
}

// The same for any width.
void add_rows(const float* x, int64_t step, const int32_t* found, int64_t m, const float* rows, int64_t stride,
              float* to, int64_t width) {
  int64_t o = 0;
  for (; o + LINES * LINE <= width; o += LINES * LINE) add_lines<LINES>(x, step, found, m, rows + o, stride, to + o);
  for (; o + LINE <= width; o += LINE) add_lines<1>(x, step, found, m, rows + o, stride, to + o);
  for (; o < width; ++o) {
    float sum = 0;
    for (int64_t k = 0; k < m; ++k) sum += x[found[k] * step] * rows[found[k] * stride + o];
    to[o] += sum;
  }
}

}  // namespace

// Whether at most a quarter of the elements are not zero, by a sample; with more, ordinary products are as fast.
extern "C" bool mostly_zero(int64_t count, const float* const* xs, int64_t n) {
  constexpr int64_t piece = 512, most = 16;
  const int64_t pieces = std::clamp<int64_t>(most / count, 1, n / piece + 1), share = n / pieces;
  int64_t seen = 0, found = 0;
  for (int64_t k = 0; k < count; ++k)
    for (int64_t j = 0; j < pieces; ++j) {
      const int64_t size = std::min(piece, share), first = j * share + (k + j) * piece % (share - size + 1);
      int32_t some = 0;
      #pragma omp simd reduction(+ : some)
      for (int64_t i = first; i < first + size; ++i) some += xs[k][i] != 0;
      found += some;
      seen += size;
    }
  return 4 * found <= seen;
}

// y[b, :] = bias + sum over i of x[b, i] * columns[i, :]
extern "C" void product(const float* x, const float* columns, const float* bias, float* y, int64_t rows, int64_t n_in,
                        int64_t n_out, int threads) {
  constexpr int64_t wide = 256;  // threads share the columns first, so that each keeps its own in its cache
  #pragma omp parallel num_threads(threads)
  {
    std::vector<int32_t> found(n_in);
    #pragma omp for collapse(2)
    for (int64_t o = 0; o < n_out; o += wide)
      for (int64_t b = 0; b < rows; ++b) {
        const int64_t width = std::min(wide, n_out - o), m = find(x + b * n_in, n_in, found.data());
        float* to = y + b * n_out + o;
        if (bias) std::copy_n(bias + o, width, to);
        else std::fill_n(to, width, 0.0f);
        add_rows(x + b * n_in, 1, found.data(), m, columns + o, n_out, to, width);
      }
  }
}

// w[i, :] = sum over k and b of xs[k][b, i] * gs[k][b, :]
extern "C" void outer(int64_t count, const float* const* xs, const float* const* gs, float* w, int64_t rows,
                      int64_t n_in, int64_t n_out, int threads) {
  constexpr int64_t block = 1024;  // rows, whose sum is made on its own: it stays accurate for very many
  #pragma omp parallel num_threads(threads)
  {
    std::vector<int32_t> found(LINE * block);
    #pragma omp for
    for (int64_t first = 0; first < n_in; first += LINE) {
      const int64_t here = std::min(LINE, n_in - first);
      std::fill_n(w + first * n_out, here * n_out, 0.0f);
      for (int64_t k = 0; k < count; ++k)
        for (int64_t start = 0; start < rows; start += block) {
          const float *x = xs[k] + start * n_in + first, *g = gs[k] + start * n_out;
          int64_t m[LINE] = {};
          for (int64_t b = 0; b < std::min(block, rows - start); ++b) {
            int32_t at[LINE];
            const int64_t n = find(x + b * n_in, here, at);
            for (int64_t j = 0; j < n; ++j) found[at[j] * block + m[at[j]]++] = b;
          }
          for (int64_t i = 0; i < here; ++i)
            add_rows(x + i, n_in, &found[i * block], m[i], g, n_out, w + (first + i) * n_out, n_out);
        }
    }
  }
}
