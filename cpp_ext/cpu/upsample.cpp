// Twice the resolution, bilinear. An output pixel's centre lies a quarter of an input pixel from
// the nearest input's: that one weighs 3/4, its neighbour on the same side 1/4, edges held.
#include "upsample.h"

#include <algorithm>
#include <vector>

#include "gas_rt/thread_pool.h"

namespace gas_rt::GAS_RT_ISA {
namespace {

constexpr int64_t kRowsPerTask = 16;

int64_t neighbour(int64_t at, int64_t size) {
  const int64_t nearest = at / 2;
  return std::clamp<int64_t>(at % 2 != 0 ? nearest + 1 : nearest - 1, 0, size - 1);
}

}  // namespace

void upsample(const float* in, int64_t height, int64_t width, int64_t channels, int threads,
              float* out) {
  const int64_t in_height = (height + 1) / 2, in_width = (width + 1) / 2;
  const int64_t in_row = in_width * channels;
  parallel_ranges(height, kRowsPerTask, threads, [&](int64_t begin, int64_t end) {
    std::vector<float> mixed(in_row);
    for (int64_t y = begin; y < end; ++y) {
      const float* near_row = in + (y / 2) * in_row;
      const float* far_row = in + neighbour(y, in_height) * in_row;
      for (int64_t i = 0; i < in_row; ++i) mixed[i] = 0.75f * near_row[i] + 0.25f * far_row[i];
      for (int64_t x = 0; x < width; ++x) {
        const float* near_pixel = mixed.data() + (x / 2) * channels;
        const float* far_pixel = mixed.data() + neighbour(x, in_width) * channels;
        float* pixel = out + (y * width + x) * channels;
        for (int64_t c = 0; c < channels; ++c)
          pixel[c] = 0.75f * near_pixel[c] + 0.25f * far_pixel[c];
      }
    }
  });
}

}  // namespace gas_rt::GAS_RT_ISA
