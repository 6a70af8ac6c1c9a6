#include "drivers.h"
#include "gas_rt/skinning.h"
#include "launch.h"

namespace gas_rt::cuda {
namespace {

constexpr int kPosesPerPass = 4;  // that share one reading of the pose directions

__device__ bool valid_bones(const int32_t* ids, int n_joints) {
  for (int i = 0; i < kBonesPerVertex; ++i) {
    if (ids[i] < 0 || ids[i] >= n_joints) return false;
  }
  return true;
}

__device__ void fill_nan(float* out, int n) {
  for (int i = 0; i < n; ++i) out[i] = std::nanf("");
}

// One thread per coordinate of a vertex.
__global__ void shape_kernel(const float* rest, const float* shapedirs, const float* betas,
                             int64_t coordinates, int n_shapes, float* out) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= coordinates) return;
  const float* own = betas + static_cast<int64_t>(blockIdx.y) * n_shapes;
  float sum = 0.0f;
  for (int k = 0; k < n_shapes; ++k) sum += shapedirs[i * n_shapes + k] * own[k];
  out[blockIdx.y * coordinates + i] = rest[i] + sum;
}

// One block per joint and pose.
__global__ void regress_kernel(const float* regressor, const float* vertices, int64_t n_vertices,
                               float* out) {
  __shared__ float sums[3][kThreads];
  const int n_joints = gridDim.x, joint = blockIdx.x, pose = blockIdx.y;
  const float* weights = regressor + joint * n_vertices;
  const float* own = vertices + 3 * n_vertices * pose;
  float sum[3] = {};
  for (int64_t v = threadIdx.x; v < n_vertices; v += kThreads) {
    for (int axis = 0; axis < 3; ++axis) sum[axis] += weights[v] * own[3 * v + axis];
  }
  for (int axis = 0; axis < 3; ++axis) sums[axis][threadIdx.x] = sum[axis];
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    for (int axis = 0; axis < 3; ++axis) {
      sums[axis][threadIdx.x] += sums[axis][threadIdx.x + half];
    }
  }
  __syncthreads();
  if (threadIdx.x < 3) {
    out[3 * (static_cast<int64_t>(pose) * n_joints + joint) + threadIdx.x] = sums[threadIdx.x][0];
  }
}

__device__ int depth_in_tree(const int32_t* parents, int joint) {
  int depth = 0;
  // A parent that does not stand before its child ends the walk: a bad tree must not hang a GPU.
  for (int at = joint; parents[at] >= 0 && parents[at] < at; at = parents[at]) ++depth;
  return depth;
}

// One block per pose; the joints of one depth of the tree are placed together.
__global__ void joints_kernel(const float* rotations, const float* joints, const int32_t* parents,
                              const float* translation, int n_joints, float* transforms,
                              float* posed_joints) {
  GAS_RT_DYNAMIC_SHARED(shared);
  __shared__ int deepest;
  double* local = reinterpret_cast<double*>(shared);  // [J, 3, 3]
  double* world = local + 9 * n_joints;               // [J, 3, 4]
  const int64_t first = static_cast<int64_t>(blockIdx.x) * n_joints;
  const float* rest = joints + 3 * first;
  if (threadIdx.x == 0) deepest = 0;
  __syncthreads();
  for (int j = threadIdx.x; j < n_joints; j += blockDim.x) {
    rodrigues(rotations + 3 * (first + j), local + 9 * j);
    atomicMax(&deepest, depth_in_tree(parents, j));
  }
  __syncthreads();
  for (int depth = 0; depth <= deepest; ++depth) {
    for (int j = threadIdx.x; j < n_joints; j += blockDim.x) {
      if (depth_in_tree(parents, j) != depth) continue;
      const int parent = depth > 0 ? parents[j] : -1;
      const Vec3d at = to_double(load3(rest + 3 * j));
      const Vec3d from = parent < 0 ? at : to_double(load3(rest + 3 * parent));
      chain_joint(parent < 0 ? nullptr : world + 12 * parent, local + 9 * j, at, from,
                  world + 12 * j);
    }
    __syncthreads();
  }
  for (int j = threadIdx.x; j < n_joints; j += blockDim.x) {
    float* transform = transforms + 12 * (first + j);
    float* posed = posed_joints + 3 * (first + j);
    joint_transform(world + 12 * j, to_double(load3(rest + 3 * j)), transform, posed);
    if (translation == nullptr) continue;
    for (int axis = 0; axis < 3; ++axis) {
      transform[4 * axis + 3] += translation[3 * blockIdx.x + axis];
      posed[axis] += translation[3 * blockIdx.x + axis];
    }
  }
}

// One thread per joint but the root, and one row of blocks per pose.
__global__ void features_kernel(const float* rotations, int n_joints, float* features) {
  const int j = 1 + blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= n_joints) return;
  const int64_t pose = blockIdx.y;
  float* m = features + 9 * (pose * (n_joints - 1) + j - 1);
  rodrigues(rotations + 3 * (pose * n_joints + j), m);
  m[0] -= 1.0f, m[4] -= 1.0f, m[8] -= 1.0f;
}

// One warp per coordinate of a vertex: it reads that coordinate's directions once for several
// poses.
__global__ void offsets_kernel(const float* features, const float* posedirs, int n_features,
                               int64_t coordinates, int poses, float* out) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= coordinates) return;  // of the whole warp
  const int lane = threadIdx.x % kWarp;
  const int first = blockIdx.y * kPosesPerPass;
  const int n = min(kPosesPerPass, poses - first);
  const float* own = features + static_cast<int64_t>(first) * n_features;
  float sum[kPosesPerPass] = {};
  for (int i = lane; i < n_features; i += kWarp) {
    const float direction = posedirs[row * n_features + i];
#pragma unroll
    for (int p = 0; p < kPosesPerPass; ++p) {
      if (p < n) sum[p] += direction * own[static_cast<int64_t>(p) * n_features + i];
    }
  }
#pragma unroll
  for (int p = 0; p < kPosesPerPass; ++p) {
    for (int other = kWarp / 2; other > 0; other /= 2) {
      sum[p] += __shfl_xor_sync(0xffffffffu, sum[p], other);
    }
    if (lane == 0 && p < n) out[(first + p) * coordinates + row] = sum[p];
  }
}

// One thread per vertex, one row of blocks per pose.
__global__ void skin_kernel(const float* vertices, const float* offsets, const float* transforms,
                            const int32_t* bone_ids, const float* bone_weights, int64_t n_vertices,
                            int n_joints, float* out) {
  const int64_t v = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (v >= n_vertices) return;
  const int64_t at = blockIdx.y * n_vertices + v;
  if (!valid_bones(bone_ids + 4 * v, n_joints)) return fill_nan(out + 3 * at, 3);
  Vec3f p = load3(vertices + 3 * at);
  if (offsets != nullptr) p = p + load3(offsets + 3 * at);
  float blend[12];
  blend_transforms(transforms + 12 * static_cast<int64_t>(blockIdx.y) * n_joints, bone_ids + 4 * v,
                   bone_weights + 4 * v, blend);
  store3(out + 3 * at, transform_point(blend, p));
}

__global__ void inverse_kernel(const float* target, const float* target_offsets,
                               const float* canonical, const float* canonical_offsets,
                               const int32_t* bone_ids, const float* bone_weights,
                               int64_t n_vertices, int n_joints, float* out) {
  const int64_t v = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (v >= n_vertices) return;
  const int64_t at = blockIdx.y * n_vertices + v;
  if (!valid_bones(bone_ids + 4 * v, n_joints)) return fill_nan(out + 12 * at, 12);
  inverse_map(target + 12 * static_cast<int64_t>(blockIdx.y) * n_joints, target_offsets + 3 * at,
              canonical, canonical_offsets + 3 * v, bone_ids + 4 * v, bone_weights + 4 * v,
              out + 12 * at);
}

}  // namespace

int shape(const float* rest, const float* shapedirs, const float* betas, int64_t n_vertices,
          int n_shapes, int poses, float* out, Stream stream) {
  return launch(shape_kernel, grid_for(3 * n_vertices, poses), kThreads, 0, stream, rest, shapedirs,
                betas, 3 * n_vertices, n_shapes, out);
}

int regress_joints(const float* regressor, const float* vertices, int n_joints, int64_t n_vertices,
                   int poses, float* out, Stream stream) {
  return launch(regress_kernel, dim3(n_joints, poses), kThreads, 0, stream, regressor, vertices,
                n_vertices, out);
}

int joint_transforms(const float* rotations, const float* joints, const int32_t* parents,
                     const float* translation, int n_joints, int poses, float* transforms,
                     float* posed_joints, Stream stream) {
  constexpr int kThreadsPerPose = 64;
  return launch(joints_kernel, dim3(poses), kThreadsPerPose, sizeof(double) * 21 * n_joints, stream,
                rotations, joints, parents, translation, n_joints, transforms, posed_joints);
}

int pose_offsets(const float* rotations, const float* posedirs, int n_joints, int64_t n_vertices,
                 int poses, float* features, float* out, Stream stream) {
  constexpr int kThreadsPerBlock = 32;
  const int n_features = 9 * (n_joints - 1);
  if (n_joints > 1) {
    const dim3 grid(blocks_for(n_joints - 1, kThreadsPerBlock), poses);
    const int error =
        launch(features_kernel, grid, kThreadsPerBlock, 0, stream, rotations, n_joints, features);
    if (error != 0) return error;
  }
  const dim3 grid(blocks_for(3 * n_vertices, kThreads / kWarp), blocks_for(poses, kPosesPerPass));
  return launch(offsets_kernel, grid, kThreads, 0, stream, features, posedirs, n_features,
                3 * n_vertices, poses, out);
}

int skin(const float* vertices, const float* offsets, const float* transforms,
         const int32_t* bone_ids, const float* bone_weights, int64_t n_vertices, int n_joints,
         int poses, float* out, Stream stream) {
  return launch(skin_kernel, grid_for(n_vertices, poses), kThreads, 0, stream, vertices, offsets,
                transforms, bone_ids, bone_weights, n_vertices, n_joints, out);
}

int inverse_maps(const float* target, const float* target_offsets, const float* canonical,
                 const float* canonical_offsets, const int32_t* bone_ids, const float* bone_weights,
                 int64_t n_vertices, int n_joints, int poses, float* out, Stream stream) {
  return launch(inverse_kernel, grid_for(n_vertices, poses), kThreads, 0, stream, target,
                target_offsets, canonical, canonical_offsets, bone_ids, bone_weights, n_vertices,
                n_joints, out);
}

}  // namespace gas_rt::cuda
