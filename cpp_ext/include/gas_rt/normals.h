// Corner angles and the colours of a normal map.
#pragma once

#include <cmath>

#include "gas_rt/vec.h"

namespace gas_rt {

// atan2(y, x) for y >= 0, to 2 ulp, of one number or of a vector of them; 0 where both are 0.
template <typename T>
GAS_RT_HD T half_turn_angle(T y, T x) {
  const T across = x < 0.0f ? -x : x;
  const T large = across > y ? across : y, small = across > y ? y : across;
  const T t = small / (large > 0.0f ? large : T{} + 1.0f);
  const T q = t * t;
  // Minimax in t^2 over [0, 1].
  T p = q * 2.9206459876e-3f - 1.6367742792e-2f;
  p = p * q + 4.3211564422e-2f;
  p = p * q - 7.5521893799e-2f;
  p = p * q + 1.0665993392e-1f;
  p = p * q - 1.4211052656e-1f;
  p = p * q + 1.9993773103e-1f;
  p = p * q - 3.3333152533e-1f;
  const T eighth = t + t * (q * p);
  const T quarter = y > across ? 1.5707963268f - eighth : eighth;
  return x < 0.0f ? 3.1415926536f - quarter : quarter;
}

// The angle between two vectors, in radians; accurate for thin and flat corners alike.
GAS_RT_HD float angle_between(Vec3f a, Vec3f b) {
  const Vec3f c = cross(a, b);
  return half_turn_angle(std::sqrt(dot(c, c)), dot(a, b));
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
