#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "gas_rt/shell_table.h"
#include "gas_rt/thread_pool.h"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int64_t kPointsPerTask = 4096;
static_assert(kLeavesPerBlock == 4, "a block splits into octants, and those into leaves");

// Vertices that may be nearest to some point of a box, coordinate by coordinate.
struct Candidates {
  std::vector<float> x, y, z;
  std::vector<int32_t> id;
  size_t n = 0;

  void reserve(size_t size) {
    if (x.size() < size) x.resize(size), y.resize(size), z.resize(size), id.resize(size);
  }
};

struct Box {
  Vec3f centre;
  float width;
};

struct Scratch {
  Candidates of_block, of_octant;
  std::vector<float> distance;
  std::vector<uint8_t> keep;
};

// Distances are not negative, so their bits order like integers, whose minimum vectorises.
size_t index_of_smallest(const float* values, size_t n) {
  int32_t smallest = std::numeric_limits<int32_t>::max();
  for (size_t i = 0; i < n; ++i) {
    int32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    smallest = std::min(smallest, bits);
  }
  float value;
  std::memcpy(&value, &smallest, sizeof value);
  return std::find(values, values + n, value) - values;
}

// Marks in scratch.keep the candidates that can be the nearest vertex within the radius for some
// point of the box; returns false if there is none.
//
// With u the candidate nearest to the centre c, |p - v|^2 - |p - u|^2 is linear in p, and over the
// box it falls below its value at c by at most width * |v - u|_1. Where even that leaves v farther
// than u, v is never nearest. The box is grown and a slack added, so that neither the rounding of
// a point's leaf nor that of its distances can make a vertex nearest that was dropped.
bool mark(const Candidates& in, const Box& box, float radius_m, Scratch* scratch) {
  const size_t n = in.n;
  if (n == 0) return false;
  if (scratch->distance.size() < n) scratch->distance.resize(2 * n), scratch->keep.resize(2 * n);
  float* distance = scratch->distance.data();
  uint8_t* keep = scratch->keep.data();
  const float *x = in.x.data(), *y = in.y.data(), *z = in.z.data();
  const Vec3f c = box.centre;
  for (size_t i = 0; i < n; ++i) {
    const float dx = x[i] - c.x, dy = y[i] - c.y, dz = z[i] - c.z;
    distance[i] = dx * dx + dy * dy + dz * dz;
  }
  const size_t u = index_of_smallest(distance, n);
  const float width = 1.001f * box.width, half = 0.5f * width;
  const float slack = 1e-6f * (radius_m * radius_m + width * width);
  const float reach_sq = radius_m * radius_m + slack;
  const float corner = radius_m + 1.7321f * half;  // the farthest u may be, at a corner
  if (distance[u] > corner * corner + slack) return false;
  const float ux = x[u], uy = y[u], uz = z[u], limit = distance[u] + slack;
  for (size_t i = 0; i < n; ++i) {
    const float apart = std::fabs(x[i] - ux) + std::fabs(y[i] - uy) + std::fabs(z[i] - uz);
    const float ex = std::max(std::fabs(x[i] - c.x) - half, 0.0f);
    const float ey = std::max(std::fabs(y[i] - c.y) - half, 0.0f);
    const float ez = std::max(std::fabs(z[i] - c.z) - half, 0.0f);
    const bool near = ex * ex + ey * ey + ez * ez <= reach_sq;
    const bool first = distance[i] <= limit + width * apart;
    keep[i] = near & first;
  }
  return true;
}

// Calls take(i) for the marked i, eight flags at a time: most are not marked.
template <typename Take>
void for_marked(const std::vector<uint8_t>& keep, size_t n, Take&& take) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t flags;
    std::memcpy(&flags, keep.data() + i, sizeof flags);
    for (; flags != 0; flags &= flags - 1) take(i + __builtin_ctzll(flags) / 8);
  }
  for (; i < n; ++i) {
    if (keep[i]) take(i);
  }
}

void narrow(const Candidates& in, const Box& box, float radius_m, Scratch* scratch,
            Candidates* out) {
  out->n = 0;
  if (!mark(in, box, radius_m, scratch)) return;
  out->reserve(in.n);
  size_t n = 0;
  for_marked(scratch->keep, in.n, [&](size_t i) {
    out->x[n] = in.x[i], out->y[n] = in.y[i], out->z[n] = in.z[i], out->id[n] = in.id[i];
    ++n;
  });
  out->n = n;
}

// Vertices sorted by the block they lie in.
struct Bins {
  int32_t blocks[3];
  std::vector<int32_t> start;  // [blocks + 1]
  Candidates sorted;
};

int32_t block_along(float at, float lo, int32_t blocks) {
  return std::clamp(static_cast<int32_t>((at - lo) * (1.0f / kBlockM)), 0, blocks - 1);
}

Bins sort_into_blocks(const float* vertices, int64_t n, const ShellIndex& shell) {
  Bins bins;
  std::copy(shell.blocks, shell.blocks + 3, bins.blocks);
  const int64_t count = static_cast<int64_t>(bins.blocks[0]) * bins.blocks[1] * bins.blocks[2];
  bins.start.assign(count + 1, 0);
  std::vector<int32_t> of(n);
  for (int64_t v = 0; v < n; ++v) {
    const Vec3f p = load3(vertices + 3 * v);
    of[v] = (block_along(p.z, shell.lo.z, bins.blocks[2]) * bins.blocks[1] +
             block_along(p.y, shell.lo.y, bins.blocks[1])) *
                bins.blocks[0] +
            block_along(p.x, shell.lo.x, bins.blocks[0]);
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
  const int32_t reach = static_cast<int32_t>(std::ceil(radius_m / kBlockM * 1.001f));
  int32_t low[3], high[3];
  for (int axis = 0; axis < 3; ++axis) {
    low[axis] = std::max(at[axis] - reach, 0);
    high[axis] = std::min(at[axis] + reach, bins.blocks[axis] - 1);
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

// The lists of one block's leaves, until those of all blocks are joined.
struct BlockLists {
  std::vector<ShellCandidate> candidates;
  int32_t leaf_end[kLeavesInBlock];
};

// The half of a box that bit `axis` of `which` says, along each axis.
Box octant_of(const Box& box, int32_t which) {
  const float half = 0.5f * box.width, quarter = 0.25f * box.width;
  const auto shift = [&](int axis) { return (which >> axis & 1) != 0 ? quarter : -quarter; };
  return {{box.centre.x + shift(0), box.centre.y + shift(1), box.centre.z + shift(2)}, half};
}

// Narrows the candidates down from the block to its octants to their leaves. Leaves come in the
// order of leaf_in_block().
void list_block(const Candidates& reachable, const Box& block, float radius_m, Scratch* scratch,
                BlockLists* out) {
  narrow(reachable, block, radius_m, scratch, &scratch->of_block);
  if (scratch->of_block.n == 0) return;
  int32_t* leaf_end = out->leaf_end;
  for (int32_t octant = 0; octant < 8; ++octant) {
    const Box part = octant_of(block, octant);
    narrow(scratch->of_block, part, radius_m, scratch, &scratch->of_octant);
    const Candidates& in = scratch->of_octant;
    for (int32_t leaf = 0; leaf < 8; ++leaf) {
      if (mark(in, octant_of(part, leaf), radius_m, scratch)) {
        for_marked(scratch->keep, in.n, [&](size_t i) {
          out->candidates.push_back({in.x[i], in.y[i], in.z[i], in.id[i]});
        });
      }
      *leaf_end++ = static_cast<int32_t>(out->candidates.size());
    }
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
  const Vec3f size = out->hi - out->lo;
  const float along[3] = {size.x, size.y, size.z};
  double total = 1.0;
  for (int axis = 0; axis < 3; ++axis) {
    // One more than fits, so that a point on the upper bound has a block whatever the rounding.
    const double blocks = std::floor(along[axis] / kBlockM) + 2.0;
    total *= blocks;
    if (!(total <= kMaxShellBlocks)) throw std::length_error("the vertices are too far apart");
    out->blocks[axis] = static_cast<int32_t>(blocks);
  }
}

// Numbers the blocks that hold candidates, and joins their lists.
void join(const std::vector<BlockLists>& lists, int threads, ShellIndex* out) {
  std::vector<int64_t> holds;
  std::vector<int32_t> first;
  int64_t total = 0;
  out->block.assign(lists.size(), -1);
  for (size_t b = 0; b < lists.size(); ++b) {
    if (lists[b].candidates.empty()) continue;
    out->block[b] = static_cast<int32_t>(holds.size());
    holds.push_back(b);
    first.push_back(static_cast<int32_t>(total));
    total += lists[b].candidates.size();
  }
  if (total > std::numeric_limits<int32_t>::max()) {
    throw std::length_error("the vertices are too many");
  }
  out->candidates.resize(total);
  out->leaf_start.resize(holds.size() * kLeavesInBlock + 1);
  out->leaf_start[0] = 0;
  parallel_for(holds.size(), threads, [&](int64_t i) {
    const BlockLists& list = lists[holds[i]];
    std::copy(list.candidates.begin(), list.candidates.end(), out->candidates.begin() + first[i]);
    int32_t* start = out->leaf_start.data() + i * kLeavesInBlock + 1;
    for (int32_t leaf = 0; leaf < kLeavesInBlock; ++leaf) {
      start[leaf] = first[i] + list.leaf_end[leaf];
    }
  });
}

void build_shell(const float* vertices, const float* maps, int64_t n_vertices, float radius_m,
                 int threads, ShellIndex* out) {
  set_bounds(vertices, n_vertices, radius_m, out);
  out->maps.assign(maps, maps + 12 * n_vertices);
  const Bins bins = sort_into_blocks(vertices, n_vertices, *out);
  std::vector<BlockLists> lists(bins.start.size() - 1);
  const int32_t width = out->blocks[0];
  parallel_for(lists.size() / width, threads, [&](int64_t row) {
    Scratch scratch;
    Candidates reachable;
    int32_t at[3] = {0, static_cast<int32_t>(row % out->blocks[1]),
                     static_cast<int32_t>(row / out->blocks[1])};
    for (; at[0] < width; ++at[0]) {
      gather(bins, at, radius_m, &reachable);
      const auto middle = [&](float lo, int axis) { return lo + kBlockM * (at[axis] + 0.5f); };
      const Box block{{middle(out->lo.x, 0), middle(out->lo.y, 1), middle(out->lo.z, 2)}, kBlockM};
      list_block(reachable, block, radius_m, &scratch, &lists[row * width + at[0]]);
    }
  });
  join(lists, threads, out);
}

void query_shell(const ShellView& shell, const float* points, int64_t n, int threads,
                 int32_t* vertex_id, float* canonical) {
  parallel_ranges(n, kPointsPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Vec3f p = load3(points + 3 * i);
      const int32_t vertex = nearest_vertex(shell, p);
      vertex_id[i] = vertex;
      const Vec3f zero{0.0f, 0.0f, 0.0f};
      store3(canonical + 3 * i, vertex == kNoVertex ? zero : to_canonical(shell, vertex, p));
    }
  });
}

}  // namespace

const ShellTable& shell_table() {
  static const ShellTable table = {build_shell, query_shell};
  return table;
}

}  // namespace gas_rt::GAS_RT_ISA
