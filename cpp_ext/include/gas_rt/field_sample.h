// The canonical field at one point, as one GPU thread evaluates it. The level is the outer loop, so
// that a level's features go straight into the hidden layer and the encoding is never stored.
#pragma once

#include <cmath>
#include <cstdint>

#include "gas_rt/field.h"
#include "gas_rt/half.h"
#include "gas_rt/vec.h"

// An array stays in registers only if every loop over it is unrolled.
#if defined(__CUDACC__)
#include <cuda_fp16.h>
#define GAS_RT_UNROLL _Pragma("unroll")
#define GAS_RT_ROLLED _Pragma("unroll 1")
#else
#define GAS_RT_UNROLL
#define GAS_RT_ROLLED
#endif

namespace gas_rt {

// Four floats that are loaded at once.
struct alignas(16) Quad {
  float v[4];
};

// A field's parameters in device memory. The matrices are stored by input, so that one input's
// weights to all outputs lie side by side, and without tiny-cuda-nn's padding.
struct PackedField {
  GridLevel levels[kMaxLevels];
  int n_levels;
  int n_features;     // per entry: 1, 2, 4 or 8
  const void* table;  // [entries, n_features] float, or half precision
  bool half;          // which of them
  const float* nets;  // density0 [levels * features, 32], density1 [32, 16], colour0 [19, 32],
                      // the sum of the colour padding's rows [32], colour1 [32, 4]
  float lo[3];        // metres
  float inverse_extent[3];  // 1/m
  float density_scale;      // 1/m; sigma = density_scale * softplus(logit)
};

constexpr int kDirected = kGeometry + 3;  // the colour net's inputs that vary
constexpr int kLogits = 4;                // red, green, blue, and one that fills a Quad

// Floats in PackedField.nets.
GAS_RT_HD int packed_net_size(int n_encoded) {
  return kHidden * n_encoded + kHidden * kGeometry + (kDirected + 1) * kHidden + kHidden * kLogits;
}

struct FieldValue {
  float sigma;  // 1/m
  float rgb[3];
};

// The C features at p, widened; C is 1, 2 or 4 and p aligned to them.
template <int C>
GAS_RT_HD void load_features(const float* p, float* out) {
  struct alignas(4 * C) Row {
    float v[C];
  };
  const Row row = *reinterpret_cast<const Row*>(p);
  for (int i = 0; i < C; ++i) out[i] = row.v[i];
}

template <int C>
GAS_RT_HD void load_features(const uint16_t* p, float* out) {
  struct alignas(2 * C) Row {
    uint16_t v[C];
  };
  const Row row = *reinterpret_cast<const Row*>(p);
#if defined(__CUDA_ARCH__)
  for (int i = 0; i < C; ++i) out[i] = __half2float(__ushort_as_half(row.v[i]));
#else
  for (int i = 0; i < C; ++i) out[i] = half_to_float(row.v[i]);
#endif
}

// Addresses and trilinear weights of the eight vertices around a point in one level.
struct SampleCorners {
  uint32_t index[8];
  float weight[8];
};

// u: [3] in the box's coordinates
GAS_RT_HD void find_sample_corners(const GridLevel& level, const float* u, SampleCorners& out) {
  float side[3][2];
  uint32_t cell[3][2];
  for (int d = 0; d < 3; ++d) {
    const float p = u[d] * level.scale + 0.5f;
    cell[d][0] = static_cast<uint32_t>(p);  // p >= 0.5, so truncation is floor
    cell[d][1] = cell[d][0] + 1;
    side[d][1] = p - static_cast<float>(cell[d][0]);
    side[d][0] = 1.0f - side[d][1];
  }
  GAS_RT_UNROLL
  for (int c = 0; c < 8; ++c) {
    const int i = c & 1, j = (c >> 1) & 1, k = c >> 2;
    out.index[c] = level.hashed ? hashed_entry(level, cell[0][i], cell[1][j], cell[2][k])
                                : dense_entry(level, cell[0][i], cell[1][j], cell[2][k]);
    out.weight[c] = side[0][i] * side[1][j] * side[2][k];
  }
}

// sum[o] += x * weights[o]; weights are aligned to a Quad
template <int N>
GAS_RT_HD void accumulate(float x, const float* weights, float* sum) {
  const Quad* quads = reinterpret_cast<const Quad*>(weights);
  GAS_RT_UNROLL
  for (int q = 0; q < N / 4; ++q) {
    const Quad w = quads[q];
    for (int i = 0; i < 4; ++i) sum[4 * q + i] += x * w.v[i];
  }
}

GAS_RT_HD float relu(float x) { return x > 0.0f ? x : 0.0f; }

// log(1 + e^x) without overflow
GAS_RT_HD float softplus(float x) { return relu(x) + std::log1p(std::exp(x < 0.0f ? x : -x)); }

GAS_RT_HD float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// Adds the first layer's share of every level to hidden [32]. C: how many of an entry's features
// are loaded at once.
template <int C, typename Entry>
GAS_RT_HD void encode_into(const PackedField& field, const float* nets, const float* u,
                           float* hidden) {
  const Entry* table = static_cast<const Entry*>(field.table);
  const float* weights = nets;
  GAS_RT_ROLLED
  for (int l = 0; l < field.n_levels; ++l) {
    const GridLevel& level = field.levels[l];
    SampleCorners corners;
    find_sample_corners(level, u, corners);
    for (int first = 0; first < field.n_features; first += C) {
      float features[C] = {};
      const Entry* entries = table + level.offset * field.n_features + first;
      GAS_RT_UNROLL
      for (int c = 0; c < 8; ++c) {
        float entry[C];
        load_features<C>(entries + static_cast<uint64_t>(field.n_features) * corners.index[c],
                         entry);
        for (int i = 0; i < C; ++i) features[i] += entry[i] * corners.weight[c];
      }
      GAS_RT_UNROLL
      for (int i = 0; i < C; ++i, weights += kHidden) {
        accumulate<kHidden>(features[i], weights, hidden);
      }
    }
  }
}

// nets: as field.nets, wherever it is fastest to read; u: [3] in the box's coordinates; direction:
// unit, canonical.
template <int C, typename Entry>
GAS_RT_HD FieldValue evaluate_sample(const PackedField& field, const float* nets, const float* u,
                                     Vec3f direction) {
  float hidden[kHidden] = {};
  encode_into<C, Entry>(field, nets, u, hidden);
  const float* density1 = nets + kHidden * field.n_levels * field.n_features;
  const float* colour0 = density1 + kHidden * kGeometry;
  const float* colour1 = colour0 + kHidden * (kDirected + 1);
  float directed[kDirected] = {};
  GAS_RT_UNROLL
  for (int i = 0; i < kHidden; ++i) {
    accumulate<kGeometry>(relu(hidden[i]), density1 + kGeometry * i, directed);
  }
  directed[kGeometry] = direction.x;
  directed[kGeometry + 1] = direction.y;
  directed[kGeometry + 2] = direction.z;
  GAS_RT_UNROLL
  for (int i = 0; i < kHidden; ++i) hidden[i] = 0.0f;
  accumulate<kHidden>(1.0f, colour0 + kHidden * kDirected, hidden);
  GAS_RT_UNROLL
  for (int i = 0; i < kDirected; ++i) {
    accumulate<kHidden>(directed[i], colour0 + kHidden * i, hidden);
  }
  float logits[kLogits] = {};
  GAS_RT_UNROLL
  for (int i = 0; i < kHidden; ++i) {
    accumulate<kLogits>(relu(hidden[i]), colour1 + kLogits * i, logits);
  }
  return {field.density_scale * softplus(directed[0]),
          {sigmoid(logits[0]), sigmoid(logits[1]), sigmoid(logits[2])}};
}

}  // namespace gas_rt
