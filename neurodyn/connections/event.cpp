// Event-driven products with a sparse matrix in CSR form; rows are inputs, columns are outputs.
// The work of `matmul` and `weight_grad` is proportional to the synapses of the non-zero inputs.

#include <ATen/Dispatch.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

using at::Tensor;

c10::DimVector with_last(const Tensor& x, int64_t n) {
  c10::DimVector shape(x.sizes().begin(), x.sizes().end());
  shape.back() = n;
  return shape;
}

int64_t rows_of(const Tensor& x) { return x.size(-1) ? x.numel() / x.size(-1) : 0; }

// Calls `visit` with the position of each non-zero element; passes over 256 bytes of zeros at once.
template <typename T, typename F>
void for_nonzero(const T* x, int64_t n, const F& visit) {
  constexpr int64_t block = 256 / sizeof(T);
  int64_t first = 0;
  for (; first + block <= n; first += block) {
    uint64_t words[32], any = 0;
    std::memcpy(words, x + first, sizeof(words));
    for (uint64_t word : words) any |= word;
    if (any == 0) continue;
    for (int64_t i = first; i < first + block; ++i)
      if (x[i] != 0) visit(i);
  }
  for (int64_t i = first; i < n; ++i)
    if (x[i] != 0) visit(i);
}

Tensor zeros_like_last(const Tensor& x, int64_t n) {
  Tensor y = at::detail::empty_cpu(with_last(x, n), x.options());
  std::memset(y.mutable_data_ptr(), 0, y.nbytes());
  return y;
}

// y[b, indices[k]] += x[b, i] * weight[k] for the synapses k of input i
Tensor matmul(const Tensor& x_, const Tensor& weight_, const Tensor& indptr, const Tensor& indices, int64_t n_out) {
  const Tensor x = x_.contiguous(), weight = weight_.contiguous();
  Tensor y = zeros_like_last(x, n_out);
  const int64_t n_in = x.size(-1);
  const int* start = indptr.const_data_ptr<int>();
  const int* index = indices.const_data_ptr<int>();
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "event_matmul", [&] {
    const scalar_t* w = weight.const_data_ptr<scalar_t>();
    const bool scalar = weight.dim() == 0;
    const scalar_t* from = x.const_data_ptr<scalar_t>();
    scalar_t* to = y.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, rows_of(x), 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        const scalar_t* in = from + b * n_in;
        scalar_t* out = to + b * n_out;
        for_nonzero(in, n_in, [&](int64_t i) {
          if (scalar) {
            const scalar_t jump = in[i] * w[0];
            for (int k = start[i]; k < start[i + 1]; ++k) out[index[k]] += jump;
          } else {
            for (int k = start[i]; k < start[i + 1]; ++k) out[index[k]] += in[i] * w[k];
          }
        });
      }
    });
  });
  return y;
}

// x[b, i] = sum over the synapses k of input i of weight[k] * g[b, indices[k]]
Tensor input_grad(const Tensor& g_, const Tensor& weight_, const Tensor& indptr, const Tensor& indices) {
  const Tensor g = g_.contiguous(), weight = weight_.contiguous();
  const int64_t n_in = indptr.numel() - 1, n_out = g.size(-1);
  Tensor x = at::empty(with_last(g, n_in), g.options());
  const int* start = indptr.const_data_ptr<int>();
  const int* index = indices.const_data_ptr<int>();
  AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "event_input_grad", [&] {
    const scalar_t* w = weight.const_data_ptr<scalar_t>();
    const bool scalar = weight.dim() == 0;
    const scalar_t* from = g.const_data_ptr<scalar_t>();
    scalar_t* to = x.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, x.numel(), 64, [&](int64_t first, int64_t last) {
      for (int64_t cell = first; cell < last; ++cell) {
        const int64_t b = cell / n_in, i = cell % n_in;
        const scalar_t* in = from + b * n_out;
        scalar_t sum = 0;
        if (scalar) {
          for (int k = start[i]; k < start[i + 1]; ++k) sum += in[index[k]];
          sum *= w[0];
        } else {
          for (int k = start[i]; k < start[i + 1]; ++k) sum += in[index[k]] * w[k];
        }
        to[cell] = sum;
      }
    });
  });
  return x;
}

// w[k] = sum over b of x[b, i] * g[b, indices[k]] for the synapses k of input i
Tensor weight_grad(const Tensor& x_, const Tensor& g_, const Tensor& indptr, const Tensor& indices) {
  const Tensor x = x_.contiguous(), g = g_.contiguous();
  const int64_t n_in = x.size(-1), n_out = g.size(-1), rows = rows_of(x);
  Tensor w = at::zeros({indices.numel()}, x.options());
  const int* start = indptr.const_data_ptr<int>();
  const int* index = indices.const_data_ptr<int>();
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "event_weight_grad", [&] {
    const scalar_t* left = x.const_data_ptr<scalar_t>();
    const scalar_t* right = g.const_data_ptr<scalar_t>();
    scalar_t* to = w.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, n_in, 16, [&](int64_t first, int64_t last) {
      for (int64_t b = 0; b < rows; ++b) {
        const scalar_t* in = right + b * n_out;
        for_nonzero(left + b * n_in + first, last - first, [&](int64_t i) {
          i += first;
          const scalar_t s = left[b * n_in + i];
          for (int k = start[i]; k < start[i + 1]; ++k) to[k] += s * in[index[k]];
        });
      }
    });
  });
  return w;
}

// The positions of the non-zero elements of x in memory order.
Tensor nonzero(const Tensor& x_) {
  const Tensor x = x_.contiguous();
  std::vector<int64_t> found;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "event_nonzero", [&] {
    for_nonzero(x.const_data_ptr<scalar_t>(), x.numel(), [&](int64_t i) { found.push_back(i); });
  });
  Tensor positions = at::empty({static_cast<int64_t>(found.size())}, x.options().dtype(at::kLong));
  if (!found.empty()) std::memcpy(positions.mutable_data_ptr<int64_t>(), found.data(), found.size() * sizeof(int64_t));
  return positions;
}

}  // namespace

TORCH_LIBRARY_IMPL(neurodyn, CPU, m) {
  m.impl("event_matmul", TORCH_FN(matmul));
  m.impl("event_input_grad", TORCH_FN(input_grad));
  m.impl("event_weight_grad", TORCH_FN(weight_grad));
  m.impl("event_nonzero", TORCH_FN(nonzero));
}
