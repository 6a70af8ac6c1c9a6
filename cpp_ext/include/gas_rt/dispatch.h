// Which instruction set's drivers run. Every file of cpp_ext/cpu is compiled once per set, inside
// namespace gas_rt::GAS_RT_ISA (base, avx2, avx512); a topic exposes its drivers as one table:
//
//   struct FooTable { void (*foo)(...); };          // in foo_table.h
//   GAS_RT_DECLARE_TABLE(FooTable, foo_table)       // beside it, in namespace gas_rt
//   const FooTable& foo_table() { ... }             // in cpu/foo.cpp, in namespace GAS_RT_ISA
//   GAS_RT_SELECT(foo_table).foo(...)               // in a binding
#pragma once

namespace gas_rt {

enum class Isa { base, avx2, avx512 };

// The set named by the environment variable GAS_RT_ISA, or else the widest this machine has.
// Throws std::invalid_argument if the variable names a set that is unknown or not there.
Isa active_isa();
const char* isa_name(Isa isa);

}  // namespace gas_rt

#if defined(GAS_RT_HAVE_AVX512)
#define GAS_RT_DECLARE_TABLE(Table, accessor) \
  namespace base {                            \
  const Table& accessor();                    \
  }                                           \
  namespace avx2 {                            \
  const Table& accessor();                    \
  }                                           \
  namespace avx512 {                          \
  const Table& accessor();                    \
  }
#define GAS_RT_SELECT(accessor)                                                   \
  (::gas_rt::active_isa() == ::gas_rt::Isa::avx512 ? ::gas_rt::avx512::accessor() \
   : ::gas_rt::active_isa() == ::gas_rt::Isa::avx2 ? ::gas_rt::avx2::accessor()   \
                                                   : ::gas_rt::base::accessor())
#else
#define GAS_RT_DECLARE_TABLE(Table, accessor) \
  namespace base {                            \
  const Table& accessor();                    \
  }
#define GAS_RT_SELECT(accessor) (::gas_rt::base::accessor())
#endif
