// Rays through pixel centres and the march's lattice of samples on them.
#pragma once

#include <cmath>
#include <cstdint>

#include "gas_rt/camera.h"
#include "gas_rt/shell.h"

namespace gas_rt {

// The released march keeps 1 cm between the shell and the box its rays are clipped to.
constexpr double kBoxMargin = 0.01;
// Length of the last sample, as released: whatever is there is opaque.
constexpr float kLastDelta = 1e10f;

// Sample k of a ray lies at start + k * step.
struct Ray {
  Vec3f start;
  Vec3f step;
  float delta;  // metres between samples
};

// What all rays of a picture share. In double: the camera may stand 35 m away.
struct RayBundle {
  double origin[3];
  double lo[3], hi[3];  // the box rays are clipped to
  double rotation[9];   // camera to world
  double fx, fy, cx, cy;
  int32_t samples;
};

GAS_RT_HD RayBundle make_bundle(const CameraView& camera, const ShellView& shell, int samples) {
  RayBundle bundle;
  const float* r = camera.rotation;
  const float* t = camera.translation;
  float lo[3], hi[3];
  store3(lo, shell.lo);
  store3(hi, shell.hi);
  for (int d = 0; d < 3; ++d) {
    bundle.lo[d] = lo[d] - kBoxMargin;
    bundle.hi[d] = hi[d] + kBoxMargin;
    bundle.origin[d] = 0.0;
    for (int c = 0; c < 3; ++c) {
      bundle.rotation[3 * d + c] = r[3 * c + d];
      bundle.origin[d] -= static_cast<double>(r[3 * c + d]) * t[c];
    }
  }
  bundle.fx = camera.fx, bundle.fy = camera.fy;
  bundle.cx = camera.cx, bundle.cy = camera.cy;
  bundle.samples = samples;
  return bundle;
}

// Clips the ray through the centre of pixel (column, row) to the box in front of the camera; false
// if it misses.
GAS_RT_HD bool make_ray(const RayBundle& bundle, int column, int row, Ray& ray) {
  const Vec3d in_camera = {(column + 0.5 - bundle.cx) / bundle.fx,
                           (row + 0.5 - bundle.cy) / bundle.fy, 1.0};
  const Vec3d world = rotate(bundle.rotation, in_camera);
  const double direction[3] = {world.x, world.y, world.z};
  double t_enter = 0.0, t_leave = 1e30;
  for (int d = 0; d < 3; ++d) {
    if (std::fabs(direction[d]) < 1e-12) {
      if (bundle.origin[d] < bundle.lo[d] || bundle.origin[d] > bundle.hi[d]) return false;
      continue;
    }
    const double per_unit = 1.0 / direction[d];
    const double a = (bundle.lo[d] - bundle.origin[d]) * per_unit;
    const double b = (bundle.hi[d] - bundle.origin[d]) * per_unit;
    const double enter = a < b ? a : b, leave = a < b ? b : a;
    t_enter = enter > t_enter ? enter : t_enter;
    t_leave = leave < t_leave ? leave : t_leave;
  }
  if (!(t_leave > t_enter)) return false;
  const double step = (t_leave - t_enter) / (bundle.samples - 1);
  float start_f[3], step_f[3];
  for (int d = 0; d < 3; ++d) {
    start_f[d] = static_cast<float>(bundle.origin[d] + t_enter * direction[d]);
    step_f[d] = static_cast<float>(step * direction[d]);
  }
  ray.start = load3(start_f);
  ray.step = load3(step_f);
  ray.delta = static_cast<float>(step * std::sqrt(dot(world, world)));
  return true;
}

GAS_RT_HD Vec3f sample_at(const Ray& ray, int k) {
  return ray.start + ray.step * static_cast<float>(k);
}

GAS_RT_HD float delta_at(const Ray& ray, int k, int samples) {
  return k == samples - 1 ? kLastDelta : ray.delta;
}

}  // namespace gas_rt
