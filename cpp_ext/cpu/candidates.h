// Which vertices can be nearest to some point of a cube: the step the shell's lists are made of.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "gas_rt/lanes.h"
#include "gas_rt/shell.h"
#include "gas_rt/shell_cube.h"
#include "gas_rt/vec.h"

namespace gas_rt::GAS_RT_ISA {

GAS_RT_HD size_t groups_of(size_t n) { return (n + kShellLanes - 1) / kShellLanes; }

template <typename T>
void grow(std::vector<T>* values, size_t size) {
  if (values->size() < size) values->resize(size);
}

// Vertices side by side. Groups of lanes may be loaded from any of them on: a group's worth of
// points that are near to nothing follows the last.
struct Candidates {
  std::vector<float> x, y, z;
  std::vector<int32_t> id;
  size_t n = 0;

  void resize(size_t size) {
    n = size;
    grow(&x, n + kShellLanes), grow(&y, n + kShellLanes), grow(&z, n + kShellLanes),
        grow(&id, n + kShellLanes);
    for (size_t i = n; i < n + kShellLanes; ++i) set(i, {kFarM, kFarM, kFarM}, kNoVertex);
  }
  void set(size_t i, Vec3f at, int32_t vertex) {
    x[i] = at.x, y[i] = at.y, z[i] = at.z, id[i] = vertex;
  }
};

// Some of a block's candidates, by their places in it, ascending.
struct Places {
  std::vector<int32_t> at;
  size_t n = 0;

  void clear(size_t most) { grow(&at, most), n = 0; }
};

// Some of the vertices that are sorted by block.
struct Range {
  int32_t begin, end;
};

inline void load_group(const Candidates& in, size_t first, Floats* v) {
  v[0] = load_lanes(in.x.data() + first), v[1] = load_lanes(in.y.data() + first);
  v[2] = load_lanes(in.z.data() + first);
}

inline void spread(const Candidates& in, size_t i, Floats* v) {
  v[0] = all(in.x[i]), v[1] = all(in.y[i]), v[2] = all(in.z[i]);
}

GAS_RT_HD Floats distance_sq(const Floats* a, const Floats* b) {
  const Floats x = a[0] - b[0], y = a[1] - b[1], z = a[2] - b[2];
  return x * x + y * y + z * z;
}

// Numbers below a limit, to be had in ascending order.
class NumberSet {
 public:
  explicit NumberSet(size_t limit) : words_((limit + 63) / 64) {}

  void add(int32_t number) {
    const int32_t word = number >> 6;
    words_[word] |= uint64_t{1} << (number & 63);
    first_ = std::min(first_, word), last_ = std::max(last_, word);
  }

  // Calls take(number) for each and forgets them.
  template <typename Take>
  void drain(Take&& take) {
    for (int32_t word = first_; word <= last_; ++word) {
      for (uint64_t bits = words_[word]; bits != 0; bits &= bits - 1) {
        take(64 * word + __builtin_ctzll(bits));
      }
      words_[word] = 0;
    }
    first_ = std::numeric_limits<int32_t>::max(), last_ = -1;
  }

 private:
  std::vector<uint64_t> words_;
  int32_t first_ = std::numeric_limits<int32_t>::max(), last_ = -1;
};

// Narrows vertices, eight at a time, down to those of one cube; writes their numbers.
inline void narrow(const Candidates& in, const std::vector<Range>& ranges, const Cube& cube,
                   const Reach& reach, Places* out) {
  const Margins margins(cube.width, reach);
  const Floats centre[3] = {all(cube.centre.x), all(cube.centre.y), all(cube.centre.z)};
  Floats best = all(std::numeric_limits<float>::infinity());
  Ints found{};
  Floats v[3], u[3];
  size_t most = 0;
  // What is loaded beyond a range's end are vertices too: of no harm here.
  for (const Range& range : ranges) {
    most += range.end - range.begin;
    for (int32_t i = range.begin; i < range.end; i += kShellLanes) {
      load_group(in, i, v);
      const Floats distance = distance_sq(v, centre);
      const Ints nearer = distance < best;
      best = nearer ? distance : best;
      found = nearer ? all(i) : found;
    }
  }
  int nearest = 0;
  for (int lane = 1; lane < kShellLanes; ++lane)
    nearest = best[lane] < best[nearest] ? lane : nearest;
  spread(in, found[nearest] + nearest, u);
  out->clear(most + kShellLanes);
  for (const Range& range : ranges) {
    for (int32_t i = range.begin; i < range.end; i += kShellLanes) {
      load_group(in, i, v);
      const int beyond = std::max(0, i + kShellLanes - range.end);
      const uint64_t bytes = bytes_of(can_be_nearest(centre, v, u, all(best[nearest]), margins)) &
                             ~uint64_t{0} >> 8 * beyond;
      // As good as random: by arithmetic, not by branches.
      for (int lane = 0; lane < kShellLanes; ++lane) {
        out->at[out->n] = in.id[i + lane];
        out->n += bytes >> 8 * lane & 1;
      }
    }
  }
}

// The centres of a cube's octants; bit `axis` of an octant's number says which half.
inline void octant_centres(const Cube& cube, Floats* centre) {
  const float quarter = 0.25f * cube.width;
  const float at[3] = {cube.centre.x, cube.centre.y, cube.centre.z};
  for (int axis = 0; axis < 3; ++axis) {
    const Ints above = (Ints{0, 1, 2, 3, 4, 5, 6, 7} >> axis & 1) != 0;
    centre[axis] = at[axis] + (above ? all(quarter) : all(-quarter));
  }
}

inline Cube octant_of(const Cube& cube, const Floats* centre, int octant) {
  return {{centre[0][octant], centre[1][octant], centre[2][octant]}, 0.5f * cube.width};
}

// Narrows a cube's candidates, one at a time, down to those of each of its octants.
inline void split(const Candidates& block, const Places& in, const Cube& cube, const Reach& reach,
                  Places* octants) {
  const Margins margins(0.5f * cube.width, reach);
  Floats centre[3], u[3] = {}, v[3];
  octant_centres(cube, centre);
  Floats best = all(std::numeric_limits<float>::infinity());
  Ints found{};
  for (size_t i = 0; i < in.n; ++i) {
    spread(block, in.at[i], v);
    const Floats distance = distance_sq(v, centre);
    const Ints nearer = distance < best;
    best = nearer ? distance : best;
    found = nearer ? all(in.at[i]) : found;
  }
  for (int octant = 0; octant < kShellLanes; ++octant) {
    u[0][octant] = block.x[found[octant]], u[1][octant] = block.y[found[octant]];
    u[2][octant] = block.z[found[octant]];
    octants[octant].clear(in.n);
  }
  for (size_t first = 0; first < in.n; first += 64) {
    uint64_t fits[kShellLanes] = {};  // for each octant a bit a candidate
    const size_t count = std::min<size_t>(64, in.n - first);
    for (size_t i = 0; i < count; i += 8) {
      uint64_t eight = 0;  // for each octant a byte
      for (size_t j = i; j < std::min(i + 8, count); ++j) {
        spread(block, in.at[first + j], v);
        eight |= bytes_of(can_be_nearest(centre, v, u, best, margins)) << (j - i);
      }
      for (int octant = 0; octant < kShellLanes; ++octant)
        fits[octant] |= (eight >> 8 * octant & 0xff) << i;
    }
    for (int octant = 0; octant < kShellLanes; ++octant) {
      int32_t* to = octants[octant].at.data() + octants[octant].n;
      for (uint64_t bits = fits[octant]; bits != 0; bits &= bits - 1) {
        *to++ = in.at[first + __builtin_ctzll(bits)];
      }
      octants[octant].n = to - octants[octant].at.data();
    }
  }
}

}  // namespace gas_rt::GAS_RT_ISA
