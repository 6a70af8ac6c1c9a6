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

// Where a point in front of the camera is seen, in pixels.
struct Pixel {
  double u, v;
};

GAS_RT_HD Pixel project(const CameraView& camera, double x, double y, double z) {
  return {camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy};
}

struct PixelBox {
  double u0 = 1e30, v0 = 1e30, u1 = -1e30, v1 = -1e30;

  GAS_RT_HD void include(Pixel p) {
    u0 = p.u < u0 ? p.u : u0, u1 = p.u > u1 ? p.u : u1;
    v0 = p.v < v0 ? p.v : v0, v1 = p.v > v1 ? p.v : v1;
  }
};

// The pixels whose centres lie in the box.
GAS_RT_HD PixelBounds pixels_in(const CameraView& camera, const PixelBox& box) {
  constexpr double kSlackPx = 0.01;  // the projection is rounded, the edge functions decide
  // Written so that NaN bounds are empty ones.
  if (!(box.u1 >= 0.0 && box.v1 >= 0.0 && box.u0 <= camera.width && box.v0 <= camera.height)) {
    return {0, 0, -1, -1};
  }
  const auto pixel = [](double x, int32_t size) {
    return static_cast<int32_t>(x < 0.0 ? 0.0 : x > size - 1 ? size - 1 : x);
  };
  return {pixel(std::ceil(box.u0 - 0.5 - kSlackPx), camera.width),
          pixel(std::ceil(box.v0 - 0.5 - kSlackPx), camera.height),
          box.u1 + kSlackPx < 0.5 ? -1 : pixel(std::floor(box.u1 - 0.5 + kSlackPx), camera.width),
          box.v1 + kSlackPx < 0.5 ? -1 : pixel(std::floor(box.v1 - 0.5 + kSlackPx), camera.height)};
}

// The pixels whose centres the triangle may cover: its projection, cut at the near plane.
GAS_RT_HD PixelBounds triangle_bounds(const CameraView& camera, const Vec3f* corner) {
  PixelBox box;
  for (int i = 0; i < 3; ++i) {
    const Vec3d p = to_double(corner[i]), q = to_double(corner[(i + 1) % 3]);
    const bool p_visible = p.z >= kNearPlaneM, q_visible = q.z >= kNearPlaneM;
    if (p_visible) box.include(project(camera, p.x, p.y, p.z));
    if (p_visible != q_visible) {
      const double s = (kNearPlaneM - p.z) / (q.z - p.z);
      box.include(
          project(camera, p.x + s * (q.x - p.x), p.y + s * (q.y - p.y), double{kNearPlaneM}));
    }
  }
  return pixels_in(camera, box);
}

}  // namespace gas_rt
