// The array types of the bindings: NumPy, CPU, C-contiguous, exact dtype, never converted.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace gas_rt {

namespace nb = nanobind;

template <typename Scalar, typename... Shape>
using Array = nb::ndarray<Scalar, Shape..., nb::c_contig, nb::device::cpu>;

template <ssize_t... Shape>
using F32In = Array<const float, nb::shape<Shape...>>;
template <ssize_t... Shape>
using F32Out = Array<float, nb::shape<Shape...>>;
template <ssize_t... Shape>
using I32In = Array<const int32_t, nb::shape<Shape...>>;
template <ssize_t... Shape>
using I32Out = Array<int32_t, nb::shape<Shape...>>;

// The Python faces check arguments and word the errors; this keeps a wrong call of theirs from
// reaching memory that is not the caller's.
inline void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(std::string("gas_rt.kernels._native: ") + what);
}

inline void require_indices(const int32_t* ids, int64_t n, int64_t limit, const char* what) {
  int32_t low = 0, high = -1;
  for (int64_t i = 0; i < n; ++i) {
    low = ids[i] < low ? ids[i] : low;
    high = ids[i] > high ? ids[i] : high;
  }
  require(low >= 0 && high < limit, what);
}

template <typename A>
int64_t rows(const A& array) {
  return static_cast<int64_t>(array.shape(0));
}

template <typename A>
int64_t columns(const A& array) {
  return static_cast<int64_t>(array.shape(1));
}

}  // namespace gas_rt
