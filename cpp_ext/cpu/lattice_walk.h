// The samples of a ray that may lie in the shell, front to back: vectors of samples at a time ask a
// bitmap of the leaves, so empty space costs a fraction of a look-up per sample.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gas_rt/ray.h"
#include "gas_rt/shell.h"
#include "leaf_bits.h"
#include "nearest_block.h"
#include "simd.h"

namespace gas_rt {
namespace GAS_RT_ISA {

// A ray and the samples on it that are yet to be visited.
struct WalkedRay {
  Ray ray;
  int first;       // lattice index of the lowest bit of `ahead`
  uint64_t ahead;  // samples in leaves that list vertices
};

class LatticeWalk {
 public:
  // bits: of the shell, borrowed
  LatticeWalk(const ShellView& shell, const ShellBits& bits, int samples)
      : shell_(shell), bits_(bits), samples_(samples) {}

  WalkedRay start(const Ray& ray) const { return {ray, 0, look(ray, 0)}; }

  // Moves to the next sample in a leaf that lists vertices, and past it; false if there is none.
  // The leaf is the shell's own, and may be empty where it is one of those beyond that lists them.
  bool advance(WalkedRay& walked, int* k, Vec3f* point, ShellLeaf* leaf) const {
    while (walked.ahead == 0) {
      walked.first += kAhead;
      if (walked.first >= samples_) return false;
      walked.ahead = look(walked.ray, walked.first);
    }
    *k = walked.first + __builtin_ctzll(walked.ahead);
    walked.ahead &= walked.ahead - 1;
    *point = sample_at(walked.ray, *k);
    *leaf = find_leaf(shell_, *point);
    return true;
  }

 private:
  static constexpr int kAhead = 64;

  uint64_t look(const Ray& ray, int first) const {
    uint64_t found = look(shell_, bits_.own.data(), ray, first);
    if (shell_.beyond != nullptr) found |= look(*shell_.beyond, bits_.beyond.data(), ray, first);
    return found;
  }

  // Bit i is set if sample first + i lies in a leaf that lists vertices. On a leaf's face rounding
  // may disagree with find_leaf: of two such leaves both list what is in reach of the face.
  uint64_t look(const ShellView& shell, const int32_t* bits, const Ray& ray, int first) const {
    constexpr float kLeavesPerM = 1.0f / kLeafM;
    const float start[3] = {ray.start.x, ray.start.y, ray.start.z};
    const float step[3] = {ray.step.x, ray.step.y, ray.step.z};
    const float origin[3] = {shell.origin.x, shell.origin.y, shell.origin.z};
    const int count = std::min(kAhead, samples_ - first);
    uint64_t found = 0;
    for (int i = 0; i < count; i += kLanes) {
      const VF k = ascending() + static_cast<float>(first + i);
      VI inside = k < static_cast<float>(first + count);
      VF g[3];
      for (int axis = 0; axis < 3; ++axis) {
        g[axis] = (start[axis] + step[axis] * k - origin[axis]) * kLeavesPerM;
        inside &= (g[axis] >= 0.0f) & (g[axis] < shell.leaves[axis]);
      }
      VI at[3];
      for (int axis = 0; axis < 3; ++axis) {
        at[axis] = __builtin_convertvector(inside ? g[axis] : VF{}, VI);
      }
      const VI block =
          ((at[2] >> 2) * shell.blocks[1] + (at[1] >> 2)) * shell.blocks[0] + (at[0] >> 2);
      const VI words = look_up(bits, kWordsPerBlock * block + (at[2] >> 1 & 1));
      const VI bit = (at[2] & 1) << 4 | (at[1] & 3) << 2 | (at[0] & 3);
      found |= uint64_t{sign_bits(words << (31 - bit) & inside)} << i;
    }
    return found;
  }

  const ShellView& shell_;
  const ShellBits& bits_;
  int samples_;
};

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
