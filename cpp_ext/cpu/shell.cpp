#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "candidates.h"
#include "gas_rt/shell_table.h"
#include "gas_rt/thread_pool.h"
#include "shell_query.h"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int64_t kRowsPerTask = 8;
static_assert(kLeavesPerBlock == 4, "a block splits into octants, and those into leaves");

// Vertices sorted by the block they lie in.
struct Bins {
  int32_t blocks[3];
  std::vector<int32_t> start;  // [blocks + 1]
  Candidates sorted;
};

int32_t block_along(float at, float origin, int32_t blocks) {
  return std::clamp(static_cast<int32_t>((at - origin) * (1.0f / kBlockM)), 0, blocks - 1);
}

Bins sort_into_blocks(const float* vertices, int64_t n, const ShellIndex& shell) {
  Bins bins;
  std::copy(shell.blocks, shell.blocks + 3, bins.blocks);
  const int64_t count = static_cast<int64_t>(bins.blocks[0]) * bins.blocks[1] * bins.blocks[2];
  bins.start.assign(count + 1, 0);
  std::vector<int32_t> of(n);
  for (int64_t v = 0; v < n; ++v) {
    const Vec3f p = load3(vertices + 3 * v);
    of[v] = (block_along(p.z, shell.origin.z, bins.blocks[2]) * bins.blocks[1] +
             block_along(p.y, shell.origin.y, bins.blocks[1])) *
                bins.blocks[0] +
            block_along(p.x, shell.origin.x, bins.blocks[0]);
    ++bins.start[of[v] + 1];
  }
  for (int64_t b = 0; b < count; ++b) bins.start[b + 1] += bins.start[b];
  std::vector<int32_t> next(bins.start.begin(), bins.start.end() - 1);
  bins.sorted.reserve(n);
  bins.sorted.n = n;
  for (int64_t v = 0; v < n; ++v) {
    const int32_t at = next[of[v]]++;
    bins.sorted.x[at] = vertices[3 * v];
    bins.sorted.y[at] = vertices[3 * v + 1];
    bins.sorted.z[at] = vertices[3 * v + 2];
    bins.sorted.id[at] = static_cast<int32_t>(v);
  }
  return bins;
}

// All vertices in the blocks that the radius reaches from this one.
void gather(const Bins& bins, const int32_t* at, float radius_m, Candidates* out) {
  const int32_t blocks = static_cast<int32_t>(std::ceil(radius_m / kBlockM * 1.001f));
  int32_t low[3], high[3];
  for (int axis = 0; axis < 3; ++axis) {
    low[axis] = std::max(at[axis] - blocks, 0);
    high[axis] = std::min(at[axis] + blocks, bins.blocks[axis] - 1);
  }
  out->n = 0;
  for (int32_t z = low[2]; z <= high[2]; ++z) {
    for (int32_t y = low[1]; y <= high[1]; ++y) {
      const int64_t row = (static_cast<int64_t>(z) * bins.blocks[1] + y) * bins.blocks[0];
      const int32_t begin = bins.start[row + low[0]], end = bins.start[row + high[0] + 1];
      const size_t n = out->n;
      out->reserve(std::max<size_t>(n + end - begin, 2 * n));
      std::copy(bins.sorted.x.begin() + begin, bins.sorted.x.begin() + end, out->x.begin() + n);
      std::copy(bins.sorted.y.begin() + begin, bins.sorted.y.begin() + end, out->y.begin() + n);
      std::copy(bins.sorted.z.begin() + begin, bins.sorted.z.begin() + end, out->z.begin() + n);
      std::copy(bins.sorted.id.begin() + begin, bins.sorted.id.begin() + end, out->id.begin() + n);
      out->n = n + end - begin;
    }
  }
}

// The lists of the leaves of a row of blocks, until those of all rows are joined.
struct RowLists {
  std::vector<int32_t> vertices;  // all leaves' lists, one after the other
  std::vector<int32_t> leaf_end;  // [blocks that hold candidates * kLeavesInBlock] into vertices
  std::vector<bool> holds;        // [blocks]
  int64_t groups = 0;             // of kLanes that the lists will fill
};

// Whether another candidate is nearer than this one everywhere in the cube around c.
bool beaten(const Candidates& in, size_t i, Vec3f c, const Margins& margins) {
  const float x = in.x[i], y = in.y[i], z = in.z[i];
  Ints by{};
  for (size_t group = 0; group < in.groups(); ++group) {
    const Floats dx = group_of(in.x, group) - x, dy = group_of(in.y, group) - y;
    const Floats dz = group_of(in.z, group) - z;
    // |c - v|^2 - |c - other|^2 as one product per axis
    const Floats behind =
        dx * (2.0f * (c.x - x) - dx) + dy * (2.0f * (c.y - y) - dy) + dz * (2.0f * (c.z - z) - dz);
    const Floats apart = magnitude(dx) + magnitude(dy) + magnitude(dz);
    by |= behind > margins.width * apart + margins.slack;
  }
  return bytes_of(by) != 0;
}

// Appends a leaf's candidates; if they do not fit one group, less those that another one beats.
void append_leaf(const Candidates& in, const Cube& leaf, const Reach& reach, RowLists* out) {
  const Margins margins(leaf.width, reach);
  const size_t before = out->vertices.size();
  for (size_t i = 0; i < in.n; ++i) {
    if (in.n > kLanes && beaten(in, i, leaf.centre, margins)) continue;
    out->vertices.push_back(in.id[i]);
  }
  // In one group every lane has a vertex of its own, whatever their order.
  if (in.n > kLanes) std::sort(out->vertices.begin() + before, out->vertices.end());
  out->groups += groups_of(out->vertices.size() - before);
  out->leaf_end.push_back(static_cast<int32_t>(out->vertices.size()));
}

struct Scratch {
  Candidates reachable, of_block, of_octant[kLanes], of_leaf[kLanes];
};

Cube octant_of(const Cube& cube, const Floats* centre, int octant) {
  return {{centre[0][octant], centre[1][octant], centre[2][octant]}, 0.5f * cube.width};
}

// Narrows the candidates down from the block to its octants to their leaves, in the order of
// leaf_in_block().
void list_block(const Cube& block, const Reach& reach, Scratch* scratch, RowLists* out) {
  scratch->reachable.pad();
  narrow(scratch->reachable, block, reach, &scratch->of_block);
  out->holds.push_back(scratch->of_block.n != 0);
  if (scratch->of_block.n == 0) return;
  split(scratch->of_block, block, reach, scratch->of_octant);
  Floats octant_centre[3], leaf_centre[3];
  octant_centres(block, octant_centre);
  for (int octant = 0; octant < kLanes; ++octant) {
    const Cube cube = octant_of(block, octant_centre, octant);
    split(scratch->of_octant[octant], cube, reach, scratch->of_leaf);
    octant_centres(cube, leaf_centre);
    for (int leaf = 0; leaf < kLanes; ++leaf) {
      scratch->of_leaf[leaf].pad();
      append_leaf(scratch->of_leaf[leaf], octant_of(cube, leaf_centre, leaf), reach, out);
    }
  }
}

float rounding_of(const ShellIndex& shell) {
  float farthest = shell.radius_m;
  for (const Vec3f& corner : {shell.lo, shell.hi}) {
    farthest = std::max({farthest, std::fabs(corner.x), std::fabs(corner.y), std::fabs(corner.z)});
  }
  return farthest * std::numeric_limits<float>::epsilon();
}

void list_row(const Bins& bins, const ShellIndex& shell, int32_t y, int32_t z, Scratch* scratch,
              RowLists* out) {
  const auto middle = [](float origin, int32_t block) { return origin + kBlockM * (block + 0.5f); };
  const Reach reach{shell.radius_m, rounding_of(shell)};
  for (int32_t x = 0; x < shell.blocks[0]; ++x) {
    const int32_t at[3] = {x, y, z};
    gather(bins, at, shell.radius_m, &scratch->reachable);
    const Vec3f centre{middle(shell.origin.x, x), middle(shell.origin.y, y),
                       middle(shell.origin.z, z)};
    list_block({centre, kBlockM}, reach, scratch, out);
  }
}

void set_bounds(const float* vertices, int64_t n, float radius_m, ShellIndex* out) {
  Vec3f lo = load3(vertices), hi = lo;
  for (int64_t v = 1; v < n; ++v) {
    const Vec3f p = load3(vertices + 3 * v);
    lo = {std::min(lo.x, p.x), std::min(lo.y, p.y), std::min(lo.z, p.z)};
    hi = {std::max(hi.x, p.x), std::max(hi.y, p.y), std::max(hi.z, p.z)};
  }
  const Vec3f r{radius_m, radius_m, radius_m};
  out->lo = lo - r, out->hi = hi + r;
  out->radius_m = radius_m;
  const float rim = 4.0f * rounding_of(*out);  // rounding must not put the shell's rim outside
  out->origin = out->lo - Vec3f{rim, rim, rim};
  const Vec3f size = out->hi - out->origin;
  const float along[3] = {size.x, size.y, size.z};
  double total = 1.0;
  for (int axis = 0; axis < 3; ++axis) {
    // One more than fits, so that a point on the upper rim has a block.
    const double blocks = std::floor(along[axis] / kBlockM) + 2.0;
    total *= blocks;
    if (!(total <= kMaxShellBlocks)) throw std::length_error("the vertices are too far apart");
    out->blocks[axis] = static_cast<int32_t>(blocks);
  }
}

void fill_group(const float* vertices, const int32_t* ids, int64_t n, ShellLanes* out) {
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const bool used = lane < n;
    const float* v = vertices + (used ? 3 * static_cast<int64_t>(ids[lane]) : 0);
    out->x[lane] = used ? v[0] : kFarM;
    out->y[lane] = used ? v[1] : kFarM;
    out->z[lane] = used ? v[2] : kFarM;
    out->vertex[lane] = used ? ids[lane] : kNoVertex;
  }
}

// Writes a row's lists as groups, from group number `first` on.
void write_row(const float* vertices, const RowLists& row, int32_t first, ShellLanes* lanes,
               int32_t* leaf_end) {
  int32_t begin = 0, group = first;
  for (size_t leaf = 0; leaf < row.leaf_end.size(); ++leaf) {
    const int32_t end = row.leaf_end[leaf];
    for (; begin < end; begin = std::min(begin + kLanes, end)) {
      fill_group(vertices, row.vertices.data() + begin, end - begin, lanes + group++);
    }
    leaf_end[leaf] = group;
  }
}

// Numbers the blocks that hold candidates, and joins the rows' lists.
void join(const float* vertices, const std::vector<RowLists>& rows, int threads, ShellIndex* out) {
  std::vector<int64_t> first_leaf{0}, first_group{0};
  int32_t blocks = 0;
  for (const RowLists& row : rows) {
    for (bool holds : row.holds) out->block.push_back(holds ? blocks++ : -1);
    first_leaf.push_back(first_leaf.back() + row.leaf_end.size());
    first_group.push_back(first_group.back() + row.groups);
  }
  if (first_group.back() > std::numeric_limits<int32_t>::max()) {
    throw std::length_error("the vertices are too many");
  }
  // Not a vector: its megabytes would be cleared before they are written.
  out->lanes.reset(new ShellLanes[first_group.back()]);
  out->leaf_start.resize(first_leaf.back() + 1);
  out->leaf_start[0] = 0;
  parallel_ranges(rows.size(), kRowsPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      write_row(vertices, rows[i], static_cast<int32_t>(first_group[i]), out->lanes.get(),
                out->leaf_start.data() + first_leaf[i] + 1);
    }
  });
}

void build_shell(const float* vertices, const float* maps, int64_t n_vertices, float radius_m,
                 int threads, ShellIndex* out) {
  set_bounds(vertices, n_vertices, radius_m, out);
  out->maps.assign(maps, maps + 12 * n_vertices);
  const Bins bins = sort_into_blocks(vertices, n_vertices, *out);
  std::vector<RowLists> rows(static_cast<size_t>(out->blocks[1]) * out->blocks[2]);
  parallel_ranges(rows.size(), kRowsPerTask, threads, [&](int64_t begin, int64_t end) {
    Scratch scratch;
    for (int64_t row = begin; row < end; ++row) {
      const int32_t y = static_cast<int32_t>(row % out->blocks[1]);
      const int32_t z = static_cast<int32_t>(row / out->blocks[1]);
      list_row(bins, *out, y, z, &scratch, &rows[row]);
    }
  });
  join(vertices, rows, threads, out);
}

}  // namespace

const ShellTable& shell_table() {
  static const ShellTable table = {build_shell, query_shell};
  return table;
}

}  // namespace gas_rt::GAS_RT_ISA
