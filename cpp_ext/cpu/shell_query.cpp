#include "shell_query.h"

#include <algorithm>
#include <cstring>

#include "gas_rt/thread_pool.h"
#include "nearest_block.h"
#include "simd.h"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int64_t kPointsPerTask = 4096;

// As transform_point, in its order; the last number is of no use.
F4 mapped(const float* map, const float* p) {
  const F4 x = load4(map), y = load4(map + 4), z = load4(map + 8);
  const F4 first = shuffle4<0, 4, 1, 5>(x, y), last = shuffle4<2, 6, 3, 7>(x, y);
  return shuffle4<0, 1, 4, 4>(first, z) * p[0] + shuffle4<2, 3, 5, 5>(first, z) * p[1] +
         shuffle4<0, 1, 6, 6>(last, z) * p[2] + shuffle4<2, 3, 7, 7>(last, z);
}

void query_points(const ShellView& shell, const float* points, int64_t n, int32_t* vertex_id,
                  float* canonical) {
  int32_t vertex[kPointBlock];
  for (int64_t first = 0; first < n; first += kPointBlock) {
    const int count = static_cast<int>(std::min<int64_t>(kPointBlock, n - first));
    nearest_vertices(shell, points + 3 * first, count, vertex);
    std::copy_n(vertex, count, vertex_id + first);
    for (int i = 0; i < count; ++i) {
      const int64_t at = first + i;
      const F4 moved =
          vertex[i] == kNoVertex
              ? F4{}
              : mapped(shell.maps + 12 * static_cast<int64_t>(vertex[i]), points + 3 * at);
      // The fourth number falls on the next point, which is still to come.
      std::memcpy(canonical + 3 * at, &moved, at + 1 < n ? sizeof(float[4]) : sizeof(float[3]));
    }
  }
}

}  // namespace

void query_shell(const ShellView& shell, const float* points, int64_t n, int threads,
                 int32_t* vertex_id, float* canonical) {
  parallel_ranges(n, kPointsPerTask, threads, [&](int64_t begin, int64_t end) {
    query_points(shell, points + 3 * begin, end - begin, vertex_id + begin, canonical + 3 * begin);
  });
}

}  // namespace gas_rt::GAS_RT_ISA
