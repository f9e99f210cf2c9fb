// Event-driven products with a sparse matrix in CSR form; rows are inputs, columns are outputs.
// The work of `matmul` and `weight_grad` is proportional to the synapses of the non-zero inputs.

#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "csr.h"

namespace {

Tensor zeros_like_last(const Tensor& x, int64_t n) {
  Tensor y = at::detail::empty_cpu(with_last(x, n), x.options());
  if (y.nbytes()) std::memset(y.mutable_data_ptr(), 0, y.nbytes());
  return y;
}

void check_weight(const char* op, const Tensor& weight, const Tensor& indices, const Tensor& x) {
  check_like(op, "weight", weight, x);
  TORCH_CHECK_VALUE(weight.dim() == 0 || (weight.dim() == 1 && weight.numel() == indices.numel()), op,
                    ": weight has shape ", weight.sizes(), " for ", indices.numel(),
                    " synapses; wanted one for all, or one for each");
}

void check_rows(const char* op, const Matrix& matrix, const Tensor& x) {
  TORCH_CHECK_VALUE(x.size(-1) == matrix.rows(), op, ": the input has ", x.size(-1), " elements and indptr ",
                    matrix.rows() + 1, ", wanted one more than the input");
}

// y[b, indices[k]] += x[b, i] * weight[k] for the synapses k of input i, of memory that lies in rows; y is zero before.
template <typename T>
void add_products(const T* x, const T* weight, const Matrix& matrix, T* y, int64_t batch, int64_t n_in, int64_t n_out,
                  bool scalar) {
  const int* index = matrix.index;
  at::parallel_for(0, batch, grain((n_in + matrix.synapses()) / 16), [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const T* in = x + b * n_in;
      T* out = y + b * n_out;
      for_nonzero(in, n_in, [&](int64_t i) {
        const auto row = matrix.row(i);
        if (scalar) {
          const T jump = in[i] * weight[0];
          for (int k = row.first; k < row.last; ++k) out[index[k]] += jump;
        } else {
          for (int k = row.first; k < row.last; ++k) out[index[k]] += in[i] * weight[k];
        }
      });
    }
  });
}

Tensor matmul(const Tensor& x_, const Tensor& weight_, const Tensor& indptr, const Tensor& indices, int64_t n_out) {
  constexpr const char* op = "event_matmul";
  check_dense(op, "the input", x_);
  check_weight(op, weight_, indices, x_);
  const Matrix matrix(op, indptr, indices, n_out);
  check_rows(op, matrix, x_);
  const Tensor x = x_.contiguous(), weight = weight_.contiguous();
  Tensor y = zeros_like_last(x, n_out);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), op, [&] {
    add_products(x.const_data_ptr<scalar_t>(), weight.const_data_ptr<scalar_t>(), matrix, y.mutable_data_ptr<scalar_t>(),
                 rows_of(x), x.size(-1), n_out, weight.dim() == 0);
  });
  return y;
}

// x[b, i] = sum over the synapses k of input i of weight[k] * g[b, indices[k]]
Tensor input_grad(const Tensor& g_, const Tensor& weight_, const Tensor& indptr, const Tensor& indices) {
  constexpr const char* op = "event_input_grad";
  check_dense(op, "the gradient", g_);
  check_weight(op, weight_, indices, g_);
  const Tensor g = g_.contiguous(), weight = weight_.contiguous();
  const int64_t n_out = g.size(-1);
  const Matrix matrix(op, indptr, indices, n_out);
  matrix.check_all();  // once, not for each row of the batch
  const int64_t n_in = matrix.rows();
  Tensor x = at::empty(with_last(g, n_in), g.options());
  const int* index = matrix.index;
  AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), op, [&] {
    const scalar_t* w = weight.const_data_ptr<scalar_t>();
    const bool scalar = weight.dim() == 0;
    const scalar_t* from = g.const_data_ptr<scalar_t>();
    scalar_t* to = x.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, x.numel(), grain(matrix.mean(), 64), [&](int64_t first, int64_t last) {
      for (int64_t cell = first; cell < last; ++cell) {
        const int64_t b = cell / n_in, i = cell % n_in;
        const scalar_t* in = from + b * n_out;
        const auto row = matrix.checked_row(i);
        scalar_t sum = 0;
        if (scalar) {
          for (int k = row.first; k < row.last; ++k) sum += in[index[k]];
          sum *= w[0];
        } else {
          for (int k = row.first; k < row.last; ++k) sum += in[index[k]] * w[k];
        }
        to[cell] = sum;
      }
    });
  });
  return x;
}

// w[k] = sum over b of x[b, i] * g[b, indices[k]] for the synapses k of input i
Tensor weight_grad(const Tensor& x_, const Tensor& g_, const Tensor& indptr, const Tensor& indices) {
  constexpr const char* op = "event_weight_grad";
  check_dense(op, "the input", x_);
  check_dense(op, "the gradient", g_);
  check_like(op, "the gradient", g_, x_);
  TORCH_CHECK_VALUE(x_.sizes().slice(0, x_.dim() - 1) == g_.sizes().slice(0, g_.dim() - 1), op, ": the input has shape ",
                    x_.sizes(), " and the gradient ", g_.sizes(), ", wanted the same batch");
  const Tensor x = x_.contiguous(), g = g_.contiguous();
  const int64_t n_in = x.size(-1), n_out = g.size(-1), rows = rows_of(x);
  const Matrix matrix(op, indptr, indices, n_out);
  check_rows(op, matrix, x);
  Tensor w = at::zeros({indices.numel()}, x.options());
  const int* index = matrix.index;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), op, [&] {
    const scalar_t* left = x.const_data_ptr<scalar_t>();
    const scalar_t* right = g.const_data_ptr<scalar_t>();
    scalar_t* to = w.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, n_in, grain(rows * (1 + matrix.mean()) / 16, 16), [&](int64_t first, int64_t last) {
      for (int64_t b = 0; b < rows; ++b) {
        const scalar_t* in = right + b * n_out;
        for_nonzero(left + b * n_in + first, last - first, [&](int64_t i) {
          i += first;
          const scalar_t s = left[b * n_in + i];
          const auto row = matrix.row(i);
          for (int k = row.first; k < row.last; ++k) to[k] += s * in[index[k]];
        });
      }
    });
  });
  return w;
}

// The positions of the non-zero elements of x in memory order.
Tensor nonzero(const Tensor& x_) {
  TORCH_CHECK_VALUE(x_.is_cpu() && x_.layout() == at::kStrided, "event_nonzero: wanted a dense tensor on the CPU");
  const Tensor x = x_.contiguous();
  std::vector<int64_t> found;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "event_nonzero", [&] {
    for_nonzero(x.const_data_ptr<scalar_t>(), x.numel(), [&](int64_t i) { found.push_back(i); });
  });
  Tensor positions = at::empty({static_cast<int64_t>(found.size())}, x.options().dtype(at::kLong));
  if (!found.empty()) std::memcpy(positions.mutable_data_ptr<int64_t>(), found.data(), found.size() * sizeof(int64_t));
  return positions;
}

template <typename T>
void matmul_kernel(const void* x, const void* weight, const Matrix& matrix, void* y, int64_t batch, int64_t n_in,
                   int64_t n_out, bool scalar) {
  std::memset(y, 0, batch * n_out * sizeof(T));
  add_products(static_cast<const T*>(x), static_cast<const T*>(weight), matrix, static_cast<T*>(y), batch, n_in, n_out,
               scalar);
}

}  // namespace

// `matmul` on memory that lies in rows, for a caller that knows its size: float64 if `wide`, else float32.
extern "C" void event_matmul_kernel(const void* x, const void* weight, const int* indptr, const int* indices, void* y,
                                    int64_t batch, int64_t n_in, int64_t n_out, int64_t synapses, int64_t scalar,
                                    int64_t wide) {
  const Matrix matrix("event_matmul", indptr, n_in, indices, synapses, n_out);
  (wide ? matmul_kernel<double> : matmul_kernel<float>)(x, weight, matrix, y, batch, n_in, n_out, scalar);
}

TORCH_LIBRARY_IMPL(neurodyn, CPU, m) {
  m.impl("event_matmul", TORCH_FN(matmul));
  m.impl("event_input_grad", TORCH_FN(input_grad));
  m.impl("event_weight_grad", TORCH_FN(weight_grad));
  m.impl("event_nonzero", TORCH_FN(nonzero));
}
