// See MarchTable::upsample.
#pragma once

#include <cstdint>

namespace gas_rt::GAS_RT_ISA {

void upsample(const float* in, int64_t height, int64_t width, int64_t channels, int threads,
              float* out);

}  // namespace gas_rt::GAS_RT_ISA
