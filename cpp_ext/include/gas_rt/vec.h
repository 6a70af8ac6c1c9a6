// Small fixed-size linear algebra.
#pragma once

#include <cmath>

#include "gas_rt/host_device.h"

namespace gas_rt {

template <typename T>
struct Vec3 {
  T x, y, z;
};

using Vec3f = Vec3<float>;
using Vec3d = Vec3<double>;

GAS_RT_HD Vec3f load3(const float* p) { return {p[0], p[1], p[2]}; }

template <typename T>
GAS_RT_HD void store3(float* p, Vec3<T> v) {
  p[0] = static_cast<float>(v.x);
  p[1] = static_cast<float>(v.y);
  p[2] = static_cast<float>(v.z);
}

GAS_RT_HD Vec3d to_double(Vec3f v) { return {v.x, v.y, v.z}; }

template <typename T>
GAS_RT_HD Vec3<T> operator+(Vec3<T> a, Vec3<T> b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}

template <typename T>
GAS_RT_HD Vec3<T> operator-(Vec3<T> a, Vec3<T> b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}

template <typename T>
GAS_RT_HD Vec3<T> operator*(Vec3<T> a, T s) {
  return {a.x * s, a.y * s, a.z * s};
}

template <typename T>
GAS_RT_HD T dot(Vec3<T> a, Vec3<T> b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}

template <typename T>
GAS_RT_HD Vec3<T> cross(Vec3<T> a, Vec3<T> b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

GAS_RT_HD Vec3f normalized_or_zero(Vec3f v) {
  const float length = std::sqrt(dot(v, v));
  return length > 0.0f ? v * (1.0f / length) : Vec3f{0.0f, 0.0f, 0.0f};
}

// m: [3, 3] row-major
template <typename T, typename M>
GAS_RT_HD Vec3<T> rotate(const M* m, Vec3<T> v) {
  return {m[0] * v.x + m[1] * v.y + m[2] * v.z, m[3] * v.x + m[4] * v.y + m[5] * v.z,
          m[6] * v.x + m[7] * v.y + m[8] * v.z};
}

// m: [3, 4] row-major, [linear | translation]
GAS_RT_HD Vec3f transform_point(const float* m, Vec3f p) {
  return {m[0] * p.x + m[1] * p.y + m[2] * p.z + m[3], m[4] * p.x + m[5] * p.y + m[6] * p.z + m[7],
          m[8] * p.x + m[9] * p.y + m[10] * p.z + m[11]};
}

GAS_RT_HD Vec3f transform_direction(const float* m, Vec3f d) {
  return {m[0] * d.x + m[1] * d.y + m[2] * d.z, m[4] * d.x + m[5] * d.y + m[6] * d.z,
          m[8] * d.x + m[9] * d.y + m[10] * d.z};
}

}  // namespace gas_rt
