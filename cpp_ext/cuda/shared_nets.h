// What every kernel that evaluates the field shares: the nets in shared memory, and the choice of
// the instance that fits a field's table.
#pragma once

#include "gas_rt/field_sample.h"
#include "launch.h"

namespace gas_rt::cuda {

constexpr int kFieldThreads = 128;
constexpr int kFieldBlocks = 3;  // per multiprocessor: up to 168 registers a thread, no spill

// Copies the nets; every thread of the block must call it.
__device__ inline const float* share_nets(const PackedField& field, unsigned char* shared) {
  float* nets = reinterpret_cast<float*>(shared);
  const int n = packed_net_size(field.n_levels * field.n_features);
  for (int i = threadIdx.x; i < n; i += blockDim.x) nets[i] = field.nets[i];
  __syncthreads();
  return nets;
}

inline size_t net_bytes(const PackedField& field) {
  return sizeof(float) * packed_net_size(field.n_levels * field.n_features);
}

// Calls run(instance) with an Instance that says how the table is read.
template <int C, typename Entry>
struct Instance {
  static constexpr int kFeatures = C;
  using EntryType = Entry;
};

template <typename Run>
int with_instance(const PackedField& field, Run run) {
  switch (field.n_features) {
    case 1:
      return field.half ? run(Instance<1, uint16_t>{}) : run(Instance<1, float>{});
    case 2:
      return field.half ? run(Instance<2, uint16_t>{}) : run(Instance<2, float>{});
    default:  // 4, or 8 as twice 4
      return field.half ? run(Instance<4, uint16_t>{}) : run(Instance<4, float>{});
  }
}

}  // namespace gas_rt::cuda
