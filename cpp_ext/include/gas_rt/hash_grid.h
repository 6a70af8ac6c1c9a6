// The hash grid's addressing, shared by every driver: tiny-cuda-nn's layout.
#pragma once

#include <cstdint>

#include "gas_rt/host_device.h"

namespace gas_rt {

constexpr int kMaxLevels = 32;

// One resolution of the grid. `hashed` is false where all resolution^3 vertices are stored.
struct GridLevel {
  float scale;
  uint32_t resolution;
  uint32_t size;  // entries; a power of two where hashed
  uint32_t hashed;
  uint64_t offset;  // first entry in the table
};

// Coherent prime hash: x keeps its factor 1, so that neighbours along x share cache lines.
constexpr uint32_t kPrimeY = 2654435761u;
constexpr uint32_t kPrimeZ = 805459861u;

// The entry that holds vertex (x, y, z) of a level; U is uint32_t or a vector of them.
template <typename U>
GAS_RT_HD U hashed_entry(const GridLevel& level, U x, U y, U z) {
  return (x ^ y * kPrimeY ^ z * kPrimeZ) & (level.size - 1);
}

// On the box's far faces a vertex may lie one past the last: the layout wraps there.
template <typename U>
GAS_RT_HD U dense_entry(const GridLevel& level, U x, U y, U z) {
  const U index = x + y * level.resolution + z * (level.resolution * level.resolution);
  return index >= level.size ? index - level.size : index;
}

}  // namespace gas_rt
