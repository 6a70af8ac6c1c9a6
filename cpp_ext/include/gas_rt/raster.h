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
  int32_t x0, y0, x1, y1;  // inclusive; empty if x1 < x0 or y1 < y0
};

// Of one triangle, or of as many side by side as a T has lanes.
template <typename T>
struct EdgeFunctions {
  T a[3], b[3], c[3];           // e_i(x, y) = a_i x + b_i y + c_i in pixels, >= 0 inside
  decltype(T{} > T{}) owns[3];  // whether points on edge i belong to this triangle
};

struct TriangleEdges : EdgeFunctions<double> {
  float z[3];  // depths of the corners
};

// A rule that holds for exactly one of two opposite edges.
template <typename T>
GAS_RT_HD auto owns_edge(T a, T b, T c) {
  return (a > 0.0) | ((a == 0.0) & ((b > 0.0) | ((b == 0.0) & (c > 0.0))));
}

// Returns false for triangles that cover nothing: seen exactly edge-on, or degenerate.
template <typename T>
GAS_RT_HD auto setup_edges(const CameraView& camera, const Vec3<T>* v, EdgeFunctions<T>* out) {
  const double fx = camera.fx, fy = camera.fy, cx = camera.cx, cy = camera.cy;
  const Vec3<T> e[3] = {cross(v[1], v[2]), cross(v[2], v[0]), cross(v[0], v[1])};
  const T det = dot(v[0], e[0]);
  const T sign = det > 0.0 ? T{} + 1.0 : T{} - 1.0;
  for (int i = 0; i < 3; ++i) {
    const T a = sign * e[i].x / fx;
    const T b = sign * e[i].y / fy;
    const T c = sign * e[i].z - a * cx - b * cy;
    out->a[i] = a, out->b[i] = b, out->c[i] = c;
    out->owns[i] = owns_edge(a, b, c);
  }
  return (det < 0.0) | (det > 0.0);
}

GAS_RT_HD bool setup_edges(const CameraView& camera, const Vec3f* corner, TriangleEdges* out) {
  const Vec3d v[3] = {to_double(corner[0]), to_double(corner[1]), to_double(corner[2])};
  for (int i = 0; i < 3; ++i) out->z[i] = corner[i].z;
  return setup_edges<double>(camera, v, out);
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

constexpr double kSlackPx = 0.01;  // the projection is rounded, the edge functions decide

// The first pixel whose centre is not before u, of `size`; size if none is.
GAS_RT_HD int32_t first_pixel(double u, int32_t size) {
  const double first = std::ceil(u - 0.5 - kSlackPx);
  return static_cast<int32_t>(first > 0.0 ? first < size ? first : size : 0.0);
}

// The last pixel whose centre is not after u; -1 if none is.
GAS_RT_HD int32_t last_pixel(double u, int32_t size) {
  const double last = std::floor(u - 0.5 + kSlackPx);
  return static_cast<int32_t>(last > -1.0 ? last < size - 1 ? last : size - 1 : -1.0);
}

// The pixels whose centres lie in the box.
GAS_RT_HD PixelBounds pixels_in(const CameraView& camera, const PixelBox& box) {
  return {first_pixel(box.u0, camera.width), first_pixel(box.v0, camera.height),
          last_pixel(box.u1, camera.width), last_pixel(box.v1, camera.height)};
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
