// Evaluates the field for a block of samples: structure of arrays, [channel][sample], so that every
// step but the table look-up is a full vector operation.
#pragma once

#include "gas_rt/field.h"
#include "simd.h"

namespace gas_rt {
namespace GAS_RT_ISA {

constexpr int kBlock = 64;
static_assert(kBlock % kLanes == 0, "a block is whole vectors");

// Addresses and trilinear weights of the eight vertices around each sample in one level.
struct Corners {
  alignas(64) uint32_t index[8][kBlock];
  alignas(64) float weight[8][kBlock];
};

struct FieldBlock {
  alignas(64) float position[3][kBlock];  // box-normalised, in [0, 1]
  alignas(64) float encoded[kMaxEncoded][kBlock];
  alignas(64) float hidden0[kHidden][kBlock];
  alignas(64) float colour_in[kColourIn][kBlock];  // geometry, direction, 1
  alignas(64) float hidden1[kHidden][kBlock];
  alignas(64) float logits[4][kBlock];
  alignas(64) float sigma[kBlock];
  alignas(64) float rgb[3][kBlock];
  Corners corners;
};

inline void find_corners(const GridLevel& level, const float (*position)[kBlock], Corners& out) {
  for (int s = 0; s < kBlock; s += kLanes) {
    VF side[3][2];  // weights of the lower and the upper vertex along each axis
    VU cell[3][2];
    for (int d = 0; d < 3; ++d) {
      const VF p = load(position[d] + s) * level.scale + 0.5f;
      const VI whole = __builtin_convertvector(p, VI);  // p >= 0.5, so truncation is floor
      side[d][1] = p - __builtin_convertvector(whole, VF);
      side[d][0] = 1.0f - side[d][1];
      std::memcpy(&cell[d][0], &whole, sizeof whole);
      cell[d][1] = cell[d][0] + 1u;
    }
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
      const int i = c & 1, j = (c >> 1) & 1, k = c >> 2;
      const VU index = level.hashed ? hashed_entry(level, cell[0][i], cell[1][j], cell[2][k])
                                    : dense_entry(level, cell[0][i], cell[1][j], cell[2][k]);
      std::memcpy(out.index[c] + s, &index, sizeof index);
      store(out.weight[c] + s, side[0][i] * side[1][j] * side[2][k]);
    }
  }
}

inline float widened(float value) { return value; }
inline float widened(uint16_t half) { return half_to_float(half); }

// Entry is float, or uint16_t for halves.
template <typename Entry>
inline void gather4(const Entry* table, const Corners& corners, float (*out)[kBlock]) {
  for (int s = 0; s < kBlock; s += 4) {
    F4 row[4];
    for (int q = 0; q < 4; ++q) {
      F4 sum = load4(table + 4ull * corners.index[0][s + q]) * corners.weight[0][s + q];
      for (int c = 1; c < 8; ++c)
        sum += load4(table + 4ull * corners.index[c][s + q]) * corners.weight[c][s + q];
      row[q] = sum;
    }
    const F4 a = shuffle4<0, 4, 1, 5>(row[0], row[1]);
    const F4 b = shuffle4<0, 4, 1, 5>(row[2], row[3]);
    const F4 c = shuffle4<2, 6, 3, 7>(row[0], row[1]);
    const F4 d = shuffle4<2, 6, 3, 7>(row[2], row[3]);
    store4(out[0] + s, shuffle4<0, 1, 4, 5>(a, b));
    store4(out[1] + s, shuffle4<2, 3, 6, 7>(a, b));
    store4(out[2] + s, shuffle4<0, 1, 4, 5>(c, d));
    store4(out[3] + s, shuffle4<2, 3, 6, 7>(c, d));
  }
}

template <typename Entry>
inline void gather(const Entry* table, int n_features, const Corners& corners,
                   float (*out)[kBlock]) {
  if (n_features == 4) return gather4(table, corners, out);
  for (int f = 0; f < n_features; ++f)
    for (int s = 0; s < kBlock; ++s) {
      float sum = 0.0f;
      for (int c = 0; c < 8; ++c)
        sum +=
            widened(table[uint64_t(n_features) * corners.index[c][s] + f]) * corners.weight[c][s];
      out[f][s] = sum;
    }
}

inline void encode(const FieldView& field, FieldBlock& b) {
  const int n_features = field.n_features;
  for (int l = 0; l < field.n_levels; ++l) {
    const GridLevel& level = field.levels[l];
    find_corners(level, b.position, b.corners);
    float (*out)[kBlock] = b.encoded + l * n_features;
    if (field.half_table)
      gather(field.half_table + level.offset * n_features, n_features, b.corners, out);
    else
      gather(field.table + level.offset * n_features, n_features, b.corners, out);
  }
  for (int c = field.n_levels * n_features; c < field.n_padded; ++c)
    std::memset(b.encoded[c], 0, sizeof b.encoded[c]);
}

// out[o][s] = sum_i weight[o][i] in[i][s]; n_out is a multiple of 4. The tile is as many vectors
// as the register file holds beside the weights.
template <bool kRelu>
inline void dense(const float* weight, int n_out, int n_in, const float (*in)[kBlock],
                  float (*out)[kBlock]) {
  constexpr int kTile = kLanes == 16 ? 4 : 2;
  for (int s = 0; s < kBlock; s += kTile * kLanes)
    for (int o = 0; o < n_out; o += 4) {
      VF sum[4][kTile] = {};
      const float* w = weight + o * n_in;
      for (int i = 0; i < n_in; ++i) {
        VF x[kTile];
        for (int t = 0; t < kTile; ++t) x[t] = load(in[i] + s + t * kLanes);
        for (int r = 0; r < 4; ++r)
          for (int t = 0; t < kTile; ++t) sum[r][t] += x[t] * w[r * n_in + i];
      }
      for (int r = 0; r < 4; ++r)
        for (int t = 0; t < kTile; ++t)
          store(out[o + r] + s + t * kLanes, kRelu ? vmax(sum[r][t], VF{}) : sum[r][t]);
    }
}

inline void evaluate_density(const FieldView& field, FieldBlock& b) {
  encode(field, b);
  dense<true>(field.density0, kHidden, field.n_padded, b.encoded, b.hidden0);
  dense<false>(field.density1, kGeometry, kHidden, b.hidden0, b.colour_in);
  for (int s = 0; s < kBlock; s += kLanes)
    store(b.sigma + s, vsoftplus(load(b.colour_in[0] + s)) * field.density_scale);
}

// After evaluate_density; colour_in[16..18] holds the unit direction.
inline void evaluate_colour(const FieldView& field, FieldBlock& b) {
  for (int s = 0; s < kBlock; ++s) b.colour_in[kColourIn - 1][s] = 1.0f;
  dense<true>(field.colour0, kHidden, kColourIn, b.colour_in, b.hidden1);
  dense<false>(field.colour1, 4, kHidden, b.hidden1, b.logits);
  for (int c = 0; c < 3; ++c)
    for (int s = 0; s < kBlock; s += kLanes) store(b.rgb[c] + s, vsigmoid(load(b.logits[c] + s)));
}

// Fills a block from `count` rows of points [count, 3] and directions, which may be null.
inline void load_block(const FieldView& field, const float* points, const float* directions,
                       int count, FieldBlock& b) {
  for (int s = 0; s < kBlock; ++s) {
    const int row = s < count ? s : 0;
    for (int d = 0; d < 3; ++d) {
      b.position[d][s] = normalised(field, d, points[3 * row + d]);
      if (directions) b.colour_in[kGeometry + d][s] = directions[3 * row + d];
    }
  }
}

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
