// GAS_RT_HD marks math that both the CPU drivers and CUDA kernels call.
#pragma once

// Forced inlining matters beyond speed: CPU drivers are compiled once per instruction set, and an
// inline function that stayed out of line would be merged by the linker into one of its versions.
#if defined(__CUDACC__)
#define GAS_RT_HD __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define GAS_RT_HD __forceinline
#else
#define GAS_RT_HD inline __attribute__((always_inline))
#endif

// Whether lanes.h has its vectors: GCC's vector extensions, which clang has too. Where not, on the
// GPU and with other compilers, the same is written as a loop. GAS_RT_NO_LANES chooses that loop,
// for a test that these headers hold nothing else that is GCC's alone.
#if !defined(__CUDACC__) && defined(__GNUC__) && !defined(GAS_RT_NO_LANES)
#define GAS_RT_LANES 1
#else
#define GAS_RT_LANES 0
#endif
