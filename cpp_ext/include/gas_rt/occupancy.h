// Which cells of a field's box may hold density.
#pragma once

#include <cstdint>

#include "gas_rt/host_device.h"

namespace gas_rt {

// Bit x + resolution * (y + resolution * z), the lowest bit of a byte first.
struct OccupancyView {
  const uint8_t* bits;  // null: all may
  int32_t resolution;
};

// u: [3] box coordinates in [0, 1]
GAS_RT_HD bool occupied(const OccupancyView& occupancy, const float* u) {
  if (occupancy.bits == nullptr) return true;
  const int32_t n = occupancy.resolution;
  int64_t at = 0;
  for (int d = 2; d >= 0; --d) {
    const int32_t cell = static_cast<int32_t>(u[d] * static_cast<float>(n));
    at = at * n + (cell < n ? cell : n - 1);
  }
  return (occupancy.bits[at >> 3] >> (at & 7) & 1) != 0;
}

}  // namespace gas_rt
