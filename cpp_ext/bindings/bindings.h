// Each topic of the module registers itself through one of these.
#pragma once

#include <nanobind/nanobind.h>

namespace gas_rt {

void bind_geometry(nanobind::module_& m);
void bind_field(nanobind::module_& m);
void bind_shell(nanobind::module_& m);
void bind_march(nanobind::module_& m);

}  // namespace gas_rt
