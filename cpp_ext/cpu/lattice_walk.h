// The samples of a ray that may lie in the shell, front to back; empty space is stepped over.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "gas_rt/ray.h"
#include "gas_rt/shell.h"
#include "nearest_block.h"

namespace gas_rt {
namespace GAS_RT_ISA {

// A ray and where on it the next look is due.
struct WalkedRay {
  Ray ray;
  float samples_per_leaf[3];  // along each axis
  int next;                   // lattice index
};

class LatticeWalk {
 public:
  LatticeWalk(const ShellView& shell, int samples) : shell_(shell), samples_(samples) {
    float farthest = 0.0f;
    for (const Vec3f& corner : {shell.lo, shell.hi}) {
      for (const float at : {corner.x, corner.y, corner.z}) {
        farthest = std::max(farthest, std::fabs(at));
      }
    }
    margin_ = kRoundings * kEpsilon * farthest * kLeavesPerM;
  }

  WalkedRay start(const Ray& ray) const {
    const float step[3] = {ray.step.x, ray.step.y, ray.step.z};
    WalkedRay walked{ray, {}, 0};
    for (int axis = 0; axis < 3; ++axis) {
      walked.samples_per_leaf[axis] = 1.0f / std::max(std::fabs(step[axis]) * kLeavesPerM, 1e-12f);
    }
    return walked;
  }

  // Moves to the next sample in a leaf that lists vertices, and past it; false if there is none.
  bool advance(WalkedRay& walked, int* k, Vec3f* point, ShellLeaf* leaf) const {
    while (walked.next < samples_) {
      *k = walked.next++;
      *point = sample_at(walked.ray, *k);
      const ShellCell cell = find_cell(shell_, *point);
      if (cell.leaf.begin != cell.leaf.end) {
        *leaf = cell.leaf;
        return true;
      }
      if (cell.width > 0) walked.next += more_inside(walked, *point, cell.width);
    }
    return false;
  }

 private:
  static constexpr float kLeavesPerM = 1.0f / kLeafM;
  static constexpr float kEpsilon = 1.2e-7f;
  // Of coordinates, on the way from a ray to a sample's leaf.
  static constexpr float kRoundings = 8.0f;
  static constexpr float kSampleRounding = 1e-3f;  // of the number of samples

  // How many further samples certainly lie in the same cube, `width` leaves wide.
  int more_inside(const WalkedRay& walked, Vec3f p, int32_t width) const {
    const float at[3] = {p.x - shell_.origin.x, p.y - shell_.origin.y, p.z - shell_.origin.z};
    const float step[3] = {walked.ray.step.x, walked.ray.step.y, walked.ray.step.z};
    float samples = static_cast<float>(samples_);
    for (int axis = 0; axis < 3; ++axis) {
      const float g = at[axis] * kLeavesPerM;
      const float low = static_cast<float>(static_cast<int32_t>(g) & ~(width - 1));
      const float room = step[axis] > 0.0f ? low + static_cast<float>(width) - g : g - low;
      samples = std::min(samples, (room - margin_) * walked.samples_per_leaf[axis]);
    }
    return static_cast<int>(std::max(samples - kSampleRounding, 0.0f));
  }

  const ShellView& shell_;
  int samples_;
  float margin_;  // in leaves
};

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
