// Shared by the binding files: which instruction set's drivers run.
#pragma once

namespace gas_rt {

inline const char* active_isa() {
#if defined(GAS_RT_HAVE_AVX512)
  if (__builtin_cpu_supports("x86-64-v4")) return "avx512";
#endif
#if defined(GAS_RT_HAVE_AVX2)
  if (__builtin_cpu_supports("x86-64-v3")) return "avx2";
#endif
  return "base";
}

}  // namespace gas_rt
