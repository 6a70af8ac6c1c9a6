// Eight floats or integers side by side, on the host; the compiler maps them to the vectors of the
// instruction set at hand.
#pragma once

#include <cstdint>
#include <cstring>

#include "gas_rt/host_device.h"

namespace gas_rt {

constexpr int32_t kLanes = 8;

#if GAS_RT_LANES

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

GAS_RT_HD Floats all(float value) { return value - Floats{}; }
GAS_RT_HD Ints all(int32_t value) { return value - Ints{}; }
GAS_RT_HD Floats magnitude(Floats v) { return (Floats)((Ints)v & 0x7fffffff); }
GAS_RT_HD Floats larger(Floats a, Floats b) { return a > b ? a : b; }

GAS_RT_HD Floats load_lanes(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

GAS_RT_HD Ints load_lanes(const int32_t* p) {
  Ints v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Lane i of the result is lane i ^ mask of v; mask is 1, 2 or 4.
template <int mask, typename Vector>
GAS_RT_HD Vector swap_lanes(Vector v) {
#if defined(__clang__)
  return __builtin_shufflevector(v, v, 0 ^ mask, 1 ^ mask, 2 ^ mask, 3 ^ mask, 4 ^ mask, 5 ^ mask,
                                 6 ^ mask, 7 ^ mask);
#else
  return __builtin_shuffle(v, Ints{0, 1, 2, 3, 4, 5, 6, 7} ^ mask);
#endif
}

// One byte per lane, 1 where the condition holds.
GAS_RT_HD uint64_t bytes_of(Ints condition) {
  typedef int8_t Bytes __attribute__((vector_size(kLanes)));
  const Bytes flags = __builtin_convertvector(condition, Bytes);
  uint64_t bytes;
  std::memcpy(&bytes, &flags, sizeof bytes);
  return bytes & 0x0101010101010101u;
}

#endif

}  // namespace gas_rt
