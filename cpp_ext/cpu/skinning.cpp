#include "gas_rt/skinning.h"

#include <vector>

#include "gas_rt/thread_pool.h"
#include "geometry_drivers.h"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int64_t kVerticesPerTask = 1024;

// Summed in this many interleaved parts whatever the vector width, so that every instruction set
// returns the same bits.
constexpr int kDotLanes = 16;

float dot_product(const float* a, const float* b, int64_t n) {
  float lanes[kDotLanes] = {};
  int64_t i = 0;
  for (; i + kDotLanes <= n; i += kDotLanes) {
    for (int lane = 0; lane < kDotLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (int lane = 0; i < n; ++i, ++lane) lanes[lane] += a[i] * b[i];
  for (int width = kDotLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

}  // namespace

void rodrigues_all(const float* rotvec, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) rodrigues(rotvec + 3 * i, out + 9 * i);
}

void joint_transforms(const float* rotations, const float* joints, const int32_t* parents,
                      int64_t n_joints, float* transforms, float* posed_joints) {
  // Chained in double; world[j] is [3, 4].
  std::vector<double> world(12 * n_joints);
  for (int64_t j = 0; j < n_joints; ++j) {
    double local[9];
    rodrigues(rotations + 3 * j, local);
    double* g = world.data() + 12 * j;
    const Vec3d joint = to_double(load3(joints + 3 * j));
    const int64_t parent = parents[j];
    if (parent < 0) {
      chain_joint(nullptr, local, joint, joint, g);
    } else {
      chain_joint(world.data() + 12 * parent, local, joint, to_double(load3(joints + 3 * parent)),
                  g);
    }
    joint_transform(g, joint, transforms + 12 * j, posed_joints + 3 * j);
  }
}

void pose_offsets(const float* rotations, int64_t n_poses, int64_t n_joints, const float* posedirs,
                  int64_t n_vertices, int threads, float* out) {
  const int64_t n_features = 9 * (n_joints - 1), n_rows = 3 * n_vertices;
  std::vector<float> features(n_poses * n_features);
  for (int64_t pose = 0; pose < n_poses; ++pose) {
    for (int64_t j = 1; j < n_joints; ++j) {
      float* m = features.data() + n_features * pose + 9 * (j - 1);
      rodrigues(rotations + 3 * (n_joints * pose + j), m);
      m[0] -= 1.0f, m[4] -= 1.0f, m[8] -= 1.0f;
    }
  }
  parallel_ranges(n_rows, kVerticesPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* row = posedirs + n_features * i;
      for (int64_t pose = 0; pose < n_poses; ++pose) {
        out[n_rows * pose + i] = dot_product(features.data() + n_features * pose, row, n_features);
      }
    }
  });
}

void skin(const float* vertices, int64_t n_vertices, const float* transforms,
          const int32_t* bone_ids, const float* bone_weights, int threads, float* out) {
  parallel_ranges(n_vertices, kVerticesPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      float blend[12];
      blend_transforms(transforms, bone_ids + 4 * v, bone_weights + 4 * v, blend);
      store3(out + 3 * v, transform_point(blend, load3(vertices + 3 * v)));
    }
  });
}

void inverse_maps(const float* target, const float* offsets_target, const float* canonical,
                  const float* offsets_canonical, const int32_t* bone_ids,
                  const float* bone_weights, int64_t n_vertices, int threads, float* out) {
  parallel_ranges(n_vertices, kVerticesPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      inverse_map(target, offsets_target + 3 * v, canonical, offsets_canonical + 3 * v,
                  bone_ids + 4 * v, bone_weights + 4 * v, out + 12 * v);
    }
  });
}

}  // namespace gas_rt::GAS_RT_ISA
