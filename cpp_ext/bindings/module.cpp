// The one module: each topic registers itself through a function declared in bindings.h.
#include <nanobind/nanobind.h>

#include "bindings.h"

NB_MODULE(_native, m) {
  m.attr("isa") = gas_rt::active_isa();
}
