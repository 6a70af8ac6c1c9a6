#include "field_block.h"
#include "field_trainer.h"
#include "gas_rt/field_table.h"
#include "gas_rt/thread_pool.h"

namespace gas_rt {
namespace GAS_RT_ISA {
namespace {

constexpr int64_t kGrain = 16 * kBlock;

void forward(const FieldView& field, const float* points, const float* directions, int64_t count,
             float* sigma, float* rgb, int threads) {
  parallel_ranges(count, kGrain, threads, [&](int64_t begin, int64_t end) {
    FieldBlock block;
    for (int64_t at = begin; at < end; at += kBlock) {
      const int n = static_cast<int>(end - at < kBlock ? end - at : kBlock);
      load_block(field, points + 3 * at, directions + 3 * at, n, block);
      evaluate_density(field, block);
      evaluate_colour(field, block);
      std::memcpy(sigma + at, block.sigma, sizeof(float) * n);
      for (int s = 0; s < n; ++s)
        for (int c = 0; c < 3; ++c) rgb[3 * (at + s) + c] = block.rgb[c][s];
    }
  });
}

void density(const FieldView& field, const float* points, int64_t count, float* sigma,
             int threads) {
  parallel_ranges(count, kGrain, threads, [&](int64_t begin, int64_t end) {
    FieldBlock block;
    for (int64_t at = begin; at < end; at += kBlock) {
      const int n = static_cast<int>(end - at < kBlock ? end - at : kBlock);
      load_block(field, points + 3 * at, nullptr, n, block);
      evaluate_density(field, block);
      std::memcpy(sigma + at, block.sigma, sizeof(float) * n);
    }
  });
}

}  // namespace

const FieldTable& field_table() {
  static const FieldTable table = {forward, density, train};
  return table;
}

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
