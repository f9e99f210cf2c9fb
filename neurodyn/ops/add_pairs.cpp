// Weights of a sparse connection changed by products of values of both sides; the work goes with the non-zero ones.

#include <ATen/ops/empty_like.h>

#include <bit>
#include <optional>

#include "csr.h"

namespace {

// How the weight itself enters a change, and its bounds: 0 and `bound`, of either sign.
template <typename T>
struct Bounds {
  T bound, low, high;
  bool given;
  double room, share;

  Bounds(const T* limit, double room, double share)
      : bound(limit ? *limit : T(1)), low(std::min<T>(0, bound)), high(std::max<T>(0, bound)), given(limit), room(room),
        share(share) {}

  static T power(T z, double exponent) {
    z = z < 0 ? T(0) : z;
    return exponent == 1 ? z : std::pow(z, static_cast<T>(exponent));
  }

  T changed(T w, T change) const {
    if (room != 0) change *= power(1 - w / bound, room);
    if (share != 0) change *= power(w / bound, share);
    w += change;
    return given ? std::min(std::max(w, low), high) : w;
  }
};

// Changes the synapses of the elements of `own` that are not zero. `matrix` has a row for each of these, and `other` a
// value for each of its columns. Synapse p of the matrix is `order[p]`, or p itself without `order`.
template <typename T>
void change(const char* op, T* weight, const Matrix& matrix, const int* order, const T* own, const T* other,
            int64_t batch, int64_t n_own, int64_t n_other, const Bounds<T>& bounds) {
  std::vector<int64_t> active;
  if (batch == 1) {
    for_nonzero(own, n_own, [&](int64_t i) { active.push_back(i); });
  } else {
    std::vector<bool> seen(n_own);
    for_nonzero(own, batch * n_own, [&](int64_t cell) { seen[cell % n_own] = true; });
    for (int64_t i = 0; i < n_own; ++i)
      if (seen[i]) active.push_back(i);
  }
  const int* index = matrix.index;
  const auto synapses = static_cast<unsigned>(matrix.synapses());
  // A synapse has one input and one output, so that no two of these change the same.
  at::parallel_for(0, active.size(), grain(batch * matrix.mean()), [&](int64_t first, int64_t last) {
    std::vector<std::pair<T, const T*>> values;  // of the samples in which it is not zero
    for (int64_t a = first; a < last; ++a) {
      const int64_t i = active[a];
      values.clear();
      for (int64_t b = 0; b < batch; ++b)
        if (own[b * n_own + i] != 0) values.emplace_back(own[b * n_own + i], other + b * n_other);
      const auto row = matrix.row(i);
      for (int p = row.first; p < row.last; ++p) {
        const int k = order ? order[p] : p;
        if (static_cast<unsigned>(k) >= synapses) [[unlikely]]
          C10_THROW_ERROR(ValueError, c10::str(op, ": order[", p, "] = ", k, " is none of the ", synapses, " synapses"));
        T sum = 0;
        for (const auto& [value, others] : values) sum += value * others[index[p]];
        weight[k] = bounds.changed(weight[k], batch == 1 ? sum : sum / batch);
      }
    }
  });
}

// weight[k] = bounded(weight[k] + (1 - z)^room z^share * mean over b of y[b, j] x[b, i]), z = weight[k] / bound, for
// the synapses k from i to j of which y[b, j] or x[b, i] is not zero: of these two the side with fewer such values.
template <typename T>
void add(const char* op, T* weight, const T* y, const T* x, const Matrix& matrix, const Matrix& transposed,
         const int* order, int64_t batch, const Bounds<T>& bounds) {
  const int64_t n_in = matrix.rows(), n_out = transposed.rows();
  if (count_nonzero(x, batch * n_in) * n_out <= count_nonzero(y, batch * n_out) * n_in)
    change<T>(op, weight, matrix, nullptr, x, y, batch, n_in, n_out, bounds);
  else
    change<T>(op, weight, transposed, order, y, x, batch, n_out, n_in, bounds);
}

void add_pairs_(Tensor& weight, const Tensor& y_, const Tensor& x_, const Tensor& indptr, const Tensor& indices,
                const Tensor& columns, const Tensor& order_, const Tensor& rows, const std::optional<Tensor>& bound,
                double room, double share) {
  constexpr const char* op = "event_add_pairs";
  check_dense(op, "x", x_);
  check_dense(op, "y", y_);
  check_like(op, "y", y_, x_);
  check_like(op, "weight", weight, x_);
  TORCH_CHECK_VALUE(x_.sizes().slice(0, x_.dim() - 1) == y_.sizes().slice(0, y_.dim() - 1), op, ": x has shape ",
                    x_.sizes(), " and y ", y_.sizes(), ", wanted the same batch");
  const int64_t n_in = x_.size(-1), n_out = y_.size(-1), batch = c10::multiply_integers(x_.sizes().slice(0, x_.dim() - 1));
  const Matrix matrix(op, indptr, indices, n_out), transposed(op, columns, rows, n_in, "columns", "rows");
  TORCH_CHECK_VALUE(matrix.rows() == n_in && transposed.rows() == n_out, op, ": x and y have ", n_in, " and ", n_out,
                    " elements, indptr and columns ", matrix.rows() + 1, " and ", transposed.rows() + 1,
                    ", wanted one more each");
  TORCH_CHECK_VALUE(weight.dim() == 1 && weight.numel() == matrix.synapses() && weight.is_contiguous(), op,
                    ": weight has shape ", weight.sizes(), " for ", matrix.synapses(), " synapses, wanted one for each");
  TORCH_CHECK_TYPE(order_.scalar_type() == at::kInt, op, ": order is ", order_.scalar_type(), ", wanted Int (torch.int32)");
  TORCH_CHECK_VALUE(order_.dim() == 1 && order_.numel() == matrix.synapses() && order_.numel() == rows.numel() &&
                    order_.is_cpu() && order_.layout() == at::kStrided, op, ": order has shape ", order_.sizes(),
                    " and rows ", rows.sizes(), ", wanted one for each of ", matrix.synapses(), " synapses");
  TORCH_CHECK_VALUE(bound || (room == 0 && share == 0), op, ": room and share need a bound");
  if (bound) {
    check_like(op, "bound", *bound, x_);
    TORCH_CHECK_VALUE(bound->numel() == 1, op, ": bound has shape ", bound->sizes(), ", wanted one for all");
  }
  const Tensor x = x_.contiguous(), y = y_.contiguous(), order = order_.contiguous();
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), op, [&] {
    const Bounds<scalar_t> bounds(bound ? bound->const_data_ptr<scalar_t>() : nullptr, room, share);
    add(op, weight.mutable_data_ptr<scalar_t>(), y.const_data_ptr<scalar_t>(), x.const_data_ptr<scalar_t>(), matrix,
        transposed, order.const_data_ptr<int>(), batch, bounds);
  });
}

// The same, and the weight stays as it is.
Tensor add_pairs(const Tensor& weight, const Tensor& y, const Tensor& x, const Tensor& indptr, const Tensor& indices,
                 const Tensor& columns, const Tensor& order, const Tensor& rows, const std::optional<Tensor>& bound,
                 double room, double share) {
  check_dense("event_add_pairs", "weight", weight);
  Tensor found = at::empty_like(weight, weight.options(), at::MemoryFormat::Contiguous);
  found.copy_(weight);
  add_pairs_(found, y, x, indptr, indices, columns, order, rows, bound, room, share);
  return found;
}

// weight[k] = bounded(factor * weight[k] + gain * other[k]); nothing is touched with a gain of 0 and a factor of 1.
template <typename T>
void scale(T* weight, const T* other, T gain, T factor, const T* limit, int64_t n) {
  if (gain == 0 && factor == 1) return;
  const Bounds<T> bounds(limit, 0, 0);
  at::parallel_for(0, n, grain(1), [&](int64_t first, int64_t last) {
    for (int64_t k = first; k < last; ++k) {
      const T w = factor * weight[k] + (other ? gain * other[k] : T(0));
      weight[k] = limit ? std::min(std::max(w, bounds.low), bounds.high) : w;
    }
  });
}

void add_scaled_(Tensor& weight, const std::optional<Tensor>& other_, const Tensor& gain, const Tensor& factor,
                 const std::optional<Tensor>& bound) {
  constexpr const char* op = "event_add_scaled";
  check_dense(op, "weight", weight);
  TORCH_CHECK_VALUE(weight.is_contiguous(), op, ": weight is not contiguous");
  for (const auto& [name, value] : {std::pair{"gain", &gain}, std::pair{"factor", &factor}}) {
    check_like(op, name, *value, weight);
    TORCH_CHECK_VALUE(value->numel() == 1, op, ": ", name, " has shape ", value->sizes(), ", wanted one for all");
  }
  if (bound) {
    check_like(op, "bound", *bound, weight);
    TORCH_CHECK_VALUE(bound->numel() == 1, op, ": bound has shape ", bound->sizes(), ", wanted one for all");
  }
  Tensor other;
  if (other_) {
    check_like(op, "other", *other_, weight);
    TORCH_CHECK_VALUE(other_->sizes() == weight.sizes(), op, ": other has shape ", other_->sizes(), ", wanted ",
                      weight.sizes());
    other = other_->contiguous();
  }
  AT_DISPATCH_FLOATING_TYPES(weight.scalar_type(), op, [&] {
    scale(weight.mutable_data_ptr<scalar_t>(), other_ ? other.const_data_ptr<scalar_t>() : nullptr,
          *gain.const_data_ptr<scalar_t>(), *factor.const_data_ptr<scalar_t>(),
          bound ? bound->const_data_ptr<scalar_t>() : nullptr, weight.numel());
  });
}

Tensor add_scaled(const Tensor& weight, const std::optional<Tensor>& other, const Tensor& gain, const Tensor& factor,
                  const std::optional<Tensor>& bound) {
  check_dense("event_add_scaled", "weight", weight);
  Tensor found = at::empty_like(weight, weight.options(), at::MemoryFormat::Contiguous);
  found.copy_(weight);
  add_scaled_(found, other, gain, factor, bound);
  return found;
}

template <typename T>
void kernel(void* weight, const void* y, const void* x, const Matrix& matrix, const Matrix& transposed,
            const int* order, const void* bound, int64_t batch, double room, double share) {
  add("event_add_pairs", static_cast<T*>(weight), static_cast<const T*>(y), static_cast<const T*>(x), matrix, transposed,
      order, batch, Bounds<T>(static_cast<const T*>(bound), room, share));
}

}  // namespace

// `add_pairs_` on memory that lies in rows, for a caller that knows its size: float64 if `wide`, else float32; `room`
// and `share` are the bits of doubles.
extern "C" void event_add_pairs_kernel(void* weight, const void* y, const void* x, const int* indptr, const int* indices,
                                       const int* columns, const int* order, const int* rows, const void* bound,
                                       int64_t room, int64_t share, int64_t batch, int64_t n_in, int64_t n_out,
                                       int64_t synapses, int64_t wide) {
  constexpr const char* op = "event_add_pairs";
  const Matrix matrix(op, indptr, n_in, indices, synapses, n_out);
  const Matrix transposed(op, columns, n_out, rows, synapses, n_in, "columns", "rows");
  (wide ? kernel<double> : kernel<float>)(weight, y, x, matrix, transposed, order, bound, batch,
                                          std::bit_cast<double>(room), std::bit_cast<double>(share));
}

// `add_scaled_` in the same way; `other` and `bound` may be null.
extern "C" void event_add_scaled_kernel(void* weight, const void* other, const void* gain, const void* factor,
                                        const void* bound, int64_t n, int64_t wide) {
  const auto run = [&]<typename T>(T) {
    scale(static_cast<T*>(weight), static_cast<const T*>(other), *static_cast<const T*>(gain),
          *static_cast<const T*>(factor), static_cast<const T*>(bound), n);
  };
  if (wide)
    run(double());
  else
    run(float());
}

TORCH_LIBRARY_IMPL(neurodyn, CPU, m) {
  m.impl("event_add_scaled", TORCH_FN(add_scaled));
  m.impl("event_add_scaled_", TORCH_FN(add_scaled_));
  m.impl("event_add_pairs", TORCH_FN(add_pairs));
  m.impl("event_add_pairs_", TORCH_FN(add_pairs_));
}
