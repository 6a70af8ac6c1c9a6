// The posed shell's lists, built on the device in two launches, and queries. One block of threads
// makes one block of leaves: it gathers the vertices its leaves can see, then every leaf narrows
// them down to its own. The lists' order in memory depends on which block was faster; what a query
// finds does not.
#include <cfloat>

#include "drivers.h"
#include "gas_rt/shell_cube.h"
#include "launch.h"

namespace gas_rt::cuda {
namespace {

constexpr int kBoundsThreads = 512;
constexpr int kBuildThreads = 256;
constexpr int kSlices = kBuildThreads / kLeavesInBlock;  // threads that share one leaf's work
static_assert(kLeavesInBlock == 64, "leaf_place() undoes leaf_in_block()");

__device__ void reduce_bounds(float (*shared)[kBoundsThreads], float* bounds) {
  for (int k = 0; k < 6; ++k) shared[k][threadIdx.x] = bounds[k];
  for (unsigned half = kBoundsThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    for (int k = 0; k < 3; ++k) {
      shared[k][threadIdx.x] = fminf(shared[k][threadIdx.x], shared[k][threadIdx.x + half]);
      shared[k + 3][threadIdx.x] =
          fmaxf(shared[k + 3][threadIdx.x], shared[k + 3][threadIdx.x + half]);
    }
  }
  __syncthreads();
}

// The grid of blocks around the box [lo, hi] of the vertices. Two blocks more than fit would, so
// that a point on the upper rim has one.
__device__ void lay_grid(Vec3f lo, Vec3f hi, float radius_m, const ShellStorage& out,
                         ShellHeader* header) {
  const Vec3f r{radius_m, radius_m, radius_m};
  ShellView view{};
  view.lo = lo - r, view.hi = hi + r;
  view.radius_sq = radius_m * radius_m;
  float farthest = radius_m;
  const float corners[6] = {view.lo.x, view.lo.y, view.lo.z, view.hi.x, view.hi.y, view.hi.z};
  for (float c : corners) farthest = larger(farthest, magnitude(c));
  header->radius_m = radius_m;
  header->rounding_m = farthest * FLT_EPSILON;
  const float rim = 4.0f * header->rounding_m;  // rounding must not put the shell's rim outside
  view.origin = view.lo - Vec3f{rim, rim, rim};
  const Vec3f size = view.hi - view.origin;
  const float along[3] = {size.x, size.y, size.z};
  double total = 1.0;
  for (int axis = 0; axis < 3; ++axis) {
    const double blocks = std::floor(along[axis] / kBlockM) + 2.0;
    total *= blocks;
    view.blocks[axis] = total <= out.n_blocks ? static_cast<int32_t>(blocks) : 0;
    view.leaves[axis] = static_cast<float>(view.blocks[axis] * kLeavesPerBlock);
  }
  const bool fits = total <= out.n_blocks;  // not so for NaN
  for (int axis = 0; axis < 3 && !fits; ++axis) view.blocks[axis] = 0, view.leaves[axis] = 0.0f;
  header->status = fits ? 0 : kShellTooWide;
  header->used = 0;
  view.block = out.block, view.leaf_start = out.leaf_start, view.lanes = out.lanes;
  header->view = view;
}

// Vertices that are NaN are ignored here, and near to nothing later.
__global__ void bounds_kernel(const float* vertices, const float* maps, int64_t n_vertices,
                              float radius_m, const __grid_constant__ ShellStorage out) {
  __shared__ float shared[6][kBoundsThreads];
  float bounds[6] = {FLT_MAX, FLT_MAX, FLT_MAX, -FLT_MAX, -FLT_MAX, -FLT_MAX};
  for (int64_t v = threadIdx.x; v < n_vertices; v += kBoundsThreads) {
    for (int k = 0; k < 3; ++k) {
      bounds[k] = fminf(bounds[k], vertices[3 * v + k]);
      bounds[k + 3] = fmaxf(bounds[k + 3], vertices[3 * v + k]);
    }
  }
  reduce_bounds(shared, bounds);
  if (threadIdx.x != 0) return;
  lay_grid({shared[0][0], shared[1][0], shared[2][0]}, {shared[3][0], shared[4][0], shared[5][0]},
           radius_m, out, out.header);
  out.header->view.maps = maps;
}

// The place of leaf number `leaf` in its block: the inverse of leaf_in_block().
__device__ void leaf_place(int leaf, int* at) {
  for (int axis = 0; axis < 3; ++axis) at[axis] = (leaf >> axis & 1) + (leaf >> (axis + 2) & 2);
}

__device__ void put(Vec3f v, float* out) { out[0] = v.x, out[1] = v.y, out[2] = v.z; }

__device__ float distance_to(const float* vertices, int32_t v, Vec3f c) {
  const Vec3f away = load3(vertices + 3 * static_cast<int64_t>(v)) - c;
  return dot(away, away);
}

// What the threads of one block of leaves share beside the list of candidates.
struct BuildState {
  float distance[kBuildThreads];
  int32_t vertex[kBuildThreads];
  int32_t count[kBuildThreads];       // candidates a thread found for its leaf
  int32_t group[kLeavesInBlock + 1];  // first group of each leaf
  int32_t n_candidates, number;
};

// The candidate nearest to c, or kNoVertex; every thread gets the answer of its column of `width`
// threads, which are `width` apart. Of the vertices, thread t has looked at one.
__device__ int32_t nearest_of_column(BuildState& state, int width, float distance, int32_t vertex) {
  state.distance[threadIdx.x] = distance;
  state.vertex[threadIdx.x] = vertex;
  __syncthreads();
  for (int half = kBuildThreads / 2; half >= width; half /= 2) {
    const int t = threadIdx.x;
    if (t < half && state.distance[t + half] < state.distance[t]) {
      state.distance[t] = state.distance[t + half];
      state.vertex[t] = state.vertex[t + half];
    }
    __syncthreads();
  }
  const int32_t found = state.vertex[threadIdx.x % width];
  __syncthreads();
  return found;
}

// Lists in shared memory the vertices that may be nearest to some point of the block.
__device__ void gather_candidates(const float* vertices, int64_t n_vertices, const Cube& cube,
                                  const Reach& reach, BuildState& state, int32_t* list) {
  float best = FLT_MAX;
  int32_t nearest = kNoVertex;
  for (int64_t v = threadIdx.x; v < n_vertices; v += kBuildThreads) {
    const float distance = distance_to(vertices, static_cast<int32_t>(v), cube.centre);
    if (distance < best) best = distance, nearest = static_cast<int32_t>(v);
  }
  nearest = nearest_of_column(state, 1, best, nearest);
  if (nearest == kNoVertex) return;
  const Margins margins(cube.width, reach);
  float c[3], u[3];
  put(cube.centre, c);
  put(load3(vertices + 3 * static_cast<int64_t>(nearest)), u);
  const float u_distance = distance_to(vertices, nearest, cube.centre);
  for (int64_t v = threadIdx.x; v < n_vertices; v += kBuildThreads) {
    if (!can_be_nearest(c, vertices + 3 * v, u, u_distance, margins)) continue;
    const int32_t at = atomicAdd(&state.n_candidates, 1);
    if (at < kMaxBlockCandidates) list[at] = static_cast<int32_t>(v);
  }
}

// Calls take(i, vertex) for the i-th candidate of this thread's slice that can be nearest to some
// point of its leaf; returns how many there are.
template <typename Take>
__device__ int32_t for_each_of_leaf(const float* vertices, const int32_t* list, int32_t n,
                                    const Cube& leaf, const Reach& reach, int32_t nearest,
                                    Take take) {
  const Margins margins(leaf.width, reach);
  float c[3], u[3];
  put(leaf.centre, c);
  put(load3(vertices + 3 * static_cast<int64_t>(nearest)), u);
  const float u_distance = distance_to(vertices, nearest, leaf.centre);
  int32_t found = 0;
  for (int32_t i = threadIdx.x / kLeavesInBlock; i < n; i += kSlices) {
    const float* v = vertices + 3 * static_cast<int64_t>(list[i]);
    if (can_be_nearest(c, v, u, u_distance, margins)) take(found++, list[i]);
  }
  return found;
}

// Takes a number for the block and room for its leaves' groups, both at once: so the lists of block
// number n end where those of number n + 1 begin. False if there is no room left.
__device__ bool reserve(const ShellStorage& out, BuildState& state) {
  int32_t groups = 0;
  for (int leaf = 0; leaf < kLeavesInBlock; ++leaf) {
    int32_t n = 0;
    for (int s = 0; s < kSlices; ++s) n += state.count[leaf + s * kLeavesInBlock];
    state.group[leaf] = groups;
    groups += (n + kLanes - 1) / kLanes;
  }
  state.group[kLeavesInBlock] = groups;
  const unsigned long long before =
      atomicAdd(reinterpret_cast<unsigned long long*>(&out.header->used),
                1ull << 32 | static_cast<unsigned long long>(groups));
  const int64_t number = static_cast<int64_t>(before >> 32);
  const int64_t first = static_cast<int64_t>(before & 0xffffffffu);
  if (number >= out.n_numbered || first + groups > out.n_groups) {
    atomicOr(&out.header->status, kShellFull);
    return false;
  }
  state.number = static_cast<int32_t>(number);
  for (int leaf = 0; leaf <= kLeavesInBlock; ++leaf) {
    state.group[leaf] += static_cast<int32_t>(first);
    out.leaf_start[number * kLeavesInBlock + leaf] = state.group[leaf];
  }
  return true;
}

__device__ void write_lane(ShellLanes* lanes, int32_t slot, const float* v, int32_t vertex) {
  ShellLanes& group = lanes[slot / kLanes];
  const int32_t lane = slot % kLanes;
  group.x[lane] = v[0], group.y[lane] = v[1], group.z[lane] = v[2];
  group.vertex[lane] = vertex;
}

__global__ void __launch_bounds__(kBuildThreads)
    build_kernel(const float* vertices, int64_t n_vertices,
                 const __grid_constant__ ShellStorage out) {
  GAS_RT_DYNAMIC_SHARED(shared);
  __shared__ BuildState state;
  int32_t* list = reinterpret_cast<int32_t*>(shared);
  const ShellHeader& header = *out.header;
  const int32_t* blocks = header.view.blocks;
  const int32_t own = blockIdx.x;
  if (own >= blocks[0] * blocks[1] * blocks[2]) return;  // the whole block
  const int32_t at[3] = {own % blocks[0], own / blocks[0] % blocks[1],
                         own / (blocks[0] * blocks[1])};
  const Reach reach{header.radius_m, header.rounding_m};
  const Vec3f low = header.view.origin + Vec3f{kBlockM * at[0], kBlockM * at[1], kBlockM * at[2]};
  const Vec3f to_middle{0.5f * kBlockM, 0.5f * kBlockM, 0.5f * kBlockM};
  if (threadIdx.x == 0) state.n_candidates = 0, state.number = -1;
  __syncthreads();
  gather_candidates(vertices, n_vertices, {low + to_middle, kBlockM}, reach, state, list);
  __syncthreads();
  const int32_t n = state.n_candidates;
  if (threadIdx.x == 0) out.block[own] = -1;
  if (n == 0) return;
  if (n > kMaxBlockCandidates) {
    if (threadIdx.x == 0) atomicOr(&out.header->status, kShellTooDense);
    return;
  }
  const int leaf = threadIdx.x % kLeavesInBlock;
  int place[3];
  leaf_place(leaf, place);
  const Cube cube{low + Vec3f{kLeafM * (place[0] + 0.5f), kLeafM * (place[1] + 0.5f),
                              kLeafM * (place[2] + 0.5f)},
                  kLeafM};
  float best = FLT_MAX;
  int32_t nearest = list[0];
  for (int32_t i = threadIdx.x / kLeavesInBlock; i < n; i += kSlices) {
    const float distance = distance_to(vertices, list[i], cube.centre);
    if (distance < best) best = distance, nearest = list[i];
  }
  nearest = nearest_of_column(state, kLeavesInBlock, best, nearest);
  state.count[threadIdx.x] =
      for_each_of_leaf(vertices, list, n, cube, reach, nearest, [](int32_t, int32_t) {});
  __syncthreads();
  if (threadIdx.x == 0 && reserve(out, state)) out.block[own] = state.number;
  __syncthreads();
  if (state.number < 0) return;
  int32_t slot = state.group[leaf] * kLanes;
  for (int t = leaf; t < static_cast<int>(threadIdx.x); t += kLeavesInBlock) slot += state.count[t];
  for_each_of_leaf(vertices, list, n, cube, reach, nearest, [&](int32_t i, int32_t v) {
    write_lane(out.lanes, slot + i, vertices + 3 * static_cast<int64_t>(v), v);
  });
  if (threadIdx.x / kLeavesInBlock != kSlices - 1) return;
  const float nowhere[3] = {kFarM, kFarM, kFarM};
  for (slot += state.count[threadIdx.x]; slot < state.group[leaf + 1] * kLanes; ++slot) {
    write_lane(out.lanes, slot, nowhere, kNoVertex);
  }
}

__global__ void chain_kernel(ShellHeader* shell, const ShellHeader* beyond, const int32_t* ids) {
  ShellView& view = shell->view;
  const ShellView& far = beyond->view;
  view.beyond = &far, view.beyond_ids = ids;
  view.lo = {fminf(view.lo.x, far.lo.x), fminf(view.lo.y, far.lo.y), fminf(view.lo.z, far.lo.z)};
  view.hi = {fmaxf(view.hi.x, far.hi.x), fmaxf(view.hi.y, far.hi.y), fmaxf(view.hi.z, far.hi.z)};
}

__global__ void query_kernel(const ShellHeader* shell, const float* points, const float* directions,
                             int64_t n, int32_t* vertex_id, float* canonical,
                             float* canonical_directions) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const ShellView& view = shell->view;
  const Vec3f p = load3(points + 3 * i), zero{0.0f, 0.0f, 0.0f};
  const int32_t vertex = nearest_vertex(view, p);
  const bool inside = vertex != kNoVertex;
  vertex_id[i] = vertex;
  store3(canonical + 3 * i, inside ? to_canonical(view, vertex, p) : zero);
  if (directions == nullptr) return;
  const Vec3f d = load3(directions + 3 * i);
  store3(canonical_directions + 3 * i,
         inside ? normalized_or_zero(direction_to_canonical(view, vertex, d)) : zero);
}

}  // namespace

int build_shell(const float* vertices, const float* maps, int64_t n_vertices, float radius_m,
                const ShellStorage& out, Stream stream) {
  const int error = launch(bounds_kernel, dim3(1), kBoundsThreads, 0, stream, vertices, maps,
                           n_vertices, radius_m, out);
  if (error != 0) return error;
  return launch(build_kernel, dim3(out.n_blocks), kBuildThreads,
                sizeof(int32_t) * kMaxBlockCandidates, stream, vertices, n_vertices, out);
}

int chain_shells(ShellHeader* shell, const ShellHeader* beyond, const int32_t* ids, Stream stream) {
  return launch(chain_kernel, dim3(1), 1, 0, stream, shell, beyond, ids);
}

int query_shell(const ShellHeader* shell, const float* points, const float* directions, int64_t n,
                int32_t* vertex_id, float* canonical, float* canonical_directions, Stream stream) {
  return launch(query_kernel, grid_for(n, 1), kThreads, 0, stream, shell, points, directions, n,
                vertex_id, canonical, canonical_directions);
}

}  // namespace gas_rt::cuda
