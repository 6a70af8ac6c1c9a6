// Which vertices can be nearest to some point of a cube: the step the shell's lists are made of.
#pragma once

#include "gas_rt/shell.h"

namespace gas_rt {

constexpr float kFarM = 1e18f;  // its square is still a float

struct Cube {
  Vec3f centre;
  float width;
};

struct Reach {
  float radius_m;
  float rounding_m;  // of a coordinate, at its distance from the origin
};

// The margins that keep rounding from dropping a vertex that a query could call nearest: a point's
// leaf and its distances are both rounded.
struct Margins {
  float width, half, reach_sq, slack;

  GAS_RT_HD Margins(float cube_width, const Reach& reach)
      : width(1.001f * cube_width + 2.0f * reach.rounding_m),
        half(0.5f * width),
        reach_sq(reach.radius_m * reach.radius_m),
        slack(1e-6f * (reach_sq + width * width)) {
    reach_sq += slack;
  }
};

GAS_RT_HD float magnitude(float v) { return v < 0.0f ? -v : v; }
GAS_RT_HD float larger(float a, float b) { return a > b ? a : b; }

// Whether candidates v can be the nearest vertex within the radius to some point of a cube with
// centre c. Here u is the candidate nearest to c. |p - v|^2 - |p - u|^2 is linear in p, and in the
// cube it falls below its value at c by at most width * |v - u|_1: where even that leaves v farther
// than u, v is never nearest. F is float, or Floats where one of the sides (cubes or candidates) is
// eight different ones.
template <typename F>
GAS_RT_HD auto can_be_nearest(const F* c, const F* v, const F* u, F u_distance,
                              const Margins& margins) {
  F distance{}, apart{}, outside_sq{};
  for (int axis = 0; axis < 3; ++axis) {
    const F away = magnitude(v[axis] - c[axis]);
    const F outside = larger(away - margins.half, F{});
    distance += away * away;
    apart += magnitude(v[axis] - u[axis]);
    outside_sq += outside * outside;
  }
  return (distance <= u_distance + margins.slack + margins.width * apart) &
         (outside_sq <= margins.reach_sq - F{});
}

}  // namespace gas_rt
