// A field's parameters, owned; handed to the drivers as a FieldView.
#pragma once

#include <vector>

#include "gas_rt/field_table.h"

namespace gas_rt {

struct Field {
  FieldView view{};
  std::vector<float> table, nets, folded_colour0;

  void bind_pointers();
};

}  // namespace gas_rt
