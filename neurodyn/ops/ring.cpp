// What is on its way to the outputs of a sparse connection with delays, in a ring of rows: one for each coming step.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "csr.h"

namespace {

// Adds x_i w_k to the ring for the synapses k of each input i that is not zero. Synapse k reaches output indices[k] % n
// after indices[k] / n steps; row `head` arrives in this step, the one before it has arrived and is made empty.
template <typename T>
void deliver(T* ring, int64_t head, const T* x, const T* weight, const Matrix& matrix, int64_t batch, int64_t n_in,
             int64_t rows, int64_t n, bool scalar) {
  const int* index = matrix.index;
  const int64_t size = rows * n, first = head * n;
  at::parallel_for(0, batch, grain((n_in + matrix.synapses()) / 16), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const T* in = x + b * n_in;
      T* own = ring + b * size;
      std::memset(own + (head ? head - 1 : rows - 1) * n, 0, n * sizeof(T));
      for_nonzero(in, n_in, [&](int64_t i) {
        const auto row = matrix.row(i);
        for (int k = row.first; k < row.last; ++k) {
          const int64_t place = first + index[k];
          own[place < size ? place : place - size] += in[i] * (scalar ? weight[0] : weight[k]);
        }
      });
    }
  });
}

void check_head(const char* op, int64_t head, int64_t rows) {
  TORCH_CHECK_VALUE(0 <= head && head < rows, op, ": head = ", head, " is none of the ", rows, " rows of the ring");
}

int64_t head_of(const char* op, const Tensor& head, const Tensor& ring) {
  TORCH_CHECK_TYPE(head.scalar_type() == at::kLong, op, ": head is ", head.scalar_type(), ", wanted Long (torch.int64)");
  TORCH_CHECK_VALUE(head.numel() == 1 && head.is_cpu() && head.layout() == at::kStrided, op, ": head has shape ",
                    head.sizes(), ", wanted a number on the CPU");
  const int64_t value = *head.const_data_ptr<int64_t>();
  check_head(op, value, ring.size(-2));
  return value;
}

void check_ring(const char* op, const Tensor& ring) {
  TORCH_CHECK_VALUE(ring.dim() > 1 && ring.is_cpu() && ring.layout() == at::kStrided && ring.is_contiguous(), op,
                    ": the ring must lie in rows (*batch, rows, n) on the CPU, got shape ", ring.sizes());
}

void deliver_(Tensor& ring, const Tensor& head, const Tensor& x_, const Tensor& weight_, const Tensor& indptr,
              const Tensor& indices) {
  constexpr const char* op = "event_deliver";
  check_dense(op, "the input", x_);
  check_ring(op, ring);
  check_like(op, "the ring", ring, x_);
  check_like(op, "weight", weight_, x_);
  TORCH_CHECK_VALUE(weight_.dim() == 0 || (weight_.dim() == 1 && weight_.numel() == indices.numel()), op,
                    ": weight has shape ", weight_.sizes(), " for ", indices.numel(),
                    " synapses; wanted one for all, or one for each");
  TORCH_CHECK_VALUE(ring.sizes().slice(0, ring.dim() - 2) == x_.sizes().slice(0, x_.dim() - 1), op,
                    ": the input has shape ", x_.sizes(), " and the ring ", ring.sizes(), ", wanted the same batch");
  const int64_t rows = ring.size(-2), n = ring.size(-1), start = head_of(op, head, ring);
  const Matrix matrix(op, indptr, indices, rows * n);
  TORCH_CHECK_VALUE(x_.size(-1) == matrix.rows(), op, ": the input has ", x_.size(-1), " elements and indptr ",
                    matrix.rows() + 1, ", wanted one more than the input");
  const Tensor x = x_.contiguous(), weight = weight_.contiguous();
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), op, [&] {
    deliver(ring.mutable_data_ptr<scalar_t>(), start, x.const_data_ptr<scalar_t>(), weight.const_data_ptr<scalar_t>(),
            matrix, c10::multiply_integers(x.sizes().slice(0, x.dim() - 1)), x.size(-1), rows, n, weight.dim() == 0);
  });
}

Tensor deliver_to_copy(const Tensor& ring, const Tensor& head, const Tensor& x, const Tensor& weight,
                       const Tensor& indptr, const Tensor& indices) {
  Tensor found = at::empty_like(ring, ring.options(), at::MemoryFormat::Contiguous);
  found.copy_(ring);
  deliver_(found, head, x, weight, indptr, indices);
  return found;
}

void take_row(const void* ring, int64_t head, void* y, int64_t batch, int64_t rows, int64_t bytes) {
  for (int64_t b = 0; b < batch; ++b)
    std::memcpy(static_cast<char*>(y) + b * bytes, static_cast<const char*>(ring) + (b * rows + head) * bytes, bytes);
}

// The row that arrives in this step.
Tensor arrived(const Tensor& ring, const Tensor& head) {
  constexpr const char* op = "event_arrived";
  check_ring(op, ring);
  const int64_t rows = ring.size(-2), n = ring.size(-1), start = head_of(op, head, ring);
  c10::DimVector shape(ring.sizes().begin(), ring.sizes().end() - 2);
  shape.push_back(n);
  Tensor y = at::empty(shape, ring.options());
  if (y.nbytes())
    take_row(ring.const_data_ptr(), start, y.mutable_data_ptr(), y.numel() / n, rows, n * ring.element_size());
  return y;
}

// A ring where it is to be changed: the same memory, or a copy.
void move_(Tensor& to, const Tensor& from) {
  TORCH_CHECK_VALUE(to.sizes() == from.sizes() && to.scalar_type() == from.scalar_type() && to.is_contiguous() &&
                    from.is_contiguous() && to.is_cpu() && from.is_cpu(), "event_move: ", to.sizes(), " and ", from.sizes());
  if (to.nbytes() && to.data_ptr() != from.data_ptr()) std::memcpy(to.mutable_data_ptr(), from.const_data_ptr(), to.nbytes());
}

}  // namespace

// The same on memory that lies in rows, for a caller that knows its size: float64 if `wide`, else float32.
extern "C" void event_deliver_kernel(void* ring, const int64_t* head, const void* x, const void* weight,
                                     const int* indptr, const int* indices, int64_t batch, int64_t n_in, int64_t rows,
                                     int64_t n, int64_t synapses, int64_t scalar, int64_t wide) {
  const Matrix matrix("event_deliver", indptr, n_in, indices, synapses, rows * n);
  check_head("event_deliver", *head, rows);
  if (wide)
    deliver(static_cast<double*>(ring), *head, static_cast<const double*>(x), static_cast<const double*>(weight), matrix,
            batch, n_in, rows, n, scalar);
  else
    deliver(static_cast<float*>(ring), *head, static_cast<const float*>(x), static_cast<const float*>(weight), matrix,
            batch, n_in, rows, n, scalar);
}

extern "C" void event_arrived_kernel(const void* ring, const int64_t* head, void* y, int64_t batch, int64_t rows,
                                     int64_t bytes) {
  check_head("event_arrived", *head, rows);
  take_row(ring, *head, y, batch, rows, bytes);
}

extern "C" void event_move_kernel(void* to, const void* from, int64_t bytes) {
  if (to != from) std::memcpy(to, from, bytes);
}

TORCH_LIBRARY_IMPL(neurodyn, CPU, m) {
  m.impl("event_deliver", TORCH_FN(deliver_to_copy));
  m.impl("event_deliver_", TORCH_FN(deliver_));
  m.impl("event_arrived", TORCH_FN(arrived));
  m.impl("event_move_", TORCH_FN(move_));
}
