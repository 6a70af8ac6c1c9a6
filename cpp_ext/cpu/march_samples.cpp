#include "march_samples.h"

#include <algorithm>

#include "gas_rt/thread_pool.h"
#include "lattice_walk.h"

namespace gas_rt {
namespace GAS_RT_ISA {
namespace {

constexpr int64_t kGrain = 256;  // rays

bool ray_of(const RayBundle& bundle, const CameraView& camera, const int32_t* pixels, int64_t index,
            Ray& ray) {
  const int column = pixels ? pixels[2 * index] : static_cast<int>(index % camera.width);
  const int row = pixels ? pixels[2 * index + 1] : static_cast<int>(index / camera.width);
  return make_ray(bundle, column, row, ray);
}

// Fills ids [samples] with the nearest vertices, or kNoVertex; returns how many are in the shell.
int32_t find_on_ray(const ShellView& shell, const LatticeWalk& walk, const Ray& ray, int32_t* ids,
                    int samples) {
  std::fill(ids, ids + samples, kNoVertex);
  WalkedRay walked = walk.start(ray);
  ShellLeaf leaf[kPointBlock];
  float points[3 * kPointBlock];
  int32_t vertex[kPointBlock];
  int k[kPointBlock], n = 0;
  int32_t count = 0;
  for (bool more = true; more;) {
    Vec3f point;
    more = walk.advance(walked, &k[n], &point, &leaf[n]);
    if (more) store3(points + 3 * n++, point);
    if (n < kPointBlock && more) continue;
    nearest_in_leaves(shell, leaf, points, n, vertex);
    for (int i = 0; i < n; ++i) {
      ids[k[i]] = vertex[i];
      count += vertex[i] >= 0;
    }
    n = 0;
  }
  return count;
}

}  // namespace

void find_samples(const ShellView& shell, const CameraView& camera, const int32_t* pixels,
                  int64_t rays, const MarchSettings& settings, int32_t* ids, int32_t* counts) {
  const int samples = settings.samples;
  const RayBundle bundle = make_bundle(camera, shell, samples);
  const ShellBits bits(shell);
  const LatticeWalk walk(shell, bits, samples);
  parallel_ranges(rays, kGrain, settings.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Ray ray;
      counts[i] = 0;
      if (!ray_of(bundle, camera, pixels, i, ray)) continue;  // its ids are never read
      counts[i] = find_on_ray(shell, walk, ray, ids + i * samples, samples);
    }
  });
}

void fill_samples(const ShellView& shell, const CameraView& camera, const int32_t* pixels,
                  int64_t rays, const MarchSettings& settings, const int32_t* ids,
                  const int64_t* offsets, const SampleOutputs& out) {
  const int samples = settings.samples;
  const RayBundle bundle = make_bundle(camera, shell, samples);
  parallel_ranges(rays, kGrain, settings.threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Ray ray;
      if (!ray_of(bundle, camera, pixels, i, ray)) continue;
      int64_t at = offsets[i];
      for (int k = 0; k < samples; ++k) {
        const int32_t id = ids[i * samples + k];
        if (id < 0) continue;
        out.ray[at] = static_cast<int32_t>(i);
        out.delta[at] = delta_at(ray, k, samples);
        out.vertex_id[at] = id;
        store3(out.canonical + 3 * at, to_canonical(shell, id, sample_at(ray, k)));
        store3(out.direction + 3 * at,
               normalized_or_zero(direction_to_canonical(shell, id, ray.step)));
        ++at;
      }
    }
  });
}

void composite(const int64_t* offsets, int64_t rays, const float* delta, const float* sigma,
               const float* colour, int threads, float* rgb, float* alpha) {
  parallel_ranges(rays, kGrain, threads, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float transmitted = 1.0f, sum[3] = {};
      for (int64_t at = offsets[i]; at < offsets[i + 1]; ++at) {
        const float depth = (sigma[at] > 0.0f ? sigma[at] : 0.0f) * delta[at];
        const float passed = std::exp(-depth);
        const float weight = transmitted * (1.0f - passed);
        for (int c = 0; c < 3; ++c) sum[c] += weight * colour[3 * at + c];
        transmitted *= passed;
      }
      for (int c = 0; c < 3; ++c) rgb[3 * i + c] = sum[c];
      alpha[i] = 1.0f - transmitted;
    }
  });
}

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
