// The pixels of a picture whose rays may meet a shell: most rays miss it and need not be made.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gas_rt/ray.h"
#include "gas_rt/shell.h"
#include "leaf_bits.h"

namespace gas_rt {
namespace GAS_RT_ISA {

// The leaves of a block beside which one is empty, of the leaves that are not. full: [blocks] a bit
// for every leaf; at: the block's place in x, y, z.
inline uint64_t outer_leaves(const ShellView& shell, const std::vector<uint64_t>& full,
                             const int* at) {
  // Leaves whose place along an axis is 0.
  constexpr uint64_t kFirst[3] = {0x1111111111111111u, 0x000f000f000f000fu, 0xffffu};
  const int64_t stride[3] = {1, shell.blocks[0], int64_t{1} * shell.blocks[0] * shell.blocks[1]};
  const int64_t number = at[0] + at[1] * stride[1] + at[2] * stride[2];
  const uint64_t own = full[number];
  uint64_t inner = own;
  for (int axis = 0; axis < 3; ++axis) {
    const int step = 1 << 2 * axis, across = 3 * step;  // in bits
    const uint64_t below = at[axis] > 0 ? full[number - stride[axis]] : 0;
    const uint64_t above = at[axis] + 1 < shell.blocks[axis] ? full[number + stride[axis]] : 0;
    const uint64_t first = kFirst[axis], last = first << across;
    inner &= (own << step & ~first) | (below >> across & first);
    inner &= (own >> step & ~last) | (above << across & last);
  }
  return own & ~inner;
}

// Every leaf that lists vertices marks the rectangle of pixels around the ball that holds it. Those
// among others can be left out: a ray that meets one leaves them through one that is not.
class ShellOutline {
 public:
  ShellOutline(const ShellView& shell, const ShellBits& bits, const RayBundle& bundle, int width,
               int height)
      : size_{width, height}, words_((width + 63) / 64), marked_(size_t(words_) * height) {
    focal_[0] = static_cast<float>(bundle.fx), focal_[1] = static_cast<float>(bundle.fy);
    // Of pixels' centres, which lie at half numbers.
    centre_[0] = static_cast<float>(bundle.cx - 0.5);
    centre_[1] = static_cast<float>(bundle.cy - 0.5);
    for (int axis = 0; axis < 3; ++axis) {
      for (int d = 0; d < 3; ++d) leaf_[axis][d] = float(bundle.rotation[3 * axis + d] * kLeafM);
    }
    mark_shell(shell, bits.own, bundle);
    if (shell.beyond != nullptr) mark_shell(*shell.beyond, bits.beyond, bundle);
  }

  bool holds(int column, int row) const {
    return (marked_[size_t(row) * words_ + (column >> 6)] >> (column & 63) & 1) != 0;
  }

 private:
  // Half a leaf's diagonal, and 0.1 mm for the rounding of samples.
  static constexpr float kReachM = 0.8661f * kLeafM + 1e-4f;
  static constexpr float kMarginPx = 0.01f;  // for the rounding of the projection

  void mark_shell(const ShellView& shell, const std::vector<int32_t>& bits,
                  const RayBundle& bundle) {
    const float lo[3] = {shell.origin.x, shell.origin.y, shell.origin.z};
    std::vector<uint64_t> full(bits.size() / kWordsPerBlock);
    for (size_t b = 0; b < full.size(); ++b) {
      full[b] = uint64_t{uint32_t(bits[2 * b + 1])} << 32 | uint32_t(bits[2 * b]);
    }
    size_t block = 0;
    for (int z = 0; z < shell.blocks[2]; ++z)
      for (int y = 0; y < shell.blocks[1]; ++y)
        for (int x = 0; x < shell.blocks[0]; ++x, ++block) {
          if (full[block] == 0) continue;
          const int at[3] = {x, y, z};
          double first[3] = {};
          for (int d = 0; d < 3; ++d) {
            const double world = lo[d] + (kLeavesPerBlock * at[d] + 0.5) * kLeafM;
            for (int axis = 0; axis < 3; ++axis)
              first[axis] += bundle.rotation[3 * d + axis] * (world - bundle.origin[d]);
          }
          mark_block(outer_leaves(shell, full, at),
                     {float(first[0]), float(first[1]), float(first[2])});
        }
  }

  // first: the middle of the block's first leaf, in the camera's axes
  void mark_block(uint64_t leaves, Vec3f first) {
    const float extent = 1.7321f * (kLeavesPerBlock - 1) * kLeafM;
    const float nearest = first.z - extent - kReachM;
    if (first.z + extent + kReachM < 0.0f) return;  // behind the camera, where rays begin
    if (nearest < kReachM) {                        // around the camera
      std::fill(marked_.begin(), marked_.end(), ~uint64_t{0});
      return;
    }
    // A ball's points lie at (x + dx) / (z + dz), with |dx| and |dz| up to its reach.
    float reach[2];
    const float aside[2] = {std::fabs(first.x) + extent, std::fabs(first.y) + extent};
    for (int axis = 0; axis < 2; ++axis) {
      const float slope = aside[axis] / nearest;
      reach[axis] = kReachM * (1.0f + slope) / nearest * std::fabs(focal_[axis]) + kMarginPx;
    }
    for (; leaves != 0; leaves &= leaves - 1) {
      const int i = __builtin_ctzll(leaves);
      const Vec3f at = first + leaf_step(0) * float(i & 3) + leaf_step(1) * float(i >> 2 & 3) +
                       leaf_step(2) * float(i >> 4);
      const float per_depth = 1.0f / at.z;
      mark(at.x * per_depth * focal_[0] + centre_[0], at.y * per_depth * focal_[1] + centre_[1],
           reach);
    }
  }

  Vec3f leaf_step(int axis) const { return load3(leaf_[axis]); }

  // Marks the pixels whose centres lie within reach [2] of (x, y).
  void mark(float x, float y, const float* reach) {
    const int left = pixel(x - reach[0], size_[0]), right = pixel(x + reach[0] + 1.0f, size_[0]);
    const int top = pixel(y - reach[1], size_[1]), bottom = pixel(y + reach[1] + 1.0f, size_[1]);
    for (int begin = left; begin < right;) {
      const int word = begin >> 6, end = std::min(right, 64 * word + 64);
      const uint64_t mask = ~uint64_t{0} >> (64 - (end - begin)) << (begin & 63);
      for (int row = top; row < bottom; ++row) marked_[size_t(row) * words_ + word] |= mask;
      begin = end;
    }
  }

  // In 0..size, rounded down
  static int pixel(float at, int size) {
    return static_cast<int>(std::min(std::max(at, 0.0f), static_cast<float>(size)));
  }

  int size_[2];  // width and height
  int words_;    // a row
  float focal_[2], centre_[2];
  float leaf_[3][3];              // a leaf's width along each axis of the grid, in the camera's
  std::vector<uint64_t> marked_;  // [height, words]
};

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
