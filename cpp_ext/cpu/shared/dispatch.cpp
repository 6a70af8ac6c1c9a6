#include "gas_rt/dispatch.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace gas_rt {
namespace {

bool available(Isa isa) {
  if (isa == Isa::base) return true;
#if defined(GAS_RT_HAVE_AVX512)
  if (isa == Isa::avx2) return __builtin_cpu_supports("x86-64-v3") != 0;
  return __builtin_cpu_supports("x86-64-v4") != 0;
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
