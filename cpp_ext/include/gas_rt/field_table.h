// The field's CPU drivers: evaluation and training.
#pragma once

#include <cstdint>

#include "gas_rt/dispatch.h"
#include "gas_rt/field.h"

namespace gas_rt {

// The matrices as they are stored: tiny-cuda-nn's padding included.
struct NetSizes {
  int64_t density0, density1, colour0, colour1, total;
  explicit NetSizes(int n_padded)
      : density0(int64_t(kHidden) * n_padded),
        density1(kOutPadded * kHidden),
        colour0(kHidden * kColourPadded),
        colour1(kOutPadded * kHidden),
        total(density0 + density1 + colour0 + colour1) {}
};

constexpr int kTrainBlock = 64;  // samples that are evaluated together
constexpr int kTrainChunk = 8;   // blocks whose gradients of the nets are summed in order
constexpr int kNetGradients =
    kHidden * kMaxEncoded + kGeometry * kHidden + kHidden * kColourIn + 4 * kHidden;

// Borrowed memory of one trainer. Moments and gradients have their parameters' layout.
struct TrainerBuffers {
  FieldView field;    // its table is `table`, its matrices point into folded copies of `nets`
  float* nets;        // NetSizes.total
  float* nets_first;  // Adam's moments
  float* nets_second;
  float* nets_gradient;
  float* table;
  float* table_first;
  float* table_second;
  float* table_gradient;
  float* folded_colour0;  // [32, 20]
  float* position;        // [blocks, 3, 64]
  float* d_encoded;       // [blocks, levels * features, 64]
  float* partial;         // [chunks, kNetGradients]
  double* loss;           // [chunks]
};

struct TrainBatch {
  int64_t count;
  const float* points;      // [count, 3] metres
  const float* directions;  // [count, 3] unit
  const float* sigma;       // [count] 1/m
  const float* rgb;         // [count, 3]
  const float* weight;      // [count] or null for 1
  float step_m;             // opacity is compared over this length
  float colour_weight;
};

struct AdamStep {
  float rate;  // bias correction included
  float beta1, beta2, epsilon;
};

struct FieldTable {
  void (*forward)(const FieldView& field, const float* points, const float* directions,
                  int64_t count, float* sigma, float* rgb, int threads);
  // The density alone.
  void (*density)(const FieldView& field, const float* points, int64_t count, float* sigma,
                  int threads);
  // Gradients of the mean loss, which is returned; the parameters move if `adam` is not null.
  double (*train)(const TrainerBuffers& buffers, const TrainBatch& batch, const AdamStep* adam,
                  int threads);
};

GAS_RT_DECLARE_TABLE(FieldTable, field_table)

// Sums the columns of the colour net's padding, whose inputs are all 1, into one.
inline void fold_colour0(const float* padded, float* folded) {
  for (int o = 0; o < kHidden; ++o) {
    for (int i = 0; i < kColourIn - 1; ++i)
      folded[o * kColourIn + i] = padded[o * kColourPadded + i];
    float sum = 0.0f;
    for (int i = kColourIn - 1; i < kColourPadded; ++i) sum += padded[o * kColourPadded + i];
    folded[o * kColourIn + kColourIn - 1] = sum;
  }
}

}  // namespace gas_rt
