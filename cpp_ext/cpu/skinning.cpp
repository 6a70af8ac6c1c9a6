#include "gas_rt/skinning.h"

#include <algorithm>
#include <vector>

#include "gas_rt/thread_pool.h"
#include "geometry_drivers.h"
#include "simd.h"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int64_t kVerticesPerTask = 1024;
constexpr int64_t kRowsPerTask = 256;  // 212 KB of SMPL's pose directions

// Summed in this many interleaved parts whatever the vector width, so that every instruction set
// returns the same bits.
constexpr int64_t kDotLanes = 16;
constexpr int kDotVectors = kDotLanes / kLanes;
constexpr int kRowsAtOnce = 4;
// Asked for ahead, since the hardware does not recognise rows read side by side as one stream.
constexpr int64_t kAheadBytes = 8192;
constexpr int64_t kCacheLineBytes = 64;

int64_t padded(int64_t n) { return (n + kDotLanes - 1) / kDotLanes * kDotLanes; }

// The dot products of four rows [n] with x [n], n a multiple of kDotLanes.
F4 dot_rows(const float* const* rows, const float* x, int64_t n) {
  VF sums[kRowsAtOnce][kDotVectors] = {};
  for (int64_t i = 0; i < n; i += kDotLanes) {
    for (int v = 0; v < kDotVectors; ++v) {
      const VF factor = load(x + i + v * kLanes);
      for (int row = 0; row < kRowsAtOnce; ++row) {
        sums[row][v] += load(rows[row] + i + v * kLanes) * factor;
      }
    }
  }
  // Each row's sixteen sums become four, two and one by adding halves, the rows side by side.
  F4 fours[kRowsAtOnce];
  for (int row = 0; row < kRowsAtOnce; ++row) {
    float lanes[kDotLanes];
    for (int v = 0; v < kDotVectors; ++v) store(lanes + v * kLanes, sums[row][v]);
    fours[row] = (load4(lanes) + load4(lanes + 8)) + (load4(lanes + 4) + load4(lanes + 12));
  }
  const F4 ab = shuffle4<0, 1, 4, 5>(fours[0], fours[1]) + shuffle4<2, 3, 6, 7>(fours[0], fours[1]);
  const F4 cd = shuffle4<0, 1, 4, 5>(fours[2], fours[3]) + shuffle4<2, 3, 6, 7>(fours[2], fours[3]);
  return shuffle4<0, 2, 4, 6>(ab, cd) + shuffle4<1, 3, 5, 7>(ab, cd);
}

// matrix [n_rows, n] times each of the vectors [n_vectors, padded(n)], which end in zeros ->
// out [n_vectors, n_rows]. The matrix is read once.
void multiply_rows(const float* matrix, int64_t n_rows, int64_t n, const float* vectors,
                   int64_t n_vectors, int threads, float* out) {
  if (n_rows == 0) return;
  const int64_t width = padded(n);
  // Rows are read to their padded end, where the vectors are zero. The last ones are copied: what
  // follows them is not the caller's.
  const int64_t copied = std::max<int64_t>(0, n_rows - kDotLanes);
  std::vector<float> tail(n * (n_rows - copied) + kDotLanes);
  std::copy(matrix + n * copied, matrix + n * n_rows, tail.begin());
  parallel_ranges(n_rows, kRowsPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin; first < end; first += kRowsAtOnce) {
      const float* rows[kRowsAtOnce];
      for (int row = 0; row < kRowsAtOnce; ++row) {
        const int64_t at = std::min(first + row, n_rows - 1);
        rows[row] = at < copied ? matrix + n * at : tail.data() + n * (at - copied);
      }
      const char* soon = reinterpret_cast<const char*>(matrix + n * first) + kAheadBytes;
      const int64_t bytes = sizeof(float) * kRowsAtOnce * n;
      for (int64_t i = 0; i < bytes; i += kCacheLineBytes) __builtin_prefetch(soon + i);
      const int64_t count = std::min<int64_t>(kRowsAtOnce, end - first);
      for (int64_t i = 0; i < n_vectors; ++i) {
        const F4 products = dot_rows(rows, vectors + width * i, width);
        float* to = out + n_rows * i + first;
        if (count == kRowsAtOnce) {
          store4(to, products);
        } else {
          for (int64_t row = 0; row < count; ++row) to[row] = products[row];
        }
      }
    }
  });
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
  const int64_t n_features = 9 * (n_joints - 1), width = padded(n_features);
  std::vector<float> features(n_poses * width);
  for (int64_t pose = 0; pose < n_poses; ++pose) {
    for (int64_t j = 1; j < n_joints; ++j) {
      float* m = features.data() + width * pose + 9 * (j - 1);
      rodrigues(rotations + 3 * (n_joints * pose + j), m);
      m[0] -= 1.0f, m[4] -= 1.0f, m[8] -= 1.0f;
    }
  }
  multiply_rows(posedirs, 3 * n_vertices, n_features, features.data(), n_poses, threads, out);
}

void shape_offsets(const float* betas, int64_t n_betas, const float* shapedirs, int64_t n_vertices,
                   float* out) {
  std::vector<float> vector(padded(n_betas));
  std::copy_n(betas, n_betas, vector.begin());
  multiply_rows(shapedirs, 3 * n_vertices, n_betas, vector.data(), 1, 1, out);
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
