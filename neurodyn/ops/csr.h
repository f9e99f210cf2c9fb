// A sparse matrix in CSR form that is checked where it is used, and what operators with it share.
//
// Nothing that comes in is trusted: sizes and dtypes are checked in front, row starts and indices of each row right
// before they are used, since a file, an assignment or an edit in place may have changed them since the last call.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <limits>
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
    for (int64_t word = 0; word < 32; ++word) {
      if (words[word] == 0) continue;
      constexpr int64_t each = block / 32;
      for (int64_t i = first + word * each; i < first + (word + 1) * each; ++i)
        if (x[i] != 0) visit(i);
    }
  }
  for (int64_t i = first; i < n; ++i)
    if (x[i] != 0) visit(i);
}

template <typename T>
int64_t count_nonzero(const T* x, int64_t n) {
  int64_t found = 0;
  for (int64_t first = 0; first < n; first += 1 << 15) {
    int32_t some = 0;  // counts of the width of a float run in vectors
    for (int64_t i = first; i < std::min<int64_t>(n, first + (1 << 15)); ++i) some += x[i] != 0;
    found += some;
  }
  return found;
}

// So many pieces to a thread that waking it is worth while, when each costs about so many additions.
int64_t grain(int64_t work, int64_t least = 1) { return std::max<int64_t>(least, (1 << 15) / (1 + work)); }

void check_dense(const char* op, const char* name, const Tensor& x) {
  TORCH_CHECK_VALUE(x.dim() > 0, op, ": ", name, " has no dimensions, wanted (*batch, n)");
  TORCH_CHECK_VALUE(x.is_cpu() && x.layout() == at::kStrided, op, ": ", name, " must be a dense tensor on the CPU");
}

void check_like(const char* op, const char* name, const Tensor& tensor, const Tensor& x) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == x.scalar_type(), op, ": ", name, " is ", tensor.scalar_type(),
                   " and the input ", x.scalar_type(), "; convert one");
  TORCH_CHECK_VALUE(tensor.is_cpu() && tensor.layout() == at::kStrided, op, ": ", name, " must be a dense tensor on the CPU");
}

// The matrix, which is checked row by row; a row of an input that is zero is not looked at.
class Matrix {
 public:
  // `starts`, `ends`: what messages call the two tensors.
  Matrix(const char* op, const Tensor& indptr, const Tensor& indices, int64_t n_out, const char* starts = "indptr",
         const char* ends = "indices")
      : Matrix(op, nullptr, indptr.numel() - 1, nullptr, indices.numel(), n_out, starts, ends) {
    indptr_ = checked(op, starts, indptr);
    indices_ = checked(op, ends, indices);
    start_ = indptr_.const_data_ptr<int>();
    index = indices_.const_data_ptr<int>();
  }

  // Of memory that lies in a row.
  Matrix(const char* op, const int* start, int64_t rows, const int* index, int64_t synapses, int64_t n_out,
         const char* starts = "indptr", const char* ends = "indices")
      : op_(op), starts_(starts), ends_(ends), n_out_(n_out), start_(start), rows_(rows), index(index) {
    TORCH_CHECK_VALUE(rows >= 0, op, ": ", starts, " is empty, wanted one start for each input and the end");
    TORCH_CHECK_VALUE(n_out >= 0, op, ": ", n_out, " outputs");
    TORCH_CHECK_VALUE(synapses <= std::numeric_limits<int>::max(), op, ": too many synapses");
    synapses_ = static_cast<int>(synapses);
  }

  int64_t rows() const { return rows_; }
  int64_t synapses() const { return synapses_; }
  int64_t mean() const { return synapses_ / std::max<int64_t>(1, rows()); }  // synapses of a row

  struct Range {
    int first, last;
  };

  // The synapses of input i, whose indices may then be used.
  Range row(int64_t i) const {
    const int first = start_[i], last = start_[i + 1];
    if (first < 0 || last < first || last > synapses_) [[unlikely]] wrong_row(i);
    check_indices(first, last);
    return {first, last};
  }

  // The same of every row: the starts grow, so the indices are one stretch.
  void check_all() const {
    const int* start = start_;
    bool right = start[0] >= 0 && start[rows()] <= synapses_;
    for (int64_t i = 0; i < rows(); ++i) right &= start[i] <= start[i + 1];
    if (!right) [[unlikely]]
      for (int64_t i = 0; i < rows(); ++i)
        if (start[i] < 0 || start[i + 1] < start[i] || start[i + 1] > synapses_) wrong_row(i);
    check_indices(start[0], start[rows()]);
  }

  // What `row` gives, after `check_all`.
  Range checked_row(int64_t i) const { return {start_[i], start_[i + 1]}; }

 private:
  const char *op_, *starts_, *ends_;
  uint64_t n_out_;
  Tensor indptr_, indices_;
  const int* start_;
  int64_t rows_;
  int synapses_;

  static Tensor checked(const char* op, const char* name, const Tensor& tensor) {
    TORCH_CHECK_TYPE(tensor.scalar_type() == at::kInt, op, ": ", name, " is ", tensor.scalar_type(), ", wanted Int (torch.int32)");
    TORCH_CHECK_VALUE(tensor.dim() == 1 && tensor.is_cpu() && tensor.layout() == at::kStrided, op, ": ", name,
                      " must have one dimension and lie on the CPU, got shape ", tensor.sizes());
    return tensor.contiguous();
  }

  void check_indices(int first, int last) const {
    unsigned most = 0;  // a negative index is a large unsigned one; a loop of its own runs in vectors
    for (int k = first; k < last; ++k) most = std::max(most, static_cast<unsigned>(index[k]));
    if (most >= n_out_ && last > first) [[unlikely]] wrong_index(first, last);
  }

  [[noreturn]] void wrong_row(int64_t i) const {
    C10_THROW_ERROR(ValueError, c10::str(op_, ": ", starts_, "[", i, "] = ", start_[i], " and ", starts_, "[", i + 1,
                    "] = ", start_[i + 1], " are no part of the ", synapses_, " synapses in ", ends_));
  }

  [[noreturn]] void wrong_index(int first, int last) const {
    int k = first;
    while (k + 1 < last && static_cast<unsigned>(index[k]) < n_out_) ++k;
    C10_THROW_ERROR(ValueError, c10::str(op_, ": ", ends_, "[", k, "] = ", index[k], " is out of range; wanted 0 to ",
                    n_out_ - 1, ", as there are ", n_out_, " outputs"));
  }

 public:
  const int* index;
};

}  // namespace
