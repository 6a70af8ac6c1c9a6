#include "gas_rt/normals.h"

#include <algorithm>
#include <vector>

#include "gas_rt/thread_pool.h"
#include "geometry_drivers.h"
#include "screen_mesh.h"
#include "simd.h"

// VF is as aligned inside Vec3 as everywhere; g++ warns that it might not be.
#pragma GCC diagnostic ignored "-Wignored-attributes"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int kBlock = 16;  // faces or pixels side by side
static_assert(kBlock % kLanes == 0, "a block is whole vectors");
constexpr int64_t kBlocksPerTask = 128;
constexpr int64_t kVerticesPerTask = 4096;

using Vec3v = Vec3<VF>;

Vec3v load_vectors(const float (*rows)[kBlock], int s) {
  return {load(rows[0] + s), load(rows[1] + s), load(rows[2] + s)};
}

void store_vectors(float (*rows)[kBlock], int s, const Vec3v& v) {
  store(rows[0] + s, v.x), store(rows[1] + s, v.y), store(rows[2] + s, v.z);
}

// As normalized_or_zero.
Vec3v unit_or_zero(const Vec3v& v) {
  const VF length = vsqrt(dot(v, v));
  const VF scale = length > 0.0f ? 1.0f / length : VF{};
  return {length > 0.0f ? v.x * scale : VF{}, length > 0.0f ? v.y * scale : VF{},
          length > 0.0f ? v.z * scale : VF{}};
}

VF angles_between(const Vec3v& a, const Vec3v& b) {
  const Vec3v c = cross(a, b);
  return half_turn_angle(vsqrt(dot(c, c)), dot(a, b));
}

struct alignas(64) FaceBlock {
  float normal[3][kBlock];
  float angle[3][kBlock];
};

void face_normals(const float* vertices, const int32_t* faces, int count, FaceBlock& out) {
  alignas(64) float corner[3][3][kBlock];
  for (int s = 0; s < kBlock; ++s) {
    const int32_t* face = faces + 3 * (s < count ? s : 0);
    for (int i = 0; i < 3; ++i) {
      const float* at = vertices + 3 * static_cast<int64_t>(face[i]);
      for (int axis = 0; axis < 3; ++axis) corner[i][axis][s] = at[axis];
    }
  }
  for (int s = 0; s < kBlock; s += kLanes) {
    const Vec3v a = load_vectors(corner[0], s), b = load_vectors(corner[1], s);
    const Vec3v c = load_vectors(corner[2], s);
    const Vec3v ab = b - a, bc = c - b, ca = a - c;
    const VF flip = splat(-1.0f);
    store_vectors(out.normal, s, unit_or_zero(cross(ab, bc)));
    store(out.angle[0] + s, angles_between(ab, ca * flip));
    store(out.angle[1] + s, angles_between(bc, ab * flip));
    store(out.angle[2] + s, angles_between(ca, bc * flip));
  }
}

// Pixels that show a surface, until they fill a block.
struct PixelBlock {
  alignas(64) float normal[3][kBlock];
  int64_t pixel[kBlock];
  int n = 0;
};

void shade(const CameraView& camera, PixelBlock& block, float* out) {
  for (int s = 0; s < kBlock; s += kLanes) {
    const Vec3v n = unit_or_zero(rotate(camera.rotation, load_vectors(block.normal, s)));
    store_vectors(block.normal, s, {0.5f + 0.5f * n.x, 0.5f - 0.5f * n.y, 0.5f - 0.5f * n.z});
  }
  for (int s = 0; s < block.n; ++s) {
    for (int axis = 0; axis < 3; ++axis) out[3 * block.pixel[s] + axis] = block.normal[axis][s];
  }
  block.n = 0;
}

// A band's rows, in the order its pixels are stored. Normals are read four numbers at a time, so
// one more follows the last.
void shade_band(const CameraView& camera, BandPixels& band, int32_t rows, const int32_t* faces,
                const float* normals, float* out, bool* mask) {
  const int64_t width = camera.width;
  std::fill(out, out + 3 * width * rows, 0.0f);
  std::fill(mask, mask + width * rows, false);
  PixelBlock block{};
  for (int32_t first = band.begin(); first < band.end(); first += kTileWidth) {
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t x = first; x < std::min(first + kTileWidth, camera.width); ++x) {
        const int64_t from = BandPixels::at(x, row);
        const int32_t id = band.face_id()[from];
        if (id < 0) continue;
        const int32_t* face = faces + 3 * static_cast<int64_t>(id);
        F4 sum{};
        for (int i = 0; i < 3; ++i) {
          sum += load4(normals + 3 * static_cast<int64_t>(face[i])) * band.barycentric(i)[from];
        }
        for (int axis = 0; axis < 3; ++axis) block.normal[axis][block.n] = sum[axis];
        block.pixel[block.n] = row * width + x;
        mask[block.pixel[block.n]] = true;
        if (++block.n == kBlock) shade(camera, block, out);
      }
    }
  }
  shade(camera, block, out);
}

}  // namespace

void vertex_normals(const float* vertices, int64_t n_vertices, const int32_t* faces,
                    int64_t n_faces, int threads, float* out) {
  const int64_t n_blocks = (n_faces + kBlock - 1) / kBlock;
  std::vector<FaceBlock> weighted(n_blocks);
  parallel_ranges(n_blocks, kBlocksPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kBlock;
      const int count = static_cast<int>(std::min<int64_t>(kBlock, n_faces - first));
      face_normals(vertices, faces + 3 * first, count, weighted[block]);
    }
  });
  // Added up in the order of the faces, on one thread: the sums must not depend on the threads.
  std::fill(out, out + 3 * n_vertices, 0.0f);
  for (int64_t f = 0; f < n_faces; ++f) {
    const FaceBlock& block = weighted[f / kBlock];
    const int s = static_cast<int>(f % kBlock);
    const Vec3f normal{block.normal[0][s], block.normal[1][s], block.normal[2][s]};
    for (int corner = 0; corner < 3; ++corner) {
      float* sum = out + 3 * static_cast<int64_t>(faces[3 * f + corner]);
      store3(sum, load3(sum) + normal * block.angle[corner][s]);
    }
  }
  parallel_ranges(n_vertices, kVerticesPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      store3(out + 3 * v, normalized_or_zero(load3(out + 3 * v)));
    }
  });
}

void render_normals(const CameraView& camera, const float* vertices, int64_t n_vertices,
                    const int32_t* faces, int64_t n_faces, int threads, float* out, bool* mask) {
  std::vector<float> normals(3 * n_vertices + 1);
  vertex_normals(vertices, n_vertices, faces, n_faces, threads, normals.data());
  const ScreenMesh mesh(camera, vertices, n_vertices, faces, n_faces, threads);
  mesh.draw_bands(threads, [&](int64_t band, BandPixels& pixels) {
    const int64_t to = static_cast<int64_t>(mesh.top(band)) * camera.width;
    shade_band(camera, pixels, mesh.top(band + 1) - mesh.top(band), faces, normals.data(),
               out + 3 * to, mask + to);
  });
}

}  // namespace gas_rt::GAS_RT_ISA
