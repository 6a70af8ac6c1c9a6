// The hash grid's addressing, shared by every driver: tiny-cuda-nn's layout.
#pragma once

#include <cstdint>

namespace gas_rt {

constexpr int kMaxLevels = 32;

// One resolution of the grid. `hashed` is false where all resolution^3 vertices are stored.
struct GridLevel {
  float scale;
  uint32_t resolution;
  uint32_t size;    // entries; a power of two where hashed
  uint32_t hashed;
  uint64_t offset;  // first entry in the table
};

// Coherent prime hash: x keeps its factor 1, so that neighbours along x share cache lines.
constexpr uint32_t kPrimeY = 2654435761u;
constexpr uint32_t kPrimeZ = 805459861u;

}  // namespace gas_rt
