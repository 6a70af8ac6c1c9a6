// Drops of a cube's candidates those that another one beats: is nearer than, everywhere in the
// cube.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "candidates.h"
#include "gas_rt/shell_cube.h"
#include "simd.h"

namespace gas_rt::GAS_RT_ISA {

class Pruner {
 public:
  void prune(const Candidates& block, const Cube& cube, const Reach& reach, Places* places) {
    const size_t n = places->n;
    gather(block, *places, cube);
    const Margins margins(cube.width, reach);
    size_t kept = 0;
    for (size_t first = 0; first < n; first += kLanes) {
      const uint32_t out = beaten(first, n, margins);
      for (size_t i = first; i < std::min(first + kLanes, n); ++i) {
        places->at[kept] = places->at[i];
        kept += (out >> (i - first) & 1) == 0;
      }
    }
    places->n = kept;
  }

 private:
  void gather(const Candidates& block, const Places& places, const Cube& cube) {
    const size_t n = places.n;
    // What is left in the last vector beyond the candidates is worked on, but never asked for.
    grow(&x_, n + kLanes), grow(&y_, n + kLanes), grow(&z_, n + kLanes);
    grow(&distance_, n + kLanes);
    for (size_t i = 0; i < n; ++i) {
      const int32_t at = places.at[i];
      x_[i] = block.x[at], y_[i] = block.y[at], z_[i] = block.z[at];
    }
    for (size_t first = 0; first < n; first += kLanes) {
      const VF x = load(x_.data() + first) - cube.centre.x;
      const VF y = load(y_.data() + first) - cube.centre.y;
      const VF z = load(z_.data() + first) - cube.centre.z;
      store(distance_.data() + first, x * x + y * y + z * z);
    }
  }

  // A bit for each candidate of a vector; by the first of can_be_nearest's two tests, with the
  // slack of either distance.
  uint32_t beaten(size_t first, size_t n, const Margins& margins) const {
    const VF x = load(x_.data() + first), y = load(y_.data() + first), z = load(z_.data() + first);
    const VF limit = load(distance_.data() + first) - 2.0f * margins.slack;
    VI by{};
    for (size_t i = 0; i < n; ++i) {
      const VF apart = absolute(x - x_[i]) + absolute(y - y_[i]) + absolute(z - z_[i]);
      by |= limit > distance_[i] + margins.width * apart;
    }
    return sign_bits(by);
  }

  static VF absolute(VF v) { return (VF)((VI)v & 0x7fffffff); }

  std::vector<float> x_, y_, z_, distance_;
};

}  // namespace gas_rt::GAS_RT_ISA
