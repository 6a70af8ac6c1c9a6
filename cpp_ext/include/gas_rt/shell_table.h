// The posed shell's storage on the host, and its CPU drivers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gas_rt/dispatch.h"
#include "gas_rt/reused.h"
#include "gas_rt/shell.h"

namespace gas_rt {

struct ShellIndex {
  Vec3f lo, hi, origin;
  float radius_m;
  int32_t blocks[3];
  std::vector<int32_t> block;
  std::vector<int32_t> leaf_start;
  Reused<ShellLanes> lanes;
  std::vector<float> maps;
  std::unique_ptr<ShellIndex> beyond;  // of the vertices that reach farther
  std::vector<int32_t> beyond_ids;
  ShellView beyond_view;

  // Takes the shell of vertices `ids` of this one, which reach farther.
  void reach_beyond(std::unique_ptr<ShellIndex> farther, std::vector<int32_t> ids) {
    lo = {std::min(lo.x, farther->lo.x), std::min(lo.y, farther->lo.y),
          std::min(lo.z, farther->lo.z)};
    hi = {std::max(hi.x, farther->hi.x), std::max(hi.y, farther->hi.y),
          std::max(hi.z, farther->hi.z)};
    beyond = std::move(farther), beyond_ids = std::move(ids);
    beyond_view = beyond->view();
  }

  ShellView view() const {
    ShellView view{};
    view.lo = lo, view.hi = hi, view.origin = origin;
    view.radius_sq = radius_m * radius_m;
    for (int axis = 0; axis < 3; ++axis) {
      view.blocks[axis] = blocks[axis];
      view.leaves[axis] = static_cast<float>(blocks[axis] * kLeavesPerBlock);
    }
    view.block = block.data(), view.leaf_start = leaf_start.data();
    view.lanes = lanes.get(), view.maps = maps.data();
    if (beyond) view.beyond = &beyond_view, view.beyond_ids = beyond_ids.data();
    return view;
  }
};

// More blocks than this are refused: vertices that far apart are no body.
constexpr int64_t kMaxShellBlocks = int64_t{1} << 22;

struct ShellTable {
  // vertices [V, 3] with V > 0, maps [V, 3, 4] or null. Throws std::length_error beyond
  // kMaxShellBlocks.
  void (*build_shell)(const float* vertices, const float* maps, int64_t n_vertices, float radius_m,
                      int threads, ShellIndex* out);
  // points [N, 3] -> vertex_id [N], canonical [N, 3] (0 where vertex_id is -1)
  void (*query_shell)(const ShellView& shell, const float* points, int64_t n, int threads,
                      int32_t* vertex_id, float* canonical);
};

GAS_RT_DECLARE_TABLE(ShellTable, shell_table)

}  // namespace gas_rt
