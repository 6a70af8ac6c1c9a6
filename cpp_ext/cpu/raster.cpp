#include <algorithm>

#include "gas_rt/thread_pool.h"
#include "geometry_drivers.h"
#include "screen_mesh.h"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int64_t kPixelsPerTask = 4096;

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
  const ScreenMesh mesh(camera, vertices, n_vertices, faces, n_faces, threads);
  mesh.draw_bands(threads, [&](int64_t band, BandPixels& pixels) {
    for (int32_t y = mesh.top(band); y < mesh.top(band + 1); ++y) {
      const int32_t row = y - mesh.top(band);
      int64_t to = static_cast<int64_t>(y) * camera.width;
      for (int32_t x = 0; x < camera.width; ++x, ++to) {
        const int64_t from = BandPixels::at(x, row);
        face_id[to] = pixels.face_id()[from];
        depth[to] = pixels.depth()[from];
        const bool seen = face_id[to] >= 0;
        for (int i = 0; i < 3; ++i) {
          barycentric[3 * to + i] = seen ? pixels.barycentric(i)[from] : 0.0f;
        }
      }
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
