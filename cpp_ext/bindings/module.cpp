// The one extension module; its public faces are the Python files beside it.
#include <nanobind/nanobind.h>

#include "bindings.h"
#include "gas_rt/dispatch.h"

NB_MODULE(_native, m) {
  m.attr("isa") = gas_rt::isa_name(gas_rt::active_isa());
  gas_rt::bind_geometry(m);
  gas_rt::bind_field(m);
  gas_rt::bind_shell(m);
  gas_rt::bind_march(m);
}
