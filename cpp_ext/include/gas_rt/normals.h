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

// The released model's colours for a normal in OpenCV camera coordinates: facing the camera is
// (0.5, 0.5, 1).
GAS_RT_HD Vec3f normal_colour(Vec3f n) {
  return {0.5f + 0.5f * n.x, 0.5f - 0.5f * n.y, 0.5f - 0.5f * n.z};
}

}  // namespace gas_rt
