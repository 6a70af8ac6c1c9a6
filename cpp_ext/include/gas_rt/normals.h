// Corner angles and the colours of a normal map.
#pragma once

#include <cmath>

#include "gas_rt/vec.h"

namespace gas_rt {

// The angle between two vectors, in radians; accurate for thin and flat corners alike.
GAS_RT_HD float angle_between(Vec3f a, Vec3f b) {
  const Vec3f c = cross(a, b);
  return std::atan2(std::sqrt(dot(c, c)), dot(a, b));
}

// What corner i (0, 1 or 2) of a face adds to its vertex's normal: the face's normal, weighted by
// the angle at the corner.
GAS_RT_HD Vec3f weighted_normal(const Vec3f* corner, int i) {
  const Vec3f normal = normalized_or_zero(cross(corner[1] - corner[0], corner[2] - corner[1]));
  const Vec3f at = i == 0 ? corner[0] : i == 1 ? corner[1] : corner[2];
  const Vec3f next = i == 0 ? corner[1] : i == 1 ? corner[2] : corner[0];
  const Vec3f last = i == 0 ? corner[2] : i == 1 ? corner[0] : corner[1];
  return normal * angle_between(next - at, last - at);
}

// The released model's colours for a normal in OpenCV camera coordinates: facing the camera is
// (0.5, 0.5, 1).
GAS_RT_HD Vec3f normal_colour(Vec3f n) {
  return {0.5f + 0.5f * n.x, 0.5f - 0.5f * n.y, 0.5f - 0.5f * n.z};
}

}  // namespace gas_rt
