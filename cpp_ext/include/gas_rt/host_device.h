// GAS_RT_HD marks math that both the CPU drivers and CUDA kernels call.
#pragma once

// Forced inlining matters beyond speed: CPU drivers are compiled once per instruction set, and an
// inline function that stayed out of line would be merged by the linker into one of its versions.
#if defined(__CUDACC__)
#define GAS_RT_HD __host__ __device__ __forceinline__
#else
#define GAS_RT_HD inline __attribute__((always_inline))
#endif
