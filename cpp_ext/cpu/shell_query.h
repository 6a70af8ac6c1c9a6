// Points in a posed shell; see ShellTable.
#pragma once

#include <cstdint>

#include "gas_rt/shell.h"

namespace gas_rt::GAS_RT_ISA {

void query_shell(const ShellView& shell, const float* points, int64_t n, int threads,
                 int32_t* vertex_id, float* canonical);

}  // namespace gas_rt::GAS_RT_ISA
