// The march's CPU drivers.
#pragma once

#include <cstdint>

#include "gas_rt/dispatch.h"
#include "gas_rt/field.h"
#include "gas_rt/occupancy.h"
#include "gas_rt/ray.h"
#include "gas_rt/shell.h"

namespace gas_rt {

struct MarchSettings {
  int samples;       // per ray
  float early_stop;  // a ray ends once less than this is transmitted; 0 never ends it
  int threads;
};

// The samples of some rays that lie in the shell, ray after ray, front to back.
struct SampleOutputs {
  int32_t* ray;
  float* delta;      // metres
  float* canonical;  // [count, 3] metres
  float* direction;  // [count, 3] unit, canonical
  int32_t* vertex_id;
};

struct MarchTable {
  // rgb: [height, width, 3] premultiplied, over black; alpha: [height, width]
  void (*render)(const ShellView& shell, const FieldView& field, const CameraView& camera,
                 const OccupancyView& occupancy, const MarchSettings& settings, float* rgb,
                 float* alpha);
  // Nearest vertices of every lattice sample, ids: [rays, samples], -1 outside the shell; counts:
  // [rays] how many are inside. pixels: [rays, 2] column and row, or null for all, row-major.
  void (*find_samples)(const ShellView& shell, const CameraView& camera, const int32_t* pixels,
                       int64_t rays, const MarchSettings& settings, int32_t* ids, int32_t* counts);
  // offsets: [rays], where each ray's samples start.
  void (*fill_samples)(const ShellView& shell, const CameraView& camera, const int32_t* pixels,
                       int64_t rays, const MarchSettings& settings, const int32_t* ids,
                       const int64_t* offsets, const SampleOutputs& out);
  // offsets: [rays + 1]; rgb [rays, 3] premultiplied and alpha [rays] from the samples' values.
  void (*composite)(const int64_t* offsets, int64_t rays, const float* delta, const float* sigma,
                    const float* colour, int threads, float* rgb, float* alpha);
  // in: [(height + 1) / 2, (width + 1) / 2, channels] -> out: [height, width, channels], bilinear.
  void (*upsample)(const float* in, int64_t height, int64_t width, int64_t channels, int threads,
                   float* out);
};

GAS_RT_DECLARE_TABLE(MarchTable, march_table)

}  // namespace gas_rt
