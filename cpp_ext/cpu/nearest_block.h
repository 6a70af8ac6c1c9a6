// The nearest vertices of points side by side. As nearest_vertex one by one, but leaves are looked
// up ahead of the searches, so a search of unforeseen length costs no trip to memory, and eight
// points' lanes are brought together in the steps one point takes.
#pragma once

#include <cstdint>

#include "gas_rt/lanes.h"
#include "gas_rt/shell.h"

namespace gas_rt::GAS_RT_ISA {

constexpr int kPointBlock = 32;
constexpr int kShellLanes = gas_rt::kLanes;  // simd.h has lanes of its own
static_assert(kPointBlock % kShellLanes == 0, "a block is whole vectors");

// Per lane the nearest vertex yet.
struct Nearest {
  Floats distance;
  Ints vertex;
};

GAS_RT_HD Nearest nearer_of(const Nearest& a, const Nearest& b) {
  const Ints first =
      (a.distance < b.distance) | ((a.distance == b.distance) & (a.vertex < b.vertex));
  return {first ? a.distance : b.distance, first ? a.vertex : b.vertex};
}

GAS_RT_HD Nearest search_leaf(const ShellView& shell, ShellLeaf leaf, Vec3f p) {
  Nearest best = {all(shell.radius_sq), all(kNoVertex)};
  for (const ShellLanes* group = leaf.begin; group != leaf.end; ++group) {
    const Floats dx = p.x - load_lanes(group->x), dy = p.y - load_lanes(group->y);
    const Floats dz = p.z - load_lanes(group->z);
    best = nearer_of({dx * dx + dy * dy + dz * dz, load_lanes(group->vertex)}, best);
  }
  return best;
}

// Lanes whose number has the bit `mask` go to b, the others to a; each is the nearer of its two.
template <int mask>
GAS_RT_HD Nearest halved(const Nearest& a, const Nearest& b) {
  const Ints to_b = (Ints{0, 1, 2, 3, 4, 5, 6, 7} & mask) != 0;
  const Nearest own = {to_b ? b.distance : a.distance, to_b ? b.vertex : a.vertex};
  const Nearest other = {swap_lanes<mask>(to_b ? a.distance : b.distance),
                         swap_lanes<mask>(to_b ? a.vertex : b.vertex)};
  return nearer_of(own, other);
}

// leaf [count] and points [count, 3] in them -> vertex [kPointBlock], kNoVertex outside the shell;
// count <= kPointBlock
inline void nearest_in_leaves(const ShellView& shell, const ShellLeaf* leaf, const float* points,
                              int count, int32_t* vertex) {
  for (int first = 0; first < count; first += kShellLanes) {
    Nearest of[kShellLanes];
    for (int lane = 0; lane < kShellLanes; ++lane) {
      const int i = first + lane;
      of[lane] = i < count ? search_leaf(shell, leaf[i], load3(points + 3 * i))
                           : Nearest{all(shell.radius_sq), all(kNoVertex)};
    }
    for (int i = 0; i < 4; ++i) of[i] = halved<4>(of[2 * i], of[2 * i + 1]);
    for (int i = 0; i < 2; ++i) of[i] = halved<2>(of[2 * i], of[2 * i + 1]);
    const Ints found = halved<1>(of[0], of[1]).vertex;
    // The first halving went by bit 4 of the lane, the last by bit 1: lanes are in reverse.
    constexpr int kLaneOf[kShellLanes] = {0, 4, 2, 6, 1, 5, 3, 7};
    for (int lane = 0; lane < kShellLanes; ++lane) vertex[first + lane] = found[kLaneOf[lane]];
  }
}

inline void nearest_vertices(const ShellView& shell, const float* points, int count,
                             int32_t* vertex) {
  ShellLeaf leaf[kPointBlock];
  for (int i = 0; i < count; ++i) leaf[i] = find_leaf(shell, load3(points + 3 * i));
  nearest_in_leaves(shell, leaf, points, count, vertex);
}

}  // namespace gas_rt::GAS_RT_ISA
