// The canonical field: hash grid -> density net -> colour net.
#pragma once

#include <cstdint>

#include "gas_rt/hash_grid.h"

namespace gas_rt {

constexpr int kHidden = 32;        // width of both nets' hidden layer
constexpr int kGeometry = 16;      // density net's outputs; the first one is the density's logit
constexpr int kColourIn = 20;      // geometry, direction, and the padding's columns folded into one
constexpr int kColourPadded = 32;  // geometry, direction, and 13 inputs that are constantly 1
constexpr int kOutPadded = 16;
constexpr int kMaxEncoded = 256;  // 32 levels of 8 features

// Borrowed pointers to one field's parameters, as the drivers read them.
struct FieldView {
  GridLevel levels[kMaxLevels];
  int n_levels;
  int n_features;              // per entry
  int n_padded;                // length of the padded encoding
  const float* table;          // [entries, n_features], or null where half_table is not
  const uint16_t* half_table;  // the same in half precision, or null
  const float* density0;       // [32, n_padded]
  const float* density1;       // [16, 32]
  const float* colour0;        // [32, 20], the last column is the sum of the padding's columns
  const float* colour1;        // [4, 32], the last row is padding
  float lo[3];                 // metres
  float inverse_extent[3];     // 1/m
  float density_scale;         // 1/m; sigma = density_scale * softplus(logit)
};

// A point's coordinate in the field's box, in [0, 1]. Points outside the box are evaluated on its
// surface: addresses stay inside the table. Written so that NaN, which a map of huge entries can
// make, is on the surface too.
template <typename Field>
GAS_RT_HD float normalised(const Field& field, int axis, float metres) {
  const float u = (metres - field.lo[axis]) * field.inverse_extent[axis];
  return u > 0.0f ? (u < 1.0f ? u : 1.0f) : 0.0f;
}

}  // namespace gas_rt
