// Vectors as wide as the instruction set this file is compiled for, through the compiler's vector
// extensions: one source for every ISA, nothing left to the auto-vectoriser in the hot loops.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "gas_rt/half.h"

namespace gas_rt {
namespace GAS_RT_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float VF __attribute__((vector_size(kLanes * 4), aligned(kLanes * 4)));
typedef int32_t VI __attribute__((vector_size(kLanes * 4), aligned(kLanes * 4)));
typedef uint32_t VU __attribute__((vector_size(kLanes * 4), aligned(kLanes * 4)));
typedef float F4 __attribute__((vector_size(16), aligned(16)));
typedef int32_t I4 __attribute__((vector_size(16), aligned(16)));
typedef uint32_t U4 __attribute__((vector_size(16), aligned(16)));

inline VF load(const float* p) {
  VF v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, VF v) { std::memcpy(p, &v, sizeof v); }
inline VF splat(float x) { return VF{} + x; }
inline VF vmax(VF a, VF b) { return a > b ? a : b; }
inline VF vmin(VF a, VF b) { return a < b ? a : b; }

inline F4 load4(const float* p) {
  F4 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
// Four halves; see half_to_float.
inline F4 load4(const uint16_t* p) {
#if defined(__F16C__)
  return (F4)_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  typedef uint16_t H4 __attribute__((vector_size(8)));
  H4 half;
  std::memcpy(&half, p, sizeof half);
  const U4 wide = __builtin_convertvector(half, U4);
  const F4 magnitude = (F4)((wide & 0x7fffu) << 13) * kHalfScale;
  return (F4)((U4)magnitude | (wide & 0x8000u) << 16);
#endif
}
inline void store4(float* p, F4 v) { std::memcpy(p, &v, sizeof v); }

// Lanes of a (numbers 0..3) and b (4..7). Not __builtin_shufflevector alone: GCC has it from 12 on.
template <int i, int j, int k, int l>
inline F4 shuffle4(F4 a, F4 b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, i, j, k, l);
#else
  return __builtin_shuffle(a, b, I4{i, j, k, l});
#endif
}

// The compiler's vector extensions have no square root.
inline VF vsqrt(VF x) {
#if defined(__AVX512F__)
  return (VF)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);  // g++ 12 warns about the plain form
#elif defined(__AVX__)
  return (VF)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
  return (VF)_mm_sqrt_ps((__m128)x);
#else
  for (int i = 0; i < kLanes; ++i) x[i] = std::sqrt(x[i]);
  return x;
#endif
}

// 0, 1, 2 ...
inline VF ascending() {
  VF v;
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(i);
  return v;
}

// The lanes' sign bits, the first lane's lowest.
inline uint32_t sign_bits(VI v) {
#if defined(__AVX512DQ__)
  return _mm512_movepi32_mask((__m512i)v);
#elif defined(__AVX__)
  return static_cast<uint32_t>(_mm256_movemask_ps((__m256)v));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps((__m128)v));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= static_cast<uint32_t>(v[i] < 0) << i;
  return bits;
#endif
}

// table[index], lane by lane; no index is negative.
inline VI look_up(const int32_t* table, VI index) {
#if defined(__AVX512F__)
  return (VI)_mm512_mask_i32gather_epi32(__m512i{}, 0xffff, (__m512i)index, table, 4);
#elif defined(__AVX2__)
  return (VI)_mm256_i32gather_epi32(table, (__m256i)index, 4);
#else
  VI v;
  for (int i = 0; i < kLanes; ++i) v[i] = table[index[i]];
  return v;
#endif
}

// e^x to 2 ulp; x is clamped to [-87, 88], so the result is finite and never denormal.
inline VF vexp(VF x) {
  x = vmin(vmax(x, splat(-87.0f)), splat(88.0f));
  const VF shifted =
      x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23 leaves the integer in the mantissa
  const VF n = shifted - 12582912.0f;
  VF r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  VF p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const VI exponent = (__builtin_convertvector(n, VI) + 127) << 23;
  VF scale;
  std::memcpy(&scale, &exponent, sizeof scale);
  return p * scale;
}

inline VF vsigmoid(VF x) { return 1.0f / (1.0f + vexp(-x)); }

// log(1 + u) for u in [0, 1], through 2 atanh(u / (2 + u)): relative accuracy down to u = 0.
inline VF vlog1p_unit(VF u) {
  const VF s = u / (u + 2.0f);
  const VF q = s * s;
  VF p = q * (1.0f / 15.0f) + 1.0f / 13.0f;
  p = p * q + 1.0f / 11.0f;
  p = p * q + 1.0f / 9.0f;
  p = p * q + 1.0f / 7.0f;
  p = p * q + 1.0f / 5.0f;
  p = p * q + 1.0f / 3.0f;
  p = p * q + 1.0f;
  return 2.0f * s * p;
}

inline VF vsoftplus(VF x) {
  const VF magnitude = x < 0.0f ? x : -x;
  return vmax(x, splat(0.0f)) + vlog1p_unit(vexp(magnitude));
}

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
