#include "gas_rt/raster.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "gas_rt/thread_pool.h"
#include "geometry_drivers.h"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int64_t kVerticesPerTask = 4096;
constexpr int64_t kFacesPerTask = 2048;
constexpr int64_t kPixelsPerTask = 4096;
constexpr int32_t kBandsPerThread = 4;  // bands differ in work; more of them even it out

struct Target {
  int32_t* face_id;
  float* barycentric;
  float* depth;
};

void load_corners(const std::vector<Vec3f>& vertices, const int32_t* face, Vec3f* corner) {
  for (int i = 0; i < 3; ++i) corner[i] = vertices[face[i]];
}

// Draws rows [y0, y1] of one triangle. Of equal depths the first face drawn stays.
void draw_triangle(const TriangleEdges& edges, const PixelBounds& bounds, int32_t y0, int32_t y1,
                   int32_t width, int32_t face, const Target& target) {
  for (int32_t y = y0; y <= y1; ++y) {
    const double py = y + 0.5;
    double row[3];
    for (int i = 0; i < 3; ++i) row[i] = edges.b[i] * py + edges.c[i];
    for (int32_t x = bounds.x0; x <= bounds.x1; ++x) {
      const double px = x + 0.5;
      const double e0 = edges.a[0] * px + row[0];
      const double e1 = edges.a[1] * px + row[1];
      const double e2 = edges.a[2] * px + row[2];
      if (!(inside_edge(e0, edges.owns[0]) && inside_edge(e1, edges.owns[1]) &&
            inside_edge(e2, edges.owns[2]))) {
        continue;
      }
      const double scale = 1.0 / (e0 + e1 + e2);
      const double b0 = e0 * scale, b1 = e1 * scale, b2 = e2 * scale;
      const float z = static_cast<float>(b0 * edges.z[0] + b1 * edges.z[1] + b2 * edges.z[2]);
      const int64_t pixel = static_cast<int64_t>(y) * width + x;
      if (!(z >= kNearPlaneM && z < target.depth[pixel])) continue;
      target.depth[pixel] = z;
      target.face_id[pixel] = face;
      store3(target.barycentric + 3 * pixel, Vec3d{b0, b1, b2});
    }
  }
}

template <typename Texel>
GAS_RT_HD float texel_value(Texel t);
template <>
GAS_RT_HD float texel_value(float t) {
  return t;
}
template <>
GAS_RT_HD float texel_value(uint8_t t) {
  return static_cast<float>(t) * (1.0f / 255.0f);
}

// The two texels around coordinate s in [0, 1] and the second one's weight; edges are held.
struct Tap {
  int64_t low, high;
  float weight;
};

GAS_RT_HD Tap texture_tap(float s, int64_t size) {
  const float last = static_cast<float>(size - 1);
  float at = s * static_cast<float>(size) - 0.5f;
  at = at > 0.0f ? (at < last ? at : last) : 0.0f;
  // Beyond 2^24 texels `last` may have been rounded up.
  const int64_t low = std::min(static_cast<int64_t>(at), size - 1);
  return {low, low + 1 < size ? low + 1 : low, at - static_cast<float>(low)};
}

}  // namespace

void rasterize(const CameraView& camera, const float* vertices, int64_t n_vertices,
               const int32_t* faces, int64_t n_faces, int threads, int32_t* face_id,
               float* barycentric, float* depth) {
  std::vector<Vec3f> seen(n_vertices);
  parallel_ranges(n_vertices, kVerticesPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t v = begin; v < end; ++v) {
      seen[v] = world_to_camera(camera, load3(vertices + 3 * v));
    }
  });
  std::vector<PixelBounds> bounds(n_faces);
  parallel_ranges(n_faces, kFacesPerTask, threads, [&](int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; ++f) {
      Vec3f corner[3];
      load_corners(seen, faces + 3 * f, corner);
      bounds[f] = triangle_bounds(camera, corner);
    }
  });
  const Target target{face_id, barycentric, depth};
  const int32_t bands = threads > 1 ? std::min(camera.height, threads * kBandsPerThread) : 1;
  parallel_for(bands, threads, [&](int64_t band) {
    const int32_t top = static_cast<int32_t>(band * camera.height / bands);
    const int32_t bottom = static_cast<int32_t>((band + 1) * camera.height / bands) - 1;
    const int64_t first = static_cast<int64_t>(top) * camera.width;
    const int64_t last = static_cast<int64_t>(bottom + 1) * camera.width;
    std::fill(face_id + first, face_id + last, -1);
    std::fill(barycentric + 3 * first, barycentric + 3 * last, 0.0f);
    std::fill(depth + first, depth + last, std::numeric_limits<float>::infinity());
    for (int64_t f = 0; f < n_faces; ++f) {
      const PixelBounds& box = bounds[f];
      const int32_t y0 = std::max(box.y0, top), y1 = std::min(box.y1, bottom);
      if (y1 < y0 || box.x1 < box.x0) continue;
      Vec3f corner[3];
      load_corners(seen, faces + 3 * f, corner);
      TriangleEdges edges;
      if (!setup_edges(camera, corner, &edges)) continue;
      draw_triangle(edges, box, y0, y1, camera.width, static_cast<int32_t>(f), target);
    }
  });
}

void interpolate(const int32_t* face_id, const float* barycentric, int64_t pixels,
                 const int32_t* faces, const float* attributes, int64_t channels, int threads,
                 float* out) {
  parallel_ranges(pixels, kPixelsPerTask, threads, [&](int64_t begin, int64_t end) {
    std::fill(out + channels * begin, out + channels * end, 0.0f);
    for (int64_t i = begin; i < end; ++i) {
      if (face_id[i] < 0) continue;
      const int32_t* face = faces + 3 * static_cast<int64_t>(face_id[i]);
      const float* w = barycentric + 3 * i;
      const float* a = attributes + channels * face[0];
      const float* b = attributes + channels * face[1];
      const float* c = attributes + channels * face[2];
      float* pixel = out + channels * i;
      for (int64_t k = 0; k < channels; ++k) pixel[k] = w[0] * a[k] + w[1] * b[k] + w[2] * c[k];
    }
  });
}

template <typename Texel>
void sample_texture(const int32_t* face_id, const float* barycentric, int64_t pixels,
                    const float* uv, const int32_t* uv_faces, const Texel* texture,
                    int64_t texture_height, int64_t texture_width, int64_t channels, int threads,
                    float* out) {
  parallel_ranges(pixels, kPixelsPerTask, threads, [&](int64_t begin, int64_t end) {
    std::fill(out + channels * begin, out + channels * end, 0.0f);
    for (int64_t i = begin; i < end; ++i) {
      if (face_id[i] < 0) continue;
      const int32_t* face = uv_faces + 3 * static_cast<int64_t>(face_id[i]);
      const float* w = barycentric + 3 * i;
      const float* a = uv + 2 * static_cast<int64_t>(face[0]);
      const float* b = uv + 2 * static_cast<int64_t>(face[1]);
      const float* c = uv + 2 * static_cast<int64_t>(face[2]);
      const Tap x = texture_tap(w[0] * a[0] + w[1] * b[0] + w[2] * c[0], texture_width);
      const Tap y = texture_tap(w[0] * a[1] + w[1] * b[1] + w[2] * c[1], texture_height);
      const Texel* top = texture + channels * texture_width * y.low;
      const Texel* bottom = texture + channels * texture_width * y.high;
      float* pixel = out + channels * i;
      for (int64_t k = 0; k < channels; ++k) {
        const float t0 = texel_value(top[channels * x.low + k]);
        const float t1 = texel_value(top[channels * x.high + k]);
        const float b0 = texel_value(bottom[channels * x.low + k]);
        const float b1 = texel_value(bottom[channels * x.high + k]);
        const float upper = t0 + x.weight * (t1 - t0);
        const float lower = b0 + x.weight * (b1 - b0);
        pixel[k] = upper + y.weight * (lower - upper);
      }
    }
  });
}

template void sample_texture<float>(const int32_t*, const float*, int64_t, const float*,
                                    const int32_t*, const float*, int64_t, int64_t, int64_t, int,
                                    float*);
template void sample_texture<uint8_t>(const int32_t*, const float*, int64_t, const float*,
                                      const int32_t*, const uint8_t*, int64_t, int64_t, int64_t,
                                      int, float*);

}  // namespace gas_rt::GAS_RT_ISA
