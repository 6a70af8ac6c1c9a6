// The march's samples as lists, for the teacher.
#pragma once

#include "gas_rt/march_table.h"

namespace gas_rt {
namespace GAS_RT_ISA {

void find_samples(const ShellView& shell, const CameraView& camera, const int32_t* pixels,
                  int64_t rays, const MarchSettings& settings, int32_t* ids, int32_t* counts);
void fill_samples(const ShellView& shell, const CameraView& camera, const int32_t* pixels,
                  int64_t rays, const MarchSettings& settings, const int32_t* ids,
                  const int64_t* offsets, const SampleOutputs& out);
void composite(const int64_t* offsets, int64_t rays, const float* delta, const float* sigma,
               const float* colour, int threads, float* rgb, float* alpha);

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
