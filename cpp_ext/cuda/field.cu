#include "drivers.h"
#include "shared_nets.h"

namespace gas_rt::cuda {
namespace {

// One thread per point.
template <int C, typename Entry>
__global__ void __launch_bounds__(kFieldThreads, kFieldBlocks)
    field_kernel(const __grid_constant__ PackedField field, const float* points,
                 const float* directions, int64_t n, float* sigma, float* rgb) {
  GAS_RT_DYNAMIC_SHARED(shared);
  const float* nets = share_nets(field, shared);
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float u[3] = {normalised(field, 0, points[3 * i]), normalised(field, 1, points[3 * i + 1]),
                      normalised(field, 2, points[3 * i + 2])};
  const FieldValue value = evaluate_sample<C, Entry>(field, nets, u, load3(directions + 3 * i));
  sigma[i] = value.sigma;
  store3(rgb + 3 * i, load3(value.rgb));
}

}  // namespace

int field_forward(const PackedField& field, const float* points, const float* directions, int64_t n,
                  float* sigma, float* rgb, Stream stream) {
  return with_instance(field, [&](auto instance) {
    using I = decltype(instance);
    return launch(field_kernel<I::kFeatures, typename I::EntryType>,
                  dim3(blocks_for(n, kFieldThreads)), kFieldThreads, net_bytes(field), stream,
                  field, points, directions, n, sigma, rgb);
  });
}

}  // namespace gas_rt::cuda
