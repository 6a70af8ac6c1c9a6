// The nearest vertices of points side by side. As nearest_vertex one by one, but leaves are looked
// up ahead of the searches, so a search of unforeseen length costs no trip to memory, and eight
// points' lanes are brought together in the steps one point takes. Only for shells that build_shell
// made: it lists vertices in the order of their numbers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "gas_rt/lanes.h"
#include "gas_rt/shell.h"

namespace gas_rt::GAS_RT_ISA {

constexpr int kPointBlock = 32;
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
    const Floats distance = dx * dx + dy * dy + dz * dz;
    const Ints nearer = distance < best.distance;  // of equal ones the first has the lowest number
    best = {nearer ? distance : best.distance, nearer ? load_lanes(group->vertex) : best.vertex};
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

// leaf [count] and points [count, 3] in them -> vertex [kPointBlock], kNoVertex where no vertex of
// these lists is in reach; count <= kPointBlock
inline void search_leaves(const ShellView& shell, const ShellLeaf* leaf, const float* points,
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

// As find_leaf; count <= kShellLanes.
inline void find_leaves(const ShellView& shell, const float* points, int count, ShellLeaf* leaf) {
  constexpr float kLeavesPerM = 1.0f / kLeafM;
  const float origin[3] = {shell.origin.x, shell.origin.y, shell.origin.z};
  float at[3][kShellLanes] = {};
  for (int i = 0; i < count; ++i) {
    for (int axis = 0; axis < 3; ++axis) at[axis][i] = points[3 * i + axis];
  }
  Floats g[3];
  Ints inside = Ints{} - 1;
  for (int axis = 0; axis < 3; ++axis) {
    g[axis] = (load_lanes(at[axis]) - origin[axis]) * kLeavesPerM;
    inside &= (g[axis] >= 0.0f) & (g[axis] < shell.leaves[axis]);
  }
  Ints cell[3];
  for (int axis = 0; axis < 3; ++axis) {
    cell[axis] = __builtin_convertvector(inside ? g[axis] : Floats{}, Ints);
  }
  const Ints block =
      ((cell[2] >> 2) * shell.blocks[1] + (cell[1] >> 2)) * shell.blocks[0] + (cell[0] >> 2);
  const Ints in_block = leaf_in_block(cell[0], cell[1], cell[2]);
  for (int i = 0; i < count; ++i) {
    const int32_t number = inside[i] ? shell.block[block[i]] : -1;
    const int32_t* start =
        shell.leaf_start + static_cast<int64_t>(number) * kLeavesInBlock + in_block[i];
    leaf[i] = number < 0 ? ShellLeaf{nullptr, nullptr}
                         : ShellLeaf{shell.lanes + start[0], shell.lanes + start[1]};
  }
}

inline void nearest_vertices(const ShellView& shell, const float* points, int count,
                             int32_t* vertex);

// Asks the vertices that reach farther about the points that have no vertex yet.
inline void search_beyond(const ShellView& shell, const float* points, int count, int32_t* vertex) {
  float left[3 * kPointBlock];
  int at[kPointBlock], n = 0;
  for (int i = 0; i < count; ++i) {
    at[n] = i;
    store3(left + 3 * n, load3(points + 3 * i));
    n += vertex[i] == kNoVertex;
  }
  int32_t found[kPointBlock];
  nearest_vertices(*shell.beyond, left, n, found);
  for (int i = 0; i < n; ++i) {
    if (found[i] != kNoVertex) vertex[at[i]] = shell.beyond_ids[found[i]];
  }
}

// As search_leaves, and then those that reach farther: what the points belong to.
inline void nearest_in_leaves(const ShellView& shell, const ShellLeaf* leaf, const float* points,
                              int count, int32_t* vertex) {
  search_leaves(shell, leaf, points, count, vertex);
  if (shell.beyond != nullptr) search_beyond(shell, points, count, vertex);
}

// points [count, 3] -> vertex [kPointBlock]; count <= kPointBlock
inline void nearest_vertices(const ShellView& shell, const float* points, int count,
                             int32_t* vertex) {
  ShellLeaf leaf[kPointBlock];
  for (int i = 0; i < count; i += kShellLanes) {
    find_leaves(shell, points + 3 * i, std::min(count - i, kShellLanes), leaf + i);
  }
  nearest_in_leaves(shell, leaf, points, count, vertex);
}

}  // namespace gas_rt::GAS_RT_ISA
