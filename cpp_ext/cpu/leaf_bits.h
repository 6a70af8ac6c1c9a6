// A bit for every leaf of a shell that lists vertices: small enough for the nearest cache.
#pragma once

#include <cstdint>
#include <vector>

#include "gas_rt/shell.h"

namespace gas_rt {
namespace GAS_RT_ISA {

constexpr int kWordsPerBlock = kLeavesInBlock / 32;
static_assert(kLeavesPerBlock == 4, "a leaf's place in its block has two bits an axis");

// [blocks z, y, x][kWordsPerBlock]; in a block leaf (x, y, z) is bit x + 4 y + 16 z.
inline std::vector<int32_t> leaf_bits(const ShellView& shell) {
  const int64_t blocks = int64_t{1} * shell.blocks[0] * shell.blocks[1] * shell.blocks[2];
  std::vector<int32_t> bits(kWordsPerBlock * blocks);
  for (int64_t b = 0; b < blocks; ++b) {
    if (shell.block[b] < 0) continue;
    const int32_t* start = shell.leaf_start + int64_t{shell.block[b]} * kLeavesInBlock;
    for (int i = 0; i < kLeavesInBlock; ++i) {
      const int32_t leaf = leaf_in_block(i & 3, i >> 2 & 3, i >> 4);
      const uint32_t lists = start[leaf] != start[leaf + 1];
      bits[kWordsPerBlock * b + (i >> 5)] |= static_cast<int32_t>(lists << (i & 31));
    }
  }
  return bits;
}

// The bits of a shell, and of the vertices that reach farther if it has any.
struct ShellBits {
  explicit ShellBits(const ShellView& shell) : own(leaf_bits(shell)) {
    if (shell.beyond != nullptr) beyond = leaf_bits(*shell.beyond);
  }

  std::vector<int32_t> own, beyond;
};

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
