#include "gas_rt/normals.h"

#include <vector>

#include "gas_rt/thread_pool.h"
#include "geometry_drivers.h"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int64_t kFacesPerTask = 2048;
constexpr int64_t kVerticesPerTask = 4096;
constexpr int64_t kPixelsPerTask = 4096;

struct FaceNormal {
  Vec3f normal;
  float angle[3];
};

FaceNormal face_normal(const float* vertices, const int32_t* face) {
  const Vec3f a = load3(vertices + 3 * face[0]);
  const Vec3f b = load3(vertices + 3 * face[1]);
  const Vec3f c = load3(vertices + 3 * face[2]);
  const Vec3f ab = b - a, bc = c - b, ca = a - c;
  return {normalized_or_zero(cross(ab, bc)),
          {angle_between(ab, ca * -1.0f), angle_between(bc, ab * -1.0f),
           angle_between(ca, bc * -1.0f)}};
}

}  // namespace

void vertex_normals(const float* vertices, int64_t n_vertices, const int32_t* faces,
                    int64_t n_faces, int threads, float* out) {
  std::vector<FaceNormal> weighted(n_faces);
  parallel_ranges(n_faces, kFacesPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; ++f) weighted[f] = face_normal(vertices, faces + 3 * f);
  });
  // Added up in the order of the faces, on one thread: the sums must not depend on the threads.
  for (int64_t i = 0; i < 3 * n_vertices; ++i) out[i] = 0.0f;
  for (int64_t f = 0; f < n_faces; ++f) {
    for (int corner = 0; corner < 3; ++corner) {
      float* sum = out + 3 * faces[3 * f + corner];
      store3(sum, load3(sum) + weighted[f].normal * weighted[f].angle[corner]);
    }
  }
  parallel_ranges(n_vertices, kVerticesPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      store3(out + 3 * v, normalized_or_zero(load3(out + 3 * v)));
    }
  });
}

void shade_normals(const CameraView& camera, const int32_t* face_id, const float* barycentric,
                   int64_t pixels, const int32_t* faces, const float* normals, int threads,
                   float* out) {
  parallel_ranges(pixels, kPixelsPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Vec3f colour{0.0f, 0.0f, 0.0f};
      if (face_id[i] >= 0) {
        const int32_t* face = faces + 3 * static_cast<int64_t>(face_id[i]);
        const float* w = barycentric + 3 * i;
        const Vec3f n = load3(normals + 3 * face[0]) * w[0] + load3(normals + 3 * face[1]) * w[1] +
                        load3(normals + 3 * face[2]) * w[2];
        colour = normal_colour(normalized_or_zero(rotate(camera.rotation, n)));
      }
      store3(out + 3 * i, colour);
    }
  });
}

}  // namespace gas_rt::GAS_RT_ISA
