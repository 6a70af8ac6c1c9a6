// Which vertices can be nearest to some point of a cube: the step the shell's lists are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "gas_rt/lanes.h"
#include "gas_rt/shell.h"
#include "gas_rt/shell_cube.h"
#include "gas_rt/vec.h"

namespace gas_rt::GAS_RT_ISA {

GAS_RT_HD size_t groups_of(size_t n) { return (n + kLanes - 1) / kLanes; }

// Vertices that may be nearest to some point of a cube.
struct Candidates {
  std::vector<float> x, y, z;
  std::vector<int32_t> id;
  size_t n = 0;

  void reserve(size_t size) {
    if (x.size() < size) x.resize(size), y.resize(size), z.resize(size), id.resize(size);
  }
  void add(const Candidates& from, size_t i) {
    x[n] = from.x[i], y[n] = from.y[i], z[n] = from.z[i], id[n] = from.id[i];
    ++n;
  }
  size_t groups() const { return groups_of(n); }
  // Fills the last group up with points that are near to nothing.
  void pad() {
    reserve(n + kLanes);
    for (size_t i = n; i < groups() * kLanes; ++i) x[i] = y[i] = z[i] = kFarM, id[i] = kNoVertex;
  }
};

GAS_RT_HD Floats group_of(const std::vector<float>& values, size_t group) {
  return load_lanes(values.data() + group * kLanes);
}

GAS_RT_HD Floats distance_sq(const Floats* a, const Floats* b) {
  const Floats x = a[0] - b[0], y = a[1] - b[1], z = a[2] - b[2];
  return x * x + y * y + z * z;
}

// Narrows candidates, eight at a time, down to those of one cube.
inline void narrow(const Candidates& in, const Cube& cube, const Reach& reach, Candidates* out) {
  const Margins margins(cube.width, reach);
  const Floats centre[3] = {all(cube.centre.x), all(cube.centre.y), all(cube.centre.z)};
  Floats best = all(std::numeric_limits<float>::infinity());
  Floats at[3] = {};
  const auto load = [&](size_t group, Floats* v) {
    v[0] = group_of(in.x, group), v[1] = group_of(in.y, group), v[2] = group_of(in.z, group);
  };
  Floats v[3];
  for (size_t group = 0; group < in.groups(); ++group) {
    load(group, v);
    const Floats distance = distance_sq(v, centre);
    const Ints nearer = distance < best;
    best = nearer ? distance : best;
    for (int axis = 0; axis < 3; ++axis) at[axis] = nearer ? v[axis] : at[axis];
  }
  int nearest = 0;
  for (int lane = 1; lane < kLanes; ++lane) nearest = best[lane] < best[nearest] ? lane : nearest;
  const Floats u[3] = {all(at[0][nearest]), all(at[1][nearest]), all(at[2][nearest])};
  out->n = 0;
  out->reserve(in.n + kLanes);
  for (size_t group = 0; group < in.groups(); ++group) {
    load(group, v);
    uint64_t bytes = bytes_of(can_be_nearest(centre, v, u, all(best[nearest]), margins));
    for (; bytes != 0; bytes &= bytes - 1) {
      out->add(in, group * kLanes + __builtin_ctzll(bytes) / 8);
    }
  }
}

// The centres of a cube's octants; bit `axis` of an octant's number says which half.
inline void octant_centres(const Cube& cube, Floats* centre) {
  const float quarter = 0.25f * cube.width;
  const float at[3] = {cube.centre.x, cube.centre.y, cube.centre.z};
  for (int axis = 0; axis < 3; ++axis) {
    for (int octant = 0; octant < kLanes; ++octant) {
      centre[axis][octant] = at[axis] + ((octant >> axis & 1) != 0 ? quarter : -quarter);
    }
  }
}

// Narrows a cube's candidates, one at a time, down to those of each of its octants.
inline void split(const Candidates& in, const Cube& cube, const Reach& reach, Candidates* octants) {
  const Margins margins(0.5f * cube.width, reach);
  Floats centre[3];
  octant_centres(cube, centre);
  Floats best = all(std::numeric_limits<float>::infinity());
  Floats u[3] = {};
  for (size_t i = 0; i < in.n; ++i) {
    const Floats v[3] = {all(in.x[i]), all(in.y[i]), all(in.z[i])};
    const Floats distance = distance_sq(v, centre);
    const Ints nearer = distance < best;
    best = nearer ? distance : best;
    for (int axis = 0; axis < 3; ++axis) u[axis] = nearer ? v[axis] : u[axis];
  }
  for (int octant = 0; octant < kLanes; ++octant) {
    octants[octant].n = 0;
    octants[octant].reserve(in.n + kLanes);
  }
  for (size_t i = 0; i < in.n; ++i) {
    const Floats v[3] = {all(in.x[i]), all(in.y[i]), all(in.z[i])};
    uint64_t bytes = bytes_of(can_be_nearest(centre, v, u, best, margins));
    for (; bytes != 0; bytes &= bytes - 1) octants[__builtin_ctzll(bytes) / 8].add(in, i);
  }
}

}  // namespace gas_rt::GAS_RT_ISA
