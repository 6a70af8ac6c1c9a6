// How kernels are started: always on the caller's stream, never waited for.
//
// Compiled by nvcc, or by any C++ compiler with GAS_RT_EMULATED: then the kernels' threads run one
// after the other on the CPU, so that tests can run them where there is no GPU.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(GAS_RT_EMULATED)
#include "cuda_emulator.h"
#else
#include <cuda_runtime.h>

#define GAS_RT_DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

namespace gas_rt::cuda {

template <typename... Parameters, typename... Arguments>
int launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, void* stream,
           Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0) return cudaSuccess;  // nothing to do, and no valid launch
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
  if (error != cudaSuccess) cudaGetLastError();  // reported here; the next call starts clean
  return static_cast<int>(error);
}

}  // namespace gas_rt::cuda
#endif

namespace gas_rt::cuda {

constexpr int kThreads = 256;  // of a kernel with one thread per element
constexpr int kWarp = 32;

inline unsigned blocks_for(int64_t count, int per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

// A grid of one thread per element and one row of blocks per pose.
inline dim3 grid_for(int64_t count, int poses) {
  return dim3(blocks_for(count, kThreads), static_cast<unsigned>(poses));
}

}  // namespace gas_rt::cuda
