#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "candidates.h"
#include "gas_rt/shell_table.h"
#include "gas_rt/thread_pool.h"
#include "pruner.h"
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
  bins.sorted.resize(n);
  for (int64_t v = 0; v < n; ++v) {
    bins.sorted.set(next[of[v]]++, load3(vertices + 3 * v), static_cast<int32_t>(v));
  }
  return bins;
}

// The ranges of all vertices in the blocks that the radius reaches from this one.
void find_ranges(const Bins& bins, const int32_t* at, float radius_m, std::vector<Range>* out) {
  const int32_t blocks = static_cast<int32_t>(std::ceil(radius_m / kBlockM * 1.001f));
  int32_t low[3], high[3];
  for (int axis = 0; axis < 3; ++axis) {
    low[axis] = std::max(at[axis] - blocks, 0);
    high[axis] = std::min(at[axis] + blocks, bins.blocks[axis] - 1);
  }
  out->clear();
  for (int32_t z = low[2]; z <= high[2]; ++z) {
    for (int32_t y = low[1]; y <= high[1]; ++y) {
      const int64_t row = (static_cast<int64_t>(z) * bins.blocks[1] + y) * bins.blocks[0];
      const Range range = {bins.start[row + low[0]], bins.start[row + high[0] + 1]};
      if (range.begin != range.end) out->push_back(range);
    }
  }
}

// The lists of the leaves of some rows of blocks, until those of all rows are joined.
struct PartLists {
  std::vector<int32_t> vertices;  // all leaves' lists, one after the other
  std::vector<int64_t> leaf_end;  // [blocks that hold candidates * kLeavesInBlock] into vertices
  std::vector<bool> holds;        // [blocks]
  int64_t groups = 0;             // of kShellLanes that the lists will fill

  void add_leaf(const Candidates& block, const Places& list) {
    for (size_t i = 0; i < list.n; ++i) vertices.push_back(block.id[list.at[i]]);
    leaf_end.push_back(static_cast<int64_t>(vertices.size()));
    groups += groups_of(list.n);
  }
};

struct Scratch {
  explicit Scratch(int64_t n_vertices) : numbers(n_vertices) {}

  std::vector<Range> ranges;
  NumberSet numbers;
  Candidates block;
  Places of_block, of_octant[kShellLanes], of_leaf[kShellLanes];
  Pruner pruner;
};

// Brings the candidates of a block together in the order of their numbers; false if it has none.
bool gather(const float* vertices, const Bins& bins, const Cube& block, const Reach& reach,
            Scratch* scratch) {
  if (scratch->ranges.empty()) return false;
  Places* found = &scratch->of_block;
  narrow(bins.sorted, scratch->ranges, block, reach, found);
  for (size_t i = 0; i < found->n; ++i) scratch->numbers.add(found->at[i]);
  scratch->block.resize(found->n);
  int32_t place = 0;
  scratch->numbers.drain([&](int32_t vertex) {
    scratch->block.set(place, load3(vertices + 3 * static_cast<int64_t>(vertex)), vertex);
    found->at[place] = place;
    ++place;
  });
  return found->n != 0;
}

// Narrows the candidates down from the block to its octants to their leaves, in the order of
// leaf_in_block(). Lists that fit one group are searched as fast as can be.
void list_block(const Cube& block, const Reach& reach, Scratch* scratch, PartLists* out) {
  split(scratch->block, scratch->of_block, block, reach, scratch->of_octant);
  Floats octant_centre[3], leaf_centre[3];
  octant_centres(block, octant_centre);
  for (int octant = 0; octant < kShellLanes; ++octant) {
    const Cube cube = octant_of(block, octant_centre, octant);
    split(scratch->block, scratch->of_octant[octant], cube, reach, scratch->of_leaf);
    octant_centres(cube, leaf_centre);
    for (int leaf = 0; leaf < kShellLanes; ++leaf) {
      Places* list = &scratch->of_leaf[leaf];
      if (list->n > kShellLanes) {
        scratch->pruner.prune(scratch->block, octant_of(cube, leaf_centre, leaf), reach, list);
      }
      out->add_leaf(scratch->block, *list);
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

void list_row(const float* vertices, const Bins& bins, const ShellIndex& shell, int32_t y,
              int32_t z, Scratch* scratch, PartLists* out) {
  const auto middle = [](float origin, int32_t block) { return origin + kBlockM * (block + 0.5f); };
  const Reach reach{shell.radius_m, rounding_of(shell)};
  for (int32_t x = 0; x < shell.blocks[0]; ++x) {
    const int32_t at[3] = {x, y, z};
    find_ranges(bins, at, shell.radius_m, &scratch->ranges);
    const Vec3f centre{middle(shell.origin.x, x), middle(shell.origin.y, y),
                       middle(shell.origin.z, z)};
    const Cube block{centre, kBlockM};
    const bool holds = gather(vertices, bins, block, reach, scratch);
    out->holds.push_back(holds);
    if (holds) list_block(block, reach, scratch, out);
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
  for (int64_t lane = 0; lane < kShellLanes; ++lane) {
    const bool used = lane < n;
    const float* v = vertices + (used ? 3 * static_cast<int64_t>(ids[lane]) : 0);
    out->x[lane] = used ? v[0] : kFarM;
    out->y[lane] = used ? v[1] : kFarM;
    out->z[lane] = used ? v[2] : kFarM;
    out->vertex[lane] = used ? ids[lane] : kNoVertex;
  }
}

// Writes a part's lists as groups, from group number `first` on.
void write_part(const float* vertices, const PartLists& part, int32_t first, ShellLanes* lanes,
                int32_t* leaf_end) {
  int64_t begin = 0;
  int32_t group = first;
  for (size_t leaf = 0; leaf < part.leaf_end.size(); ++leaf) {
    const int64_t end = part.leaf_end[leaf];
    for (; begin < end; begin = std::min(begin + kShellLanes, end)) {
      fill_group(vertices, part.vertices.data() + begin, end - begin, lanes + group++);
    }
    leaf_end[leaf] = group;
  }
}

// Numbers the blocks that hold candidates, and joins the parts' lists.
void join(const float* vertices, const std::vector<PartLists>& parts, int threads,
          ShellIndex* out) {
  std::vector<int64_t> first_leaf{0}, first_group{0};
  int32_t blocks = 0;
  for (const PartLists& part : parts) {
    for (bool holds : part.holds) out->block.push_back(holds ? blocks++ : -1);
    first_leaf.push_back(first_leaf.back() + part.leaf_end.size());
    first_group.push_back(first_group.back() + part.groups);
  }
  if (first_group.back() > std::numeric_limits<int32_t>::max()) {
    throw std::length_error("the vertices are too many");
  }
  out->lanes = Reused<ShellLanes>(static_cast<size_t>(first_group.back()));
  out->leaf_start.resize(first_leaf.back() + 1);
  out->leaf_start[0] = 0;
  parallel_for(parts.size(), threads, [&](int64_t i) {
    write_part(vertices, parts[i], static_cast<int32_t>(first_group[i]), out->lanes.get(),
               out->leaf_start.data() + first_leaf[i] + 1);
  });
}

void build_shell(const float* vertices, const float* maps, int64_t n_vertices, float radius_m,
                 int threads, ShellIndex* out) {
  set_bounds(vertices, n_vertices, radius_m, out);
  if (maps != nullptr) out->maps.assign(maps, maps + 12 * n_vertices);
  const Bins bins = sort_into_blocks(vertices, n_vertices, *out);
  const int64_t rows = static_cast<int64_t>(out->blocks[1]) * out->blocks[2];
  std::vector<PartLists> parts((rows + kRowsPerTask - 1) / kRowsPerTask);
  parallel_ranges(rows, kRowsPerTask, threads, [&](int64_t begin, int64_t end) {
    Scratch scratch(n_vertices);
    for (int64_t row = begin; row < end; ++row) {
      const int32_t y = static_cast<int32_t>(row % out->blocks[1]);
      const int32_t z = static_cast<int32_t>(row / out->blocks[1]);
      list_row(vertices, bins, *out, y, z, &scratch, &parts[begin / kRowsPerTask]);
    }
  });
  join(vertices, parts, threads, out);
}

}  // namespace

const ShellTable& shell_table() {
  static const ShellTable table = {build_shell, query_shell};
  return table;
}

}  // namespace gas_rt::GAS_RT_ISA
