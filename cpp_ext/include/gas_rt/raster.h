// Triangle coverage by edge functions in homogeneous coordinates.
//
// Edge function i of a triangle with camera-space corners v0, v1, v2 is e_i(d) = d . (v_j x v_k),
// evaluated at the ray d through a pixel centre. All three share the sign of det = v0 . (v1 x v2)
// exactly where the ray meets the triangle in front of the camera, also when corners lie behind it,
// so nothing is clipped; e_i / (e_0 + e_1 + e_2) are the perspective-correct barycentrics.
// Corners are floats and products of two floats are exact in double, so two triangles that share an
// edge compute exactly opposite values for it: no pixel between them is missed or drawn twice.
// That needs multiplications and additions to stay separate; see FUSED_PREFIXES in setup.py.
#pragma once

#include <cstdint>

#include "gas_rt/camera.h"
#include "gas_rt/vec.h"

namespace gas_rt {

// Surfaces nearer than this to the camera's plane are not drawn.
constexpr float kNearPlaneM = 0.01f;

struct PixelBounds {
  int32_t x0, y0, x1, y1;  // inclusive; empty if x1 < x0
};

struct TriangleEdges {
  double a[3], b[3], c[3];  // e_i(x, y) = a_i x + b_i y + c_i in pixels, >= 0 inside
  bool owns[3];             // whether points on edge i belong to this triangle
  float z[3];               // depths of the corners
};

// A rule that holds for exactly one of two opposite edges.
GAS_RT_HD bool owns_edge(double a, double b, double c) {
  return a > 0.0 || (a == 0.0 && (b > 0.0 || (b == 0.0 && c > 0.0)));
}

// Returns false for triangles that cover nothing: seen exactly edge-on, or degenerate.
GAS_RT_HD bool setup_edges(const CameraView& camera, const Vec3f* corner, TriangleEdges* out) {
  const Vec3d v[3] = {to_double(corner[0]), to_double(corner[1]), to_double(corner[2])};
  const Vec3d e[3] = {cross(v[1], v[2]), cross(v[2], v[0]), cross(v[0], v[1])};
  const double det = dot(v[0], e[0]);
  if (!(det != 0.0)) return false;
  const double sign = det > 0.0 ? 1.0 : -1.0;
  for (int i = 0; i < 3; ++i) {
    const double a = sign * e[i].x / camera.fx;
    const double b = sign * e[i].y / camera.fy;
    const double c = sign * e[i].z - a * camera.cx - b * camera.cy;
    out->a[i] = a, out->b[i] = b, out->c[i] = c;
    out->owns[i] = owns_edge(a, b, c);
    out->z[i] = corner[i].z;
  }
  return true;
}

GAS_RT_HD bool inside_edge(double e, bool owns) { return e > 0.0 || (e == 0.0 && owns); }

// The pixels whose centres the triangle may cover: its projection, cut at the near plane.
GAS_RT_HD PixelBounds triangle_bounds(const CameraView& camera, const Vec3f* corner) {
  constexpr double kSlackPx = 0.01;  // the projection is rounded, the edge functions decide
  double u0 = 1e30, v0 = 1e30, u1 = -1e30, v1 = -1e30;
  const auto include = [&](double x, double y, double z) {
    const double u = camera.fx * x / z + camera.cx, v = camera.fy * y / z + camera.cy;
    u0 = u < u0 ? u : u0, u1 = u > u1 ? u : u1;
    v0 = v < v0 ? v : v0, v1 = v > v1 ? v : v1;
  };
  for (int i = 0; i < 3; ++i) {
    const Vec3d p = to_double(corner[i]), q = to_double(corner[(i + 1) % 3]);
    const bool p_visible = p.z >= kNearPlaneM, q_visible = q.z >= kNearPlaneM;
    if (p_visible) include(p.x, p.y, p.z);
    if (p_visible != q_visible) {
      const double s = (kNearPlaneM - p.z) / (q.z - p.z);
      include(p.x + s * (q.x - p.x), p.y + s * (q.y - p.y), kNearPlaneM);
    }
  }
  // Written so that NaN bounds are empty ones.
  if (!(u1 >= 0.0 && v1 >= 0.0 && u0 <= camera.width && v0 <= camera.height)) return {0, 0, -1, -1};
  const auto pixel = [](double x, int32_t size) {
    return static_cast<int32_t>(x < 0.0 ? 0.0 : x > size - 1 ? size - 1 : x);
  };
  return {pixel(std::ceil(u0 - 0.5 - kSlackPx), camera.width),
          pixel(std::ceil(v0 - 0.5 - kSlackPx), camera.height),
          u1 + kSlackPx < 0.5 ? -1 : pixel(std::floor(u1 - 0.5 + kSlackPx), camera.width),
          v1 + kSlackPx < 0.5 ? -1 : pixel(std::floor(v1 - 0.5 + kSlackPx), camera.height)};
}

}  // namespace gas_rt
