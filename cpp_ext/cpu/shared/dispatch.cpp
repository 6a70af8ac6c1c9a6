#include "gas_rt/dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace gas_rt {
namespace {

// By features, since GCC knows the levels x86-64-v3 and -v4 by name from version 12 on; no machine
// has these without the rest of the level.
bool available(Isa isa) {
  if (isa == Isa::base) return true;
#if defined(GAS_RT_HAVE_AVX512)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  if (isa == Isa::avx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

Isa choose() {
  constexpr Isa kWidestFirst[] = {Isa::avx512, Isa::avx2, Isa::base};
  const char* wanted = std::getenv("GAS_RT_ISA");
  const bool named = wanted != nullptr && *wanted != '\0';
  std::string usable;
  for (Isa isa : kWidestFirst) {
    if (!available(isa)) continue;
    if (!named || std::string(wanted) == isa_name(isa)) return isa;
    usable += (usable.empty() ? "" : ", ") + std::string(isa_name(isa));
  }
  throw std::invalid_argument("GAS_RT_ISA: this machine and build have " + usable + ", got '" +
                              wanted + "'; name one of them or unset it");
}

}  // namespace

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

const char* isa_name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "base";
}

}  // namespace gas_rt
