// A field's parameters, owned; handed to the drivers as a FieldView.
#pragma once

#include <cstdint>
#include <vector>

#include "gas_rt/field_table.h"

namespace gas_rt {

struct Field {
  FieldView view{};
  std::vector<float> table;          // one of the two tables is empty
  std::vector<uint16_t> half_table;  // float16, by its bits
  std::vector<float> nets, folded_colour0;

  void bind_pointers();
};

}  // namespace gas_rt
