// The backward pass of one block through both nets; the grid's part is in field_trainer.cpp.
#pragma once

#include "field_block.h"

namespace gas_rt {
namespace GAS_RT_ISA {

// Weights transposed for the backward pass, rebuilt once per step.
struct TransposedNets {
  alignas(64) float density0[kMaxEncoded * kHidden];  // [n_padded, 32]
  alignas(64) float density1[kHidden * kGeometry];    // [32, 16]
  alignas(64) float colour0[kGeometry * kHidden];     // [16, 32]: the geometry's rows only
  alignas(64) float colour1[kHidden * 4];             // [32, 4]
};

// Offsets of the four matrices in a flat buffer of the nets' gradients.
struct NetLayout {
  int density1, colour0, colour1, total;
  explicit NetLayout(int n_padded)
      : density1(kHidden * n_padded),
        colour0(density1 + kGeometry * kHidden),
        colour1(colour0 + kHidden * kColourIn),
        total(colour1 + 4 * kHidden) {}
};

struct BackwardBlock {
  alignas(64) float logits[4][kBlock];
  alignas(64) float hidden1[kHidden][kBlock];
  alignas(64) float geometry[kGeometry][kBlock];
  alignas(64) float hidden0[kHidden][kBlock];
  alignas(64) float encoded[kMaxEncoded][kBlock];
  alignas(64) float rows[kBlock * kMaxEncoded];  // transposed activations
};

// What the samples of a block shall become.
struct Targets {
  alignas(64) float alpha[kBlock];  // opacity over one step
  alignas(64) float rgb[3][kBlock];
  alignas(64) float weight[kBlock];  // 0 for padding; the mean's 1/N included
};

inline void transpose(const float* in, int rows, int columns, float* out) {
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; ++c) out[c * rows + r] = in[r * columns + c];
}

inline void mask_relu(const float (*activation)[kBlock], int n, float (*gradient)[kBlock]) {
  for (int c = 0; c < n; ++c)
    for (int s = 0; s < kBlock; s += kLanes)
      store(gradient[c] + s, load(activation[c] + s) > 0.0f ? load(gradient[c] + s) : VF{});
}

// [n][kBlock] -> [kBlock][stride], 4x4 at a time; columns n..stride are zeroed.
inline void to_rows(const float (*in)[kBlock], int n, int stride, float* out) {
  for (int c = 0; c < stride; c += 4)
    for (int s = 0; s < kBlock; s += 4) {
      F4 x[4];
      for (int q = 0; q < 4; ++q) x[q] = c + q < n ? load4(in[c + q] + s) : F4{};
      const F4 lo01 = shuffle4<0, 4, 1, 5>(x[0], x[1]);
      const F4 lo23 = shuffle4<0, 4, 1, 5>(x[2], x[3]);
      const F4 hi01 = shuffle4<2, 6, 3, 7>(x[0], x[1]);
      const F4 hi23 = shuffle4<2, 6, 3, 7>(x[2], x[3]);
      float* p = out + s * stride + c;
      store4(p, shuffle4<0, 1, 4, 5>(lo01, lo23));
      store4(p + stride, shuffle4<2, 3, 6, 7>(lo01, lo23));
      store4(p + 2 * stride, shuffle4<0, 1, 4, 5>(hi01, hi23));
      store4(p + 3 * stride, shuffle4<2, 3, 6, 7>(hi01, hi23));
    }
}

template <int kRows>
inline void outer_rows(const float (*dy)[kBlock], const float* rows, int n_in, int stride,
                       float* dw) {
  constexpr int kVectors = 16 / kLanes;
  for (int i = 0; i < stride; i += 16) {
    VF sum[kRows][kVectors] = {};
    for (int s = 0; s < kBlock; ++s)
      for (int v = 0; v < kVectors; ++v) {
        const VF x = load(rows + s * stride + i + v * kLanes);
        for (int r = 0; r < kRows; ++r) sum[r][v] += x * dy[r][s];
      }
    for (int r = 0; r < kRows; ++r) {
      alignas(64) float flat[16];
      for (int v = 0; v < kVectors; ++v) store(flat + v * kLanes, sum[r][v]);
      for (int c = 0; c < 16 && i + c < n_in; ++c) dw[r * n_in + i + c] += flat[c];
    }
  }
}

// dw[o][i] += sum_s dy[o][s] x[i][s]
inline void outer(const float (*dy)[kBlock], int n_out, const float (*x)[kBlock], int n_in,
                  float* scratch, float* dw) {
  constexpr int kRows = kLanes == 16 ? 8 : 4;
  const int stride = (n_in + 15) / 16 * 16;
  to_rows(x, n_in, stride, scratch);
  int o = 0;
  for (; o + kRows <= n_out; o += kRows)
    outer_rows<kRows>(dy + o, scratch, n_in, stride, dw + o * n_in);
  for (; o < n_out; o += 4) outer_rows<4>(dy + o, scratch, n_in, stride, dw + o * n_in);
}

// Loss of the block (see gas_rt/kernels/trainer.py) and its gradient at the nets' outputs.
inline double block_loss(const FieldBlock& b, const Targets& t, float colour_weight,
                         BackwardBlock& g) {
  alignas(64) float each[kBlock];
  for (int s = 0; s < kBlock; s += kLanes) {
    const VF weight = load(t.weight + s), alpha = load(t.alpha + s);
    const VF logit = load(b.colour_in[0] + s);
    // Cross-entropy of the opacity: with sigma = softplus(logit) / step it is sigmoid(logit).
    VF value = vsoftplus(logit) - alpha * logit;
    const VF scale = weight * alpha * colour_weight;
    for (int c = 0; c < 3; ++c) {
      const VF rgb = load(b.rgb[c] + s);
      const VF error = rgb - load(t.rgb[c] + s);
      value += alpha * colour_weight * error * error;
      store(g.logits[c] + s, 2.0f * scale * error * rgb * (1.0f - rgb));
    }
    store(g.logits[3] + s, VF{});
    store(each + s, value * weight);
  }
  double sum = 0.0;
  for (int s = 0; s < kBlock; ++s) sum += each[s];
  return sum;
}

// After evaluate_density and evaluate_colour: adds the nets' gradients to `dw` (NetLayout) and
// leaves the encoding's gradient in g.encoded. Returns the block's loss.
inline double backward(const FieldView& field, const TransposedNets& nets, const FieldBlock& b,
                       const Targets& targets, float colour_weight, BackwardBlock& g, float* dw) {
  const NetLayout at(field.n_padded);
  const double loss = block_loss(b, targets, colour_weight, g);
  outer(g.logits, 4, b.hidden1, kHidden, g.rows, dw + at.colour1);
  dense<false>(nets.colour1, kHidden, 4, g.logits, g.hidden1);
  mask_relu(b.hidden1, kHidden, g.hidden1);
  outer(g.hidden1, kHidden, b.colour_in, kColourIn, g.rows, dw + at.colour0);
  dense<false>(nets.colour0, kGeometry, kHidden, g.hidden1, g.geometry);
  for (int s = 0; s < kBlock; s += kLanes) {
    const VF alpha = vsigmoid(load(b.colour_in[0] + s));
    const VF d_logit = load(targets.weight + s) * (alpha - load(targets.alpha + s));
    store(g.geometry[0] + s, load(g.geometry[0] + s) + d_logit);
  }
  outer(g.geometry, kGeometry, b.hidden0, kHidden, g.rows, dw + at.density1);
  dense<false>(nets.density1, kHidden, kGeometry, g.geometry, g.hidden0);
  mask_relu(b.hidden0, kHidden, g.hidden0);
  outer(g.hidden0, kHidden, b.encoded, field.n_padded, g.rows, dw);
  dense<false>(nets.density0, field.n_padded, kHidden, g.hidden0, g.encoded);
  return loss;
}

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
