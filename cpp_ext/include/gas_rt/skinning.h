// Linear blend skinning, forward and inverse, for one joint or one vertex.
#pragma once

#include <cmath>
#include <cstdint>

#include "gas_rt/vec.h"

namespace gas_rt {

constexpr int kBonesPerVertex = 4;

// A blend of bones that folds space (a joint twisted by half a turn) has no inverse; below this
// determinant the strongest bone's transform, which always has one, stands in for the blend.
constexpr double kMinBlendDeterminant = 1e-4;

// Axis-angle to rotation matrix [3, 3]. The angle is |r + 1e-8|, as in the body models this must
// agree with, while the axis is r / angle.
template <typename T>
GAS_RT_HD void rodrigues(const float* r, T* m) {
  constexpr double kNudge = 1e-8;
  const double ax = r[0] + kNudge, ay = r[1] + kNudge, az = r[2] + kNudge;
  const double angle = std::sqrt(ax * ax + ay * ay + az * az);
  const double x = r[0] / angle, y = r[1] / angle, z = r[2] / angle;
  const double s = std::sin(angle), c = 1.0 - std::cos(angle);
  // I + s K + c K K with K the cross-product matrix of the axis
  m[0] = static_cast<T>(1.0 - c * (y * y + z * z));
  m[1] = static_cast<T>(c * x * y - s * z);
  m[2] = static_cast<T>(c * x * z + s * y);
  m[3] = static_cast<T>(c * x * y + s * z);
  m[4] = static_cast<T>(1.0 - c * (x * x + z * z));
  m[5] = static_cast<T>(c * y * z - s * x);
  m[6] = static_cast<T>(c * x * z - s * y);
  m[7] = static_cast<T>(c * y * z + s * x);
  m[8] = static_cast<T>(1.0 - c * (x * x + y * y));
}

// A joint's place in the world [3, 4], from its parent's place (null for the root), its rotation
// relative to it [3, 3], and both joints at rest. In double, since a chain of joints adds up
// errors.
GAS_RT_HD void chain_joint(const double* parent, const double* local, Vec3d joint,
                           Vec3d parent_joint, double* world) {
  if (parent == nullptr) {
    for (int row = 0; row < 3; ++row) {
      for (int column = 0; column < 3; ++column) world[4 * row + column] = local[3 * row + column];
    }
    world[3] = joint.x, world[7] = joint.y, world[11] = joint.z;
    return;
  }
  const Vec3d step = joint - parent_joint;
  for (int row = 0; row < 3; ++row) {
    const double* a = parent + 4 * row;
    for (int column = 0; column < 3; ++column) {
      world[4 * row + column] =
          a[0] * local[column] + a[1] * local[3 + column] + a[2] * local[6 + column];
    }
    world[4 * row + 3] = a[0] * step.x + a[1] * step.y + a[2] * step.z + a[3];
  }
}

// What carries points at rest along with a joint [3, 4], and where the joint is [3].
GAS_RT_HD void joint_transform(const double* world, Vec3d joint, float* transform, float* posed) {
  for (int row = 0; row < 3; ++row) {
    const double* a = world + 4 * row;
    posed[row] = static_cast<float>(a[3]);
    for (int column = 0; column < 3; ++column) {
      transform[4 * row + column] = static_cast<float>(a[column]);
    }
    transform[4 * row + 3] =
        static_cast<float>(a[3] - (a[0] * joint.x + a[1] * joint.y + a[2] * joint.z));
  }
}

// transforms: [J, 3, 4]; ids, weights: [4]; out: [3, 4]
GAS_RT_HD void blend_transforms(const float* transforms, const int32_t* ids, const float* weights,
                                float* out) {
  const float* a = transforms + 12 * ids[0];
  const float* b = transforms + 12 * ids[1];
  const float* c = transforms + 12 * ids[2];
  const float* d = transforms + 12 * ids[3];
  for (int i = 0; i < 12; ++i) {
    out[i] = weights[0] * a[i] + weights[1] * b[i] + weights[2] * c[i] + weights[3] * d[i];
  }
}

GAS_RT_HD int strongest_bone(const int32_t* ids, const float* weights) {
  int best = 0;
  for (int i = 1; i < kBonesPerVertex; ++i) {
    if (weights[i] > weights[best]) best = i;
  }
  return ids[best];
}

// m: [3, 4] row-major. Writes the inverse of its linear part [3, 3]; returns its determinant.
GAS_RT_HD double invert_linear(const float* m, double* inverse) {
  const Vec3d x{m[0], m[1], m[2]}, y{m[4], m[5], m[6]}, z{m[8], m[9], m[10]};
  const Vec3d yz = cross(y, z), zx = cross(z, x), xy = cross(x, y);
  const double determinant = dot(x, yz);
  const double scale = 1.0 / determinant;
  inverse[0] = yz.x * scale, inverse[1] = zx.x * scale, inverse[2] = xy.x * scale;
  inverse[3] = yz.y * scale, inverse[4] = zx.y * scale, inverse[5] = xy.y * scale;
  inverse[6] = yz.z * scale, inverse[7] = zx.z * scale, inverse[8] = xy.z * scale;
  return determinant;
}

// The affine map [3, 4] that carries a posed point into the canonical pose by vertex v's skinning:
//   x_rest = A_target^-1 (x - t_target) - offset_target
//   x_canonical = A_canonical (x_rest + offset_canonical) + t_canonical
GAS_RT_HD void inverse_map(const float* target, const float* offset_target, const float* canonical,
                           const float* offset_canonical, const int32_t* ids, const float* weights,
                           float* out) {
  float to[12], from[12];
  double inverse[9];
  blend_transforms(target, ids, weights, to);
  blend_transforms(canonical, ids, weights, from);
  // Written so that a NaN determinant counts as folded too.
  if (!(std::fabs(invert_linear(to, inverse)) >= kMinBlendDeterminant)) {
    const float* bone = target + 12 * strongest_bone(ids, weights);
    for (int i = 0; i < 12; ++i) to[i] = bone[i];
    invert_linear(to, inverse);
  }
  const Vec3d shift = to_double(load3(offset_canonical)) - to_double(load3(offset_target)) -
                      rotate(inverse, Vec3d{to[3], to[7], to[11]});
  for (int row = 0; row < 3; ++row) {
    const float* a = from + 4 * row;
    for (int column = 0; column < 3; ++column) {
      out[4 * row + column] = static_cast<float>(
          a[0] * inverse[column] + a[1] * inverse[3 + column] + a[2] * inverse[6 + column]);
    }
    out[4 * row + 3] = static_cast<float>(a[0] * shift.x + a[1] * shift.y + a[2] * shift.z + a[3]);
  }
}

}  // namespace gas_rt
