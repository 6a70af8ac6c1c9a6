// Rays through pixel centres and the march's lattice of samples on them.
#pragma once

#include <cmath>

#include "gas_rt/camera.h"

namespace gas_rt {

// The released march keeps 1 cm between the shell and the box its rays are clipped to.
constexpr float kBoxMargin = 0.01f;
// Length of the last sample, as released: whatever is there is opaque.
constexpr float kLastDelta = 1e10f;

// Sample k of a ray lies at start + k * step.
struct Ray {
  Vec3f start;
  Vec3f step;
  float delta;  // metres between samples
};

// Clips the ray through the centre of pixel (column, row) to the box [lo, hi] in front of the
// camera; false if it misses. In double: the camera may stand 35 m away.
GAS_RT_HD bool make_ray(const CameraView& camera, const float* lo, const float* hi, int samples,
                        int column, int row, Ray& ray) {
  const Vec3d in_camera = {(column + 0.5 - camera.cx) / camera.fx,
                           (row + 0.5 - camera.cy) / camera.fy, 1.0};
  double origin[3], direction[3];
  for (int d = 0; d < 3; ++d) {
    const float* r = camera.rotation;
    const float* t = camera.translation;
    origin[d] = -(double(r[d]) * t[0] + double(r[3 + d]) * t[1] + double(r[6 + d]) * t[2]);
    direction[d] = r[d] * in_camera.x + r[3 + d] * in_camera.y + r[6 + d] * in_camera.z;
  }
  double near = 0.0, far = 1e30;
  for (int d = 0; d < 3; ++d) {
    if (std::fabs(direction[d]) < 1e-12) {
      if (origin[d] < lo[d] || origin[d] > hi[d]) return false;
      continue;
    }
    const double a = (lo[d] - origin[d]) / direction[d], b = (hi[d] - origin[d]) / direction[d];
    near = std::fmax(near, std::fmin(a, b));
    far = std::fmin(far, std::fmax(a, b));
  }
  if (!(far > near)) return false;
  const double step = (far - near) / (samples - 1);
  float start_f[3], step_f[3];
  double squared = 0.0;
  for (int d = 0; d < 3; ++d) {
    start_f[d] = static_cast<float>(origin[d] + near * direction[d]);
    step_f[d] = static_cast<float>(step * direction[d]);
    squared += direction[d] * direction[d];
  }
  ray.start = load3(start_f);
  ray.step = load3(step_f);
  ray.delta = static_cast<float>(step * std::sqrt(squared));
  return true;
}

GAS_RT_HD Vec3f sample_at(const Ray& ray, int k) {
  return ray.start + ray.step * static_cast<float>(k);
}

GAS_RT_HD float delta_at(const Ray& ray, int k, int samples) {
  return k == samples - 1 ? kLastDelta : ray.delta;
}

}  // namespace gas_rt
