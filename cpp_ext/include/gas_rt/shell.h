// The shell around a posed body: nearest vertex within a radius, and the way to canonical space.
//
// Space is cut into leaves of 3 cm, grouped in blocks of 4 x 4 x 4. Every leaf lists the vertices
// that can be nearest to some point in it, so a query looks at its leaf's list alone and is exact.
//
// Some vertices may reach farther than the others. They are a shell of their own, which is asked
// for the points that are in nobody's reach.
#pragma once

#include <cstdint>

#include "gas_rt/lanes.h"
#include "gas_rt/vec.h"

namespace gas_rt {

constexpr float kLeafM = 0.03f;
constexpr int32_t kLeavesPerBlock = 4;  // along one axis
constexpr int32_t kLeavesInBlock = kLeavesPerBlock * kLeavesPerBlock * kLeavesPerBlock;
constexpr float kBlockM = kLeafM * kLeavesPerBlock;
constexpr int32_t kNoVertex = -1;
constexpr int32_t kShellLanes = kLanes;  // a name of its own: the host's kernels have other lanes

// Eight vertices of a leaf's list side by side. The list's last group is filled up with copies of
// kNoVertex far away.
struct alignas(32) ShellLanes {
  float x[kLanes], y[kLanes], z[kLanes];
  int32_t vertex[kLanes];
};

// A leaf's list; the same for all points in it, so marchers may look it up once per leaf.
struct ShellLeaf {
  const ShellLanes* begin;
  const ShellLanes* end;
};

// Pointers into a ShellIndex, valid while that lives.
struct ShellView {
  Vec3f lo, hi;               // box of the vertices, grown by the radius; metres
  float radius_sq;            // square metres; points at exactly the radius are outside
  Vec3f origin;               // corner of the grid, just outside lo
  float leaves[3];            // along x, y, z
  int32_t blocks[3];          // along x, y, z
  const int32_t* block;       // [z, y, x] number of the block, -1 = no vertex within the radius
  const int32_t* leaf_start;  // [numbered blocks * kLeavesInBlock + 1] into lanes
  const ShellLanes* lanes;
  const float* maps;          // [V, 3, 4] posed to canonical
  const ShellView* beyond;    // of those that reach farther, without maps; null if there are none
  const int32_t* beyond_ids;  // [its vertices] their numbers in this shell
};

// The number of leaf (x, y, z) in its block: octant by octant, x fastest.
template <typename T>
GAS_RT_HD T leaf_in_block(T x, T y, T z) {
  return (z & 2) << 4 | (y & 2) << 3 | (x & 2) << 2 | (z & 1) << 2 | (y & 1) << 1 | (x & 1);
}

// The leaf around p. Leaves out of reach of the body are empty, as is everything outside the grid.
GAS_RT_HD ShellLeaf find_leaf(const ShellView& shell, Vec3f p) {
  constexpr float kLeavesPerM = 1.0f / kLeafM;
  const float gx = (p.x - shell.origin.x) * kLeavesPerM;
  const float gy = (p.y - shell.origin.y) * kLeavesPerM;
  const float gz = (p.z - shell.origin.z) * kLeavesPerM;
  // Written so that NaN is outside.
  if (!(gx >= 0.0f && gx < shell.leaves[0] && gy >= 0.0f && gy < shell.leaves[1] && gz >= 0.0f &&
        gz < shell.leaves[2])) {
    return {nullptr, nullptr};
  }
  const int32_t x = static_cast<int32_t>(gx), y = static_cast<int32_t>(gy);
  const int32_t z = static_cast<int32_t>(gz);
  const int32_t block =
      shell.block[((z >> 2) * shell.blocks[1] + (y >> 2)) * shell.blocks[0] + (x >> 2)];
  if (block < 0) return {nullptr, nullptr};
  const int32_t* start =
      shell.leaf_start + static_cast<int64_t>(block) * kLeavesInBlock + leaf_in_block(x, y, z);
  return {shell.lanes + start[0], shell.lanes + start[1]};
}

// The vertex of the leaf nearest to p, or kNoVertex beyond the radius; of equal distances the
// lowest number wins.
GAS_RT_HD int32_t nearest_in_leaf(const ShellView& shell, ShellLeaf leaf, Vec3f p) {
#if !GAS_RT_LANES
  float best = shell.radius_sq;
  int32_t vertex = kNoVertex;
  for (const ShellLanes* at = leaf.begin; at != leaf.end; ++at) {
    const ShellLanes group = *at;  // copied whole: in wide loads
    for (int lane = 0; lane < kLanes; ++lane) {
      const float dx = p.x - group.x[lane], dy = p.y - group.y[lane], dz = p.z - group.z[lane];
      const float distance = dx * dx + dy * dy + dz * dz;
      const int32_t id = group.vertex[lane];
      if (distance < best || (distance == best && id < vertex)) best = distance, vertex = id;
    }
  }
  return vertex;
#else
  Floats best = all(shell.radius_sq);
  Ints vertex = all(kNoVertex);
  const auto take = [&](Floats distance, Ints id) {
    const Ints nearer = (distance < best) | ((distance == best) & (id < vertex));
    best = nearer ? distance : best;
    vertex = nearer ? id : vertex;
  };
  for (const ShellLanes* group = leaf.begin; group != leaf.end; ++group) {
    const Floats dx = p.x - load_lanes(group->x), dy = p.y - load_lanes(group->y);
    const Floats dz = p.z - load_lanes(group->z);
    take(dx * dx + dy * dy + dz * dz, load_lanes(group->vertex));
  }
  take(swap_lanes<4>(best), swap_lanes<4>(vertex));
  take(swap_lanes<2>(best), swap_lanes<2>(vertex));
  take(swap_lanes<1>(best), swap_lanes<1>(vertex));
  return vertex[0];
#endif
}

// The vertex that p belongs to.
GAS_RT_HD int32_t nearest_vertex(const ShellView& shell, Vec3f p) {
  const int32_t own = nearest_in_leaf(shell, find_leaf(shell, p), p);
  if (own != kNoVertex || shell.beyond == nullptr) return own;
  const int32_t far = nearest_in_leaf(*shell.beyond, find_leaf(*shell.beyond, p), p);
  return far == kNoVertex ? kNoVertex : shell.beyond_ids[far];
}

GAS_RT_HD Vec3f to_canonical(const ShellView& shell, int32_t vertex, Vec3f p) {
  return transform_point(shell.maps + 12 * static_cast<int64_t>(vertex), p);
}

// Not renormalised: a blend of bones may stretch.
GAS_RT_HD Vec3f direction_to_canonical(const ShellView& shell, int32_t vertex, Vec3f d) {
  return transform_direction(shell.maps + 12 * static_cast<int64_t>(vertex), d);
}

}  // namespace gas_rt
